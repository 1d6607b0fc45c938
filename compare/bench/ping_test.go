package bench

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

var peer = wire.Member{Name: "peer.dc1.example", Addr: peerAddr.IP, Port: uint16(peerAddr.Port)}

// feedPings feeds pings over and over, waiting each time for all their acks.
func feedPings(b *testing.B, n *node) {
	const size = 500
	pings := make([][]byte, size)
	for i := range pings {
		pings[i] = n.packet(wire.Ping(uint32(100_000+i), selfName, peer))
	}
	feed := newBatch(pings)
	done := 0
	m := newMeter(b)
	for done < b.N {
		m.pause()
		packets := feed.fresh()
		n.transport.expectSent(size)
		m.resume()
		for _, p := range packets {
			n.transport.packets <- p
		}
		await(b, n.transport.reached, "acks")
		done += size
	}
	m.report(done)
}

// BenchmarkPingIn is a ping that comes in and its ack that goes out.
func BenchmarkPingIn(b *testing.B) {
	for _, v := range []variant{lzw, plain, aes} {
		b.Run(v.name, func(b *testing.B) {
			n := v.fixture(b, "quiet", func() *node {
				n := v.newNode(b, func(c *lib.Config) { c.RetransmitMult = 0 })
				n.drain(b)
				return n
			})
			feedPings(b, n)
		})
	}
}

// BenchmarkPingInRiders is the same while so many broadcasts are queued that
// each ack takes a packet full of them along.
func BenchmarkPingInRiders(b *testing.B) {
	for _, v := range []variant{plain, lzw} {
		b.Run(v.name, func(b *testing.B) {
			n := v.fixture(b, "riders", func() *node {
				n := v.newNode(b, func(c *lib.Config) { c.RetransmitMult = 1 << 20 })
				n.mergeMembers(b, v.openedStream(wire.PushPull(members(gossipMembers, 0), false, []byte{1})))
				return n
			})
			feedPings(b, n)
		})
	}
}

// drain pings the node until its acks carry no broadcasts any more.
func (n *node) drain(b *testing.B) {
	b.Helper()
	bare := 0
	for seq := uint32(1); bare < 3; seq++ {
		n.transport.expectSent(1)
		n.transport.packets <- newPacket(n.packet(wire.Ping(seq, selfName, peer)))
		await(b, n.transport.reached, "an ack")
		if n.transport.sentSize.Load() < 100 {
			bare++
		}
	}
}

// BenchmarkPing is the Ping method against a node that answers at once.
func BenchmarkPing(b *testing.B) {
	n := plain.fixture(b, "ping", func() *node {
		n := plain.newNode(b, func(c *lib.Config) {
			c.RetransmitMult = 0
			// Ping waits for the shorter of these two.
			c.ProbeInterval, c.ProbeTimeout = time.Hour, 10*time.Second
		})
		n.drain(b)
		// One ack at a time is under way, so that they can share their memory.
		memory, reply := make([]byte, 0, 64), new(lib.Packet)
		n.transport.onSend = func(packet []byte) {
			seq, err := wire.SeqNo(packet)
			if err != nil {
				panic(err)
			}
			*reply = lib.Packet{Buf: appendAck(memory[:0], seq), From: peerAddr, Timestamp: processStart}
			n.transport.packets <- reply
		}
		return n
	})
	m := newMeter(b)
	for range b.N {
		if _, err := n.Ping(peer.Name, peerAddr); err != nil {
			b.Fatal(err)
		}
	}
	m.report(b.N)
}

// appendAck appends an ack without payload.
func appendAck(dst []byte, seq uint32) []byte {
	dst = append(dst, "\x02\x82\xa7Payload\xc0\xa5SeqNo\xce"...)
	return binary.BigEndian.AppendUint32(dst, seq)
}

// BenchmarkSendBestEffort is a user message of 512 bytes that goes out.
func BenchmarkSendBestEffort(b *testing.B) {
	for _, v := range []variant{plain, lzw, aes} {
		b.Run(v.name, func(b *testing.B) {
			n := v.fixture(b, "send", func() *node { return v.newNode(b, nil) })
			to := &lib.Node{Name: peer.Name, Addr: peerAddr.IP, Port: peer.Port, PMin: 1, PMax: 5, PCur: 2}
			msg := someText(512, 1)
			m := newMeter(b)
			for range b.N {
				if err := n.SendBestEffort(to, msg); err != nil {
					b.Fatal(err)
				}
			}
			m.report(b.N)
		})
	}
}
