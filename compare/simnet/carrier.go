package simnet

import (
	"net"
	"time"
)

// Carrier is what the transports of all libraries have in common. Each adds the methods
// in which its own types occur.
type Carrier struct{ Endpoint *Endpoint }

// FinalAdvertiseAddr is the endpoint's address, whatever was configured.
func (c Carrier) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	addr := c.Endpoint.Addr()
	return addr.Addr().AsSlice(), int(addr.Port()), nil
}

// WriteTo sends a packet.
func (c Carrier) WriteTo(buf []byte, addr string) (time.Time, error) {
	return c.Endpoint.Send(buf, addr)
}

// DialTimeout opens a stream.
func (c Carrier) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return c.Endpoint.Dial(addr, timeout)
}

// StreamCh is where accepted streams come out.
func (c Carrier) StreamCh() <-chan net.Conn { return c.Endpoint.Streams() }

// Shutdown closes the endpoint.
func (c Carrier) Shutdown() error {
	c.Endpoint.Close()
	return nil
}

// ReceiveInto has the endpoint's packets go to a channel as long as it has room.
func ReceiveInto[P any](e *Endpoint, packets chan P, wrap func(buf []byte, from net.Addr, at time.Time) P) {
	e.OnPacket(func(buf []byte, from net.Addr, at time.Time) bool {
		select {
		case packets <- wrap(buf, from, at):
			return true
		default:
			return false
		}
	})
}
