package memberlist

import "time"

// Delegate connects a program's own data to the cluster: meta data that travels
// with the node, messages that ride on gossip, and state that is exchanged
// whole. It is optional; without one the node has no meta data and no user
// state, and user messages that arrive are dropped.
//
// Rules that hold for every callback of this package, here and in the
// interfaces below:
//
//   - No lock of the library is held during a call. Every public method of
//     [Memberlist] may be called from every callback, Shutdown included.
//   - The goroutine belongs to the library. What the call may hold up is said
//     at each method; long work belongs on a goroutine of the program's own.
//   - A *Node that is handed in is a snapshot. The library never writes to it
//     again, so it may be kept and read from any goroutine; the program must not
//     write to it either, since others may hold the same one.
//   - Callbacks can come before Create has returned. A callback that needs the
//     *Memberlist has to cope with not having it yet.
//   - A panic is not caught.
type Delegate interface {
	// NodeMeta returns the meta data of this node, at most limit bytes long
	// (limit is MetaMaxSize). Other members see it as Node.Meta. nil or empty
	// means no meta data.
	//
	// It is called once by Create and once by each UpdateNode, on the goroutine
	// of their caller, which waits for it; nothing else does. More than limit
	// bytes makes Create or UpdateNode fail with ErrTooLarge. The library takes
	// a copy.
	NodeMeta(limit int) []byte

	// NotifyMsg is called for each user message that arrives: what another node
	// sent with SendBestEffort, SendReliable or SendToAddress, or returned from
	// its GetBroadcasts.
	//
	// Messages that came in packets are handed over one at a time, by a
	// goroutine that does nothing else: while a call blocks, further ones wait
	// in a queue of Config.HandoffQueueDepth entries and are dropped and
	// counted when that is full, but membership is not held up. Messages that
	// came over streams are handed over by the goroutine of their stream,
	// concurrently with each other and with those from packets. It never runs
	// on the goroutine that delivers membership events, so it may call Join or
	// SendReliable.
	//
	// A message that came in a packet is handed over after the membership events
	// of that packet and of those before it, but if such an event takes longer than
	// Config.TCPTimeout. Beyond that there is no promise about order, and a message
	// can come more than once.
	// The slice is valid only during the call: copy what is kept.
	NotifyMsg(msg []byte)

	// GetBroadcasts returns user messages that are to ride on a packet which is
	// about to be sent. Each costs its length plus overhead bytes; the sum must
	// not exceed limit. What does not fit is not returned but kept for a later
	// call. [TransmitLimitedQueue.GetBroadcasts] does all this and is what most
	// programs call here.
	//
	// It is called for most packets, so often, by any goroutine and
	// concurrently. It must not block: probes and gossip wait for it. The
	// returned slices are read until the packet has been built and not changed.
	//
	// If it has nothing for a gossip packet that is still empty, it is asked again at
	// once, with a limit of about 65,000 bytes: what it returns then is sent in a
	// packet each, so that messages get out which are too long for others.
	GetBroadcasts(overhead, limit int) [][]byte

	// LocalState returns the program's state for a full exchange with another
	// node, which gets it through MergeRemoteState. join tells whether the
	// exchange is part of a Join. nil or empty sends none.
	//
	// It is called for each exchange, on either side, by the goroutine that
	// does the exchange, so several calls can run at once. The exchange waits
	// for it, within Config.TCPTimeout of its peer. The slice is read until the
	// exchange is over and not changed. State beyond 20 MiB fails the exchange
	// with ErrTooLarge, on both sides; with encryption the limit is for all that is
	// sent, after compression.
	LocalState(join bool) []byte

	// MergeRemoteState hands over what LocalState returned on the other side of
	// an exchange. It is not called when that was empty or when the exchange
	// was refused. join tells whether the exchange is part of a Join. The events
	// of the nodes that the exchange made known come before it, unless that takes
	// longer than Config.TCPTimeout.
	//
	// It is called by the goroutine that does the exchange, concurrently with
	// other exchanges; only that exchange (and the Join that wanted it) waits.
	// The slice is valid only during the call: copy what is kept.
	MergeRemoteState(buf []byte, join bool)
}

