package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

const (
	selfName = "self.dc1.example"
	label    = "bench"
)

var keys = [][]byte{[]byte("0123456789abcdef"), []byte("fedcba9876543210"), []byte("the third key !!")}

// variant is one way to dress what goes over the wire.
type variant struct {
	name  string
	lzw   bool
	keys  [][]byte // the last one is the one the peer uses
	label string
}

var (
	plain    = variant{name: "plain"}
	lzw      = variant{name: "lzw", lzw: true}
	aes      = variant{name: "aes", keys: keys[:1]}
	labelled = variant{name: "label+aes+lzw", lzw: true, keys: keys[:1], label: label}
)

// packet dresses a message or compound as a packet (W2).
func (v variant) packet(msg []byte) []byte {
	if v.lzw {
		if c := wire.Compress(msg); len(c) < len(msg) {
			msg = c
		}
	}
	if len(v.keys) > 0 {
		msg = wire.Seal(v.keys[len(v.keys)-1], []byte(v.label), msg)
	}
	if v.label != "" {
		msg = wire.Label(v.label, msg)
	}
	return msg
}

// stream dresses a message as the content of a stream (W3).
func (v variant) stream(msg []byte) []byte {
	if v.lzw {
		msg = wire.Compress(msg)
	}
	if len(v.keys) > 0 {
		msg = wire.SealFrame(v.keys[len(v.keys)-1], v.label, msg)
	}
	return msg
}

// openedStream is a stream with the label header of the side that opened it.
func (v variant) openedStream(msg []byte) []byte {
	if v.label == "" {
		return v.stream(msg)
	}
	return wire.Label(v.label, v.stream(msg))
}

// config is that of a node which does nothing on its own.
func (v variant) config() *lib.Config {
	c := lib.DefaultLANConfig()
	c.Name = selfName
	c.LogOutput = io.Discard
	c.EnableCompression = v.lzw
	c.Label = v.label
	if len(v.keys) > 0 {
		ring, err := lib.NewKeyring(v.keys, v.keys[0])
		if err != nil {
			panic(err) // the benchmarks' own keys
		}
		c.Keyring = ring
	}
	c.ProbeInterval, c.GossipInterval, c.PushPullInterval = 0, 0, 0
	c.HandoffQueueDepth = 1 << 14
	return c
}

// node is a running node on a memTransport, with the delegates that tell the
// benchmark how far it has come.
type node struct {
	*lib.Memberlist
	variant
	transport *memTransport
	delegate  *countingDelegate
	events    *markerEvents
}

func (v variant) newNode(b *testing.B, adjust func(*lib.Config)) *node {
	b.Helper()
	n := &node{variant: v, transport: newMemTransport(), delegate: newCountingDelegate(), events: newMarkerEvents()}
	c := v.config()
	c.Transport = n.transport
	c.Delegate = n.delegate
	c.Events = n.events
	if adjust != nil {
		adjust(c)
	}
	m, err := lib.Create(c)
	if err != nil {
		b.Fatal(err)
	}
	n.Memberlist = m
	return n
}

// fixture returns a node that the whole run of the process shares, since testing
// runs a benchmark several times and growing a cluster takes a while.
func (v variant) fixture(b *testing.B, kind string, make func() *node) *node {
	b.Helper()
	key := kind + "/" + v.name
	if fixtures[key] == nil {
		fixtures[key] = make()
	}
	return fixtures[key]
}

var fixtures = map[string]*node{}

// mergeMembers tells the node about members the way another node would. It
// returns once they are merged and the stream is closed.
func (n *node) mergeMembers(b *testing.B, stream []byte) {
	b.Helper()
	closed := make(chan struct{})
	n.transport.streams <- &memConn{in: bytes.NewReader(stream), closed: closed}
	await(b, n.delegate.merged, "the merge")
	await(b, closed, "the end of the stream")
}

// members makes up a cluster.
func members(count, metaLen int) []wire.Member {
	ms := make([]wire.Member, count)
	for i := range ms {
		ms[i] = wire.Member{
			Name:        fmt.Sprintf("node-%05d.dc1.example", i),
			Addr:        []byte{10, 1, byte(i >> 8), byte(i)},
			Port:        7946,
			Meta:        someText(metaLen, i),
			Incarnation: firstIncarnation,
		}
	}
	return ms
}

// firstIncarnation is large enough for all incarnations to take equally many
// bytes.
const firstIncarnation = 1 << 20

// someText is text like what programs put into meta and messages: words, numbers,
// punctuation. It compresses, but not to nothing.
func someText(size, seed int) []byte {
	if size == 0 {
		return nil
	}
	b := make([]byte, 0, size+40)
	for x := uint32(seed)*2654435761 + 1; len(b) < size; x = x*1664525 + 1013904223 {
		b = fmt.Appendf(b, `{"role":"web","id":%d,"zone":"%c%x"},`, x>>12, 'a'+x>>29, x>>20)
	}
	return b[:size]
}

// countingDelegate counts user messages and merges.
type countingDelegate struct {
	messages atomic.Int64
	target   atomic.Int64
	reached  chan struct{} // told when messages gets to target
	merged   chan struct{} // told after each push/pull with user state
}

func newCountingDelegate() *countingDelegate {
	return &countingDelegate{reached: make(chan struct{}, 1), merged: make(chan struct{}, 1)}
}

// expect arranges that reached tells when n more messages have come.
func (d *countingDelegate) expect(n int) {
	d.target.Store(d.messages.Load() + int64(n))
}

func (d *countingDelegate) NotifyMsg([]byte) {
	if d.messages.Add(1) == d.target.Load() {
		d.reached <- struct{}{}
	}
}

func (d *countingDelegate) NodeMeta(int) []byte             { return nil }
func (d *countingDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *countingDelegate) LocalState(bool) []byte          { return nil }
func (d *countingDelegate) MergeRemoteState([]byte, bool)   { d.merged <- struct{}{} }

// await waits for a sign that the node has done something, but not for ever.
func await(b *testing.B, sign <-chan struct{}, what string) {
	b.Helper()
	select { // the timer is only made if there is something to wait for
	case <-sign:
		return
	default:
	}
	t := time.NewTimer(30 * time.Second)
	defer t.Stop()
	select {
	case <-sign:
	case <-t.C:
		b.Fatalf("%s: no sign of %s after 30 s", lib.Name, what)
	}
}

var _ net.Conn = (*memConn)(nil)
