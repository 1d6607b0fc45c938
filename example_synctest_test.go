package memberlist

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestClusterHealsAfterAPartition shows how a program tests its behaviour under
// faults: the nodes run on a MockNetwork in a synctest bubble, so minutes of
// protocol time take milliseconds, and the result does not depend on the load of
// the machine.
func TestClusterHealsAfterAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network MockNetwork
		network.SetLatency(time.Millisecond, time.Millisecond)

		a := startNode(t, &network, "a")
		b := startNode(t, &network, "b")
		if _, err := b.Join([]string{a.LocalNode().Address()}); err != nil {
			t.Fatal(err)
		}

		network.Partition([]string{"a"}, []string{"b"})
		time.Sleep(time.Minute)
		if n := a.NumMembers(); n != 1 {
			t.Errorf("a has %d members while it is cut off, want 1", n)
		}

		network.Heal()
		time.Sleep(10 * time.Second)
		if n := a.NumMembers(); n != 2 {
			t.Errorf("a has %d members after the partition, want 2", n)
		}
	})
}

// startNode starts a node on the network. It is shut down when the test ends.
func startNode(t *testing.T, network *MockNetwork, name string) *Memberlist {
	config := DefaultLANConfig()
	config.Name = name
	config.Transport = network.NewTransport(name)
	config.LogOutput = io.Discard
	list, err := Create(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Shutdown() })
	return list
}
