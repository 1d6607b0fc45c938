package memberlist

// Broadcast is a message that spreads by riding on packets until it has been
// sent often enough; see [TransmitLimitedQueue]. A value may also be a
// [NamedBroadcast] or a [UniqueBroadcast], which changes what it replaces.
type Broadcast interface {
	// Invalidates tells whether this broadcast, which is being queued, makes
	// the given queued one pointless. It is asked only about broadcasts that
	// are neither named nor unique, and only by such a one. It is called with
	// the queue locked and must not use the queue.
	Invalidates(b Broadcast) bool

	// Message gives the bytes to send. They must stay the same from queueing
	// on: the queue asks once and hands out the very slice it got.
	Message() []byte

	// Finished is called exactly once, when the broadcast has left the queue
	// for good: sent often enough, replaced, given up, pruned or reset. No lock is held,
	// so it may use the queue. The message may at that moment still be in the
	// hands of whoever drew it last.
	Finished()
}

// NamedBroadcast is a [Broadcast] of which only the newest counts: queueing one
// drops a queued one of the same name. Invalidates is not asked, which makes it
// the cheapest kind. One with an empty name is treated as a plain Broadcast. A
// value that is a [UniqueBroadcast] as well counts as named.
type NamedBroadcast interface {
	Broadcast

	// Name identifies what the broadcast is about. It must stay the same.
	Name() string
}

// UniqueBroadcast is a [Broadcast] that neither replaces another one nor is
// ever replaced. Invalidates is not asked.
type UniqueBroadcast interface {
	Broadcast

	// UniqueBroadcast marks the type; it is never called.
	UniqueBroadcast()
}

// whenDone is the owner of an encoded membership message on its way to the
// others. Such a message is queued under the name of the node it is about (or
// the own address, for a refutation), so that newer word about a node replaces
// the older (P84). It may be nil. Unlike a [NamedBroadcast] it takes no memory.
type whenDone func()

// Finished calls the function.
func (done whenDone) Finished() {
	if done != nil {
		done()
	}
}
