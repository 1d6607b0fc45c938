package memberlist

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// retainer is a program that keeps whatever it is given: by a transport, a log handler,
// delegates and errors. check compares it with copies that were made at once.
type retainer struct {
	mu   sync.Mutex
	kept []keptText
}

type keptText struct {
	what string
	now  func() string // the text as it is now
	was  string
}

func (k *retainer) text(what, s string) { k.keep(what, func() string { return s }) }

func (k *retainer) bytes(what string, b []byte) { k.keep(what, func() string { return string(b) }) }

func (k *retainer) keep(what string, now func() string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, keptText{what, now, strings.Clone(now())})
}

func (k *retainer) node(what string, n *Node) {
	k.text(what+": name", n.Name)
	k.bytes(what+": address", n.Addr)
	k.bytes(what+": meta", n.Meta)
}

// error keeps an error, and returns it.
func (k *retainer) error(what string, err error) error {
	if err != nil {
		k.keep(what, err.Error)
	}
	return err
}

// check reports what has changed since it was given.
func (k *retainer) check(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, text := range k.kept {
		if now := text.now(); now != text.was { // asserting costs more than comparing
			require.Equal(t, text.was, now, "%s has changed", text.what)
		}
	}
}

// about returns how often something was kept.
func (k *retainer) about(what string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, text := range k.kept {
		if strings.HasPrefix(text.what, what) {
			n++
		}
	}
	return n
}

// create makes a node whose program is the retainer, on the configured transport. What
// is configured besides is still told. Memory that the node uses again is overwritten.
func (k *retainer) create(cfg *Config) (*Memberlist, error) {
	cfg.Transport = retainingTransport{cfg.Transport.(NodeAwareTransport), k}
	cfg.StructuredLogger = slog.New(retainingHandler{k})
	eventSeq := retainingDelegate{k: k, Delegate: cfg.Delegate, events: cfg.Events, ping: cfg.Ping, alive: cfg.Alive, merge: cfg.Merge}
	cfg.Delegate, cfg.Events, cfg.Conflict, cfg.Merge = eventSeq, eventSeq, eventSeq, eventSeq
	if cfg.Alive != nil {
		cfg.Alive = eventSeq
	}
	if cfg.Ping != nil {
		cfg.Ping = eventSeq
	}
	return createPoisoned(cfg)
}

// createPoisoned is Create for a node that overwrites what it is going to use again.
func createPoisoned(cfg *Config) (*Memberlist, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m, err := newMemberlist(cfg)
	if err != nil {
		return nil, err
	}
	m.outbound.wire.spent = func(memory []byte) {
		for i := range memory {
			memory[i] = '!'
		}
	}
	return m, m.begin()
}

type retainingTransport struct {
	NodeAwareTransport
	k *retainer
}

func (t retainingTransport) WriteToAddress(b []byte, addr Address) (time.Time, error) {
	t.k.bytes("packet", b)
	t.k.text("address of a packet", addr.Addr)
	t.k.text("name with the address of a packet", addr.Name)
	at, err := t.NodeAwareTransport.WriteToAddress(b, addr)
	return at, t.k.error("error of a packet", err)
}

func (t retainingTransport) DialAddressTimeout(addr Address, timeout time.Duration) (net.Conn, error) {
	t.k.text("address of a stream", addr.Addr)
	t.k.text("name with the address of a stream", addr.Name)
	return t.NodeAwareTransport.DialAddressTimeout(addr, timeout)
}

type retainingHandler struct{ k *retainer }

func (h retainingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h retainingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h retainingHandler) WithGroup(string) slog.Handler            { return h }

func (h retainingHandler) Handle(_ context.Context, r slog.Record) error {
	h.k.text("log record", r.Message)
	r.Attrs(func(a slog.Attr) bool {
		h.k.keep("log attribute "+a.Key+" of "+r.Message, func() string { return fmt.Sprint(a.Value.Any()) })
		return true
	})
	return nil
}

type retainingDelegate struct {
	k *retainer
	Delegate
	events EventDelegate
	ping   PingDelegate
	alive  AliveDelegate
	merge  MergeDelegate
}

