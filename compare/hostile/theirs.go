package hostile

import (
	"io"
	"log"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Theirs is github.com/hashicorp/memberlist.
type Theirs struct{}

// Name implements [Library].
func (Theirs) Name() string { return "v0.7.0" }

// Start implements [Library].
func (Theirs) Start(s Setup) (Node, error) {
	n := &theirNode{setup: s}
	config := memberlist.DefaultLANConfig()
	config.Name = s.Name
	config.Transport = newTheirTransport(s.Endpoint)
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

// theirNode is a node and its delegates.
type theirNode struct {
	setup Setup
	list  atomic.Pointer[memberlist.Memberlist]
	queue memberlist.TransmitLimitedQueue
}

func (n *theirNode) size() int {
	if list := n.list.Load(); list != nil {
		return list.NumMembers()
	}
	return 1
}

func (n *theirNode) Join(addr string) error {
	_, err := n.list.Load().Join([]string{addr})
	return err
}

func (n *theirNode) Members() []string {
	var names []string
	for _, m := range n.list.Load().Members() {
		names = append(names, m.Name)
	}
	return names
}

func (n *theirNode) Queue(msg []byte) { n.queue.QueueBroadcast(theirBroadcast(msg)) }
func (n *theirNode) Queued() int      { return n.queue.NumQueued() }
func (n *theirNode) Shutdown()        { n.list.Load().Shutdown() }

func (n *theirNode) NodeMeta(int) []byte           { return nil }
func (n *theirNode) LocalState(bool) []byte        { return nil }
func (n *theirNode) MergeRemoteState([]byte, bool) {}

func (n *theirNode) GetBroadcasts(overhead, limit int) [][]byte {
	return n.queue.GetBroadcasts(overhead, limit)
}

func (n *theirNode) NotifyMsg(msg []byte) {
	if n.setup.OnMessage != nil {
		n.setup.OnMessage(msg)
	}
}

func (n *theirNode) NotifyJoin(*memberlist.Node)  {}
func (n *theirNode) NotifyLeave(*memberlist.Node) {}
func (n *theirNode) NotifyUpdate(*memberlist.Node) {
	if n.setup.OnUpdate != nil {
		n.setup.OnUpdate()
	}
}

type theirBroadcast []byte

func (theirBroadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b theirBroadcast) Message() []byte                     { return b }
func (theirBroadcast) Finished()                             {}

type theirTransport struct {
	simnet.Carrier
	packets chan *memberlist.Packet
}

func newTheirTransport(e *simnet.Endpoint) *theirTransport {
	t := &theirTransport{simnet.Carrier{Endpoint: e}, make(chan *memberlist.Packet, e.QueueLength())}
	simnet.ReceiveInto(e, t.packets, func(buf []byte, from net.Addr, at time.Time) *memberlist.Packet {
		return &memberlist.Packet{Buf: buf, From: from, Timestamp: at}
	})
	return t
}

func (t *theirTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }
