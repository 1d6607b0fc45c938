package bench

import (
	"bytes"
	"testing"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

// A flood is a batch of packets with membership messages of which most leave no
// trace. To see from outside when a node has worked through all of them there
// are two marker nodes. Their deaths are announced before and after the batch,
// and each shows as a leave event. Between the two must lie everything else,
// whether the node takes messages first in, first out, or, like the reference,
// last in, first out; the latter provided that none is taken while the batch
// comes in. Therefore the markers are brought to life first, and the event
// handler holds the node at their join until the batch is in.

// markerEvents sees the markers come and go.
type markerEvents struct {
	joins, leaves int
	joined        chan struct{} // told when both have joined, while the node is held
	release       chan struct{}
	left          chan struct{} // told when both have left
}

func newMarkerEvents() *markerEvents {
	return &markerEvents{
		joined:  make(chan struct{}, 1),
		release: make(chan struct{}),
		left:    make(chan struct{}, 1),
	}
}

func isMarker(n *lib.Node) bool { return bytes.HasPrefix([]byte(n.Name), []byte("marker-")) }

func (e *markerEvents) NotifyJoin(n *lib.Node) {
	if !isMarker(n) {
		return
	}
	e.joins++
	if e.joins%2 == 0 {
		e.joined <- struct{}{}
		<-e.release
	}
}

func (e *markerEvents) NotifyLeave(n *lib.Node) {
	if !isMarker(n) {
		return
	}
	e.leaves++
	if e.leaves%2 == 0 {
		e.left <- struct{}{}
	}
}

func (e *markerEvents) NotifyUpdate(*lib.Node) {}

// flooder feeds floods to a node.
type flooder struct {
	b           *testing.B
	n           *node
	incarnation uint32
	harmless    []byte // a packet of no effect
}

func newFlooder(b *testing.B, n *node) *flooder {
	return &flooder{b: b, n: n, incarnation: uint32(n.events.joins) + 1, harmless: n.packet(wire.Ack(0))}
}

// framed is a batch of packets and what marks its begin and end.
type framed struct {
	birth, first, last *lib.Packet
	packets            []*lib.Packet
	harmless           []*lib.Packet
}

// prepare makes the packets around a batch, which is not the node's work.
func (f *flooder) prepare(packets []*lib.Packet) framed {
	a := wire.Member{Name: "marker-a", Addr: []byte{10, 9, 0, 1}, Port: 7946, Incarnation: f.incarnation}
	b := wire.Member{Name: "marker-b", Addr: []byte{10, 9, 0, 2}, Port: 7946, Incarnation: f.incarnation}
	f.incarnation++
	fl := framed{
		birth:   f.packet(wire.Compound([][]byte{wire.Alive(a), wire.Alive(b)})),
		first:   f.packet(wire.Dead(a.Name, a.Incarnation, selfName)),
		last:    f.packet(wire.Dead(b.Name, b.Incarnation, selfName)),
		packets: packets,
	}
	// Packets of no effect fill the channel. When the last one has found room, the
	// node has taken in everything before.
	for range packetDepth + 1 {
		fl.harmless = append(fl.harmless, newPacket(f.harmless))
	}
	return fl
}

func (f *flooder) packet(msg []byte) *lib.Packet { return newPacket(f.n.packet(msg)) }

// run feeds a flood and returns when the node has handled the last message.
func (f *flooder) run(fl framed) {
	in := f.n.transport.packets
	in <- fl.birth
	await(f.b, f.n.events.joined, "the markers")
	in <- fl.first
	for _, p := range fl.packets {
		in <- p
	}
	in <- fl.last
	for _, p := range fl.harmless {
		in <- p
	}
	f.n.events.release <- struct{}{}
	await(f.b, f.n.events.left, "the markers' end")
}
