package memberlist

// Broadcast is a message that is added to outgoing packets until it has been sent
// often enough. See [TransmitLimitedQueue]. A value can also implement
// [NamedBroadcast] or [UniqueBroadcast], which changes what it replaces.
type Broadcast interface {
	// Invalidates reports whether this broadcast, which is being queued, makes
	// the queued broadcast b obsolete. It is called only if neither of the two is
	// named or unique. The queue is locked during the call, so the method must
	// not use the queue.
	Invalidates(b Broadcast) bool

	// Message returns the bytes to send. The queue calls it once and hands out
	// the slice itself, so the bytes must not change afterwards.
	Message() []byte

	// Finished is called exactly once, when the broadcast has left the queue: it
	// was sent often enough, replaced, given up, pruned or reset. No lock is held,
	// so it may use the queue. The caller of GetBroadcasts that got the message
	// last may still be using it.
	Finished()
}

// NamedBroadcast is a [Broadcast] that replaces a queued one with the same name.
// Invalidates is not called, which makes it the cheapest kind. A broadcast with an
// empty name is treated as a plain Broadcast. A value that is also a
// [UniqueBroadcast] counts as named.
type NamedBroadcast interface {
	Broadcast

	// Name identifies the subject of the broadcast. It must not change.
	Name() string
}

// UniqueBroadcast is a [Broadcast] that neither replaces another one nor is
// replaced. Invalidates is not called.
type UniqueBroadcast interface {
	Broadcast

	// UniqueBroadcast marks the type; it is never called.
	UniqueBroadcast()
}

// whenDone is the owner of an encoded membership message on its way to the
// others. Such a message is queued under the name of the node it is about (or
// this node's address, for a refutation), so that newer word about a node replaces
// the older (P84). It may be nil. Unlike a [NamedBroadcast] it takes no memory.
type whenDone func()

// Finished calls the function.
func (done whenDone) Finished() {
	if done != nil {
		done()
	}
}
