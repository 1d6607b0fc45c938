// Package transports_test runs the suite on the transports of the library. It is in a
// directory of its own because of go mod tidy: what the suite's own tests import, a
// program that imports the suite would have to find, under a replace directive too.
package transports_test

import (
	"io"
	"log"
	"net"
	"testing"

	"github.com/seed-83836a96/memberlist"
	"github.com/seed-83836a96/memberlist/transporttest"
)

func newNetPair(bind string) transporttest.NewPair[memberlist.Transport] {
	open := func(t *testing.T) memberlist.Transport {
		t.Helper()
		transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{bind},
			Logger:    log.New(io.Discard, "", 0),
		})
		if err != nil {
			t.Fatal(err)
		}
		return transport
	}
	return func(t *testing.T) (a, b memberlist.Transport) {
		return open(t), open(t)
	}
}

func TestNetTransportIPv4(t *testing.T) {
	transporttest.Run(t, newNetPair("127.0.0.1"))
}

func TestNetTransportIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 loopback: ", err)
	}
	l.Close()
	transporttest.Run(t, newNetPair("::1"))
}

// The type of the transport itself does as well.
func TestMockTransport(t *testing.T) {
	transporttest.Run(t, func(*testing.T) (a, b *memberlist.MockTransport) {
		var network memberlist.MockNetwork
		return network.NewTransport("a"), network.NewTransport("b")
	})
}

// A network that loses and delays packets is still one.
func TestMockTransportOnBadNetwork(t *testing.T) {
	transporttest.Run(t, func(*testing.T) (a, b memberlist.Transport) {
		var network memberlist.MockNetwork
		network.SetLatency(100_000, 200_000)
		network.SetLoss(0.05)
		return network.NewTransport("a"), network.NewTransport("b")
	})
}
