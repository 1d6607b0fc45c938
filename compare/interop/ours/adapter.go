// Package ours is one library's side of package node. This file exists
// once for each library: reference/adapter.go is written by hand, and
// ours/adapter.go is the same text with the names of the package and of the
// import path exchanged, made by go test ./interop -run Adapters -update.
package ours

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed-83836a96/memberlist"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Library starts nodes of this library.
type Library struct{}

// Name says which library it is.
func (Library) Name() string { return "ours" }

// Start creates a node from the options, with the app around it.
func (Library) Start(o node.Options, app *node.App) (node.Node, error) {
	cfg := config(o, app)
	if o.Endpoint != nil {
		cfg.Transport = newTransport(o)
		cfg.BindAddr = o.Endpoint.Addr().Addr().String()
		cfg.BindPort = int(o.Endpoint.Addr().Port())
	}
	n := &member{name: o.Name, app: app, ring: cfg.Keyring}
	n.queue.RetransmitMult = cfg.RetransmitMult
	n.queue.NumNodes = n.size
	cfg.Delegate = &delegate{App: app, queue: &n.queue}
	hooks(cfg, app)
	list, err := memberlist.Create(cfg)
	if err != nil {
		return nil, err
	}
	n.list = list
	n.started.Store(true)
	app.SetQueue(n.Queue)
	return n, nil
}

func config(o node.Options, app *node.App) *memberlist.Config {
	cfg := memberlist.DefaultLANConfig()
	switch o.Preset {
	case "wan":
		cfg = memberlist.DefaultWANConfig()
	case "local":
		cfg = memberlist.DefaultLocalConfig()
	}
	cfg.Name, cfg.LogOutput = o.Name, &app.Log
	cfg.Label, cfg.SkipInboundLabelCheck = o.Label, o.SkipLabel
	cfg.EnableCompression = o.Compression
	cfg.GossipVerifyIncoming, cfg.GossipVerifyOutgoing = !o.Unverified, !o.Unsealed
	cfg.DisableTcpPings, cfg.RequireNodeNames = o.DisableTCPPings, o.RequireNames
	cfg.DeadNodeReclaimTime = o.DeadReclaim
	if o.BindAddr != "" {
		cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = o.BindAddr, o.BindPort, o.BindPort
	}
	if len(o.Keys) > 0 || o.EmptyRing {
		cfg.Keyring = newRing(o.Keys)
	}
	set(&cfg.ProtocolVersion, o.Protocol)
	set(&cfg.ProbeInterval, o.ProbeInterval)
	set(&cfg.ProbeTimeout, o.ProbeTimeout)
	set(&cfg.GossipInterval, o.GossipInterval)
	set(&cfg.PushPullInterval, o.PushPullInterval)
	set(&cfg.GossipToTheDeadTime, o.GossipToTheDead)
	set(&cfg.TCPTimeout, o.TCPTimeout)
	set(&cfg.SuspicionMult, o.SuspicionMult)
	set(&cfg.RetransmitMult, o.RetransmitMult)
	set(&cfg.UDPBufferSize, o.UDPBufferSize)
	return cfg
}

// set keeps the preset's value when the option is zero.
func set[T comparable](field *T, option T) {
	var zero T
	if option != zero {
		*field = option
	}
}

func newRing(keys [][]byte) *memberlist.Keyring {
	var primary []byte
	if len(keys) > 0 {
		primary = keys[0]
	}
	ring, err := memberlist.NewKeyring(keys, primary)
	if err != nil {
		panic(err) // the tests' own keys are wrong
	}
	return ring
}

func hooks(cfg *memberlist.Config, app *node.App) {
	cfg.Events = events{app}
	cfg.Conflict = conflicts{app}
	if app.AckPayload != nil {
		cfg.Ping = pings{app}
	}
	if app.RefuseMerge != nil {
		cfg.Merge = merges{app}
	}
	if app.RefuseAlive != nil {
		cfg.Alive = alives{app}
	}
}

// member is a running node.
type member struct {
	name  string
	app   *node.App
	list  *memberlist.Memberlist
	queue memberlist.TransmitLimitedQueue
	ring  *memberlist.Keyring

	started atomic.Bool // list is set
}

// size is asked by the queue, also while the node is still being created.
func (n *member) size() int {
	if !n.started.Load() {
		return 1
	}
	return n.list.NumMembers()
}

func (n *member) Join(hosts ...string) (int, error)  { return n.list.Join(hosts) }
func (n *member) Leave(timeout time.Duration) error  { return n.list.Leave(timeout) }
func (n *member) Update(timeout time.Duration) error { return n.list.UpdateNode(timeout) }
func (n *member) Shutdown() error                    { return n.list.Shutdown() }
func (n *member) Local() node.Member                 { return n.app.Seen(n.name) }
func (n *member) HealthScore() int                   { return n.list.GetHealthScore() }
func (n *member) AddKey(key []byte) error            { return n.ring.AddKey(key) }
func (n *member) UseKey(key []byte) error            { return n.ring.UseKey(key) }
func (n *member) RemoveKey(key []byte) error         { return n.ring.RemoveKey(key) }
func (n *member) Queued() int                        { return n.queue.NumQueued() }
func (n *member) Queue(msg []byte)                   { n.queue.QueueBroadcast(broadcast(msg)) }
func (n *member) SendToAddress(to string, b []byte) error {
	return n.list.SendToAddress(memberlist.Address{Addr: to}, b)
}

