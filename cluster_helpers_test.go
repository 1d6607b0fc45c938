package memberlist

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// inBubble runs f in virtual time. The clock of a bubble stands still while
// somebody waits for a mutex, so a deadlock there would hang the test; the
// watchdog, in real time, makes it fail with all stacks.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	watchdog := time.AfterFunc(time.Minute, func() { panic(t.Name() + " hangs:\n" + allStacks()) })
	defer watchdog.Stop()
	synctest.Test(t, f)
}

// mesh is a cluster on one mock network.
type mesh struct {
	t       *testing.T
	network *MockNetwork
	nodes   []*Memberlist
}

func newMesh(t *testing.T) *mesh {
	return &mesh{t: t, network: new(MockNetwork)}
}

// config is the LAN preset for a silent node on the mesh's network.
func (c *mesh) config(name string) *Config {
	cfg := DefaultLANConfig()
	cfg.Name = name
	cfg.Transport = c.network.NewTransport(name)
	cfg.LogOutput = io.Discard
	return cfg
}

// start makes a node, which is alone, and ends it with the test.
func (c *mesh) start(cfg *Config) *Memberlist {
	c.t.Helper()
	m, err := Create(cfg)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = m.Shutdown() })
	c.nodes = append(c.nodes, m)
	return m
}

// node is a node of that name with some changes to its configuration.
func (c *mesh) node(name string, changes ...func(*Config)) *Memberlist {
	c.t.Helper()
	cfg := c.config(name)
	for _, change := range changes {
		change(cfg)
	}
	return c.start(cfg)
}

// grow makes n nodes n1, n2, …, joins them, and sees to it that all know all: gossip
// reaches everybody very probably, a full exchange surely.
func (c *mesh) grow(n int, changes ...func(*Config)) []*Memberlist {
	c.t.Helper()
	for i := range n {
		m := c.node(fmt.Sprintf("n%d", i+1), changes...)
		if i > 0 {
			joinNode(c.t, m, c.nodes[0])
		}
	}
	time.Sleep(5 * time.Second)
	for _, m := range c.nodes[1:] {
		if m.NumMembers() != n {
			joinNode(c.t, m, c.nodes[0])
		}
	}
	for _, m := range c.nodes {
		require.Equal(c.t, n, m.NumMembers())
	}
	return c.nodes
}

// joinNode joins one node to another, and waits until that one knows it too: it
// merges after it has answered (W57).
func joinNode(t *testing.T, m, to *Memberlist) {
	t.Helper()
	joined, err := m.Join([]string{to.LocalNode().Address()})
	require.NoError(t, err)
	require.Equal(t, 1, joined)
	synctest.Wait()
}

// within waits in virtual time until a condition holds. It looks a thousand times.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(limit / 1000) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// duration is how long f takes in virtual time.
func duration(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// memberNames are the names of the members in order.
func memberNames(m *Memberlist) []string {
	var names []string
	for _, n := range m.Members() {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return names
}

// statusOf is what a node knows about a name; nil if nothing.
func statusOf(m *Memberlist, name string) *NodeStatus {
	for _, s := range m.Snapshot() {
		if s.Node.Name == name {
			return &s
		}
	}
	return nil
}

// holdsFor reports whether a node holds the one of that name to be in a state.
func holdsFor(m *Memberlist, name string, state NodeStateType) bool {
	s := statusOf(m, name)
	return s != nil && s.Node.State == state
}

// incarnationOf is what a node has recorded for a name; 0 if it does not know it.
func incarnationOf(m *Memberlist, name string) uint32 {
	if s := statusOf(m, name); s != nil {
		return s.Incarnation
	}
	return 0
}

// trace records events as text: "join n2", "update n2 meta", "leave n2".
type trace struct {
	mu   sync.Mutex
	list []string
	hook func(kind string, n *Node) // called after recording, if set
}

func (r *trace) add(kind string, n *Node, text string) {
	r.mu.Lock()
	r.list = append(r.list, kind+" "+n.Name+text)
	r.mu.Unlock()
	if r.hook != nil {
		r.hook(kind, n)
	}
}

func (r *trace) NotifyJoin(n *Node)   { r.add("join", n, "") }
func (r *trace) NotifyLeave(n *Node)  { r.add("leave", n, "") }
func (r *trace) NotifyUpdate(n *Node) { r.add("update", n, " "+string(n.Meta)) }

// take returns what was recorded since the last call.
func (r *trace) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

// changeTrace records the reasons of changes too.
type changeTrace struct {
	trace
	changes []Change
}

func (r *changeTrace) NotifyChange(c Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, c)
	r.list = append(r.list, fmt.Sprintf("%s %s>%s", c.Node.Name, c.From, c.To))
}

// about returns the changes of one node to a state.
func (r *changeTrace) about(name string, to NodeStateType) []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Change
	for _, c := range r.changes {
		if c.Node.Name == name && c.To == to {
			found = append(found, c)
		}
	}
	return found
}

