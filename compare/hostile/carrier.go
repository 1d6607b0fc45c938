package hostile

import (
	"net"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// carrier is what the transports of both libraries have in common.
type carrier struct{ endpoint *simnet.Endpoint }

func (c carrier) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	addr := c.endpoint.Addr()
	return addr.Addr().AsSlice(), int(addr.Port()), nil
}

func (c carrier) WriteTo(buf []byte, addr string) (time.Time, error) {
	return c.endpoint.Send(buf, addr)
}

func (c carrier) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return c.endpoint.Dial(addr, timeout)
}

func (c carrier) StreamCh() <-chan net.Conn { return c.endpoint.Streams() }

func (c carrier) Shutdown() error {
	c.endpoint.Close()
	return nil
}

// receiveInto has the packets of an endpoint go to a channel while it has room.
func receiveInto[P any](e *simnet.Endpoint, packets chan P, wrap func([]byte, net.Addr, time.Time) P) {
	e.OnPacket(func(buf []byte, from net.Addr, at time.Time) bool {
		select {
		case packets <- wrap(buf, from, at):
			return true
		default:
			return false
		}
	})
}
