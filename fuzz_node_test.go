package memberlist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fuzzedNode is a whole node, with every delegate there is, between a scripted network
// and an observing program. Whatever it is given, it has to keep its bounds and to go on
// working.
type fuzzedNode struct {
	t       *testing.T
	s       *script
	m       *Memberlist
	kept    *retainer
	program *observer
	net     *scriptedNetwork
	peer    *wire // of somebody who has the key
	handler *packetHandler
	bounds  *fuzzBounds
	work    sync.WaitGroup // streams
}

// newFuzzedNode makes a node in a configuration that the script chooses.
func newFuzzedNode(t *testing.T, s *script) *fuzzedNode {
	t.Helper()
	bits := uint16(s.next())<<8 | uint16(s.next())
	on := func(bit int) bool { return bits>>bit&1 == 1 }
	cfg := DefaultLANConfig()
	cfg.Name, cfg.LogOutput, cfg.TCPTimeout = "node", io.Discard, 2*time.Second
	cfg.DisableTcpPings = on(0)
	cfg.EnableCompression = !on(1)
	if on(2) {
		cfg.SecretKey = bytes.Repeat([]byte{7}, 16)
	}
	if on(3) {
		cfg.Label = "label"
	}
	cfg.GossipVerifyIncoming, cfg.GossipVerifyOutgoing = !on(4), !on(5)
	if on(6) {
		cfg.ProtocolVersion = 1
	}
	cfg.RequireNodeNames = on(7)
	cfg.SkipInboundLabelCheck = on(8)
	if on(9) {
		cfg.CIDRsAllowed = []net.IPNet{{IP: net.IP{127, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}
	}
	if on(10) {
		cfg.GossipInterval = 0
	}
	if on(11) {
		cfg.DeadNodeReclaimTime = time.Second
	}
	return startFuzzedNode(t, s, cfg, !on(12), on(13))
}

func startFuzzedNode(t *testing.T, s *script, cfg *Config, gated, slow bool) *fuzzedNode {
	t.Helper()
	f := &fuzzedNode{t: t, s: s, kept: new(retainer), program: newObserver()}
	if slow {
		f.program.pause = 10 * time.Millisecond
	}
	cfg.Delegate, cfg.Events, cfg.Merge, cfg.Ping = f.program, f.program, f.program, f.program
	if gated {
		cfg.Alive = f.program
	}
	f.net = newScriptedNetwork()
	cfg.Transport = f.net
	m, err := f.kept.create(cfg)
	require.NoError(t, err)
	f.m = m
	peer := *cfg
	peer.GossipVerifyOutgoing, peer.GossipVerifyIncoming = true, false
	f.peer = newWire(&peer)
	f.net.wire = f.peer
	f.net.reader = newPacketReader(f.peer)
	f.net.begun = time.Now()
	f.handler = newPacketHandler(m.inbound)
	f.bounds = newFuzzBounds(f)
	return f
}

// introduce makes members of the friend, which answers, and of the mute one.
func (f *fuzzedNode) introduce() {
	for name, addr := range map[string]net.IP{"friend": friendAddr, "mute": muteAddr} {
		a := aliveOf(name, 1)
		a.Addr, a.Port = addr, scriptedPort
		packet, err := f.peer.sealPacket(nil, a.appendTo(nil), false)
		require.NoError(f.t, err)
		f.receive(friendAddr, packet)
	}
}

// receive lets the node handle packets in memory that is used again, as NetTransport
// brings them.
func (f *fuzzedNode) receive(from net.IP, packets ...[]byte) {
	batch := make([]datagram, len(packets))
	for i, packet := range packets {
		f.bounds.packet(packet)
		batch[i] = datagram{buf: bytes.Clone(packet), from: addrPortOf(from, scriptedPort), at: time.Now()}
	}
	f.net.sentBy(from)
	f.m.tasks.callers.asLoop(func() { f.handler.batch(batch) })
	synctest.Wait()
	f.bounds.check()
}

// packets gives the node one packet or a few.
func (f *fuzzedNode) packets() {
	from := []net.IP{friendAddr, muteAddr, outsideAddr, hostileAddr}[f.s.below(4)]
	batch := [][]byte{f.packet()}
	for f.s.once(4) && len(batch) < maxBurst {
		batch = append(batch, f.packet())
	}
	if f.s.once(4) { // over the channel, as from other transports
		for _, packet := range batch {
			f.bounds.packet(packet)
			f.net.sentBy(from)
			f.net.deliver(packet, from)
		}
		synctest.Wait()
		f.bounds.check()
		return
	}
	f.receive(from, batch...)
}

// packet is no longer than a datagram can be.
func (f *fuzzedNode) packet() []byte {
	packet := f.s.dress(f.peer, f.s.content())
	return packet[:min(len(packet), longestDatagram)]
}

// stream opens a stream to the node, writes what the script says, in pieces or slowly,
// and reads the answer or does not.
func (f *fuzzedNode) stream() {
	sent := f.s.stream(f.peer)
	pause := []time.Duration{0, 0, time.Millisecond, 3 * time.Second, time.Hour}[f.s.below(5)]
	pieces := 1 + f.s.below(4)
	reads, hangsUp := !f.s.once(8), f.s.once(4)
	ours, theirs := net.Pipe()
	from := []net.IP{friendAddr, outsideAddr}[f.s.below(2)]
	f.bounds.stream(sent)
	f.net.streams <- farConn{theirs, from}
	f.work.Go(func() {
		defer ours.Close()
		if reads {
			f.work.Go(func() { f.bounds.answer(sent, ours) })
		}
		for i := range pieces {
			if _, err := ours.Write(sent[len(sent)*i/pieces : len(sent)*(i+1)/pieces]); err != nil {
				return
			}
			f.wait(pause)
		}
		if !hangsUp {
			f.wait(time.Hour)
		}
	})
	synctest.Wait()
	f.bounds.check()
}

// wait is a pause that ends with the node.
func (f *fuzzedNode) wait(d time.Duration) {
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.net.done:
	}
}

// pass lets virtual time go by.
func (f *fuzzedNode) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	f.bounds.check()
}

