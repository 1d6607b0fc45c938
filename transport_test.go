package memberlist

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAddressString checks P37.
func TestAddressString(t *testing.T) {
	for want, a := range map[string]Address{
		"127.0.0.1:7946":       {Addr: "127.0.0.1:7946"},
		"one (127.0.0.1:7946)": {Addr: "127.0.0.1:7946", Name: "one"},
		"two ([::1]:7946)":     {Addr: "[::1]:7946", Name: "two"},
	} {
		require.Equal(t, want, a.String())
	}
}

// plainTransport records what it is asked for. It knows no names.
type plainTransport struct {
	Transport
	wrote, dialed string
}

func (p *plainTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	p.wrote = string(b) + " to " + addr
	return time.Unix(1, 0), nil
}

func (p *plainTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	p.dialed = addr + " within " + timeout.String()
	return nil, net.ErrClosed
}

// TestPlainTransportGetsAddressesOnly checks P11.
func TestPlainTransportGetsAddressesOnly(t *testing.T) {
	plain := new(plainTransport)
	aware, wrapped := nodeAware(plain)
	require.True(t, wrapped)

	at, err := aware.WriteToAddress([]byte("hello"), Address{Addr: "10.0.0.1:7946", Name: "one"})
	require.NoError(t, err)
	require.Equal(t, time.Unix(1, 0), at)
	require.Equal(t, "hello to 10.0.0.1:7946", plain.wrote)

	_, err = aware.DialAddressTimeout(Address{Addr: "10.0.0.2:7946", Name: "two"}, time.Second)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, "10.0.0.2:7946 within 1s", plain.dialed)
}

// TestNodeAwareTransportIsTakenAsItIs checks P11.
func TestNodeAwareTransportIsTakenAsItIs(t *testing.T) {
	transport := new(MockNetwork).NewTransport("one")
	aware, wrapped := nodeAware(transport)
	require.False(t, wrapped)
	require.Same(t, transport, aware)
}

// A transport that embeds a NetTransport has its unexported methods too. It is not taken
// for one, or what it adds would be passed by.
func TestTransportThatEmbedsANetTransportIsNotBypassed(t *testing.T) {
	type wrapper struct{ *NetTransport }
	var _ directTransport = wrapper{}
	_, direct := asDirect(wrapper{})
	require.False(t, direct)
	_, direct = asDirect(new(NetTransport))
	require.True(t, direct)
}
