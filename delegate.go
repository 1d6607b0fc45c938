package memberlist

import "time"

// Delegate connects a program's own data to the cluster: metadata that travels
// with the node, messages that travel with gossip, and state that is exchanged
// in full. It is optional. Without one, a node has no metadata and no user
// state, and drops user messages that arrive.
//
// These rules hold for every callback of this package, here and in the
// interfaces below:
//
//   - The library holds no lock during a call. A callback may call any method
//     of [Memberlist], Shutdown included.
//   - A callback runs on a goroutine of the library. Each method says what waits
//     for it. Do long work on another goroutine.
//   - A *Node argument is a snapshot. The library never writes to it again, so a
//     program may keep it and read it from any goroutine. It must not write to
//     it, since others may hold the same one.
//   - Callbacks can come before Create has returned, when the program does not
//     have the *Memberlist yet.
//   - The library does not recover from panics.
type Delegate interface {
	// NodeMeta returns the metadata of this node, at most limit bytes (limit is
	// MetaMaxSize). Other nodes see it as Node.Meta. Nil or empty means no
	// metadata.
	//
	// Create and UpdateNode each call it once, on the goroutine of their
	// caller, and wait for it. If it returns more than limit bytes, they fail
	// with ErrTooLarge. The library copies the result.
	NodeMeta(limit int) []byte

	// NotifyMsg is called for each user message that arrives: what another node
	// sent with SendBestEffort, SendReliable or SendToAddress, or returned from
	// its GetBroadcasts.
	//
	// Messages from packets are delivered one at a time, by a goroutine that
	// does nothing else. While a call blocks, further messages wait in a queue
	// whose size is Config.HandoffQueueDepth; messages that do not fit are
	// dropped and counted. Membership is not held up. Messages from streams are
	// delivered by the goroutine of their stream, concurrently with each other
	// and with messages from packets. NotifyMsg never runs on the goroutine
	// that delivers membership events, so it may call Join or SendReliable.
	//
	// A message from a packet is delivered after the membership events of that
	// packet and of earlier packets, unless these take longer than
	// Config.TCPTimeout. There is no other guarantee about order, and a message
	// can arrive more than once.
	//
	// The slice is valid only during the call. Copy what must be kept.
	NotifyMsg(msg []byte)

	// GetBroadcasts returns user messages to add to a packet that is about to
	// be sent. Each message costs its length plus overhead bytes, and the sum
	// must not exceed limit. A message that does not fit must be kept for a
	// later call. [TransmitLimitedQueue.GetBroadcasts] does this and is what
	// most programs call here.
	//
	// A message that exceeds the limit of every call is never sent. If there is
	// nothing for a gossip packet that would otherwise be empty, GetBroadcasts
	// is called a second time with a limit of about 65,000 bytes, and each
	// message that it returns then is sent in a packet of its own.
	// TransmitLimitedQueue finishes messages that are too long even for that.
	//
	// Nodes do not pass on the user messages that they receive. A message
	// reaches the nodes that this node sends it to. To reach a large cluster,
	// the NotifyMsg of every node must queue a message that it has not seen
	// before for broadcast again.
	//
	// GetBroadcasts is called for most packets, by any goroutine and
	// concurrently. It must not block: probes and gossip wait for it. The
	// library reads the returned slices until the packet is built, and does not
	// change them.
	GetBroadcasts(overhead, limit int) [][]byte

	// LocalState returns the program's state for a full state exchange. The
	// other node receives it through MergeRemoteState. join reports whether the
	// exchange is part of a Join. Nil or empty sends no state.
	//
	// It is called for each exchange, on both sides, by the goroutine of the
	// exchange, so calls can be concurrent. The exchange waits for it, and the
	// other node waits at most its Config.TCPTimeout. The library reads the
	// slice until the exchange is over, and does not change it. State of more
	// than 20 MiB makes the exchange fail with ErrTooLarge on both sides. With
	// encryption the limit applies to everything that is sent, after
	// compression.
	LocalState(join bool) []byte

	// MergeRemoteState receives what LocalState returned on the other side of
	// an exchange. It is not called if that was empty or if the exchange was
	// refused. join reports whether the exchange is part of a Join. The events
	// of nodes that became known by the exchange are delivered first, unless
	// that takes longer than Config.TCPTimeout.
	//
	// It is called by the goroutine of the exchange, concurrently with other
	// exchanges. Only that exchange, and a Join that waits for it, is held up.
	// The slice is valid only during the call. Copy what must be kept.
	MergeRemoteState(buf []byte, join bool)
}

