package hostile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

// Packets: what makes a node work, answer, log or keep.
var packetCases = []*Case{{
	Name:  "pings",
	Title: "Pings in one packet",
	Input: "Two packets with 65,025 and 3,825 pings from the forged address of a third party, compressed",
	Unit:  Bytes, What: "sent to the third party", Limit: 2 * 2 * 1400,
	Bound: "Two pings of a packet are answered, each in one packet of at most `UDPBufferSize`; packets of more than 4096 parts are dropped.",
	Why:   "Each ping is answered, so a small packet becomes a flood.",
	run:   pings,
}, {
	Name:  "indirect-pings",
	Title: "Indirect pings in one packet",
	Input: "Two packets with 5,100 and 3,825 indirect pings, compressed",
	Unit:  Number, What: "pings sent to the target", Limit: 2 * 2,
	Bound: "Two indirect pings of a packet are taken.",
	Why:   "Each is relayed, and waits for an answer.",
	run:   indirectPings,
}, {
	Name:  "relay-places",
	Title: "Relays for one",
	Input: "6,000 packets from one address with an indirect ping each; then one from another address",
	Unit:  Number, What: "pings sent to the target, and is the other's relayed", Limit: 2048,
	Bound: "4096 pings are relayed at a time; a requester gets as many as are left free, so one that asks for all gets half.",
	Why:   "What is bounded for all together can be used up by one. v0.7.0 has no bound.",
	run:   relayPlaces,
}, {
	Name:  "failing-decompression",
	Title: "Failing decompressions",
	Input: "A datagram of compressed parts that are compressed again; each fails after 40 MiB",
	Unit:  Bytes, What: "heap at most", Limit: 16 << 20,
	Bound: "A datagram unpacks to 1 MiB at most, all its parts together, those that fail included.",
	Why:   "If only what unpacks well is counted, what fails is free.",
	run:   failingDecompression,
}, {
	Name:  "one-large-packet",
	Title: "One large packet",
	Input: "A packet with 4,080 messages, and one with 65,025, compressed",
	Unit:  Bytes, What: "heap held when a minute of small packets has followed", Limit: 1 << 20,
	Bound: "Lists and buffers that have outgrown their usual size (1024 messages, 256 KiB) are given up.",
	Why:   "Memory that is used again is as large as what was largest once.",
	run:   oneLargePacket, harmless: true,
}, {
	Name:  "user-messages",
	Title: "Large user messages, slow program",
	Input: "User messages of 0.9 and 16 MiB, compressed, while `NotifyMsg` blocks",
	Unit:  Bytes, What: "heap held", Limit: 18 << 20,
	Bound: "`HandoffQueueDepth` packets wait, with 16 MiB or `HandoffQueueDepth` × `UDPBufferSize`, whichever is more, and the one that is being delivered.",
	Why:   "A queue that counts items holds as much as the items are large.",
	run:   userMessages,
}, {
	Name:  "events",
	Title: "Events, slow program",
	Input: "Updates of a member while `NotifyUpdate` blocks",
	Unit:  Bytes, What: "heap held, and does the node answer a ping", Limit: 4 << 20,
	Bound: "When 8192 events wait, those of each member are merged: at most two for each.",
	Why:   "A queue of events without bound grows. v0.7.0 calls the program with its lock held instead, so the node stands still and is declared dead.",
	run:   events, real: true,
}, {
	Name:  "long-log-lines",
	Title: "Long log lines",
	Input: "Pings for names of 0.9 and 16 MiB, compressed",
	Unit:  Bytes, What: "written to the log", Limit: 17 * 4096,
	Bound: "512 bytes of each name, 4096 of a line, 16 lines of a kind in ten seconds and one that counts the rest.",
	Why:   "A warning quotes the name.",
	run:   longLogLines,
}, {
	Name:  "log-flood",
	Title: "Bad packets",
	Input: "50,000 packets of an unknown type",
	Unit:  Bytes, What: "written to the log in 50 seconds", Limit: 17 * 6 * 256,
	Bound: "16 lines of a kind in ten seconds, and one that counts the rest.",
	Why:   "A line for each packet fills disks and hides the lines that matter.",
	run:   logFlood,
}, {
	Name:  "forged-log-lines",
	Title: "Forged log lines",
	Input: "A ping for a name with line breaks",
	Unit:  Number, What: "lines in the log that the node did not write", Limit: 0,
	Bound: "Whatever comes from the network is escaped.",
	Why:   "The log tells what never happened.",
	run:   forgedLogLines,
}, {
	Name:  "unsendable-broadcasts",
	Title: "Broadcasts that fit no packet",
	Input: "The program's own broadcasts of 1,380 to 100,000 bytes, between two nodes",
	Unit:  Number, What: "still queued ten minutes later, and arrived", Limit: 0,
	Bound: "What fits beside nothing is sent alone, up to the 65,507 bytes of a datagram; what cannot be sent is given up with a line in the log.",
	Why:   "What fits into no packet stays for ever, and is looked at for each packet.",
	run:   unsendableBroadcasts,
}, {
	Name:  "relabelled-boxes",
	Title: "Relabelled packets",
	Input: "32 sealed messages whose unauthenticated version somebody without the key changed from 1 to 0",
	Unit:  Number, What: "delivered cut short", Limit: 2,
	Bound: "Version 0 has lengths that are a multiple of 16. `MinEncryptionVersion: 1` refuses all.",
	Why:   "Version 0 removes padding, so a relabelled message loses what looks like padding.",
	run:   relabelledBoxes,
}}

