package memberlist

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChannelEventsAreCopiesInOrder checks P127.
func TestChannelEventsAreCopiesInOrder(t *testing.T) {
	ch := make(chan NodeEvent, 3)
	delegate := &ChannelEventDelegate{Ch: ch}
	node := &Node{
		Name: "a", Addr: net.IP{10, 0, 0, 1}, Port: 7946, Meta: []byte("meta"),
		State: StateSuspect, PMin: 1, PMax: 5, PCur: 2, DMin: 3, DMax: 4, DCur: 6,
	}
	delegate.NotifyJoin(node)
	delegate.NotifyUpdate(node)
	delegate.NotifyLeave(node)
	for _, kind := range []NodeEventType{NodeJoin, NodeUpdate, NodeLeave} {
		event := <-ch
		require.Equal(t, kind, event.Event)
		require.Equal(t, node, event.Node)
		require.NotSame(t, node, event.Node)

		event.Node.Name = "changed"
		event.Node.Meta[0] = 'X'
		event.Node.Addr[0] = 99
		require.Equal(t, "a", node.Name)
		require.Equal(t, "meta", string(node.Meta))
		require.Equal(t, net.IP{10, 0, 0, 1}, node.Addr)
	}
}

// TestChannelEventsKeepNilMeta checks P127.
func TestChannelEventsKeepNilMeta(t *testing.T) {
	ch := make(chan NodeEvent, 1)
	(&ChannelEventDelegate{Ch: ch}).NotifyJoin(&Node{Name: "a"})
	event := <-ch
	require.Nil(t, event.Node.Meta)
	require.Nil(t, event.Node.Addr)
}

// TestChannelEventsBlockUntilTaken checks P127.
func TestChannelEventsBlockUntilTaken(t *testing.T) {
	ch := make(chan NodeEvent)
	returned := make(chan struct{})
	go func() {
		(&ChannelEventDelegate{Ch: ch}).NotifyJoin(&Node{Name: "a"})
		close(returned)
	}()
	select {
	case <-returned:
		t.Fatal("the event was not delivered and the call returned")
	case event := <-ch:
		require.Equal(t, NodeJoin, event.Event)
	}
	<-returned
}

func TestNodeEventTypesHaveTheirNumbers(t *testing.T) {
	require.Equal(t, []NodeEventType{0, 1, 2}, []NodeEventType{NodeJoin, NodeLeave, NodeUpdate})
}