// hooks is a Delegate made of functions; those that are nil do nothing.
type hooks struct {
	meta       func() []byte
	msg        func([]byte)
	broadcasts func(overhead, limit int) [][]byte
	local      func(join bool) []byte
	merge      func(state []byte, join bool)
}

func (h *hooks) NodeMeta(int) []byte {
	if h.meta == nil {
		return nil
	}
	return h.meta()
}

func (h *hooks) NotifyMsg(msg []byte) {
	if h.msg != nil {
		h.msg(msg)
	}
}

func (h *hooks) GetBroadcasts(overhead, limit int) [][]byte {
	if h.broadcasts == nil {
		return nil
	}
	return h.broadcasts(overhead, limit)
}

func (h *hooks) LocalState(join bool) []byte {
	if h.local == nil {
		return nil
	}
	return h.local(join)
}

func (h *hooks) MergeRemoteState(state []byte, join bool) {
	if h.merge != nil {
		h.merge(state, join)
	}
}

// inbox is a Delegate that keeps the user messages that arrive.
type inbox struct {
	hooks
	mu   sync.Mutex
	list []string
}

func (b *inbox) NotifyMsg(msg []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, string(msg))
}

func (b *inbox) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

// metaBox is a Delegate whose meta can be changed.
type metaBox struct {
	hooks
	mu   sync.Mutex
	text []byte
}

func (b *metaBox) NodeMeta(int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text
}

func (b *metaBox) set(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = []byte(text)
}

type aliveFunc func(*Node) error

func (f aliveFunc) NotifyAlive(n *Node) error { return f(n) }

type mergeFunc func([]*Node) error

func (f mergeFunc) NotifyMerge(nodes []*Node) error { return f(nodes) }

type conflictFunc func(existing, other *Node)

func (f conflictFunc) NotifyConflict(existing, other *Node) { f(existing, other) }

type selectFunc func([]*NodeState) ([]*NodeState, *NodeState)

func (f selectFunc) SelectNodes(c []*NodeState) ([]*NodeState, *NodeState) { return f(c) }

// pingHooks is a PingDelegate made of functions.
type pingHooks struct {
	payload  func() []byte
	complete func(n *Node, rtt time.Duration, payload []byte)
}

func (h *pingHooks) AckPayload() []byte {
	if h.payload == nil {
		return nil
	}
	return h.payload()
}

func (h *pingHooks) NotifyPingComplete(n *Node, rtt time.Duration, payload []byte) {
	if h.complete != nil {
		h.complete(n, rtt, payload)
	}
}

// logLines keeps classic log lines.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// with returns the lines, without their time, that contain all of the texts.
func (l *logLines) with(texts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for line := range strings.Lines(l.buf.String()) {
		matches := true
		for _, text := range texts {
			matches = matches && strings.Contains(line, text)
		}
		if matches {
			_, line, _ = strings.Cut(line, "[")
			found = append(found, "["+strings.TrimSuffix(line, "\n"))
		}
	}
	return found
}

// recordTrace is a slog.Handler that keeps records, and calls hook, if set, with
// each.
type recordTrace struct {
	mu   sync.Mutex
	list []slog.Record
	hook func(slog.Record)
}

func (r *recordTrace) Enabled(context.Context, slog.Level) bool { return true }
func (r *recordTrace) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recordTrace) WithGroup(string) slog.Handler            { return r }

