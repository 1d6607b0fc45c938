package memberlist

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// SendBestEffort sends a user message to a node in one packet of its own. It
// waits for nothing but the sending, which a Transport of the program's own may draw
// out; nil means that the packet was given to the network, not that it arrived. The
// receiver's Delegate gets it by NotifyMsg. Packets over about 64 KiB cannot be sent
// by UDP ([ErrTooLarge]), and over the network's MTU they are easily lost. msg
// may be used again afterwards.
func (m *Memberlist) SendBestEffort(to *Node, msg []byte) error {
	return m.sendUser(toNode(to), msg)
}

// SendToAddress is SendBestEffort to an address, which need not be that of a
// known member. With Config.RequireNodeNames it has to have a name
// ([ErrNodeNameRequired]).
func (m *Memberlist) SendToAddress(a Address, msg []byte) error {
	return m.sendUser(destination{text: a.Addr, name: a.Name}, msg)
}

// SendTo is SendToAddress without a node name.
//
// Deprecated: use SendBestEffort or SendToAddress.
func (m *Memberlist) SendTo(to net.Addr, msg []byte) error {
	return m.sendUser(destination{text: to.String()}, msg)
}

// SendToUDP is SendBestEffort.
//
// Deprecated: use SendBestEffort.
func (m *Memberlist) SendToUDP(to *Node, msg []byte) error { return m.SendBestEffort(to, msg) }

// SendToTCP is SendReliable.
//
// Deprecated: use SendReliable.
func (m *Memberlist) SendToTCP(to *Node, msg []byte) error { return m.SendReliable(to, msg) }

// sendUser sends a user message in a packet of its own (P38).
func (m *Memberlist) sendUser(to destination, msg []byte) error {
	if m.life.down.Load() {
		return ErrShutdown
	}
	return m.outbound.sendUser(to, msg)
}

// SendReliable sends a user message to a node on a stream of its own. It blocks
// for at most Config.TCPTimeout to connect, and then, without a limit, until all is
// written or the node is shut down. See [Memberlist.SendReliableContext].
func (m *Memberlist) SendReliable(to *Node, msg []byte) error {
	return m.SendReliableContext(context.Background(), to, msg)
}

// SendReliableContext sends a user message to a node on a stream of its own. Nil
// means that all bytes were given to the connection, not that they were
// processed. An empty message is delivered nowhere. Errors:
// [UnreachableError], [ErrTooLarge] over 20 MiB, which no receiver accepts,
// [ErrShutdown], or that of ctx.
func (m *Memberlist) SendReliableContext(ctx context.Context, to *Node, msg []byte) error {
	if m.life.down.Load() {
		return ErrShutdown
	}
	if len(msg) > maxUserMessage { // P39, W64
		return newKindError(ErrTooLarge, "user message of %d bytes is over the limit of %d", len(msg), maxUserMessage)
	}
	ctx, cancel := m.life.limit(ctx)
	defer cancel()
	return m.life.explain(ctx, m.exchanges.sendUserMessage(ctx, to.FullAddress(), msg))
}

// Ping measures the round trip time to a node, which need not be a known
// member: it sends a ping for the name to the address and waits for the answer,
// for Config.ProbeTimeout at most. See [Memberlist.PingContext].
func (m *Memberlist) Ping(node string, addr net.Addr) (time.Duration, error) {
	return m.PingContext(context.Background(), node, addr)
}

// PingContext sends a ping for the named node to an address and waits for the
// answer until Config.ProbeTimeout or ctx has run out. A node of another name
// does not answer. The result is the time from sending the packet to receiving
// the answer. Without one the error is a [NoPingResponseError]. A ping changes
// nothing in the view of the cluster.
func (m *Memberlist) PingContext(ctx context.Context, node string, addr net.Addr) (time.Duration, error) {
	if m.life.down.Load() {
		return 0, ErrShutdown
	}
	timeout := m.config.ProbeTimeout
	if m.config.ProbeInterval > 0 {
		timeout = min(timeout, m.config.ProbeInterval)
	}
	rtt, err := m.pings.ping(ctx, pingTarget(node, addr), timeout)
	if err == errNoAnswer {
		m.log.debugf("Failed UDP ping", logFields{node: node, addr: addr.String()}, "Failed UDP ping: %s (timeout reached)", node)
		err = NoPingResponseError{node: node}
	}
	return rtt, err
}

// pingTarget is where a ping to an address of the user's goes.
func pingTarget(node string, addr net.Addr) destination {
	if ap := addrPortFrom(addr); ap.IsValid() {
		return destination{addr: ap, name: node}
	}
	text := addr.String()
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return destination{addr: ap, name: node}
	}
	return destination{text: text, name: node}
}