func pings(s *stage) Outcome {
	v, third := s.node(Setup{}), s.source(1)
	packets := [][]byte{many(65025, ping), many(3825, ping)}
	s.spend(func() {
		third.sendAll(packets, v)
		time.Sleep(time.Second)
	})
	sent := float64(third.bytes.Load())
	return Outcome{Amount: sent, Note: fmt.Sprintf("%d packets, ×%.3g", third.packets.Load(), sent/float64(s.in))}
}

func indirectPings(s *stage) Outcome {
	v, attacker, third := s.node(Setup{}), s.source(1), s.source(2)
	packets := [][]byte{many(5100, indirectPing("\x0a\x09\x00\x02", 7946)), many(3825, indirectPing("\x0a\x09\x00\x02", 7946))}
	s.spend(func() {
		attacker.sendAll(packets, v)
		time.Sleep(time.Second)
	})
	return Outcome{Amount: float64(third.packets.Load())}
}

func relayPlaces(s *stage) Outcome {
	v, attacker, third, honest, target := s.node(Setup{}), s.source(1), s.source(2), s.source(3), s.source(4)
	request := indirectPing("\x0a\x09\x00\x02", 7946)
	s.spend(func() {
		for i := range 6000 {
			_, err := attacker.endpoint.Send(request, v.addr)
			must(err)
			s.in += len(request)
			if i%100 == 99 { // all within the time that a relayed ping has
				time.Sleep(time.Millisecond)
			}
		}
		honest.send(indirectPing("\x0a\x09\x00\x04", 7946), v)
		time.Sleep(10 * time.Millisecond)
	})
	o := Outcome{Amount: float64(third.packets.Load()), Note: "is relayed"}
	if target.packets.Load() == 0 {
		o.Note, o.Failed = "is not relayed", true
	}
	return o
}

func failingDecompression(s *stage) Outcome {
	v, attacker := s.node(Setup{}), s.source(1)
	part := bomb()
	packet := wire.Compound(each(min(64_000/(len(part)+2), s.count(255, 4)), func(int) []byte { return part }))
	return Outcome{Amount: s.peak(func() { attacker.send(packet, v) })}
}

func oneLargePacket(s *stage) Outcome {
	v, attacker := s.node(Setup{}), s.source(1)
	nack := wire.Ack(5)
	attacker.sendAll(each(100, func(int) []byte { return nack }), v)
	packets := [][]byte{many(4080, []byte{11, 0x80}), many(65025, []byte{11, 0x80})}
	return Outcome{Amount: s.held(packets, func() {
		attacker.sendAll(packets, v)
		attacker.sendAll(each(1000, func(int) []byte { return nack }), v)
		time.Sleep(time.Minute)
	})}
}

func userMessages(s *stage) Outcome {
	release := make(chan struct{})
	defer close(release)
	v := s.node(Setup{OnMessage: func([]byte) { <-release }})
	attacker := s.source(1)
	packets := each(s.count(200, 40), func(i int) []byte {
		size := 900 << 10
		if i%16 == 15 {
			size = 16 << 20
		}
		return wire.Compress(wire.User([]byte(run(i, size))))
	})
	var o Outcome
	o.Amount = s.held(packets, func() {
		o.Stopped = attacker.sendAll(packets, v)
		time.Sleep(time.Second)
	})
	return o
}

