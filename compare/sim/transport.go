package sim

import (
	"io"
	"log"
	"net"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// carrier is what the transports of both libraries have in common. Each adds
// the methods in which its own types occur.
type carrier struct{ endpoint *simnet.Endpoint }

// FinalAdvertiseAddr is the endpoint's address, whatever was configured.
func (c carrier) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	addr := c.endpoint.Addr()
	return addr.Addr().AsSlice(), int(addr.Port()), nil
}

// WriteTo sends a packet.
func (c carrier) WriteTo(buf []byte, addr string) (time.Time, error) {
	return c.endpoint.Send(buf, addr)
}

// DialTimeout opens a stream.
func (c carrier) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return c.endpoint.Dial(addr, timeout)
}

// StreamCh is where accepted streams come out.
func (c carrier) StreamCh() <-chan net.Conn { return c.endpoint.Streams() }

// Shutdown closes the endpoint.
func (c carrier) Shutdown() error {
	c.endpoint.Close()
	return nil
}

// receiveInto has the endpoint's packets go to a channel as long as it has room.
func receiveInto[P any](e *simnet.Endpoint, packets chan P, wrap func(buf []byte, from net.Addr, at time.Time) P) {
	e.OnPacket(func(buf []byte, from net.Addr, at time.Time) bool {
		select {
		case packets <- wrap(buf, from, at):
			return true
		default:
			return false
		}
	})
}

// nodeLogger is the logger that a node gets.
func nodeLogger(spec NodeSpec) *log.Logger {
	if spec.Log == nil {
		return log.New(io.Discard, "", 0)
	}
	return log.New(spec.Log, spec.Name+" ", log.Ltime|log.Lmicroseconds)
}
