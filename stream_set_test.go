package memberlist

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// valueConn is a stream that cannot be compared.
type valueConn struct {
	net.Conn
	_ []byte
}

// valueTransport has such streams, in both directions.
type valueTransport struct {
	*MockTransport
	streams chan net.Conn
}

func newValueTransport(t *MockTransport) *valueTransport {
	v := &valueTransport{MockTransport: t, streams: make(chan net.Conn)}
	go func() {
		for {
			select {
			case conn := <-t.StreamCh():
				v.streams <- valueConn{Conn: conn}
			case <-t.done:
				return
			}
		}
	}()
	return v
}

func (v *valueTransport) StreamCh() <-chan net.Conn { return v.streams }

func (v *valueTransport) DialAddressTimeout(addr Address, timeout time.Duration) (net.Conn, error) {
	conn, err := v.MockTransport.DialAddressTimeout(addr, timeout)
	return valueConn{Conn: conn}, err
}

// The streams of a transport may be of any type, also one that is no key of a map.
func TestStreamsOfATransportNeedNotBeComparable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		wrapped := func(cfg *Config) { cfg.Transport = newValueTransport(cfg.Transport.(*MockTransport)) }
		a, b := c.node("a", wrapped), c.node("b", wrapped)
		joinNode(t, a, b)
		require.Equal(t, []string{"a", "b"}, memberNames(a))
		require.Equal(t, []string{"a", "b"}, memberNames(b))
	})
}