// EventDelegate is told when nodes, including this one, join, leave and change.
//
// Events come in the order of the changes, one at a time: a call starts after
// the previous one has returned. For each node they are NotifyJoin, any number
// of NotifyUpdate, NotifyLeave, and so on from the start. A change is visible in
// [Memberlist.Members], and queued for broadcast, before its event is delivered.
//
// Create, Join, Leave and UpdateNode return after the events that they caused
// have been delivered. If they are called from a callback, they return without
// waiting, since they could wait for themselves. Shutdown drops events that have
// not been delivered.
//
// A slow method delays the events behind it and the calls that wait for them,
// but not the membership protocol. When more than 8192 events wait, the events of
// each node are merged: several updates become the newest one, and a node that
// came and went in the meantime is not reported. So the number of waiting events
// is bounded by the number of members, and in the end the events agree with
// Members.
//
// The rules listed at [Delegate] hold. A value that also implements
// [EventReasonDelegate] is told the reason of each change.
type EventDelegate interface {
	// NotifyJoin is called when a node becomes a member. It was unknown or dead
	// before, or had left.
	NotifyJoin(node *Node)

	// NotifyLeave is called when a node is no longer a member: it was declared
	// dead, or it left. Node.State says which.
	NotifyLeave(node *Node)

	// NotifyUpdate is called when the metadata of a member changes. It is not
	// called when a suspect member refutes.
	NotifyUpdate(node *Node)
}

// EventReasonDelegate is an optional interface of the value in Config.Events. If
// it is implemented, NotifyChange is called for every change of a node's state,
// with its reason. This includes changes that [EventDelegate] does not report:
// from alive to suspect and back.
//
// The rules of EventDelegate hold, and the order is the same. For a change that is
// also an event, NotifyChange is called immediately before the event. When events
// are merged, so are their changes: From is that of the first one, everything else
// that of the last.
type EventReasonDelegate interface {
	NotifyChange(change Change)
}

// Change describes a change of the state of one node and its reason.
type Change struct {
	// Node is the node after the change.
	Node *Node

	// From and To are the states before and after the change. They are equal if
	// only the metadata changed.
	From, To NodeStateType

	// New is set if the node was unknown before. From is StateDead then.
	New bool

	// By is the name of the node that caused the change: the first accuser of a
	// suspect, the node that declared another one dead, or the node itself if
	// it joined, refuted or left. It is this node's name if this node found out
	// by itself.
	By string

	// Incarnation is the node's incarnation number after the change.
	Incarnation uint32

	// Confirmations is the number of other nodes that confirmed a suspicion
	// that this change ends, 0 if there was none.
	Confirmations int

	// SuspectFor is how long the node was suspect when the change ended the
	// suspicion, 0 if it was not suspect.
	SuspectFor time.Duration
}

// AliveDelegate can refuse alive messages, and so keep nodes out of the cluster.
// It is typically used to check metadata or addresses.
type AliveDelegate interface {
	// NotifyAlive is called before an alive message takes effect. peer has the
	// name, address, port, metadata and versions of the message. If NotifyAlive
	// returns an error, the message is ignored and the error is logged. A node
	// that refuses itself runs as one that has left; see Create. If it refuses
	// every node of a Join, the Join is refused as a whole, and the other side
	// receives the text of the error in a [RejectedError].
	//
	// It is called for every alive message, including those that bring nothing
	// new, come through a full state exchange, or are about this node. So it is
	// called often and should answer from memory. The goroutine that handles
	// the message waits for it, and so do the membership messages behind. Calls
	// do not overlap.
	NotifyAlive(peer *Node) error
}