func (r *recordTrace) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	r.list = append(r.list, record)
	r.mu.Unlock()
	if r.hook != nil {
		r.hook(record)
	}
	return nil
}

// find returns the level and the attributes of the first record with the text in
// its message or its error.
func (r *recordTrace) find(text string) (slog.Level, map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.list {
		attrs := recordAttrs(record)
		if strings.Contains(record.Message+"\n"+fmt.Sprint(attrs["err"]), text) {
			return record.Level, attrs
		}
	}
	return 0, nil
}

func recordAttrs(record slog.Record) map[string]any {
	attrs := map[string]any{}
	record.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.Any()
		return true
	})
	return attrs
}

// messages returns the messages of all records, each once.
func (r *recordTrace) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, record := range r.list {
		if !slices.Contains(list, record.Message) {
			list = append(list, record.Message)
		}
	}
	return list
}

// puppet is an endpoint of the network that does only what a test tells it to. It
// keeps the messages of the packets that it gets, and lets streams wait.
type puppet struct {
	t    *testing.T
	name string
	tr   *MockTransport
	wire *wire

	mu       sync.Mutex
	got      []heard
	onPacket func(heard) // called for each message, if set
}

// heard is one message that a puppet got.
type heard struct {
	kind   messageType
	body   []byte
	packet int // the number of the packet that it came in
	size   int // the length of that packet
	at     time.Time
	raw    []byte // the packet
}

// puppet adds an endpoint that speaks as the configuration says; nil is plain.
func (c *mesh) puppet(name string, cfg *Config) *puppet {
	c.t.Helper()
	if cfg == nil {
		cfg = &Config{ProtocolVersion: 2}
	}
	p := &puppet{t: c.t, name: name, tr: c.network.NewTransport(name), wire: newWire(cfg)}
	done := make(chan struct{})
	go p.listen(done)
	c.t.Cleanup(func() {
		close(done)
		_ = p.tr.Shutdown()
	})
	return p
}

func (p *puppet) listen(done <-chan struct{}) {
	reader := newPacketReader(p.wire)
	for number := 0; ; number++ {
		var packet *Packet
		select {
		case packet = <-p.tr.PacketCh():
		case <-done:
			return
		}
		raw := bytes.Clone(packet.Buf)
		msgs, err := reader.read(packet.Buf)
		if err != nil {
			continue
		}
		for _, msg := range msgs {
			p.keep(heard{
				kind: msg.kind(), body: bytes.Clone(msg.body()), packet: number,
				size: len(raw), at: packet.Timestamp, raw: raw,
			})
		}
	}
}

func (p *puppet) keep(h heard) {
	p.mu.Lock()
	p.got = append(p.got, h)
	hook := p.onPacket
	p.mu.Unlock()
	if hook != nil {
		hook(h)
	}
}

// react sets what is done with each further message.
func (p *puppet) react(f func(heard)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onPacket = f
}

// heard returns the messages of a kind that have come so far.
func (p *puppet) heard(kind messageType) []heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []heard
	for _, h := range p.got {
		if h.kind == kind {
			found = append(found, h)
		}
	}
	return found
}

func (p *puppet) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = nil
}

// send sends a message to a node, dressed as the puppet's configuration says.
func (p *puppet) send(to *Memberlist, msg []byte) {
	p.t.Helper()
	packet, err := p.wire.sealPacket(nil, msg, false)
	require.NoError(p.t, err)
	p.sendRaw(to, packet)
}

func (p *puppet) sendRaw(to *Memberlist, packet []byte) {
	p.t.Helper()
	_, err := p.tr.WriteToAddress(packet, to.LocalNode().FullAddress())
	require.NoError(p.t, err)
}

// alive is a message that the puppet is a member.
func (p *puppet) alive(incarnation uint32) *alive {
	return &alive{
		Incarnation: incarnation, Node: borrow(p.name), Addr: net.IPv4(127, 0, 0, 1), Port: uint16(p.tr.port),
		Vsn: []byte{1, 5, 2, 0, 0, 0},
	}
}

// introduce makes the puppet a member of a node's table.
func (p *puppet) introduce(to *Memberlist) {
	p.t.Helper()
	p.send(to, p.alive(1).appendTo(nil))
	within(p.t, time.Second, p.name+" is a member", func() bool { return holdsFor(to, p.name, StateAlive) })
}