// somewhile is a time that the script chooses.
func (s *script) somewhile() time.Duration {
	return []time.Duration{
		time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second, 40 * time.Second,
	}[s.below(6)]
}

// finish checks that the node is as good as before, and ends it.
func (f *fuzzedNode) finish() {
	f.pass(3 * f.m.config.TCPTimeout)
	for range 100 {
		if f.bounds.idle() {
			break
		}
		f.pass(10 * time.Second)
	}
	f.bounds.checkIdle()
	f.program.agrees(f.t, f.m)
	f.stillAnswers()
	f.kept.check(f.t)
	require.NoError(f.t, f.m.Shutdown())
	close(f.net.done)
	f.work.Wait()
}

// stillAnswers checks that the node is a member of its own table and answers a ping.
func (f *fuzzedNode) stillAnswers() {
	self := f.m.LocalNode()
	require.Equal(f.t, "node", self.Name)
	require.Equal(f.t, StateAlive, self.State)
	require.Contains(f.t, f.m.Members(), self)
	require.Len(f.t, f.m.Members(), f.m.NumMembers())
	f.net.forget()
	const seq = 12345
	p := ping{SeqNo: seq, Node: borrow("node"), SourceAddr: friendAddr, SourcePort: scriptedPort, SourceNode: borrow("friend")}
	packet, err := f.peer.sealPacket(nil, p.appendTo(nil), false)
	require.NoError(f.t, err)
	f.receive(friendAddr, packet)
	require.Contains(f.t, f.net.acked(), uint32(seq))
}

// scriptedNetwork is the transport of a node and all that there is around it: a friend
// that answers, a mute one, a hostile one that answers pings in every name and streams
// with nonsense, and nobody else.
type scriptedNetwork struct {
	packets chan *Packet
	streams chan net.Conn
	done    chan struct{}
	wire    *wire
	begun   time.Time

	mu     sync.Mutex
	from   netip.Addr // of the last packet that the node got
	reader *packetReader
	sent   sentPackets
	acks   []uint32
}

// sentPackets counts what a node has sent.
type sentPackets struct {
	packets, bytes, acks, nacks int
	longest                     int // length of a packet
	riding                      int // with more than one message, to addresses that are no member's
	bare                        int // bytes of acks to addresses that are no member's nor the sender's
	members                     map[netip.AddrPort]bool
}

func newScriptedNetwork() *scriptedNetwork {
	return &scriptedNetwork{
		packets: make(chan *Packet, mockQueue), streams: make(chan net.Conn), done: make(chan struct{}),
		sent: sentPackets{members: make(map[netip.AddrPort]bool)},
	}
}

func (n *scriptedNetwork) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return nodeAddr, int(scriptedPort), nil
}

func (n *scriptedNetwork) PacketCh() <-chan *Packet  { return n.packets }
func (n *scriptedNetwork) StreamCh() <-chan net.Conn { return n.streams }
func (n *scriptedNetwork) Shutdown() error           { return nil }