// ConflictDelegate is told when two nodes claim one name.
type ConflictDelegate interface {
	// NotifyConflict is called when a node at another address claims the name
	// of a member. existing is the member, which stays. other has only the
	// name, address, port and metadata of the claim, which is ignored. It is
	// called repeatedly as long as both nodes exist.
	//
	// Calls do not overlap. They are in order with the events.
	NotifyConflict(existing, other *Node)
}

// MergeDelegate can refuse a Join, on both sides.
type MergeDelegate interface {
	// NotifyMerge is called during an exchange that is part of a Join, before
	// the exchange takes effect. peers are all nodes that the other side knows,
	// in any state; see Node.State. An error refuses the exchange, and nothing
	// is merged. Join returns an error in which errors.Is and errors.As find
	// the error of this node's own delegate. The text of the other side's error
	// is in a [RejectedError].
	//
	// It is called by the goroutine of the exchange, concurrently with other
	// exchanges. Only that exchange waits for it, and the other node waits at
	// most its Config.TCPTimeout.
	NotifyMerge(peers []*Node) error
}

// PingDelegate receives the round trip times that the failure detector measures,
// and can add data to the answers to pings.
type PingDelegate interface {
	// AckPayload returns data for the answer to a ping. It is called for each
	// ping packet, on a goroutine that reads packets; several of these can run
	// at once. It must not block: the prober measures the time as part of the
	// round trip, and suspects this node if it takes too long. The data must
	// fit into the packet, so keep it small.
	AckPayload() []byte

	// NotifyPingComplete is called when a probe of this node was answered
	// directly and in time. rtt is the time from sending the ping to receiving
	// the answer, and payload is what the other node's AckPayload returned.
	// Answers through relays or streams, and answers to Memberlist.Ping, are
	// not reported.
	//
	// Calls do not overlap. While a call blocks, later ones wait or are
	// dropped; probing goes on. The payload is valid only during the call.
	NotifyPingComplete(other *Node, rtt time.Duration, payload []byte)
}

// NodeSelectionDelegate limits the nodes that a node gossips to and exchanges
// state with. Zone-aware gossip is built on it.
type NodeSelectionDelegate interface {
	// SelectNodes is given the nodes that could be chosen. It returns the nodes
	// to choose from at random and, optionally, a preferred node that is always
	// chosen, whether or not it is in the selection. Returning candidates
	// unchanged selects all of them. Neither the slice nor the nodes may be
	// modified.
	//
	// It is called when targets for gossip and for full state exchanges are
	// chosen, but not for probes: failure detection always covers all nodes. A
	// node that must not be chosen in any case (this node, or a node that has
	// been dead for longer than Config.GossipToTheDeadTime) stays excluded. It
	// is called for each round and must not block: the round waits for it.
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
	// NodeUpdate means that the metadata of a member changed.
	NodeUpdate
)

// NodeEvent is what a [ChannelEventDelegate] sends.
type NodeEvent struct {
	// Event is the kind of the event.
	Event NodeEventType

	// Node is the node after the change. It is a copy that belongs to the
	// receiver.
	Node *Node
}

// ChannelEventDelegate is an [EventDelegate] that writes the events to a
// channel.
type ChannelEventDelegate struct {
	// Ch receives the events in order. Sends block: while the channel is full,
	// later events wait, and so do calls such as Join that wait for their
	// events. Give it a buffer, and read from it until Shutdown has returned.
	// Create sends the NodeJoin of this node before it returns, so an
	// unbuffered channel needs a reader before that. A nil channel blocks
	// forever.
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
