package memberlist

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fuzzBounds holds a node to what it may keep, send and log for what it was given. It
// looks at the sizes of the structures, which says more than the size of the heap.
type fuzzBounds struct {
	*fuzzedNode
	reader *packetReader

	bytes  int // of all packets
	direct int // pings, indirect pings, acks and nacks that count
	words  int // alive, suspect and dead messages, and entries of push/pulls
	logged map[string]int
	looked int // at that many of what was kept
}

func newFuzzBounds(f *fuzzedNode) *fuzzBounds {
	return &fuzzBounds{fuzzedNode: f, reader: newPacketReader(f.peer), logged: make(map[string]int)}
}

// packet counts what is in a packet that the node is going to get.
func (b *fuzzBounds) packet(packet []byte) {
	b.bytes += len(packet)
	msgs, _ := b.reader.read(bytes.Clone(packet))
	direct := 0
	for _, msg := range msgs {
		switch msg.kind() {
		case pingMsg, indirectPingMsg, ackMsg, nackMsg:
			direct++
		case aliveMsg:
			b.words++
			var a alive
			if _, err := a.decode(msg.body()); err == nil {
				b.net.expect(a.Addr, b.portOf(a.Port))
			}
		case suspectMsg, deadMsg:
			b.words++
		}
	}
	b.direct += min(direct, maxDirect)
}

// stream counts what is in a stream that the node is going to get.
func (b *fuzzBounds) stream(sent []byte) {
	r := b.peer.newReader(bytes.NewReader(sent))
	kind, err := b.peer.openInboundFrom(r)
	if err != nil || kind != pushPullMsg {
		return
	}
	_, nodes, _, _ := readPushPull(r, nil)
	b.words += len(nodes)
	for i := range nodes {
		b.net.expect(nodes[i].Addr, b.portOf(nodes[i].Port))
	}
}

// portOf is the port that a message means: nodes of version 1 have all the same.
func (b *fuzzBounds) portOf(port uint16) uint16 {
	if port == 0 || b.m.config.ProtocolVersion == 1 {
		return uint16(b.m.config.BindPort)
	}
	return port
}

// expect takes in that a member may be at an address.
func (n *scriptedNetwork) expect(ip []byte, port uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent.members[addrPortOf(ip, port)] = true
}

// atMost fails the test if there is more of something than may be.
func (b *fuzzBounds) atMost(most, got int, what string) {
	if got > most {
		require.LessOrEqual(b.t, got, most, what)
	}
}

// same fails the test if two counts of the same differ. It is cheaper than to assert.
func (b *fuzzBounds) same(want, got int, what string) {
	if got != want {
		require.Equal(b.t, want, got, what)
	}
}

func (b *fuzzBounds) check() {
	b.m.engine.locked.Lock()
	records := len(b.m.engine.locked.core.table.order)
	b.checkTable(b.m.engine.locked.core)
	b.checkMemory(b.m.engine.locked.core)
	b.checkPending(b.m.engine.locked.core)
	b.m.engine.locked.Unlock()
	b.checkQueues()
	b.checkBuffers()
	b.checkSent(records)
	b.checkLog()
}

// checkTable is about the members.
func (b *fuzzBounds) checkTable(c *core) {
	t := &c.table
	b.atMost(1+b.words+hostileNames, len(t.order), "records")
	b.same(len(t.order), t.byName.used, "names")
	b.same(len(t.order), t.view.used-len(t.view.free), "slots")
	b.same(t.live(), b.m.NumMembers(), "members")
	b.same(len(t.order), len(c.gossip.turns.order), "turns of gossip")
	b.atMost(4*len(t.order)+4096, cap(t.order), "room for records")
	b.atMost(4*len(t.order)+4096, len(t.byName.tags), "room for names")
	b.atMost(b.words+hostileNames+2, b.m.broadcasts.NumQueued(), "broadcasts")
	b.atMost(2*maxNameLen+MetaMaxSize+128, int(c.gossip.queue.longest.Load()), "length of a broadcast")
	for _, m := range t.order {
		b.checkMember(m)
	}
}

// hostileNames is how many names the hostile one lists.
const hostileNames = 5

func (b *fuzzBounds) checkMember(m *member) {
	b.atMost(maxNameLen, len(m.node.Name), "name")
	b.atMost(MetaMaxSize, len(m.node.Meta), "meta data")
	if n := len(m.node.Addr); n != 4 && n != 16 {
		b.t.Fatalf("%q has an address of %d bytes", m.node.Name, n)
	}
	s := m.suspicion()
	if (s != nil) != (m.state() == StateSuspect) {
		b.t.Fatalf("%q is %s", m.node.Name, m.state())
	}
	if s != nil {
		b.atMost(b.m.config.SuspicionMult, len(s.accusers), "accusers")
		b.atMost(maxProbesOfSuspect, len(s.probes), "probes of a suspect")
	}
}

// maxProbesOfSuspect is how many final probes of one suspect wait for their answers.
const maxProbesOfSuspect = 128

// checkMemory is about names that are not in the table.
func (b *fuzzBounds) checkMemory(c *core) {
	for what, v := range map[string]*verdictStore{"pending verdicts": &c.verdicts.pending, "tombstones": &c.verdicts.tombstones} {
		b.atMost(v.most, len(v.order)+len(v.fromResponsive), what)
		b.atMost(len(v.order)+len(v.fromResponsive), len(v.byName), what)
		for name, said := range v.byName {
			b.atMost(maxNameLen, len(name), what)
			b.atMost(maxNameLen, len(said.from), what)
		}
	}
	b.atMost(maxLost, len(c.healing.lost.order), "lost nodes")
	b.atMost(len(c.healing.lost.order), len(c.healing.lost.byName), "lost nodes")
	b.atMost(len(c.healing.lost.order), len(c.healing.lost.neverAnswered), "lost nodes")
}

// checkPending is about pings, timers and effects.
func (b *fuzzBounds) checkPending(c *core) {
	relayed, suspects := 0, 0
	for _, p := range c.pings.pending {
		if _, ok := p.kind.(*relayedPing); ok {
			relayed++
		}
	}
	for _, m := range c.table.order {
		if s := m.suspicion(); s != nil {
			suspects += len(s.probes)
		}
	}
	sources := 0
	for _, n := range c.relays.bySource {
		sources += n
	}
	b.same(relayed, c.relays.pending, "relays")
	b.same(relayed, sources, "relays by source")
	b.atMost(min(maxRelays, b.direct), relayed, "relays")
	b.atMost(relayed+suspects+2*len(c.table.order)+16, len(c.pings.pending), "pings")
	b.atMost(max(minTimersToSweep, 2*c.timers.afterSweep), len(c.timers.heap), "timers")
	live := 0
	for i := range c.timers.heap {
		if !c.timers.heap[i].handler.stale() {
			live++
		}
	}
	b.atMost(8*len(c.pings.pending)+8*len(c.table.order)+32, live, "timers that are not stale")
	if !c.fx.empty() {
		b.t.Fatal("effects are left")
	}
	b.atMost(keepEffects, cap(c.fx.packets), "room for packets to be sent")
}

// checkQueues is about what waits for the program or to be sent.
func (b *fuzzBounds) checkQueues() {
	checkWorkQueue(b, b.m.inbound.users.queue)
	checkWorkQueue(b, b.m.performer.roundTrips.queue)
	if b.m.inbound.held != nil {
		checkWorkQueue(b, b.m.inbound.held)
	}
	for _, q := range b.m.outbound.queues {
		checkWorkQueue(b, q)
	}
	n := b.m.events
	n.mu.Lock()
	defer n.mu.Unlock()
	b.atMost(max(manyEvents, n.mu.mergeAt), len(n.mu.queue), "events")
}

func checkWorkQueue[T any](b *fuzzBounds, q *workQueue[T]) {
	b.atMost(q.limit, int(q.waiting.Load()), "items in a queue")
	b.atMost(max(int(q.byteLimit), longestDatagram+24*maxPacketParts), int(q.bytes.Load()), "bytes in a queue")
	q.mu.Lock()
	defer q.mu.Unlock()
	b.atMost(keepBatch, cap(q.mu.spare), "room of a queue")
}

