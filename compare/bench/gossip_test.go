package bench

import (
	"runtime"
	"testing"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

const (
	gossipMembers = 1000
	packetSize    = 1400
	// batchMessages are in flight at once: enough for the markers not to
	// count, and few enough to fit the queues.
	batchMessages = 2000
)

// gossipNode is a node that knows gossipMembers others.
func gossipNode(b *testing.B, v variant) *node {
	return v.fixture(b, "gossip", func() *node {
		n := v.newNode(b, nil)
		n.mergeMembers(b, v.openedStream(wire.PushPull(members(gossipMembers, 0), false, []byte{1})))
		return n
	})
}

// dressed makes packets of messages.
func (v variant) dressed(msgs [][]byte) [][]byte {
	room := packetSize
	if len(v.keys) > 0 {
		room -= 45
	}
	packets, _ := wire.Fill(msgs, room)
	for i := range packets {
		packets[i] = v.packet(packets[i])
	}
	return packets
}

// BenchmarkGossipInNews feeds alive messages of which each has a higher
// incarnation than the node knows: it changes the table and is passed on. An
// operation is one message; about sixteen share a packet.
func BenchmarkGossipInNews(b *testing.B) {
	for _, v := range []variant{plain, lzw, aes} {
		b.Run(v.name, func(b *testing.B) {
			n := gossipNode(b, v)
			f := newFlooder(b, n)
			ms := members(gossipMembers, 0)
			news := func() [][]byte {
				newsIncarnation[v.name]++
				msgs := make([][]byte, len(ms))
				for i := range ms {
					ms[i].Incarnation = firstIncarnation + newsIncarnation[v.name]
					msgs[i] = wire.Alive(ms[i])
				}
				return v.dressed(msgs)
			}
			done := 0
			m := newMeter(b)
			for done < b.N {
				m.pause()
				fl := f.prepare(newBatch(append(news(), news()...)).packets)
				runtime.GC() // else what the messages were made from is collected while it counts
				m.resume()
				f.run(fl)
				done += 2 * len(ms)
			}
			m.report(done)
		})
	}
}

// newsIncarnation is how far the members of each variant's node have come.
var newsIncarnation = map[string]uint32{}

// BenchmarkGossipInOld feeds what nodes hear most: alive messages that they have
// heard before, and suspicions that have been refuted since.
func BenchmarkGossipInOld(b *testing.B) {
	for _, v := range []variant{plain, lzw, labelled} {
		b.Run(v.name, func(b *testing.B) {
			n := gossipNode(b, v)
			f := newFlooder(b, n)
			msgs := make([][]byte, batchMessages)
			ms := members(gossipMembers, 0)
			for i := range msgs {
				member := ms[i%len(ms)]
				if i%2 == 0 {
					msgs[i] = wire.Alive(member)
				} else {
					msgs[i] = wire.Suspect(member.Name, member.Incarnation-1, ms[(i+7)%len(ms)].Name)
				}
			}
			feed := newBatch(v.dressed(msgs))
			done := 0
			m := newMeter(b)
			for done < b.N {
				m.pause()
				fl := f.prepare(feed.fresh())
				m.resume()
				f.run(fl)
				done += len(msgs)
			}
			m.report(done)
		})
	}
}

// BenchmarkUserIn feeds user messages of 60 bytes, a packet full at a time.
func BenchmarkUserIn(b *testing.B) {
	for _, v := range []variant{plain, lzw} {
		b.Run(v.name, func(b *testing.B) {
			msgs := make([][]byte, batchMessages)
			for i := range msgs {
				msgs[i] = wire.User(someText(60, i))
			}
			feedUserMessages(b, gossipNode(b, v), v.dressed(msgs), len(msgs))
		})
	}
}

var aesVariants = []variant{{name: "one-key", keys: keys[:1]}, {name: "third-of-three", keys: keys}}

// sealedMessages are packets with one user message of 1371 bytes each.
func (v variant) sealedMessages() [][]byte {
	packets := make([][]byte, 500)
	for i := range packets {
		packets[i] = v.packet(wire.User(someText(packetSize-30, i)))
	}
	return packets
}

// BenchmarkOpenAES feeds sealed packets with user messages to a node whose program
// takes none: there are 1.4 KB to decrypt and nothing to do. Behind them comes a
// ping, whose ack tells that they have been opened.
func BenchmarkOpenAES(b *testing.B) {
	for _, v := range aesVariants {
		b.Run(v.name, func(b *testing.B) {
			n := v.fixture(b, "open", func() *node {
				return v.newNode(b, func(c *lib.Config) { c.Delegate, c.RetransmitMult = nil, 0 })
			})
			ping := n.packet(wire.Ping(1, selfName, peer))
			feed := newBatch(append(v.sealedMessages(), ping))
			done := 0
			m := newMeter(b)
			for done < b.N {
				m.pause()
				packets := feed.fresh()
				n.transport.expectSent(1)
				m.resume()
				for _, p := range packets {
					n.transport.packets <- p
				}
				await(b, n.transport.reached, "the ack")
				done += len(packets) - 1
			}
			m.report(done)
		})
	}
}

// BenchmarkUserInAES is the same with a program that takes the messages.
func BenchmarkUserInAES(b *testing.B) {
	for _, v := range aesVariants {
		b.Run(v.name, func(b *testing.B) {
			packets := v.sealedMessages()
			feedUserMessages(b, gossipNode(b, v), packets, len(packets))
		})
	}
}

// feedUserMessages feeds the packets over and over, waiting each time until all
// their messages have been delivered.
func feedUserMessages(b *testing.B, n *node, contents [][]byte, messages int) {
	feed := newBatch(contents)
	done := 0
	m := newMeter(b)
	for done < b.N {
		m.pause()
		packets := feed.fresh()
		n.delegate.expect(messages)
		m.resume()
		for _, p := range packets {
			n.transport.packets <- p
		}
		await(b, n.delegate.reached, "user messages")
		done += messages
	}
	m.report(done)
}
