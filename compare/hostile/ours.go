package hostile

import (
	"io"
	"log"
	"net"
	"sync/atomic"
	"time"

	"github.com/seed-83836a96/memberlist"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Ours is this library.
type Ours struct{}

// Name implements [Library].
func (Ours) Name() string { return "here" }

// Start implements [Library].
func (Ours) Start(s Setup) (Node, error) {
	n := &ourNode{setup: s}
	config := memberlist.DefaultLANConfig()
	config.Name = s.Name
	config.Transport = newOurTransport(s.Endpoint)
	config.SecretKey = s.Key
	config.Delegate, config.Events = n, n
	config.Logger = log.New(io.Discard, "", 0)
	if s.Log != nil {
		config.Logger = log.New(s.Log, "", log.LstdFlags)
	}
	n.queue.NumNodes, n.queue.RetransmitMult = n.size, config.RetransmitMult
	list, err := memberlist.Create(config)
	if err != nil {
		return nil, err
	}
	n.list.Store(list)
	return n, nil
}

// ourNode is a node and its delegates.
type ourNode struct {
	setup Setup
	list  atomic.Pointer[memberlist.Memberlist]
	queue memberlist.TransmitLimitedQueue
}

func (n *ourNode) size() int {
	if list := n.list.Load(); list != nil {
		return list.NumMembers()
	}
	return 1
}

func (n *ourNode) Join(addr string) error {
	_, err := n.list.Load().Join([]string{addr})
	return err
}

func (n *ourNode) Members() []string {
	var names []string
	for _, m := range n.list.Load().Members() {
		names = append(names, m.Name)
	}
	return names
}

func (n *ourNode) Queue(msg []byte) { n.queue.QueueBroadcast(ourBroadcast(msg)) }
func (n *ourNode) Queued() int      { return n.queue.NumQueued() }
func (n *ourNode) Shutdown()        { n.list.Load().Shutdown() }

func (n *ourNode) NodeMeta(int) []byte           { return nil }
func (n *ourNode) LocalState(bool) []byte        { return nil }
func (n *ourNode) MergeRemoteState([]byte, bool) {}

func (n *ourNode) GetBroadcasts(overhead, limit int) [][]byte {
	return n.queue.GetBroadcasts(overhead, limit)
}

func (n *ourNode) NotifyMsg(msg []byte) {
	if n.setup.OnMessage != nil {
		n.setup.OnMessage(msg)
	}
}

func (n *ourNode) NotifyJoin(*memberlist.Node)  {}
func (n *ourNode) NotifyLeave(*memberlist.Node) {}
func (n *ourNode) NotifyUpdate(*memberlist.Node) {
	if n.setup.OnUpdate != nil {
		n.setup.OnUpdate()
	}
}

type ourBroadcast []byte

func (ourBroadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b ourBroadcast) Message() []byte                     { return b }
func (ourBroadcast) Finished()                             {}

type ourTransport struct {
	simnet.Carrier
	packets chan *memberlist.Packet
}

func newOurTransport(e *simnet.Endpoint) *ourTransport {
	t := &ourTransport{simnet.Carrier{Endpoint: e}, make(chan *memberlist.Packet, e.QueueLength())}
	simnet.ReceiveInto(e, t.packets, func(buf []byte, from net.Addr, at time.Time) *memberlist.Packet {
		return &memberlist.Packet{Buf: buf, From: from, Timestamp: at}
	})
	return t
}

func (t *ourTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }
