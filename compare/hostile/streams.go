package hostile

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

// Streams: what makes a node hold memory, connections or places.
var streamCases = []*Case{{
	Name:  "push-pull-bomb",
	Title: "A full exchange that unpacks to much",
	Input: "Four full exchanges of 2²⁰ empty entries, compressed",
	Unit:  Bytes, What: "heap at most", Limit: 128 << 20,
	Bound: "Entries take 16 bytes on average, and a compressed exchange has at most one for each of its bytes, or it is refused. Memory grows with what has come, to 128 MiB of entries at most.",
	Why:   "An empty entry is a byte on the wire, less than that compressed, and a hundred times that in memory.",
	run:   pushPullBomb,
}, {
	Name:  "announced-entries",
	Title: "Announced entries",
	Input: "Four full exchanges that announce 2²⁰ entries, of which none comes",
	Unit:  Bytes, What: "heap held while they are open", Limit: 4 << 20,
	Bound: "Memory is given to what has come.",
	Why:   "Memory that is given at once for what was announced costs the attacker 40 bytes.",
	run: func(s *stage) Outcome {
		return heldByStreams(s, each(4, func(int) []byte { return pushPullHead(1<<20, 0) }))
	},
}, {
	Name:  "unfinished-frames",
	Title: "Unfinished frames",
	Input: "Four sealed frames of which 19 of 20 MiB come, without the key",
	Unit:  Bytes, What: "heap held while they are open", Limit: 5 * 19 << 20,
	Bound: "A frame has 20 MiB at most, and memory grows with what has come.",
	Why:   "A frame can be opened when it is complete, so it has to be held until then.",
	run: func(s *stage) Outcome {
		s.key = bytes.Repeat([]byte{9}, 16)
		return heldByStreams(s, each(4, func(int) []byte { return append(frameHead(20<<20), make([]byte, 19<<20)...) }))
	},
	harmless: true,
}, {
	Name:  "one-large-exchange",
	Title: "One large exchange",
	Input: "A full exchange with 15 MiB of user state",
	Unit:  Bytes, What: "heap held a minute later", Limit: 1 << 20,
	Bound: "What has been delivered is given up; buffers of more than 4 MiB are not used again.",
	Why:   "Memory that is used again is as large as what was largest once.",
	run: func(s *stage) Outcome {
		v, attacker := s.node(Setup{}), s.source(1)
		input := [][]byte{wire.PushPull([]wire.Member{member("x", 1)}, false, make([]byte, 15<<20))}
		return Outcome{Amount: s.held(input, func() {
			_, _ = io.Copy(io.Discard, attacker.open(input[0], v))
			time.Sleep(time.Minute)
		})}
	},
	harmless: true,
}, {
	Name:  "unfinished-exchanges",
	Title: "Unfinished exchanges",
	Input: "130 full exchanges that are begun and not finished",
	Unit:  Seconds, What: "time until a node can join, and what it is told", Limit: 1,
	Bound: "127 exchanges are answered at a time; one takes its place when it has been read.",
	Why:   "Those that never end take the places until `TCPTimeout`.",
	run:   unfinishedExchanges,
}, {
	Name:  "idle-connections",
	Title: "Idle connections",
	Input: "4,000 connections from 16 addresses on which nothing comes",
	Unit:  Number, What: "held at once, and for how long", Limit: 1024 + 32,
	Bound: "1024 streams, 256 from one address, and 32 that are told that they are too many; with more than 256 the first byte has to come in a quarter of `TCPTimeout`.",
	Why:   "Each holds a goroutine, a descriptor and memory.",
	run:   idleConnections,
}}

func pushPullBomb(s *stage) Outcome {
	v, attacker := s.node(Setup{}), s.source(1)
	const entries = 1 << 20
	message := wire.Compress(append(pushPullHead(entries, 0), bytes.Repeat([]byte{0x80}, entries)...))
	return Outcome{Amount: s.peak(func() {
		var streams sync.WaitGroup
		for range 4 {
			conn := attacker.open(message, v)
			streams.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		}
		streams.Wait()
	})}
}

// heldByStreams is what a node holds while streams are open on which these bytes
// have come.
func heldByStreams(s *stage, inputs [][]byte) Outcome {
	v, attacker := s.node(Setup{Key: s.key}), s.source(1)
	return Outcome{Amount: s.held(inputs, func() {
		for _, input := range inputs {
			attacker.open(input, v)
		}
		time.Sleep(time.Second)
	})}
}

func unfinishedExchanges(s *stage) Outcome {
	v := s.node(Setup{})
	joiner := s.loner(Setup{}, 2)
	for i := range 13 {
		attacker := s.source(1 + i)
		for range 10 {
			attacker.open(pushPullHead(1, 0), v)
		}
	}
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	first := joiner.Join(v.addr)
	for err := first; err != nil; err = joiner.Join(v.addr) {
		time.Sleep(100 * time.Millisecond)
	}
	o := Outcome{Amount: time.Since(start).Seconds()}
	if first != nil {
		o.Note = "told: " + innermost(first)
	}
	return o
}

// innermost is what a text of errors in errors ends with.
func innermost(err error) string {
	text := err.Error()
	return strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:])
}

func idleConnections(s *stage) Outcome {
	v := s.node(Setup{})
	var open, longest atomic.Int64
	var most int64
	s.spend(func() {
		for i := range 16 {
			attacker := s.source(1 + i)
			for range s.count(250, 100) {
				conn, start := attacker.open(nil, v), time.Now()
				open.Add(1)
				go awaitEnd(conn, func() {
					open.Add(-1)
					longest.Store(max(longest.Load(), int64(time.Since(start))))
				})
				time.Sleep(100 * time.Microsecond)
				most = max(most, open.Load())
			}
		}
	})
	time.Sleep(time.Minute)
	return Outcome{Amount: float64(most), Note: fmt.Sprintf("for %.2g s", time.Duration(longest.Load()).Seconds())}
}

// awaitEnd reads until the other side ends the stream.
func awaitEnd(conn net.Conn, ended func()) {
	_, _ = io.Copy(io.Discard, conn)
	ended()
	_ = conn.Close()
}