// EventDelegate is told which nodes come and go, the own node included.
//
// Events come in the order of the changes and one at a time: a call
// starts only after the one before has returned. For each node they are a
// NotifyJoin, any number of NotifyUpdate, a NotifyLeave, and so on from the
// start. A change is visible in [Memberlist.Members] and queued for broadcast
// before its event is delivered.
//
// Create, Join, Leave and UpdateNode return only after the events that they
// caused have been delivered. Called from inside a callback, where that could
// mean waiting for oneself, they return without waiting. Events that have not
// been delivered when Shutdown is called are dropped.
//
// A slow method delays the events behind it, and those calls, but not the
// membership protocol. When more than 8192 events wait, those of each node are
// merged: several updates into the newest, a leave and a join around others into one
// of each; and nothing is told of a node that came and went meanwhile. So what waits
// is bounded by the number of members, and in the end the events agree with Members
// all the same. The rules listed at [Delegate] hold: snapshots, no locks, any method
// may be called.
//
// A value that has the method of [EventReasonDelegate] too is told the reason
// of each change.
type EventDelegate interface {
	// NotifyJoin tells that a node became a member. It was unknown, or dead, or
	// had left.
	NotifyJoin(node *Node)

	// NotifyLeave tells that a node is no member any more: it was declared dead
	// or has left. Node.State says which.
	NotifyLeave(node *Node)

	// NotifyUpdate tells that the meta data of a member changed. A member that
	// was suspected and is alive again is no event.
	NotifyUpdate(node *Node)
}

// EventReasonDelegate is an optional interface of the value in Config.Events.
// If it is implemented, NotifyChange is called for every change of a node's
// state with the reason of it, also for those that [EventDelegate] does not
// tell of: alive to suspect and back.
//
// It follows the rules of EventDelegate and stands in the same order: a change
// that is an event too is told through NotifyChange first, and the two calls
// follow each other directly. When events are merged so are their changes: From is
// that of the first one, the rest that of the last.
type EventReasonDelegate interface {
	NotifyChange(change Change)
}

// Change says what happened to the state of one node, and why.
type Change struct {
	// Node is the node after the change.
	Node *Node

	// From and To are the states before and after. They are equal when only the
	// meta data changed.
	From, To NodeStateType

	// New is set when the node was unknown before. From is StateDead then,
	// since that is where an unknown node starts.
	New bool

	// By names the node on whose word the state changed: the accuser or
	// confirmer of a suspicion, the node that declared another dead, the node
	// itself when it joined, refuted or left. The own name stands for what this
	// node found out by itself.
	By string

	// Incarnation is the node's incarnation number after the change.
	Incarnation uint32

	// Confirmations counts the other nodes that confirmed a suspicion before
	// this change ended it. 0 if there was no suspicion.
	Confirmations int

	// SuspectFor is how long the node was suspect when the change ended that. 0
	// if it was not suspect.
	SuspectFor time.Duration
}

// AliveDelegate can refuse what is said about nodes that are alive, and so keep
// nodes out. The usual purpose is a check of meta data or address.
type AliveDelegate interface {
	// NotifyAlive is called before an alive message takes effect, with what the
	// message says: Name, Addr, Port, Meta and versions. An error refuses the
	// message: it is logged and has no effect. A node that refuses itself runs as
	// one that has left; see Create. A Join from which no node passes is refused as
	// a whole, and the other side gets the words of the error in a [RejectedError].
	//
	// It is asked for every alive message, also for those that tell nothing
	// new, come through a full exchange, or are about the own node: it is
	// called often and must answer from memory. The goroutine that handles the
	// message waits, and with it the membership messages behind; calls do not
	// overlap.
	NotifyAlive(peer *Node) error
}

// ConflictDelegate is told when two nodes claim one name.
type ConflictDelegate interface {
	// NotifyConflict is called when a node at another address claims the name
	// of a member. existing is the member that is known and stays; other has
	// only the name, address, port and meta data of the claim, which is
	// ignored. It repeats as long as both nodes are there.
	//
	// Calls do not overlap, and stand in the order of events.
	NotifyConflict(existing, other *Node)
}

