package sim

import (
	"net"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Theirs is github.com/hashicorp/memberlist, the reference.
type Theirs struct{}

// Name implements Library.
func (Theirs) Name() string { return "theirs" }

// Start implements Library.
func (Theirs) Start(spec NodeSpec) (Node, error) {
	config := memberlist.DefaultLANConfig()
	switch spec.Preset {
	case PresetWAN:
		config = memberlist.DefaultWANConfig()
	case PresetLocal:
		config = memberlist.DefaultLocalConfig()
	}
	config.Name = spec.Name
	config.Transport = newTheirTransport(spec.Endpoint)
	config.Events = theirEvents{spec.Events}
	config.Logger = nodeLogger(spec)
	if spec.SuspicionMult != 0 {
		config.SuspicionMult = spec.SuspicionMult
	}
	list, err := memberlist.Create(config)
	if err != nil {
		return nil, err
	}
	return theirNode{list}, nil
}

type theirNode struct{ list *memberlist.Memberlist }

func (n theirNode) Join(addrs ...string) (int, error)  { return n.list.Join(addrs) }
func (n theirNode) Leave(timeout time.Duration) error  { return n.list.Leave(timeout) }
func (n theirNode) Update(timeout time.Duration) error { return n.list.UpdateNode(timeout) }
func (n theirNode) Shutdown()                          { n.list.Shutdown() }
func (n theirNode) Health() int                        { return n.list.GetHealthScore() }

func (n theirNode) EachMember(f func(string, net.IP, uint16)) {
	for _, m := range n.list.Members() {
		f(m.Name, m.Addr, m.Port)
	}
}

type theirEvents struct{ events Events }

func (e theirEvents) NotifyJoin(n *memberlist.Node)   { e.events.Present(n.Name, n.Addr, n.Port) }
func (e theirEvents) NotifyUpdate(n *memberlist.Node) { e.events.Present(n.Name, n.Addr, n.Port) }
func (e theirEvents) NotifyLeave(n *memberlist.Node)  { e.events.Gone(n.Name) }

type theirTransport struct {
	simnet.Carrier
	packets chan *memberlist.Packet
}

var _ memberlist.NodeAwareTransport = (*theirTransport)(nil)

func newTheirTransport(e *simnet.Endpoint) *theirTransport {
	t := &theirTransport{simnet.Carrier{Endpoint: e}, make(chan *memberlist.Packet, e.QueueLength())}
	simnet.ReceiveInto(e, t.packets, func(buf []byte, from net.Addr, at time.Time) *memberlist.Packet {
		return &memberlist.Packet{Buf: buf, From: from, Timestamp: at}
	})
	return t
}

func (t *theirTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *theirTransport) WriteToAddress(buf []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(buf, addr.Addr)
}

func (t *theirTransport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}