func (n *scriptedNetwork) WriteTo(b []byte, addr string) (time.Time, error) {
	return n.WriteToAddress(b, Address{Addr: addr})
}

func (n *scriptedNetwork) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return n.DialAddressTimeout(Address{Addr: addr}, timeout)
}

// WriteToAddress counts a packet, and lets the friend answer it.
func (n *scriptedNetwork) WriteToAddress(b []byte, addr Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return time.Time{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	msgs, err := n.reader.read(bytes.Clone(b))
	if err != nil {
		return time.Time{}, fmt.Errorf("the node has sent what cannot be read: %w", err)
	}
	n.note(b, to, msgs)
	switch to.Addr().Unmap() {
	case addrPortOf(friendAddr, 0).Addr():
		n.answerPings(msgs, "friend", friendAddr)
	case addrPortOf(hostileAddr, 0).Addr():
		n.answerPings(msgs, "", hostileAddr)
	case addrPortOf(noRouteAddr, 0).Addr():
		return time.Time{}, syscall.EHOSTUNREACH
	}
	return time.Now(), nil
}

// note counts a packet. The lock is held.
func (n *scriptedNetwork) note(b []byte, to netip.AddrPort, msgs []message) {
	n.sent.packets++
	n.sent.bytes += len(b)
	n.sent.longest = max(n.sent.longest, len(b))
	stranger := !n.sent.members[to]
	switch {
	case stranger && len(msgs) > 1:
		n.sent.riding++
	case stranger && msgs[0].kind() == ackMsg && to.Addr() != n.from:
		n.sent.bare += len(b)
	}
	for _, msg := range msgs {
		switch msg.kind() {
		case ackMsg:
			n.sent.acks++
			var a ack
			if _, err := a.decode(msg.body()); err == nil {
				n.acks = append(n.acks, a.SeqNo)
			}
		case nackMsg:
			n.sent.nacks++
		}
	}
}

// answerPings acks pings to a name, or to any. The lock is held.
func (n *scriptedNetwork) answerPings(msgs []message, name string, from net.IP) {
	for _, msg := range msgs {
		var p ping
		if msg.kind() != pingMsg {
			continue
		}
		if _, err := p.decode(msg.body()); err != nil || name != "" && !p.Node.is(name) {
			continue
		}
		reply := ack{SeqNo: p.SeqNo}
		if packet, err := n.wire.sealPacket(nil, reply.appendTo(nil), false); err == nil {
			n.deliver(packet, from)
		}
	}
}

// deliver brings a packet over the channel, unless that is full.
func (n *scriptedNetwork) deliver(packet []byte, from net.IP) {
	select {
	case n.packets <- &Packet{Buf: bytes.Clone(packet), From: &net.UDPAddr{IP: from, Port: int(scriptedPort)}, Timestamp: time.Now()}:
	default:
	}
}

func (n *scriptedNetwork) sentBy(from net.IP) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.from = addrPortOf(from, 0).Addr()
}

func (n *scriptedNetwork) acked() []uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.acks
}

func (n *scriptedNetwork) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.acks = nil
}

// DialAddressTimeout opens a stream to the friend, the mute one, which never answers, or
// the hostile one; others are not there.
func (n *scriptedNetwork) DialAddressTimeout(addr Address, _ time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	switch to.Addr().Unmap() {
	case addrPortOf(muteAddr, 0).Addr():
	case addrPortOf(friendAddr, 0).Addr():
		go n.answerAsFriend(theirs)
	case addrPortOf(hostileAddr, 0).Addr():
		go n.answerAsHostile(theirs)
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return farConn{ours, to.Addr().AsSlice()}, nil
}

// answerAsFriend answers as a node does.
func (n *scriptedNetwork) answerAsFriend(conn net.Conn) {
	defer conn.Close()
	r, kind, err := n.wire.openInbound(conn)
	if err != nil {
		return
	}
	var reply []byte
	switch kind {
	case pingMsg:
		var p ping
		if p.decodeFrom(r) == nil {
			reply = (&ack{SeqNo: p.SeqNo}).appendTo(nil)
		}
	case pushPullMsg:
		if _, _, _, err := readPushPull(r, nil); err == nil {
			reply = (&pushPullHeader{Nodes: 1, UserStateLen: 3}).appendTo(nil)
			s := pushNodeState{Name: borrow("friend"), Addr: friendAddr, Port: scriptedPort, Incarnation: 1, Vsn: testVersions()}
			reply = append(s.appendTo(reply), "abc"...)
		}
	}
	if reply != nil {
		_, _ = n.wire.writeStream(conn, reply, false)
	}
}

// answerAsHostile answers whatever comes with a push/pull that lists everybody as dead
// and has no end.
func (n *scriptedNetwork) answerAsHostile(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 64<<10)
	if _, err := conn.Read(buf); err != nil {
		return
	}
	msg := (&pushPullHeader{Nodes: 1 << 20, UserStateLen: 1 << 20}).appendTo(nil)
	for _, name := range []string{"node", "friend", "mute", "m0", "m1"} {
		s := pushNodeState{Name: borrow(name), Addr: hostileAddr, Port: scriptedPort, Incarnation: 7, State: StateDead, Vsn: testVersions()}
		msg = s.appendTo(msg)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	_, _ = n.wire.writeStream(conn, msg, false)
	_, _ = conn.Read(buf) // until the node gives up
}

// farConn is one end of a pipe that says who is at the other. It cannot be compared, as
// the streams of some transports.
type farConn struct {
	net.Conn
	from net.IP
}

func (c farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: c.from, Port: 4711} }