// dial opens a stream to a node.
func (p *puppet) dial(to *Memberlist) net.Conn {
	p.t.Helper()
	conn, err := p.tr.DialAddressTimeout(to.LocalNode().FullAddress(), time.Second)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// answerPings makes the puppet ack every ping.
func (p *puppet) answerPings(to *Memberlist) {
	p.react(func(h heard) {
		var in ping
		if h.kind != pingMsg {
			return
		}
		if _, err := in.decode(h.body); err != nil {
			return
		}
		reply := ack{SeqNo: in.SeqNo}
		packet, err := p.wire.sealPacket(nil, reply.appendTo(nil), false)
		if err == nil {
			_, _ = p.tr.WriteToAddress(packet, to.LocalNode().FullAddress())
		}
	})
}

// state is a push/pull of the puppet, which knows these nodes.
func (p *puppet) state(join bool, user []byte, nodes ...pushNodeState) []byte {
	list := make([]*pushNodeState, len(nodes))
	for i := range nodes {
		list[i] = &nodes[i]
	}
	return appendPushPull(nil, join, len(list), slices.Values(list), user)
}

// appendPushPull appends a push/pull: its header, the nodes, of which there must be
// as many as count says, and the user state.
func appendPushPull(dst []byte, join bool, count int, nodes iter.Seq[*pushNodeState], userState []byte) []byte {
	header := pushPullHeader{Nodes: count, UserStateLen: len(userState), Join: join}
	dst = header.appendTo(dst)
	for n := range nodes {
		dst = n.appendTo(dst)
	}
	return append(dst, userState...)
}

// self is the puppet's own entry in a push/pull.
func (p *puppet) self() pushNodeState {
	a := p.alive(1)
	return pushNodeState{Name: a.Node, Addr: a.Addr, Port: a.Port, Incarnation: a.Incarnation, Vsn: a.Vsn}
}

// readReply reads the answer on a stream that the puppet opened.
func (p *puppet) readReply(conn net.Conn) (kind messageType, state remoteState, refusal string, err error) {
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	r, kind, err := p.wire.openReply(conn)
	if err != nil {
		return 0, state, "", err
	}
	switch kind {
	case pushPullMsg:
		header, nodes, user, err := readPushPull(r, nil)
		state.join, state.nodes, state.user = header.Join, nodes, user
		return kind, state, "", err
	case errorMsg:
		var e errorReply
		err = e.decodeFrom(r)
		return kind, state, e.Error.own(), err
	}
	return kind, state, "", nil
}

// accept makes the puppet handle the streams that are opened to it.
func (p *puppet) accept(serve func(net.Conn)) {
	done := make(chan struct{})
	p.t.Cleanup(func() { close(done) })
	go func() {
		for {
			select {
			case conn := <-p.tr.StreamCh():
				go func() {
					defer conn.Close()
					serve(conn)
				}()
			case <-done:
				return
			}
		}
	}()
}

// acceptState makes the puppet read push/pulls, keep them, and answer each with
// what answer returns.
func (p *puppet) acceptState(answer func(remoteState) []byte) (received func() []remoteState) {
	var mu sync.Mutex
	var list []remoteState
	p.accept(func(conn net.Conn) {
		r, kind, err := p.wire.openInbound(conn)
		if err != nil || kind != pushPullMsg {
			return
		}
		var s remoteState
		header, nodes, user, err := readPushPull(r, nil)
		if err != nil {
			return
		}
		s.join, s.nodes, s.user = header.Join, nodes, user
		mu.Lock()
		list = append(list, s)
		mu.Unlock()
		_, _ = p.wire.writeStream(conn, answer(s), false)
	})
	return func() []remoteState {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

func udpAddr(n *Node) net.Addr { return &net.UDPAddr{IP: n.Addr, Port: int(n.Port)} }

// skipManyClusters skips a test that repeats whole clusters many times if -short is set,
// as it is under the race detector, where it would take minutes. Other tests run the same
// code there.
func skipManyClusters(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("many clusters in virtual time; run without -short")
	}
}