// checkBuffers is about memory that is kept for the next time.
func (b *fuzzBounds) checkBuffers() {
	h := b.handler
	b.atMost(keepItems, max(cap(h.items), cap(h.pings), cap(h.userMessages), cap(h.reader.msgs)), "room for messages")
	b.atMost(keepScratch, max(cap(h.reader.plain), cap(h.reader.unpacked)), "room for a packet")
	b.atMost(0, len(h.userBurst.batches)+len(h.userBurst.senders)+h.userBurst.kept, "user messages")
	b.atMost(maxFaults, len(h.reader.faults), "faults")
	b.atMost(maxNameLen, len(h.requester), "name of a requester")
	s := b.m.outbound.takeScratch()
	b.atMost(4*maxCompoundParts, cap(s.messages), "room for messages that ride along")
	b.atMost(256<<10, cap(s.user)+cap(s.msg)+cap(s.sealed), "room for packets")
	b.m.outbound.giveScratch(s)
	if list, ok := b.m.exchanges.nodeLists.Get().(*[]pushNodeState); ok {
		b.atMost(keepRecords, cap(*list), "room for a list of nodes")
		b.m.exchanges.nodeLists.Put(list)
	}
}

// checkSent is about what was sent: to each input its answers, to those who are no
// members nothing that is more than they have asked for, and the node's own affairs.
func (b *fuzzBounds) checkSent(records int) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	sent, took := &b.net.sent, time.Since(b.net.begun)
	b.atMost(b.direct, sent.acks, "acks")
	b.atMost(b.direct, sent.nacks, "nacks")
	b.atMost(b.m.config.UDPBufferSize+uncounted+paddingBlock, sent.longest, "length of a packet")
	b.atMost(answerBurst+1+int(took/answerInterval), sent.riding, "packets to strangers with more than the answer")
	b.atMost(b.bytes, sent.bare, "bytes to strangers")
	rounds, probes := int(took/(100*time.Millisecond))+1, int(took/(500*time.Millisecond))+1
	const perRound, perWord = 10, 12 // what timers may send, for the node and for each member
	most := 2*b.direct + perWord*b.words + perRound*rounds + perWord*(records+hostileNames)*probes
	b.atMost(most, sent.packets, "packets")
}

// checkLog is about lines: few of each kind, and none of them long.
func (b *fuzzBounds) checkLog() {
	b.kept.mu.Lock()
	defer b.kept.mu.Unlock()
	for _, text := range b.kept.kept[b.looked:] {
		if text.what == "log record" {
			b.logged[text.was]++
			b.atMost(b.linesOf(text.was), b.logged[text.was], text.was)
		}
		if bytes.HasPrefix([]byte(text.what), []byte("log ")) {
			b.atMost(maxLogText+64, len(text.was), text.what)
			if bytes.ContainsAny([]byte(text.was), "\n\r\x1b") {
				b.t.Fatalf("%s has what is not printable: %q", text.what, text.was)
			}
		}
	}
	b.looked = len(b.kept.kept)
}

// linesOf is how many lines of one message may have been logged so far.
func (b *fuzzBounds) linesOf(message string) int {
	l := &b.m.log.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	b.atMost(100, len(l.windows), "kinds of lines")
	windows := int(time.Since(b.net.begun)/logWindow) + 2
	if w := l.windows[message]; w != nil {
		return windows * burstOf(w.level)
	}
	return windows * len(l.windows) // about lines that were withheld
}

// answer reads what the node answers on a stream: no more than a state, or a reason.
func (b *fuzzBounds) answer(sent []byte, conn io.Reader) {
	answer, _ := io.ReadAll(conn)
	b.m.engine.locked.Lock()
	records := len(b.m.engine.locked.core.table.order)
	b.m.engine.locked.Unlock()
	const state, record = 4 << 10, 2*maxNameLen + MetaMaxSize + 128
	if len(answer) > state+record*(records+b.words) {
		b.t.Errorf("%d bytes were answered with %d", len(sent), len(answer))
	}
}

