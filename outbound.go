package memberlist

import "sync"

// outbound makes packets and sends them: messages of the core and of the user, with
// broadcasts beside them, and gossip.
type outbound struct {
	services
	config     *Config
	engine     *engine
	broadcasts *TransmitLimitedQueue
	wire       *wire
	transport  NodeAwareTransport
	direct     directTransport // the transport, if it is one; nil otherwise
	queues     sendQueues
	scratch    sync.Pool // *packetScratch
}

func newOutbound(s services, cfg *Config, e *engine, broadcasts *TransmitLimitedQueue, t NodeAwareTransport) *outbound {
	o := &outbound{
		services: s, config: cfg, engine: e, broadcasts: broadcasts, wire: newWire(cfg), transport: t,
	}
	o.direct, o.wire.udp = asDirect(t)
	o.scratch.New = func() any { return new(packetScratch) }
	return o
}

// longestDatagram is the longest packet that UDP carries over IPv4.
const longestDatagram = 65507

// explainSize adds to a failure to send a packet that it is too long, if so.
func (o *outbound) explainSize(err error, size int) error {
	if err == nil || !o.wire.udp || size <= longestDatagram {
		return err
	}
	return newKindError(ErrTooLarge, "packet of %d bytes: %w", size, err)
}

// address is a destination as transports take it.
func (o *outbound) address(to destination) Address {
	text := to.text
	if text == "" && to.node != nil {
		text = to.node.Address()
	}
	if text == "" {
		text = to.addr.String()
	}
	return Address{Addr: text, Name: to.name}
}

// logUnsent logs that a packet could not be sent.
func (o *outbound) logUnsent(to destination, err error) {
	if o.life.down.Load() {
		return
	}
	addr := o.address(to)
	o.log.errorf("Failed to send a packet", logFields{node: to.name, addr: addr.Addr, err: err},
		"Failed to send packet to %s: %v", addr.String(), err)
}