func events(s *stage) Outcome {
	release := make(chan struct{})
	defer close(release)
	v := s.node(Setup{OnUpdate: func() { <-release }})
	attacker, honest := s.source(1), s.source(2)
	attacker.send(wire.Alive(member("x", 1)), v)
	var news [][]byte
	for i := range uint32(s.count(200_000, 60_000)) {
		m := member("x", i+2)
		m.Meta = []byte(fmt.Sprint(i))
		news = append(news, wire.Alive(m))
	}
	packets, _ := wire.Fill(news, 60_000)
	var o Outcome
	o.Amount = s.held(packets, func() {
		attacker.sendAll(packets, v)
		time.Sleep(500 * time.Millisecond)
		honest.send(wire.Ping(1, "n1", wire.Member{Name: "honest", Addr: []byte{10, 9, 0, 2}, Port: 7946}), v)
		awaitPacket(honest, 5*time.Second)
	})
	o.Note = "answered"
	if honest.packets.Load() == 0 {
		o.Note, o.Failed = "no answer", true
	}
	return o
}

// awaitPacket waits until something has come, or for the limit.
func awaitPacket(f *source, limit time.Duration) {
	for start := time.Now(); f.packets.Load() == 0 && time.Since(start) < limit; {
		time.Sleep(10 * time.Millisecond)
	}
}

// logBytes counts what a node writes to its log.
type logBytes struct{ atomic.Int64 }

func (l *logBytes) Write(p []byte) (int, error) {
	l.Add(int64(len(p)))
	return len(p), nil
}

func longLogLines(s *stage) Outcome {
	var log logBytes
	v, attacker := s.node(Setup{Log: &log}), s.source(1)
	packets := each(s.count(16, 6), func(i int) []byte {
		return wire.Compress(wire.Ping(1, run(i, sizeOf(i)), member("x", 1)))
	})
	s.spend(func() { attacker.sendAll(packets, v) })
	return Outcome{Amount: float64(log.Load())}
}

func logFlood(s *stage) Outcome {
	var log logBytes
	v, attacker := s.node(Setup{Log: &log}), s.source(1)
	junk := []byte{99, 1, 2, 3}
	s.spend(func() { attacker.sendAll(each(s.count(50_000, 5_000), func(int) []byte { return junk }), v) })
	return Outcome{Amount: float64(log.Load())}
}

func forgedLogLines(s *stage) Outcome {
	var mu sync.Mutex
	var log bytes.Buffer
	v, attacker := s.node(Setup{Log: writer(func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		log.Write(p)
	})}), s.source(1)
	forged := "2026/01/01 00:00:00 [ERR] memberlist: forged\n"
	s.spend(func() { attacker.send(wire.Ping(1, "x\n"+strings.Repeat(forged, 3), member("x", 1)), v) })
	time.Sleep(time.Second)
	mu.Lock()
	defer mu.Unlock()
	lines := slices.Collect(strings.Lines(log.String()))
	return Outcome{Amount: float64(len(slices.DeleteFunc(lines, func(line string) bool { return line != forged })))}
}

// writer is a function that takes each line.
type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

func unsendableBroadcasts(s *stage) Outcome {
	var arrived sync.Map // each is sent several times
	a := s.node(Setup{})
	s.node(Setup{OnMessage: func(msg []byte) { arrived.Store(len(msg), true) }})
	time.Sleep(time.Second)
	rng := rand.NewChaCha8([32]byte{1}) // not to be compressed
	s.spend(func() {
		for _, size := range []int{1380, 1390, 1396, 1400, 1500, 3000, 30_000, 60_000, 66_000, 100_000} {
			msg := make([]byte, size)
			_, _ = rng.Read(msg)
			a.Queue(msg)
			s.in += size
		}
		time.Sleep(10 * time.Minute)
	})
	different := 0
	arrived.Range(func(any, any) bool { different++; return true })
	return Outcome{Amount: float64(a.Queued()), Note: fmt.Sprintf("%d of 10 arrived", different)}
}

func relabelledBoxes(s *stage) Outcome {
	key := bytes.Repeat([]byte{9}, 16)
	var delivered atomic.Int64
	v, attacker := s.node(Setup{Key: key, OnMessage: func([]byte) { delivered.Add(1) }}), s.source(1)
	s.spend(func() { attacker.sendAll(each(32, func(i int) []byte { return relabelled(key, 32+i) }), v) })
	time.Sleep(time.Second)
	return Outcome{Amount: float64(delivered.Load())}
}