// MergeDelegate can refuse a Join, on both sides of it.
type MergeDelegate interface {
	// NotifyMerge is called during an exchange that is part of a Join, before
	// anything of it takes effect, with every node that the other side knows,
	// in whatever state; Node.State tells it. An error refuses the whole
	// exchange: nothing is merged. The error of the own delegate comes back
	// from Join, and can be found there with errors.Is and errors.As; the words
	// of the remote side's come back in a [RejectedError].
	//
	// It is called on the goroutine that does the exchange, concurrently with
	// other exchanges; only that exchange waits, within Config.TCPTimeout of
	// its peer.
	NotifyMerge(peers []*Node) error
}

// PingDelegate rides on the probes of the failure detector: it measures round
// trip times and can put data into the answers.
type PingDelegate interface {
	// AckPayload returns what is put into the answer to a ping. It is asked for
	// each ping packet, on the goroutine that reads packets, several of which
	// may run at once. It must not block: the prober counts the time as round
	// trip time and suspects the node if it takes too long. Keep it small,
	// since it has to fit into the packet.
	AckPayload() []byte

	// NotifyPingComplete is called when a probe of this node was answered
	// directly and in time, with the node, the time from sending to receiving
	// and the payload of the answer. Answers through relays or streams and
	// those to Memberlist.Ping are not reported.
	//
	// Calls do not overlap. While one blocks, later ones wait or are left out;
	// probing goes on. The payload is valid only during the call.
	NotifyPingComplete(other *Node, rtt time.Duration, payload []byte)
}

// NodeSelectionDelegate narrows down to whom a node gossips and with whom it
// exchanges state. It is what zone-aware gossip is built on.
type NodeSelectionDelegate interface {
	// SelectNodes gets the nodes that could be chosen and returns those to draw
	// from at random, and optionally one that is always among the chosen,
	// whether or not it is in the pool. Returning the input as it is means all
	// of them. Neither the slice nor the nodes may be changed.
	//
	// It is asked when targets for gossip and for full exchanges are chosen,
	// not for probes: failure detection always covers everybody. Nodes that
	// must not be chosen anyway (the own one, the dead past
	// Config.GossipToTheDeadTime) stay excluded whatever is returned. It is
	// called for each round, so often, and must not block: the round waits for
	// it.
	SelectNodes(candidates []*NodeState) (selected []*NodeState, preferred *NodeState)
}

// NodeEventType is the kind of a [NodeEvent].
type NodeEventType int

// The kinds of events.
const (
	// NodeJoin means that a node became a member.
	NodeJoin NodeEventType = iota
	// NodeLeave means that a member died or left.
	NodeLeave
	// NodeUpdate means that the meta data of a member changed.
	NodeUpdate
)

// NodeEvent is what a [ChannelEventDelegate] sends.
type NodeEvent struct {
	// Event is the kind.
	Event NodeEventType

	// Node is the node it is about, after the change. It is a copy that belongs
	// to the receiver, who may change it.
	Node *Node
}

// ChannelEventDelegate is an [EventDelegate] that writes the events to a
// channel.
type ChannelEventDelegate struct {
	// Ch receives the events in their order. The sends block: while the channel
	// is full the events behind wait, and so do calls such as Join that wait
	// for their events. Give it a buffer, and keep reading until Shutdown has
	// returned. Create sends the own node's NodeJoin before it returns, so an
	// unbuffered channel needs its reader before that. A nil channel blocks for
	// ever.
	Ch chan<- NodeEvent
}

var _ EventDelegate = (*ChannelEventDelegate)(nil)

// NotifyJoin sends a NodeJoin.
func (c *ChannelEventDelegate) NotifyJoin(node *Node) {
	c.Ch <- NodeEvent{Event: NodeJoin, Node: copyOfNode(node)}
}

// NotifyLeave sends a NodeLeave.
func (c *ChannelEventDelegate) NotifyLeave(node *Node) {
	c.Ch <- NodeEvent{Event: NodeLeave, Node: copyOfNode(node)}
}

// NotifyUpdate sends a NodeUpdate.
func (c *ChannelEventDelegate) NotifyUpdate(node *Node) {
	c.Ch <- NodeEvent{Event: NodeUpdate, Node: copyOfNode(node)}
}