func (n *member) Members() []node.Member {
	var all []node.Member
	for _, m := range n.list.Members() {
		all = append(all, n.app.Seen(m.Name))
	}
	return all
}

// find makes the library's node of a member.
func (n *member) find(name string) (*memberlist.Node, error) {
	m := n.app.Seen(name)
	addr, err := netip.ParseAddrPort(m.Addr)
	if err != nil {
		return nil, fmt.Errorf("no member %q: %w", name, err)
	}
	return &memberlist.Node{
		Name: m.Name, Addr: addr.Addr().AsSlice(), Port: addr.Port(),
		PMin: m.PMin, PMax: m.PMax, PCur: m.PCur,
	}, nil
}

func (n *member) SendBestEffort(to string, msg []byte) error {
	m, err := n.find(to)
	if err != nil {
		return err
	}
	return n.list.SendBestEffort(m, msg)
}

func (n *member) SendReliable(to string, msg []byte) error {
	m, err := n.find(to)
	if err != nil {
		return err
	}
	return n.list.SendReliable(m, msg)
}

func (n *member) Ping(to string) (time.Duration, error) {
	m, err := n.find(to)
	if err != nil {
		return 0, err
	}
	return n.list.Ping(to, &net.UDPAddr{IP: m.Addr, Port: int(m.Port)})
}

func describe(n *memberlist.Node) node.Member {
	return node.Member{
		Name: n.Name,
		Addr: net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))),
		Meta: string(n.Meta),
		PMin: n.PMin,
		PMax: n.PMax,
		PCur: n.PCur,
	}
}

// broadcast is a queued user message that replaces none and is replaced by none.
type broadcast []byte

func (b broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Message() []byte                       { return b }
func (b broadcast) Finished()                             {}
func (b broadcast) UniqueBroadcast()                      {}

// delegate adds the library's queue to the app.
type delegate struct {
	*node.App
	queue *memberlist.TransmitLimitedQueue
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

type events struct{ app *node.App }

func (e events) NotifyJoin(n *memberlist.Node)   { e.app.Changed("join", describe(n)) }
func (e events) NotifyLeave(n *memberlist.Node)  { e.app.Changed("leave", describe(n)) }
func (e events) NotifyUpdate(n *memberlist.Node) { e.app.Changed("update", describe(n)) }

type conflicts struct{ app *node.App }

func (c conflicts) NotifyConflict(existing, other *memberlist.Node) {
	c.app.Conflicted(describe(existing), describe(other))
}

type merges struct{ app *node.App }

func (m merges) NotifyMerge(others []*memberlist.Node) error {
	var all []node.Member
	for _, o := range others {
		all = append(all, describe(o))
	}
	return m.app.RefuseMerge(all)
}

type alives struct{ app *node.App }

func (a alives) NotifyAlive(n *memberlist.Node) error { return a.app.RefuseAlive(describe(n)) }

type pings struct{ app *node.App }

func (p pings) AckPayload() []byte { return p.app.AckPayload }

func (p pings) NotifyPingComplete(other *memberlist.Node, rtt time.Duration, payload []byte) {
	p.app.Answered(other.Name, rtt, payload)
}

// transport puts a simulated endpoint into the library's transport interface.
type transport struct {
	end     *simnet.Endpoint
	strip   bool
	sender  simnet.Sender
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func newTransport(o node.Options) *transport {
	t := &transport{
		end:     o.Endpoint,
		strip:   o.StripLabels,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
	}
	t.sender = simnet.Serve(o.Endpoint, o.Streams, t.takePacket, t.takeStream)
	return t
}

func (t *transport) takePacket(d simnet.Packet) {
	buf := d.Buf
	if t.strip {
		rest, _, err := memberlist.RemoveLabelHeaderFromPacket(buf)
		if err != nil {
			return
		}
		buf = rest
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: buf, From: d.From, Timestamp: d.At}:
	case <-t.end.Closed():
	}
}

func (t *transport) takeStream(c net.Conn) {
	conn := c
	if t.strip {
		rest, _, err := memberlist.RemoveLabelHeaderFromStream(c)
		if err != nil {
			c.Close()
			return
		}
		conn = rest
	}
	select {
	case t.streams <- conn:
	case <-t.end.Closed():
		c.Close()
	}
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	a := t.end.Addr()
	return net.IP(a.Addr().AsSlice()), int(a.Port()), nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.sender.Send(b, addr)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.sender.Dial(addr, timeout)
}

func (t *transport) Shutdown() error {
	t.end.Close()
	return nil
}
