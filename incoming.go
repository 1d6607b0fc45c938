package memberlist

// incoming is a decoded message for the core.
type incoming struct {
	kind  messageType
	raw   []byte // the message as it came, if it may be passed on like that
	alive alive
	said  suspect // a suspect or dead message
	ack   ack
	nack  nack
	ind   indirectPing
}

// checkBounds reports what is out of bounds in the message.
func (item *incoming) checkBounds() error {
	switch item.kind {
	case aliveMsg:
		return item.alive.checkBounds()
	case suspectMsg, deadMsg:
		return item.said.checkBounds()
	case indirectPingMsg:
		return item.ind.checkBounds()
	}
	return nil
}

// decode reads a message. canonical says that it may be passed on as it came.
func (item *incoming) decode(msg message) (canonical bool, err error) {
	switch msg.kind() {
	case aliveMsg:
		return item.alive.decode(msg.body())
	case suspectMsg:
		return item.said.decode(msg.body())
	case deadMsg:
		var d dead
		canonical, err = d.decode(msg.body())
		item.said = suspect(d)
		return canonical, err
	case ackMsg:
		return item.ack.decode(msg.body())
	case nackMsg:
		return item.nack.decode(msg.body())
	}
	return item.ind.decode(msg.body())
}