func (d retainingDelegate) NotifyMsg(msg []byte) {
	d.k.bytes("user message", msg)
	d.Delegate.NotifyMsg(msg)
}

func (d retainingDelegate) MergeRemoteState(state []byte, join bool) {
	d.k.bytes("user state", state)
	d.Delegate.MergeRemoteState(state, join)
}

func (d retainingDelegate) NotifyJoin(n *Node) {
	d.k.node("join", n)
	d.events.NotifyJoin(n)
}

func (d retainingDelegate) NotifyLeave(n *Node) {
	d.k.node("leave", n)
	d.events.NotifyLeave(n)
}

func (d retainingDelegate) NotifyUpdate(n *Node) {
	d.k.node("update", n)
	d.events.NotifyUpdate(n)
}

func (d retainingDelegate) NotifyChange(c Change) {
	d.k.node("change", c.Node)
	d.k.text("change: by", c.By)
	if reasons, ok := d.events.(EventReasonDelegate); ok {
		reasons.NotifyChange(c)
	}
}

func (d retainingDelegate) NotifyConflict(existing, other *Node) {
	d.k.node("conflict", existing)
	d.k.node("conflict", other)
}

func (d retainingDelegate) NotifyMerge(nodes []*Node) error {
	for _, n := range nodes {
		d.k.node("merge", n)
	}
	if d.merge == nil {
		return nil
	}
	return d.k.error("refusal", d.merge.NotifyMerge(nodes))
}

func (d retainingDelegate) NotifyAlive(n *Node) error {
	d.k.node("alive", n)
	return d.k.error("refusal", d.alive.NotifyAlive(n))
}

func (d retainingDelegate) AckPayload() []byte { return d.ping.AckPayload() }

func (d retainingDelegate) NotifyPingComplete(n *Node, rtt time.Duration, payload []byte) {
	d.k.node("round trip", n)
	d.k.bytes("payload of a round trip", payload)
	d.ping.NotifyPingComplete(n, rtt, payload)
}

// retaining makes node number i of a cluster whose nodes differ in what they may differ
// in.
func (k *retainer) retaining(c *mesh, i int) (*Memberlist, *metaBox) {
	box := &metaBox{text: []byte("meta at first")}
	box.local = func(bool) []byte { return []byte("state of " + fmt.Sprint(i)) }
	var queue TransmitLimitedQueue
	queue.NumNodes, queue.RetransmitMult = func() int { return 5 }, 2
	box.broadcasts = queue.GetBroadcasts
	cfg := c.config(fmt.Sprintf("node-%d", i))
	cfg.Label, cfg.SecretKey = "label", bytes.Repeat([]byte{7}, 16)
	cfg.EnableCompression = i%2 == 0
	cfg.ProtocolVersion = uint8(2 + i%3)
	cfg.Delegate, cfg.Events = box, new(trace)
	cfg.Ping = &pingHooks{payload: func() []byte { return []byte("payload of " + cfg.Name) }}
	if i%2 == 1 {
		cfg.Alive = aliveFunc(func(n *Node) error {
			if strings.HasPrefix(n.Name, "unwanted") {
				return fmt.Errorf("%s is unwanted", n.Name)
			}
			return nil
		})
	}
	m, err := k.create(cfg)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = m.Shutdown() })
	return m, box
}

// Transports, log handlers, delegates and callers may keep what they get: it does not
// lie in memory that the node uses again.
func TestWhatProgramsAreGivenDoesNotChange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		k, c := new(retainer), newMesh(t)
		var nodes []*Memberlist
		for i := range 5 {
			m, box := k.retaining(c, i)
			nodes = append(nodes, m)
			if i > 0 {
				joinNode(t, m, nodes[0])
			}
			box.set("meta thereafter")
			require.NoError(t, m.UpdateNode(time.Minute))
		}
		time.Sleep(time.Minute)
		k.useMessages(nodes)
		k.talkNonsense(c, nodes)
		k.beRefused(c, nodes[0])
		require.NoError(t, nodes[4].Shutdown())
		time.Sleep(time.Minute)
		require.NoError(t, nodes[3].Leave(time.Minute))
		time.Sleep(time.Second)
		for _, what := range []string{
			"packet", "name with the address of a packet", "name with the address of a stream", "user message", "user state",
			"join", "leave", "update", "change", "conflict", "merge", "alive", "refusal", "round trip", "payload",
			"log attribute node", "log attribute addr", "log attribute err", "log attribute from", "error of Join", "error of Ping",
		} {
			require.NotZero(t, k.about(what), what)
		}
		k.check(t)
	})
}