// idle reports whether nothing waits to be done.
func (b *fuzzBounds) idle() bool {
	m, waiting := b.m, b.m.inbound.users.queue.waiting.Load()+b.m.performer.roundTrips.queue.waiting.Load()
	if m.inbound.held != nil {
		waiting += m.inbound.held.waiting.Load()
	}
	n := m.events
	n.mu.Lock()
	defer n.mu.Unlock()
	return waiting == 0 && len(n.mu.queue) == 0 && !n.mu.busy && b.exchanges() == 0
}

// exchanges is how many full exchanges of others are being answered.
func (b *fuzzBounds) exchanges() int {
	set := &b.m.exchanges.set
	set.mu.Lock()
	defer set.mu.Unlock()
	return set.mu.exchanges
}

// checkIdle is about what must be gone when nothing has come for a while.
func (b *fuzzBounds) checkIdle() {
	require.True(b.t, b.idle())
	b.atMost(0, int(b.m.inbound.users.queue.bytes.Load()+b.m.performer.roundTrips.queue.bytes.Load()), "bytes in queues")
	b.atMost(0, int(b.m.exchanges.set.turnedAway.Load()), "streams that are turned away")
	b.m.exchanges.set.mu.Lock()
	defer b.m.exchanges.set.mu.Unlock()
	b.atMost(0, b.m.exchanges.set.mu.inbound+len(b.m.exchanges.set.mu.bySource), "streams")
}

// fuzzNode is what the targets have in common: a node in a configuration that the input
// chooses, then what the input says.
func fuzzNode(t *testing.T, input []byte, run func(*fuzzedNode)) {
	inBubble(t, func(t *testing.T) {
		f := newFuzzedNode(t, &script{rest: input})
		f.introduce()
		run(f)
		f.finish()
	})
}

// maxFuzzSteps is how many inputs a node gets.
const maxFuzzSteps = 24

// Whatever packets a key holder sends to a node, it keeps its bounds and goes on working.
func FuzzNodeGetsPackets(f *testing.F) {
	addScriptSeeds(f, "packet")
	f.Fuzz(func(t *testing.T, input []byte) {
		fuzzNode(t, input, func(f *fuzzedNode) {
			for step := 0; step < maxFuzzSteps && !f.s.empty(); step++ {
				f.packets()
			}
		})
	})
}

// Whatever somebody writes to streams, however slowly and however they end.
func FuzzNodeGetsStreams(f *testing.F) {
	addScriptSeeds(f, "stream")
	f.Fuzz(func(t *testing.T, input []byte) {
		fuzzNode(t, input, func(f *fuzzedNode) {
			for step := 0; step < maxFuzzSteps && !f.s.empty(); step++ {
				f.stream()
			}
		})
	})
}

// The same over time, and in turns.
func FuzzNodeOverTime(f *testing.F) {
	addScriptSeeds(f, "packet")
	f.Fuzz(func(t *testing.T, input []byte) {
		fuzzNode(t, input, func(f *fuzzedNode) {
			for step := 0; step < maxFuzzSteps && !f.s.empty(); step++ {
				switch f.s.below(4) {
				case 0, 1:
					f.packets()
				case 2:
					f.stream()
				case 3:
					f.pass(f.s.somewhile())
				}
			}
		})
	})
}

// addScriptSeeds adds recorded input, scripts of one choice, and random ones, which get
// furthest.
func addScriptSeeds(f *testing.F, kind string) {
	for _, v := range allVectors(f, "in") {
		if v.Kind == kind && len(v.Hex) < 256 {
			f.Add(append([]byte{0, 0, 0, 15, byte(len(v.Hex))}, v.Hex...))
		}
	}
	for i := range byte(16) {
		f.Add(bytes.Repeat([]byte{i, 3 * i, 0, 11}, 24))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 48 {
		input := make([]byte, 64+random.IntN(512))
		for i := range input {
			input[i] = byte(random.Uint32())
		}
		f.Add(input)
	}
}
