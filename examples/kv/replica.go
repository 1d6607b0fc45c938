package main

import (
	"encoding/json"
	"errors"
	"math"
	"sync/atomic"

	"github.com/seed-83836a96/memberlist"
)

// largestMessage is what surely fits into a gossip packet besides its headers.
const largestMessage = 1000

var errTooLarge = errors.New("key and value do not fit into a gossip packet")

// replica keeps a store the same on all nodes. It is the memberlist.Delegate of
// its node.
type replica struct {
	store *store
	queue *memberlist.TransmitLimitedQueue
	list  atomic.Pointer[memberlist.Memberlist] // nil until attach
}

func newReplica(store *store) *replica {
	r := &replica{store: store}
	r.queue = &memberlist.TransmitLimitedQueue{NumNodes: r.clusterSize, RetransmitMult: 4}
	return r
}

// attach tells the replica its node. Callbacks come before that.
func (r *replica) attach(list *memberlist.Memberlist) { r.list.Store(list) }

func (r *replica) clusterSize() int {
	if list := r.list.Load(); list != nil {
		return list.NumMembers()
	}
	return 1
}

// put sets a key on all nodes.
func (r *replica) put(key string, value json.RawMessage) (entry, error) {
	return r.change(entry{Key: key, Value: value})
}

// remove deletes a key on all nodes.
func (r *replica) remove(key string) (entry, error) {
	return r.change(entry{Key: key, Deleted: true})
}

func (r *replica) change(e entry) (entry, error) {
	node := r.list.Load().LocalNode().Name
	e.Version = version{Time: math.MaxInt64, Node: node} // the longest
	msg, err := json.Marshal(e)
	if err != nil {
		return entry{}, err
	}
	if len(msg) > largestMessage {
		return entry{}, errTooLarge
	}
	e = r.store.change(e, node)
	return e, r.spread(e)
}

func (r *replica) spread(e entry) error {
	msg, err := json.Marshal(e)
	if err != nil {
		return err
	}
	r.queue.QueueBroadcast(update{key: e.Key, msg: msg})
	return nil
}

// accept merges what another node said. What is news is passed on: the sender
// reaches only a few nodes itself.
func (r *replica) accept(e entry) {
	if r.store.merge(e) {
		// An entry that was decoded can be encoded.
		_ = r.spread(e)
	}
}

// NodeMeta returns no meta data.
func (r *replica) NodeMeta(int) []byte { return nil }

// NotifyMsg takes one change that another node broadcast.
func (r *replica) NotifyMsg(msg []byte) {
	var e entry
	if json.Unmarshal(msg, &e) == nil {
		r.accept(e)
	}
}

// GetBroadcasts gives the library the changes that are still to be spread.
func (r *replica) GetBroadcasts(overhead, limit int) [][]byte {
	return r.queue.GetBroadcasts(overhead, limit)
}

// LocalState is everything, for a node that comes late or missed a broadcast.
func (r *replica) LocalState(bool) []byte {
	state, err := json.Marshal(r.store.all())
	if err != nil {
		return nil
	}
	return state
}

// MergeRemoteState takes everything from another node.
func (r *replica) MergeRemoteState(state []byte, _ bool) {
	var entries []entry
	if json.Unmarshal(state, &entries) != nil {
		return
	}
	for _, e := range entries {
		r.accept(e)
	}
}

// update is the broadcast of a change. A later one of the same key replaces it.
type update struct {
	key string
	msg []byte
}

// Name makes the queue replace older updates of the key.
func (u update) Name() string { return u.key }

// Message is what is sent.
func (u update) Message() []byte { return u.msg }

// Invalidates is not asked, since the update has a name.
func (u update) Invalidates(memberlist.Broadcast) bool { return false }

// Finished does nothing: nobody waits for the update.
func (u update) Finished() {}
