package main

import (
	"testing"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/memberlist/transporttest"
)

// The suite for transports takes the types of the memberlist that the program uses.
func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) (a, b memberlist.Transport) {
		return open(t), open(t)
	})
}

func open(t *testing.T) memberlist.Transport {
	transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	return transport
}