// sinkConn is a stream that is only written to.
type sinkConn struct {
	net.Conn
	io.Writer
}

func (c sinkConn) Write(b []byte) (int, error) { return c.Writer.Write(b) }

// observer is a program that implements every delegate and holds what it is told
// against what the node shows.
type observer struct {
	pause time.Duration // how long each call takes

	mu      sync.Mutex
	members map[string]*Node
	states  map[string]NodeStateType
	wrong   []string
	news    int // broadcasts so far
}

// manyNews is how many broadcasts the program has.
const manyNews = 64

func newObserver() *observer {
	return &observer{members: make(map[string]*Node), states: make(map[string]NodeStateType)}
}

// event takes in an event, of which there is one at a time.
func (o *observer) event(kind string, n *Node, member bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, known := o.members[n.Name]
	if known != member {
		o.wrong = append(o.wrong, kind+" "+n.Name)
	}
	if kind == "leave" {
		delete(o.members, n.Name)
	} else {
		o.members[n.Name] = n
	}
}

func (o *observer) NotifyJoin(n *Node)   { o.rest(); o.event("join", n, false) }
func (o *observer) NotifyLeave(n *Node)  { o.rest(); o.event("leave", n, true) }
func (o *observer) NotifyUpdate(n *Node) { o.rest(); o.event("update", n, true) }

func (o *observer) NotifyChange(c Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states[c.Node.Name] = c.To
}

// agrees checks that the program, after all events, knows what the node shows.
func (o *observer) agrees(t *testing.T, m *Memberlist) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	require.Empty(t, o.wrong)
	shown := m.Members()
	require.Len(t, o.members, len(shown))
	for _, n := range shown {
		told := o.members[n.Name]
		require.NotNil(t, told, n.Name)
		require.Equal(t, string(n.Meta), string(told.Meta), n.Name)
		require.Equal(t, n.State, o.states[n.Name], n.Name)
		require.Equal(t, n.Address(), told.Address(), n.Name)
	}
}

func (o *observer) rest() {
	if o.pause > 0 {
		time.Sleep(o.pause)
	}
}

var errObserverRefuses = errors.New("the program does not want that node")

func (o *observer) NodeMeta(int) []byte { return []byte("meta") }
func (o *observer) NotifyMsg([]byte)    { o.rest() }
func (o *observer) GetBroadcasts(overhead, limit int) [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if limit < 100 || o.news == manyNews {
		return nil
	}
	o.news++
	return [][]byte{[]byte("news of the program")}
}
func (o *observer) LocalState(bool) []byte                          { return []byte("state of the program") }
func (o *observer) MergeRemoteState([]byte, bool)                   { o.rest() }
func (o *observer) AckPayload() []byte                              { return []byte("payload") }
func (o *observer) NotifyPingComplete(*Node, time.Duration, []byte) { o.rest() }
func (o *observer) NotifyConflict(*Node, *Node)                     {}
func (o *observer) NotifyMerge(nodes []*Node) error                 { return refuseOdd(len(nodes)) }
func (o *observer) NotifyAlive(n *Node) error                       { return refuseOdd(len(n.Name) / 3) }

// refuseOdd refuses some, and "node", "friend" and "mute" never.
func refuseOdd(n int) error {
	if n > 2 && n%2 == 1 {
		return errObserverRefuses
	}
	return nil
}
