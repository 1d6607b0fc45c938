package memberlist

import "net"

// drops counts and logs what is dropped: for lack of room, or since no node sends such.
type drops struct {
	meter *meter
	log   *logger
}

// outOfBounds is the kind of messages, and entries of a push/pull, that are dropped
// since they are out of bounds.
const outOfBounds = "out of bounds"

// queueFull tells of n messages for which their queue had no room.
func (d *drops) queueFull(kind messageType, n int, from sender) {
	d.meter.countDropped(kind.String(), n)
	d.log.warnf("Handler queue full, dropping messages", logFields{addr: from.String(), more: []logAttr{{"kind", kind.String()}}},
		"handler queue full, dropping message (%d) %s", kind, from.log())
}

// outgoing tells of a packet that no queue had room for.
func (d *drops) outgoing(to Address) {
	d.meter.countDropped("outgoing packet", 1)
	d.log.warnf("Outgoing queue full, dropping a packet", logFields{node: to.Name, addr: to.Addr},
		"outgoing queue full, dropping packet to %s", to.String())
}

// roundTrip tells of a round trip time that its queue had no room for.
func (d *drops) roundTrip() { d.meter.countDropped("round trip", 1) }

// surplus tells of n messages in a packet that has more than maxDirect (P195).
func (d *drops) surplus(n int, from sender) {
	d.meter.countDropped("surplus", n)
	d.log.warnf("Too many pings and acks in a packet", logFields{addr: from.String()},
		"Packet with %d pings and acks too many, ignoring these %s", n, from.log())
}

// outOfBounds tells of a message that no node sends (P167).
func (d *drops) outOfBounds(kind messageType, err error, from sender) {
	d.meter.countDropped(outOfBounds, 1)
	d.log.warnf("Ignoring a message that is out of bounds",
		logFields{addr: from.String(), err: err, more: []logAttr{{"kind", kind.String()}}},
		"Ignoring %s message: %v %s", kind, err, from.log())
}

// entriesOutOfBounds tells of n entries of a push/pull that no node sends; err is
// about one of them.
func (d *drops) entriesOutOfBounds(n int, err error) {
	d.meter.countDropped(outOfBounds, n)
	d.log.warnf("Ignoring entries of a push/pull that are out of bounds", logFields{err: err},
		"Ignoring %d entries of a push/pull, one of them: %v", n, err)
}

// indirectPings tells of n indirect pings that are not relayed.
func (d *drops) indirectPings(n int) {
	d.meter.countDropped(indirectPingMsg.String(), n)
	d.log.warnf("Too many indirect pings", logFields{}, "Relaying for too many others, ignoring indirect pings")
}

// stream tells of a stream that is one too many.
func (d *drops) stream(conn net.Conn) {
	d.meter.countDropped("stream", 1)
	d.log.warnf("Too many streams", logFields{addr: addrText(conn)}, "too many open streams, closing one %s", LogConn(conn))
}
