package memberlist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The examples run on a network in memory. Leave Config.Transport nil for UDP and
// TCP.
func configFor(network *MockNetwork, name string) *Config {
	config := DefaultLocalConfig()
	config.Name = name
	config.Transport = network.NewTransport(name)
	config.LogOutput = io.Discard
	return config
}

// Make two nodes, and let one join the other.
func ExampleCreate() {
	network := new(MockNetwork)
	first, err := Create(configFor(network, "first"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer first.Shutdown()
	second, err := Create(configFor(network, "second"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer second.Shutdown()

	contacted, err := second.Join([]string{first.LocalNode().Address()})
	fmt.Println(contacted, err)
	for _, node := range second.Members() {
		fmt.Println(node.Name, node.Address())
	}
	// Unordered output:
	// 1 <nil>
	// first 127.0.0.1:1
	// second 127.0.0.1:2
}

// notes is a program's data: a set of texts that all nodes come to know.
type notes struct {
	queue TransmitLimitedQueue
	got   chan string
}

func (n *notes) NodeMeta(int) []byte { return nil }

func (n *notes) NotifyMsg(msg []byte) {
	text := string(msg) // a copy, for the slice is valid only now
	n.got <- text
}

func (n *notes) GetBroadcasts(overhead, limit int) [][]byte {
	return n.queue.GetBroadcasts(overhead, limit)
}

// Those who come later get with their Join what was broadcast before.
func (n *notes) LocalState(bool) []byte                { return []byte("everything so far") }
func (n *notes) MergeRemoteState(state []byte, _ bool) { n.got <- string(state) }

// note is one text as a broadcast.
type note string

func (n note) Invalidates(Broadcast) bool { return false }
func (n note) Message() []byte            { return []byte(n) }
func (n note) Finished()                  {}

// Broadcast a message that rides on the gossip of the cluster, and exchange state.
func ExampleDelegate() {
	network := new(MockNetwork)
	var data []*notes
	var nodes []*Memberlist
	for _, name := range []string{"a", "b"} {
		n := &notes{got: make(chan string, 16)}
		n.queue.NumNodes = func() int { return 2 }
		n.queue.RetransmitMult = 2
		config := configFor(network, name)
		config.Delegate = n
		node, err := Create(config)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer node.Shutdown()
		data, nodes = append(data, n), append(nodes, node)
	}
	if _, err := nodes[1].Join([]string{nodes[0].LocalNode().Address()}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-data[1].got)
	data[0].queue.QueueBroadcast(note("hello"))
	fmt.Println(<-data[1].got)
	// Output:
	// everything so far
	// hello
}

// announcer prints what happens, until somebody has left.
type announcer struct{ done chan struct{} }

func (a announcer) NotifyJoin(n *Node)   { fmt.Println("joined:", n.Name) }
func (a announcer) NotifyUpdate(n *Node) { fmt.Println("updated:", n.Name) }
func (a announcer) NotifyLeave(n *Node) {
	fmt.Println("left:", n.Name, n.State == StateLeft)
	close(a.done)
}

// Be told of those who come and go.
func ExampleEventDelegate() {
	network := new(MockNetwork)
	done := make(chan struct{})
	config := configFor(network, "a")
	config.Events = announcer{done}
	a, err := Create(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Shutdown()
	b, err := Create(configFor(network, "b"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Shutdown()

	if _, err := a.Join([]string{b.LocalNode().Address()}); err != nil {
		fmt.Println(err)
	}
	// The other one announces its departure, and waits until it has arrived.
	if err := b.Leave(time.Second); err != nil {
		fmt.Println(err)
	}
	<-done
	// Output:
	// joined: a
	// joined: b
	// left: b true
}

// reasons prints why the state of a node changed.
type reasons struct{ announcer }

func (reasons) NotifyChange(c Change) {
	fmt.Printf("%s is %s, says %s\n", c.Node, c.To, c.By)
}

// Learn the reasons of changes too.
func ExampleEventReasonDelegate() {
	config := configFor(new(MockNetwork), "a")
	config.Events = reasons{announcer{make(chan struct{})}}
	a, err := Create(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Shutdown()
	if err := a.Leave(time.Second); err != nil {
		fmt.Println(err)
	}
	// Output:
	// a is alive, says a
	// joined: a
	// a is left, says a
	// left: a true
}

// Encrypt the traffic of a cluster, and exchange its key while it runs.
func ExampleKeyring() {
	oldKey, newKey := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	network := new(MockNetwork)
	var nodes []*Memberlist
	var rings []*Keyring
	for _, name := range []string{"a", "b"} {
		config := configFor(network, name)
		config.SecretKey = oldKey
		node, err := Create(config)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer node.Shutdown()
		nodes, rings = append(nodes, node), append(rings, config.Keyring) // made by Create
	}

	// First all can read the new key, then all write it, then the old one goes.
	for _, step := range []func(*Keyring) error{
		func(ring *Keyring) error { return ring.AddKey(newKey) },
		func(ring *Keyring) error { return ring.UseKey(newKey) },
		func(ring *Keyring) error { return ring.RemoveKey(oldKey) },
	} {
		for _, ring := range rings {
			if err := step(ring); err != nil {
				fmt.Println(err)
			}
		}
	}
	contacted, err := nodes[1].Join([]string{nodes[0].LocalNode().Address()})
	fmt.Println(contacted, err, len(rings[0].GetKeys()))

	config := configFor(network, "late")
	config.SecretKey = oldKey
	late, err := Create(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer late.Shutdown()
	_, err = late.Join([]string{nodes[0].LocalNode().Address()})
	fmt.Println(errors.Is(err, ErrDecrypt))
	// Output:
	// 1 <nil> 1
	// true
}

// countingTransport is a transport of the program's own. This one counts packets
// and leaves the rest to another.
type countingTransport struct {
	NodeAwareTransport
	packets atomic.Int64
}

func (t *countingTransport) WriteToAddress(b []byte, to Address) (time.Time, error) {
	t.packets.Add(1)
	return t.NodeAwareTransport.WriteToAddress(b, to)
}

// Use a transport of one's own.
func ExampleTransport() {
	network := new(MockNetwork)
	transport := &countingTransport{NodeAwareTransport: network.NewTransport("a")}
	config := configFor(network, "a")
	config.Transport = transport
	node, err := Create(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Shutdown()

	err = node.SendBestEffort(node.LocalNode(), []byte("note to myself"))
	fmt.Println(err, transport.packets.Load())
	// Output: <nil> 1
}

// Test a program's cluster on a network that misbehaves. Inside a bubble of
// testing/synctest such a test takes no time.
func ExampleMockNetwork() {
	network := new(MockNetwork)
	network.SetLatency(time.Millisecond, time.Millisecond)
	network.SetLoss(0.01)
	var nodes []*Memberlist
	for _, name := range []string{"a", "b"} {
		config := configFor(network, name)
		config.TCPTimeout = 300 * time.Millisecond
		node, err := Create(config)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer node.Shutdown()
		nodes = append(nodes, node)
	}

	seeds := []string{nodes[0].LocalNode().Address()}
	network.Partition([]string{"a"})
	_, err := nodes[1].Join(seeds)
	fmt.Println(errors.Is(err, ErrTimeout))

	network.Heal()
	_, err = nodes[1].Join(seeds)
	fmt.Println(nodes[1].NumMembers(), err)
	// Output:
	// true
	// 2 <nil>
}

// gatekeeper lets in only nodes whose metadata says that they are of this cluster.
type gatekeeper struct{}

func (gatekeeper) NotifyMerge(peers []*Node) error {
	for _, peer := range peers {
		if !strings.HasPrefix(string(peer.Meta), "cluster=blue") {
			return fmt.Errorf("%s is not of the blue cluster", peer.Name)
		}
	}
	return nil
}

// Give up when a context ends, and find out why a join failed.
func ExampleMemberlist_JoinContext() {
	network := new(MockNetwork)
	config := configFor(network, "a")
	config.Merge = gatekeeper{}
	a, err := Create(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Shutdown()
	b, err := Create(configFor(network, "b"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Shutdown()
	network.NewTransport("silent") // an endpoint that nobody serves

	_, err = b.Join([]string{a.LocalNode().Address()})
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		fmt.Println("by", rejected.By, "because", rejected.Reason)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = b.JoinContext(ctx, []string{"127.0.0.1:3"})
	var unreachable *UnreachableError
	if errors.As(err, &unreachable) {
		fmt.Println("unreachable:", unreachable.Addr)
	}
	fmt.Println(errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded))

	b.Shutdown()
	_, err = b.Join([]string{a.LocalNode().Address()})
	fmt.Println(errors.Is(err, ErrShutdown))
	// Output:
	// by 127.0.0.1:1 because b is not of the blue cluster
	// unreachable: 127.0.0.1:3
	// true true
	// true
}

// See what a node knows about each node, those that left included.
func ExampleMemberlist_Snapshot() {
	network := new(MockNetwork)
	var nodes []*Memberlist
	for _, name := range []string{"a", "b", "c"} {
		node, err := Create(configFor(network, name))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer node.Shutdown()
		if len(nodes) > 0 {
			node.Join([]string{nodes[0].LocalNode().Address()})
		}
		nodes = append(nodes, node)
	}
	if err := nodes[1].Leave(time.Second); err != nil {
		fmt.Println(err)
	}
	for _, status := range nodes[0].Snapshot() {
		if status.Node.Name != "c" { // it may still be on its way to becoming known
			fmt.Println(status.Node.Name, status.Node.State, len(status.Accusers))
		}
	}
	// Output:
	// a alive 0
	// b left 0
}

// Change the metadata that travels with the node.
func ExampleMemberlist_UpdateNode() {
	weight := "weight=1"
	config := configFor(new(MockNetwork), "a")
	config.Delegate = &metaDelegate{meta: func() string { return weight }}
	node, err := Create(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Shutdown()
	before := node.LocalNode()

	weight = "weight=2"
	if err := node.UpdateNode(time.Second); err != nil {
		fmt.Println(err)
	}
	fmt.Println(string(node.LocalNode().Meta))
	fmt.Println(string(before.Meta), "in the snapshot from before")
	// Output:
	// weight=2
	// weight=1 in the snapshot from before
}

// metaDelegate is a Delegate that has only metadata.
type metaDelegate struct {
	notes
	meta func() string
}

func (d *metaDelegate) NodeMeta(int) []byte { return []byte(d.meta()) }

// Send a message to one node.
func ExampleMemberlist_SendReliable() {
	network := new(MockNetwork)
	data := &notes{got: make(chan string, 16)}
	config := configFor(network, "a")
	config.Delegate = data
	a, err := Create(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Shutdown()
	b, err := Create(configFor(network, "b"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Shutdown()

	// On a stream: of any size, and with an error if it cannot be delivered.
	if err := b.SendReliable(a.LocalNode(), []byte("by stream")); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-data.got)
	// In a packet: cheap, and without a promise.
	if err := b.SendBestEffort(a.LocalNode(), []byte("by packet")); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-data.got)
	// Output:
	// by stream
	// by packet
}

// Measure the round trip to a node.
func ExampleMemberlist_Ping() {
	network := new(MockNetwork)
	network.SetLatency(2*time.Millisecond, 0)
	a, err := Create(configFor(network, "a"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Shutdown()

	self := a.LocalNode()
	rtt, err := a.Ping("a", &net.UDPAddr{IP: self.Addr, Port: int(self.Port)})
	fmt.Println(rtt >= 4*time.Millisecond, err)

	_, err = a.Ping("nobody", &net.UDPAddr{IP: self.Addr, Port: 99})
	fmt.Println(err)
	// Output:
	// true <nil>
	// no route to nobody (127.0.0.1:99)
}

// sameZone keeps gossip inside a zone, but for one node that takes it further.
type sameZone struct{ zone, bridge string }

func (z sameZone) SelectNodes(candidates []*NodeState) (selected []*NodeState, preferred *NodeState) {
	for _, c := range candidates {
		switch {
		case c.Name == z.bridge:
			preferred = c
		case string(c.Meta) == z.zone:
			selected = append(selected, c)
		}
	}
	return selected, preferred
}

// Keep gossip in this node's zone.
func ExampleNodeSelectionDelegate() {
	config := DefaultLANConfig()
	config.NodeSelection = sameZone{zone: "eu-1", bridge: "router"}

	// A running node makes this call.
	pool, preferred := config.NodeSelection.SelectNodes([]*NodeState{
		{Node: Node{Name: "near", Meta: []byte("eu-1")}},
		{Node: Node{Name: "far", Meta: []byte("us-1")}},
		{Node: Node{Name: "router", Meta: []byte("us-1")}},
	})
	names := []string{preferred.Name}
	for _, s := range pool {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	fmt.Println(names)
	// Output: [near router]
}
