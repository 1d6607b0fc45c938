package sim

import (
	"net"
	"time"

	"github.com/seed-83836a96/memberlist"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Ours is this library.
type Ours struct {
	// Settings change the configuration of every node, see applySettings.
	Settings []string
}

// Name implements Library.
func (Ours) Name() string { return "ours" }

// Start implements Library.
func (o Ours) Start(spec NodeSpec) (Node, error) {
	config := memberlist.DefaultLANConfig()
	switch spec.Preset {
	case PresetWAN:
		config = memberlist.DefaultWANConfig()
	case PresetLocal:
		config = memberlist.DefaultLocalConfig()
	}
	config.Name = spec.Name
	config.Transport = newOurTransport(spec.Endpoint)
	config.Events = ourEvents{spec.Events}
	config.Logger = nodeLogger(spec)
	if spec.SuspicionMult != 0 {
		config.SuspicionMult = spec.SuspicionMult
	}
	if err := applySettings(config, o.Settings); err != nil {
		return nil, err
	}
	list, err := memberlist.Create(config)
	if err != nil {
		return nil, err
	}
	return ourNode{list}, nil
}

type ourNode struct{ list *memberlist.Memberlist }

func (n ourNode) Join(addrs ...string) (int, error)  { return n.list.Join(addrs) }
func (n ourNode) Leave(timeout time.Duration) error  { return n.list.Leave(timeout) }
func (n ourNode) Update(timeout time.Duration) error { return n.list.UpdateNode(timeout) }
func (n ourNode) Shutdown()                          { n.list.Shutdown() }
func (n ourNode) Health() int                        { return n.list.GetHealthScore() }

func (n ourNode) EachMember(f func(string, net.IP, uint16)) {
	for _, m := range n.list.Members() {
		f(m.Name, m.Addr, m.Port)
	}
}

type ourEvents struct{ events Events }

func (e ourEvents) NotifyJoin(n *memberlist.Node)   { e.events.Present(n.Name, n.Addr, n.Port) }
func (e ourEvents) NotifyUpdate(n *memberlist.Node) { e.events.Present(n.Name, n.Addr, n.Port) }
func (e ourEvents) NotifyLeave(n *memberlist.Node)  { e.events.Gone(n.Name) }

type ourTransport struct {
	simnet.Carrier
	packets chan *memberlist.Packet
}

var _ memberlist.NodeAwareTransport = (*ourTransport)(nil)

func newOurTransport(e *simnet.Endpoint) *ourTransport {
	t := &ourTransport{simnet.Carrier{Endpoint: e}, make(chan *memberlist.Packet, e.QueueLength())}
	simnet.ReceiveInto(e, t.packets, func(buf []byte, from net.Addr, at time.Time) *memberlist.Packet {
		return &memberlist.Packet{Buf: buf, From: from, Timestamp: at}
	})
	return t
}

func (t *ourTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *ourTransport) WriteToAddress(buf []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(buf, addr.Addr)
}

func (t *ourTransport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}