func (k *retainer) useMessages(nodes []*Memberlist) {
	to := nodes[1].LocalNode()
	_ = nodes[0].SendBestEffort(to, []byte("best effort"))
	_ = nodes[0].SendReliable(to, bytes.Repeat([]byte("reliable"), 1000))
	_, err := nodes[0].Ping("stranger", udpAddr(to))
	k.error("error of Ping", err)
}

// talkNonsense lets somebody with the key say what is not so, and ask for what is not
// there.
func (k *retainer) talkNonsense(c *mesh, nodes []*Memberlist) {
	p := c.puppet("liar", nodes[0].config)
	p.answerPings(nodes[0])
	v := []byte{1, 5, 2, 0, 0, 0}
	for i, m := range nodes {
		next := nodes[(i+1)%len(nodes)].LocalNode()
		self := borrow(m.config.Name)
		for _, msg := range []encodable{
			p.alive(1),
			&alive{Incarnation: 1, Node: borrow("unwanted guest"), Addr: net.IP{127, 0, 0, 1}, Port: 1, Vsn: v},
			&alive{Incarnation: 1, Node: borrow("of no version"), Addr: net.IP{127, 0, 0, 1}, Port: 1},
			&alive{Incarnation: 9, Node: self, Addr: net.IP{127, 0, 0, 1}, Port: uint16(p.tr.port), Vsn: v},
			&alive{Incarnation: 9, Node: self, Addr: m.LocalNode().Addr, Port: m.LocalNode().Port, Meta: []byte("other"), Vsn: v},
			&suspect{Incarnation: 99, Node: self, From: borrow("an accuser")},
			&dead{Incarnation: 999, Node: self, From: borrow("another accuser")},
			&suspect{Incarnation: 1, Node: borrow(next.Name), From: borrow("liar")},
			&suspect{Incarnation: 9, Node: borrow("nobody known"), From: borrow("liar")},
			&ping{SeqNo: 1, Node: self, SourceAddr: net.IP{127, 0, 0, 1}, SourcePort: uint16(p.tr.port), SourceNode: borrow("liar")},
			&ping{SeqNo: 1, Node: borrow("somebody else")},
			&indirectPing{SeqNo: 7, Target: next.Addr, Port: next.Port, Node: borrow(next.Name), SourceNode: borrow("liar"), Nack: true},
			&indirectPing{SeqNo: 8, Target: net.IP{127, 0, 0, 9}, Port: 9, Node: borrow("nobody there"), SourceNode: borrow("liar"), Nack: true},
		} {
			p.send(m, msg.appendTo(nil))
			time.Sleep(10 * time.Millisecond)
		}
		p.send(m, []byte{byte(aliveMsg), 1, 2, 3})
		p.sendRaw(m, []byte("not for anybody"))
	}
}

// beRefused joins somebody who refuses in words of its own.
func (k *retainer) beRefused(c *mesh, m *Memberlist) {
	p := c.puppet("refuser", m.config)
	p.accept(func(conn net.Conn) {
		if r, _, err := p.wire.openInbound(conn); err == nil {
			_, _, _, _ = readPushPull(r, nil)
			reply := errorReply{Error: borrow(rejectionPrefix + "go away")}
			_, _ = p.wire.writeStream(conn, reply.appendTo(nil), false)
		}
	})
	_, err := m.Join([]string{fmt.Sprintf("127.0.0.1:%d", p.tr.port)})
	k.error("error of Join", err)
}
