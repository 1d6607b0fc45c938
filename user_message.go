package memberlist

import "context"

// userMessages are the user messages of one packet, in its order. When the program
// has got them, the list is used again; the messages are the program's (P89).
type userMessages [][]byte

// userBatch is the user messages of one packet, to be delivered after the events up
// to a number: what a program hears of members it has heard before it gets a message
// that came with or after the news of them, as in the reference.
type userBatch struct {
	msgs  *userMessages
	after uint64
	size  int // bytes that the messages hold
}

// maxKept is how many bytes of user messages are kept until the end of a burst.
const maxKept = 1 << 20

// keepUserMessages keeps the user messages of a packet of so many bytes, for handing
// over at the end of the burst.
func (in *packetHandler) keepUserMessages(from sender, packetLen int) {
	if len(in.userMessages) == 0 || in.m.config.Delegate == nil {
		return
	}
	lent := from.other == nil || in.reader.copied
	size := memoryOf(in.userMessages, lent, packetLen)
	if !in.m.userQueue.hasRoom(size) {
		in.m.drops.queueFull(userMsg, len(in.userMessages), from) // before a copy is made
		return
	}
	u := in.m.userLists.Get().(*userMessages)
	*u = append(*u, in.userMessages...)
	if lent {
		u.copyTogether()
	}
	if in.m.queueBehindMembers(u, size, from) {
		return
	}
	in.users = append(in.users, userBatch{u, in.eventSeq, size})
	in.senders = append(in.senders, from)
	if in.kept += size; in.kept > maxKept {
		in.handOverUserMessages()
	}
}

// memoryOf is how many bytes messages and their list hold: copies of them, if they
// lie in memory that is only lent, else the whole packet.
func memoryOf(msgs [][]byte, lent bool, packetLen int) int {
	const listEntry = 24
	size := listEntry * len(msgs)
	if !lent {
		return size + packetLen
	}
	for _, msg := range msgs {
		size += len(msg)
	}
	return size
}

// copyTogether moves the messages out of memory that will be used again, into one
// piece of their own.
func (u userMessages) copyTogether() {
	size := 0
	for _, msg := range u {
		size += len(msg)
	}
	room := make([]byte, 0, size)
	for i, msg := range u {
		start := len(room)
		room = append(room, msg...)
		u[i] = room[start:len(room):len(room)]
	}
}

// queueBehindMembers puts user messages behind the membership messages that wait for
// the AliveDelegate, and reports whether it did. A flood of them leaves half of that
// lane to membership.
func (m *Memberlist) queueBehindMembers(u *userMessages, size int, from sender) bool {
	l := m.memberQueue
	if l == nil || l.waiting.Load() == 0 || !l.halfEmpty() {
		return false
	}
	return l.put(heldMessage{users: u, size: size, from: from})
}

// handOverUserMessages puts what was kept into the lane of user messages.
func (in *packetHandler) handOverUserMessages() {
	if len(in.users) == 0 {
		return
	}
	taken := in.m.userQueue.putAll(in.users)
	for i, u := range in.users[taken:] {
		in.m.drops.queueFull(userMsg, len(*u.msgs), in.senders[taken+i])
	}
	clear(in.users)
	clear(in.senders)
	in.users, in.senders, in.kept = in.users[:0], in.senders[:0], 0
}

// keepMessages is for how many user messages a list is used again.
const keepMessages = 1024

// deliverUserMessages tells the delegate of user messages that came in one packet,
// the last one first: broadcasts are drawn newest first (P78), so that this is the
// order in which the sender queued them (P88).
func (m *Memberlist) deliverUserMessages(b userBatch) {
	m.awaitEventsBefore(m.life.ctx, b.after)
	msgs := *b.msgs
	for i := len(msgs) - 1; i >= 0 && !m.life.down.Load(); i-- {
		m.config.Delegate.NotifyMsg(msgs[i])
	}
	if cap(msgs) > keepMessages {
		return
	}
	clear(msgs)
	*b.msgs = msgs[:0]
	m.userLists.Put(b.msgs)
}

// awaitEventsBefore waits for the delivery of events before user data that belongs behind
// them is handed over. A program whose events hang gets it all the same.
func (m *Memberlist) awaitEventsBefore(ctx context.Context, eventSeq uint64) {
	if eventSeq <= m.hungEvents.Load() || m.notifier.reached(eventSeq) {
		return
	}
	timeout, cancel := context.WithTimeout(ctx, m.config.TCPTimeout)
	defer cancel()
	if m.waitForEvents(timeout, eventSeq) != nil && ctx.Err() == nil {
		m.hungEvents.Store(eventSeq)
	}
}
