package main

import (
	"bytes"
	"io"
	"log"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-83836a96/memberlist"
)

// node is one member with what it was told: the program's side of the library.
// It implements memberlist.Delegate, EventDelegate and EventReasonDelegate.
type node struct {
	list  *memberlist.Memberlist
	queue *memberlist.TransmitLimitedQueue

	mu      sync.Mutex
	meta    []byte
	heard   []string        // broadcasts, each once
	changes []changeAtATime // what the library told of other nodes
}

type changeAtATime struct {
	memberlist.Change
	at time.Time
}

// options are what the nodes of the show differ in.
type options struct {
	name  string
	meta  string
	key   []byte
	label string
	nodes int
	logs  io.Writer
}

// startNode creates a node on a free port of the loopback interface.
func startNode(o options) (*node, error) {
	config := memberlist.DefaultLocalConfig()
	config.Name = o.name
	config.BindAddr = "127.0.0.1"
	config.BindPort = 0
	config.SecretKey = o.key
	config.Label = o.label
	config.Logger = log.New(o.logs, o.name+" ", log.Ltime|log.Lmicroseconds)

	// News are to reach everybody by gossip and not only with the next exchange, and
	// a death is to be found while one watches. The name of a dead node may move to
	// another address soon, and the dead are remembered to the end of the show.
	config.RetransmitMult = 8
	config.SuspicionMaxTimeoutMult = 2
	config.PushPullInterval = 5 * time.Second
	config.DeadNodeReclaimTime = reclaimTime
	config.GossipToTheDeadTime = 5 * time.Minute

	n := &node{
		meta: []byte(o.meta),
		queue: &memberlist.TransmitLimitedQueue{
			NumNodes:       func() int { return o.nodes },
			RetransmitMult: config.RetransmitMult,
		},
	}
	config.Delegate = n
	config.Events = n
	list, err := memberlist.Create(config)
	if err != nil {
		return nil, err
	}
	n.list = list
	return n, nil
}

func (n *node) name() string    { return n.list.LocalNode().Name }
func (n *node) address() string { return n.list.LocalNode().Address() }

// view is what one node sees of another.
type view struct {
	state   memberlist.NodeStateType
	meta    string
	address string
}

func (v view) gone() bool {
	return v.state == memberlist.StateDead || v.state == memberlist.StateLeft
}

func (n *node) sees() map[string]view {
	views := map[string]view{}
	for _, status := range n.list.Snapshot() {
		node := &status.Node
		views[node.Name] = view{state: node.State, meta: string(node.Meta), address: node.Address()}
	}
	return views
}

// broadcast sends a message to everybody, including the own delegate.
func (n *node) broadcast(text string) { n.hear(text) }

// hear notes a message and, if it is news, passes it on: the nodes that the
// sender happens to choose are few, and the rest get it from them. Whom gossip
// misses all the same gets it with the next full exchange, from LocalState.
func (n *node) hear(text string) {
	if n.note(text) {
		n.queue.QueueBroadcast(message(text))
	}
}

func (n *node) note(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Contains(n.heard, text) {
		return false
	}
	n.heard = append(n.heard, text)
	return true
}

func (n *node) messages() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.heard)
}

func (n *node) setMeta(meta string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.meta = []byte(meta)
}

// changesOf lists what was told about one node since a moment.
func (n *node) changesOf(name string, since time.Time) []changeAtATime {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []changeAtATime
	for _, c := range n.changes {
		if c.Node.Name == name && c.at.After(since) {
			found = append(found, c)
		}
	}
	return found
}

// The library calls these.

func (n *node) NodeMeta(int) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Clone(n.meta)
}

func (n *node) NotifyMsg(msg []byte) { n.hear(string(msg)) }

func (n *node) GetBroadcasts(overhead, limit int) [][]byte {
	return n.queue.GetBroadcasts(overhead, limit)
}

func (n *node) LocalState(bool) []byte {
	return []byte(strings.Join(n.messages(), "\n"))
}

func (n *node) MergeRemoteState(state []byte, _ bool) {
	for _, text := range strings.Split(string(state), "\n") {
		n.hear(text)
	}
}

func (n *node) NotifyJoin(*memberlist.Node)   {}
func (n *node) NotifyLeave(*memberlist.Node)  {}
func (n *node) NotifyUpdate(*memberlist.Node) {}
func (n *node) NotifyChange(change memberlist.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changes = append(n.changes, changeAtATime{Change: change, at: time.Now()})
}

// message is a broadcast that replaces no other.
type message string

func (m message) Message() []byte                       { return []byte(m) }
func (m message) Invalidates(memberlist.Broadcast) bool { return false }
func (m message) Finished()                             {}
func (m message) UniqueBroadcast()                      {}
