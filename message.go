package memberlist

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// SendBestEffort sends a user message to a node in a packet of its own. The receiver's
// Delegate gets it through NotifyMsg. A nil error means that the packet was passed to
// the network, not that it arrived. Over UDP, packets of more than about 64 KiB fail
// with [ErrTooLarge], and packets larger than the network's MTU are easily lost.
// SendBestEffort blocks only while the transport sends, and does not keep msg.
func (m *Memberlist) SendBestEffort(to *Node, msg []byte) error {
	return m.sendUser(toNode(to), msg)
}

// SendToAddress is like SendBestEffort for an address, which need not belong to a
// known member. If Config.RequireNodeNames is set, the address needs a name
// ([ErrNodeNameRequired]).
func (m *Memberlist) SendToAddress(a Address, msg []byte) error {
	return m.sendUser(destination{text: a.Addr, name: a.Name}, msg)
}

// SendTo is like SendToAddress without a node name.
//
// Deprecated: Use SendBestEffort or SendToAddress.
func (m *Memberlist) SendTo(to net.Addr, msg []byte) error {
	return m.sendUser(destination{text: to.String()}, msg)
}

// SendToUDP is SendBestEffort.
//
// Deprecated: Use SendBestEffort.
func (m *Memberlist) SendToUDP(to *Node, msg []byte) error { return m.SendBestEffort(to, msg) }

// SendToTCP is SendReliable.
//
// Deprecated: Use SendReliable.
func (m *Memberlist) SendToTCP(to *Node, msg []byte) error { return m.SendReliable(to, msg) }

// sendUser sends a user message in a packet of its own (P38).
func (m *Memberlist) sendUser(to destination, msg []byte) error {
	if m.life.down.Load() {
		return ErrShutdown
	}
	return m.outbound.sendUser(to, msg)
}

// SendReliable sends a user message to a node on a stream of its own. It blocks for at
// most Config.TCPTimeout to connect, and then until the message is written or this node
// is shut down. See [Memberlist.SendReliableContext].
func (m *Memberlist) SendReliable(to *Node, msg []byte) error {
	return m.SendReliableContext(context.Background(), to, msg)
}

// SendReliableContext sends a user message to a node on a stream of its own. A nil error
// means that all bytes were written to the connection, not that the receiver processed
// them. An empty message is not delivered. Errors are [UnreachableError],
// [ErrTooLarge] for more than 20 MiB, which no receiver accepts, [ErrShutdown], and the
// error of ctx.
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

// Ping measures the round trip time to a node, which need not be a known member. It
// waits at most Config.ProbeTimeout. See [Memberlist.PingContext].
func (m *Memberlist) Ping(node string, addr net.Addr) (time.Duration, error) {
	return m.PingContext(context.Background(), node, addr)
}

// PingContext sends a ping for the named node to an address and waits for the answer
// until Config.ProbeTimeout or ctx ends. A node with another name does not answer. It
// returns the time from sending the packet to receiving the answer. Without an answer
// the error is a [NoPingResponseError]. A ping does not change what this node knows
// about the cluster.
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
