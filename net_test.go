package memberlist

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// acked returns the sequence numbers that a puppet got acks for.
func (p *puppet) acked() []uint32 {
	p.t.Helper()
	var seqs []uint32
	for _, h := range p.heard(ackMsg) {
		var a ack
		_, err := a.decode(h.body)
		require.NoError(p.t, err)
		seqs = append(seqs, a.SeqNo)
	}
	return seqs
}

// The answer to a ping goes to the source that it names, else to where it came
// from (W69); with the payload of the delegate, which is asked each time (P60).
func TestAnswersToPings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		asked := 0
		m := c.node("n1", still, func(cfg *Config) {
			cfg.Ping = &pingHooks{payload: func() []byte { asked++; return fmt.Appendf(nil, "answer %d", asked) }}
			cfg.Transport = nameless{cfg.Transport}
		})
		asker, elsewhere := c.puppet("asker", nil), c.puppet("elsewhere", nil)
		there := elsewhere.alive(1)
		asker.send(m, (&ping{SeqNo: 1, Node: borrow("n1")}).appendTo(nil))
		asker.send(m, (&ping{SeqNo: 2}).appendTo(nil)) // names nobody
		asker.send(m, (&ping{SeqNo: 3, Node: borrow("n1"), SourceAddr: there.Addr, SourcePort: there.Port, SourceNode: borrow("x")}).appendTo(nil))
		asker.send(m, (&ping{SeqNo: 4, Node: borrow("n1"), SourceAddr: there.Addr}).appendTo(nil)) // no port
		asker.send(m, (&ping{SeqNo: 5, Node: borrow("n1"), SourcePort: there.Port}).appendTo(nil)) // no address
		synctest.Wait()
		require.Equal(t, []uint32{1, 2, 4, 5}, asker.acked())
		require.Equal(t, []uint32{3}, elsewhere.acked())
		require.Equal(t, 5, asked)
		var a ack
		_, err := a.decode(elsewhere.heard(ackMsg)[0].body)
		require.NoError(t, err)
		require.Equal(t, "answer 3", string(a.Payload))
	})
}

// TestPingForAnotherNodeIsIgnored checks P60, W78.
func TestPingForAnotherNodeIsIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", still, func(cfg *Config) { cfg.LogOutput = lines })
		p := c.puppet("p", nil)
		p.send(m, (&ping{SeqNo: 1, Node: borrow("n2")}).appendTo(nil))
		conn := p.dial(m)
		_, err := p.wire.writeStream(conn, (&ping{SeqNo: 2, Node: borrow("n2")}).appendTo(nil), true)
		require.NoError(t, err)
		_, _, _, err = p.readReply(conn)
		require.Error(t, err, "the stream is closed silently") // W59
		synctest.Wait()
		require.Empty(t, p.acked())
		require.Len(t, lines.with("[WARN] memberlist: Got ping for unexpected node 'n2' from=127.0.0.1:2"), 2)
	})
}

// Being a relay (P58): the ping has the relay's own source and number (W71), the
// answer goes to the source that the request names (W70).
func TestRelayedPings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		asker, target := c.puppet("asker", nil), c.puppet("target", nil)
		target.answerPings(m)
		to, back := target.alive(1), asker.alive(1)
		asker.send(m, (&indirectPing{
			SeqNo: 70, Target: to.Addr, Port: to.Port, Node: borrow("target"), Nack: true,
			SourceAddr: back.Addr, SourcePort: back.Port, SourceNode: borrow("asker"),
		}).appendTo(nil))
		synctest.Wait()
		require.Equal(t, []uint32{70}, asker.acked())
		var a ack
		_, err := a.decode(asker.heard(ackMsg)[0].body)
		require.NoError(t, err)
		require.Nil(t, a.Payload)
		var relayed ping
		_, err = relayed.decode(target.heard(pingMsg)[0].body)
		require.NoError(t, err)
		require.NotEqual(t, uint32(70), relayed.SeqNo)
		require.Equal(t, borrow("target"), relayed.Node)
		require.Equal(t, borrow("n1"), relayed.SourceNode)
		time.Sleep(5 * time.Second)
		require.Empty(t, asker.heard(nackMsg))
		require.Equal(t, []string{"n1"}, memberNames(m), "its own view stays")
	})
}

// TestRelayThatReachesNobodySendsOneNackIfWanted checks P58.
func TestRelayThatReachesNobodySendsOneNackIfWanted(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		t.Run(fmt.Sprint(wanted), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", still)
				asker, silent := c.puppet("asker", nil), c.puppet("silent", nil)
				to := silent.alive(1)
				asker.send(m, (&indirectPing{SeqNo: 70, Target: to.Addr, Port: to.Port, Node: borrow("silent"), Nack: wanted}).appendTo(nil))
				time.Sleep(m.config.ProbeTimeout)
				synctest.Wait()
				nacks := asker.heard(nackMsg)
				if !wanted {
					require.Empty(t, nacks)
					return
				}
				require.Len(t, nacks, 1, "before the asker's own patience ends")
				var n nack
				_, err := n.decode(nacks[0].body)
				require.NoError(t, err)
				require.EqualValues(t, 70, n.SeqNo)
				time.Sleep(10 * time.Second)
				require.Len(t, asker.heard(nackMsg), 1)
			})
		})
	}
}

// Ports that are missing are filled in with the bind port before anything sees
// them; a node that speaks version 1 takes its own whatever they say (W74, P91).
func TestMissingPorts(t *testing.T) {
	for _, test := range []struct {
		version uint8
		port    uint16
		want    uint16
	}{
		{version: 2, port: 0, want: 7946},
		{version: 2, port: 77, want: 77},
		{version: 1, port: 77, want: 7946},
		{version: 5, port: 77, want: 77},
	} {
		t.Run(fmt.Sprintf("version %d port %d", test.version, test.port), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", still, func(cfg *Config) { cfg.ProtocolVersion = test.version })
				p := c.puppet("p", nil)
				says := p.alive(1)
				says.Port = test.port
				p.send(m, says.appendTo(nil))
				synctest.Wait()
				require.Equal(t, test.want, statusOf(m, "p").Node.Port)
				// It is gossiped on as it is understood here.
				p.forget()
				p.send(m, (&ping{SeqNo: 1, Node: borrow("n1"), SourceNode: borrow("p")}).appendTo(nil))
				synctest.Wait()
				for _, h := range p.heard(aliveMsg) {
					var a alive
					_, err := a.decode(h.body)
					require.NoError(t, err)
					if a.Node.is("p") {
						require.Equal(t, test.want, a.Port)
					}
				}

				entry := p.self()
				entry.Name, entry.Port = borrow("q"), test.port
				conn := p.dial(m)
				_, err := p.wire.writeStream(conn, p.state(false, nil, entry), true)
				require.NoError(t, err)
				_, _, _, err = p.readReply(conn)
				require.NoError(t, err)
				synctest.Wait()
				require.Equal(t, test.want, statusOf(m, "q").Node.Port)
			})
		})
	}
}

// TestPortOfIndirectPings checks W74.
func TestPortOfIndirectPings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still, func(cfg *Config) {
			cfg.BindPort = 3 // that of the target
			cfg.Transport = nameless{cfg.Transport}
		})
		asker, target := c.puppet("asker", nil), c.puppet("target", nil)
		require.Equal(t, 3, target.tr.port)
		asker.send(m, (&indirectPing{SeqNo: 70, Target: target.alive(1).Addr, Node: borrow("target")}).appendTo(nil))
		synctest.Wait()
		require.Len(t, target.heard(pingMsg), 1)
	})
}

// The filter of networks looks at the sender of an alive packet and at the address
// in it (P90); other messages pass.
func TestAliveFromOutsideAllowedNetworksIsIgnored(t *testing.T) {
	network := func(cidr string) net.IPNet {
		_, n, err := net.ParseCIDR(cidr)
		require.NoError(t, err)
		return *n
	}
	for name, test := range map[string]struct {
		allowed []net.IPNet
		addr    net.IP
		want    bool
	}{
		"no filter":              {nil, net.IP{10, 0, 0, 1}, true},
		"both allowed":           {[]net.IPNet{network("127.0.0.0/8"), network("10.0.0.0/8")}, net.IP{10, 0, 0, 1}, true},
		"address not allowed":    {[]net.IPNet{network("127.0.0.0/8")}, net.IP{10, 0, 0, 1}, false},
		"16-byte form":           {[]net.IPNet{network("127.0.0.0/8"), network("10.0.0.0/8")}, net.IPv4(10, 0, 0, 1), true},
		"no address at all":      {[]net.IPNet{network("127.0.0.0/8")}, nil, false},
		"IPv6 in no IPv4 filter": {[]net.IPNet{network("127.0.0.0/8")}, net.ParseIP("fd00::1"), false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				lines := new(logLines)
				m := c.node("n1", still, func(cfg *Config) { cfg.CIDRsAllowed, cfg.LogOutput = test.allowed, lines })
				p := c.puppet("p", nil)
				says := p.alive(1)
				says.Addr = test.addr
				p.send(m, says.appendTo(nil))
				synctest.Wait()
				require.Equal(t, test.want, statusOf(m, "p") != nil)
				if !test.want {
					refused := append(lines.with("[DEBUG] memberlist: Blocked alive message"),
						lines.with("[WARN] memberlist: Ignoring alive message")...)
					require.Len(t, refused, 1)
				}
			})
		})
	}
}

// TestSenderOutsideTheAllowedNetworks checks P90.
func TestSenderOutsideTheAllowedNetworks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		_, allowed, _ := net.ParseCIDR("10.0.0.0/8")
		box := new(inbox)
		cfg := c.config("n1")
		a := advertise(cfg)
		a.ip, a.port = net.IP{10, 0, 0, 9}, 1
		cfg.CIDRsAllowed, cfg.LogOutput, cfg.Delegate = []net.IPNet{*allowed}, lines, box
		m := c.start(cfg)
		p := c.puppet("p", nil) // at 127.0.0.1
		says := p.alive(1)
		says.Addr = net.IP{10, 0, 0, 1}
		p.send(m, says.appendTo(nil))
		p.send(m, []byte{byte(userMsg), 'x'})
		p.send(m, (&ping{SeqNo: 1, Node: borrow("n1")}).appendTo(nil))
		synctest.Wait()
		require.Nil(t, statusOf(m, "p"))
		require.Len(t, lines.with("[DEBUG] memberlist: Blocked alive message from 127.0.0.1:2"), 1)
		require.Equal(t, []string{"x"}, box.all())
		require.Equal(t, []uint32{1}, p.acked())

		// A sender that calls itself "pipe" passes, and one that cannot be parsed
		// does not.
		packet := (&alive{Incarnation: 1, Node: borrow("piped"), Addr: net.IP{10, 0, 0, 2}, Port: 1, Vsn: says.Vsn}).appendTo(nil)
		require.NoError(t, c.ingest(m, packet, "pipe"))
		odd := (&alive{Incarnation: 1, Node: borrow("odd"), Addr: net.IP{10, 0, 0, 3}, Port: 1, Vsn: says.Vsn}).appendTo(nil)
		require.NoError(t, c.ingest(m, odd, "no address"))
		synctest.Wait()
		require.NotNil(t, statusOf(m, "piped"))
		require.Nil(t, statusOf(m, "odd"))
	})
}

// textAddress is an address that is just text.
type textAddress string

func (textAddress) Network() string  { return "test" }
func (a textAddress) String() string { return string(a) }

// ingest delivers a packet to a node as if it came from somewhere.
func (c *mesh) ingest(m *Memberlist, packet []byte, from string) error {
	near, far := net.Pipe()
	go func() {
		_, _ = far.Write(packet)
		_ = far.Close()
	}()
	t := m.transport.(interface {
		IngestPacket(net.Conn, net.Addr, time.Time, bool) error
	})
	return t.IngestPacket(near, textAddress(from), time.Now(), true)
}

// W75: nothing is answered to bad input. What is wrong is logged at the level of
// P150 and with its sender (P149); what stands beside it in a compound counts
// (W18, W76).
func TestBadPackets(t *testing.T) {
	user := []byte{byte(userMsg), 'x'}
	key := bytes.Repeat([]byte{1}, 16)
	checksummed, err := newWire(&Config{ProtocolVersion: 2}).sealPacket(nil, user, true)
	require.NoError(t, err)
	checksummed[len(checksummed)-1] ^= 1
	truncated := appendCompound(nil, [][]byte{user, user})
	truncated = truncated[:len(truncated)-1]
	for name, test := range map[string]struct {
		change func(*Config)
		packet []byte
		level  string
		want   []string // what is delivered all the same
	}{
		"empty":               {packet: []byte{}, level: "[ERR]"},
		"checksum":            {packet: checksummed, level: "[WARN]"},
		"truncated compound":  {packet: truncated, level: "[WARN]", want: []string{"x"}},
		"no compound length":  {packet: []byte{byte(compoundMsg)}, level: "[ERR]"},
		"push/pull":           {packet: []byte{byte(pushPullMsg), 0x80}, level: "[ERR]"},
		"encrypted frame":     {packet: []byte{byte(encryptMsg), 0, 0}, level: "[ERR]"},
		"error message":       {packet: []byte{byte(errorMsg), 0x80}, level: "[ERR]"},
		"unassigned type":     {packet: []byte{200, 1, 2}, level: "[ERR]"},
		"label nobody wants":  {packet: []byte{byte(labelMsg), 1, 'x', byte(userMsg), 'x'}, level: "[ERR]"},
		"label missing":       {change: func(cfg *Config) { cfg.Label = "x" }, packet: user, level: "[ERR]"},
		"not encrypted":       {change: func(cfg *Config) { cfg.SecretKey = key }, packet: user, level: "[ERR]"},
		"broken ping":         {packet: []byte{byte(pingMsg), 0x81, 0xa5}, level: "[ERR]"},
		"broken alive":        {packet: []byte{byte(aliveMsg), 0xc3}, level: "[ERR]"},
		"broken compression":  {packet: []byte{byte(compressMsg), 0x80}, level: "[ERR]"},
		"bad part of several": {packet: appendCompound(nil, [][]byte{{byte(pushPullMsg)}, user, {}, {200}}), level: "[ERR]", want: []string{"x"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				lines, box := new(logLines), new(inbox)
				m := c.node("n1", still, func(cfg *Config) {
					cfg.LogOutput, cfg.Delegate = lines, box
					if test.change != nil {
						test.change(cfg)
					}
				})
				p := c.puppet("p", nil)
				p.sendRaw(m, test.packet)
				synctest.Wait()
				got := lines.with(test.level+" memberlist: ", "from=127.0.0.1:2")
				require.NotEmpty(t, got, "log: %s", strings.Join(lines.with(""), "\n"))
				require.Equal(t, test.want, box.all())
				p.mu.Lock()
				defer p.mu.Unlock()
				require.Empty(t, p.got, "an answer")
			})
		})
	}
}

// W77: acks and nacks that nobody waits for are ignored silently. W79: whoever
// sends is believed.
func TestStrayAcksAndStrangers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		m := c.node("n1", still, func(cfg *Config) { cfg.LogOutput = lines })
		p := c.puppet("p", nil)
		for seq := range uint32(100) {
			p.send(m, (&ack{SeqNo: seq, Payload: []byte("x")}).appendTo(nil))
			p.send(m, (&nack{SeqNo: seq}).appendTo(nil))
		}
		about := c.puppet("q", nil).alive(1)
		p.send(m, about.appendTo(nil))
		synctest.Wait()
		require.Empty(t, lines.with("[WARN]"))
		require.Empty(t, lines.with("[ERR]"))
		require.NotNil(t, statusOf(m, "q"))
	})
}

// P86: packets take effect in the order of their arrival, and so do the messages
// of one packet.
func TestPacketsTakeEffectInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(trace)
		m := c.node("n1", still, func(cfg *Config) { cfg.Events = events })
		events.take()
		p := c.puppet("p", nil)
		var parts [][]byte
		var want []string
		for i := range uint32(40) {
			says := p.alive(2*i + 1)
			parts = append(parts, says.appendTo(nil), (&dead{Incarnation: 2*i + 1, Node: borrow("p"), From: borrow("p")}).appendTo(nil))
			want = append(want, "join p", "leave p")
		}
		p.send(m, appendCompound(nil, parts[:40]))
		for _, part := range parts[40:] {
			p.send(m, part)
		}
		synctest.Wait()
		require.Equal(t, want, events.take())
	})
}

// The same through the queue of an AliveDelegate (P86).
func TestOrderIsKeptWithAnAliveDelegate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(trace)
		m := c.node("n1", still, func(cfg *Config) {
			cfg.Events = events
			cfg.Alive = aliveFunc(func(*Node) error { time.Sleep(time.Millisecond); return nil })
		})
		events.take()
		p := c.puppet("p", nil)
		var want []string
		for i := range uint32(20) {
			p.send(m, p.alive(2*i+1).appendTo(nil))
			p.send(m, (&dead{Incarnation: 2*i + 1, Node: borrow("p"), From: borrow("p")}).appendTo(nil))
			want = append(want, "join p", "leave p")
		}
		time.Sleep(time.Second)
		require.Equal(t, want, events.take())
	})
}

// A message is not tied to the packet that it came in: what is kept and passed on
// survives the reuse of the buffers.
func TestNodesDoNotBorrowFromPackets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", still)
		p := c.puppet("p", nil)
		for i := range 50 {
			says := p.alive(1)
			says.Node, says.Meta = borrow(fmt.Sprintf("member-%02d", i)), fmt.Appendf(nil, "meta of %02d", i)
			p.send(m, says.appendTo(nil))
			p.send(m, (&suspect{Incarnation: 1, Node: says.Node, From: borrow(fmt.Sprintf("accuser-%02d", i))}).appendTo(nil))
		}
		synctest.Wait()
		for i := range 50 {
			s := statusOf(m, fmt.Sprintf("member-%02d", i))
			require.Equal(t, fmt.Sprintf("meta of %02d", i), string(s.Node.Meta))
			require.Equal(t, []string{fmt.Sprintf("accuser-%02d", i)}, s.Accusers)
		}
	})
}

// A transport that gives no time of arrival, or one that cannot be, does no harm.
func TestPacketsWithoutTimestamps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		for i, shift := range []time.Duration{0, -time.Hour, time.Hour} {
			cfg := c.config(fmt.Sprint("n", i))
			cfg.Transport = newOddClock(t, cfg.Transport.(*MockTransport), shift)
			m := c.start(cfg)
			p := c.puppet(fmt.Sprint("p", i), nil)
			p.answerPings(m)
			p.introduce(m)
			rtt, err := m.Ping(p.name, &p.tr.addr)
			require.NoError(t, err)
			require.Zero(t, rtt)
			time.Sleep(3 * time.Second)
			require.Zero(t, statusOf(m, p.name).RTT)
			require.Equal(t, StateAlive, statusOf(m, p.name).Node.State)
		}
	})
}

// oddClock is a transport whose packets have a wrong time, or none if shift is 0.
type oddClock struct {
	*MockTransport
	packets chan *Packet
}

func newOddClock(t *testing.T, inner *MockTransport, shift time.Duration) *oddClock {
	o := &oddClock{MockTransport: inner, packets: make(chan *Packet)}
	go func() {
		for {
			select {
			case p := <-inner.PacketCh():
				p.Timestamp = p.Timestamp.Add(shift)
				if shift == 0 {
					p.Timestamp = time.Time{}
				}
				select {
				case o.packets <- p:
				case <-t.Context().Done():
					return
				}
			case <-t.Context().Done():
				return
			}
		}
	}()
	return o
}

func (o *oddClock) PacketCh() <-chan *Packet { return o.packets }

// ---- what one packet may ask for

// recorded starts a node that does nothing by itself on a transport that records
// what is sent.
func recorded(t *testing.T, changes ...func(*Config)) (*Memberlist, *recordingTransport) {
	t.Helper()
	tr := newRecordingTransport(net.IP{10, 0, 0, 1}, 7946)
	cfg := DefaultLANConfig()
	cfg.Name, cfg.Transport, cfg.LogOutput = "n1", tr, io.Discard
	cfg.EnableCompression = false
	still(cfg)
	for _, change := range changes {
		change(cfg)
	}
	m, err := Create(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Shutdown() })
	synctest.Wait()
	m.broadcasts.Reset()
	tr.takeSent()
	return m, tr
}

// arrive lets a packet come in from an address and everything settle.
func (tr *recordingTransport) arrive(from string, msg []byte) {
	tr.packets <- &Packet{Buf: msg, From: vectorAddr(from), Timestamp: time.Now()}
	synctest.Wait()
}

// towers is a compound of n compounds of n times the message.
func towers(msg []byte, n int) []byte {
	inner := appendCompound(nil, slices.Repeat([][]byte{msg}, n))
	return appendCompound(nil, slices.Repeat([][]byte{inner}, n))
}

// A small packet with thousands of pings gets a few answers. What is ignored is
// counted and logged in one line (P195).
func TestPacketOfThousandsOfPingsGetsAFewAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, msg := range []encodable{
			&ping{},
			&ping{SourceAddr: []byte{192, 0, 2, 1}, SourcePort: 53},
			&indirectPing{Target: []byte{192, 0, 2, 1}, Port: 53},
		} {
			lines, s := new(logLines), recordMetrics(t)
			_, tr := recorded(t, s.measured, func(cfg *Config) { cfg.LogOutput = lines })
			packet := appendLonger(nil, towers(msg.appendTo(nil), 63))
			tr.arrive("10.99.0.9:7946", packet)
			require.Len(t, tr.takeSent(), maxDirect)
			require.EqualValues(t, 63*63-maxDirect, s.sum("msg.dropped"))
			require.Len(t, lines.with("[WARN]", "too many, ignoring", "from=10.99.0.9:7946"), 1)
		}
	})
}

// A packet cannot carry more guesses at the number of a pending ping than answers
// that are due (P195).
func TestPacketOfThousandsOfAcksCountsAsAFew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, tr := recorded(t)
		w := new(pingWaiter)
		w.done = make(chan struct{}, 1)
		m.pings.register(&pingCall{waiter: *w}, destination{name: "x"})
		m.engine.locked.Lock()
		var seq uint32
		for seq = range m.engine.locked.core.pings.pending {
		}
		m.engine.locked.Unlock()
		guess := (&ack{SeqNo: seq}).appendTo(nil)
		wrong := (&ack{SeqNo: seq + 1}).appendTo(nil)
		tr.arrive("10.99.0.9:7946", appendCompound(nil, [][]byte{wrong, wrong, guess}))
		require.Len(t, m.engine.locked.core.pings.pending, 1, "the third is not looked at")
		tr.arrive("10.99.0.9:7946", appendCompound(nil, [][]byte{wrong, guess}))
		require.Empty(t, m.engine.locked.core.pings.pending)
	})
}

// A node answers where a ping says (W69). If that is neither where the packet came
// from nor a member's address, the answer is no longer than the ping, whatever the
// program and the queue have to say (P196).
func TestAnswerToAnUnknownThirdPartyIsNoLongerThanThePing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, tr := recorded(t, func(cfg *Config) {
			cfg.Ping = fixedPayload(bytes.Repeat([]byte("payload"), 100))
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte { return [][]byte{make([]byte, 1000)} }}
		})
		question := (&ping{Node: borrow("n1"), SourceAddr: []byte{192, 0, 2, 1}, SourcePort: 53, SourceNode: borrow("x")}).appendTo(nil)
		tr.arrive("10.99.0.9:7946", question)
		sent := tr.takeSent()
		require.Len(t, sent, 1)
		require.Equal(t, "192.0.2.1:53", sent[0].to.Addr)
		require.LessOrEqual(t, len(sent[0].data), len(question))

		tr.arrive("192.0.2.1:53", question)
		require.Greater(t, len(tr.takeSent()[0].data), 700, "back to where it came from, with all")

		a := alive{Incarnation: 1, Node: borrow("x"), Addr: []byte{192, 0, 2, 1}, Port: 53, Vsn: testVersions()}
		tr.arrive("10.99.0.9:7946", a.appendTo(nil))
		require.Equal(t, []string{"n1", "x"}, memberNames(m))
		tr.arrive("10.99.0.9:7946", question)
		require.Greater(t, len(tr.takeSent()[0].data), 1700, "to a member, with all")
	})
}

// Somebody whom nobody knows can make a node spend few of its broadcasts and send
// little more than he sends (P196).
func TestFloodOfPingsFromAStrangerGetsBareAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, tr := recorded(t, func(cfg *Config) {
			cfg.Delegate = &hooks{broadcasts: func(int, int) [][]byte { return [][]byte{make([]byte, 1000)} }}
		})
		long := 0
		for range 1000 {
			tr.arrive("10.99.0.9:7946", (&ping{}).appendTo(nil))
			for _, p := range tr.takeSent() {
				if len(p.data) > 100 {
					long++
				}
			}
		}
		require.Equal(t, answerBurst, long)
	})
}

// The places for relayed pings are shared by the addresses that indirect pings
// really come from (P181).
func TestRelayPlacesAreSharedByWhereRequestsComeFrom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, tr := recorded(t)
		for i := range 3000 {
			ind := indirectPing{SeqNo: uint32(i), Target: []byte{192, 0, 2, 1}, Port: 53, SourceAddr: []byte{10, 1, byte(i >> 8), byte(i)}, SourcePort: 1}
			tr.arrive(fmt.Sprintf("10.99.0.9:%d", i+1), ind.appendTo(nil))
		}
		require.Equal(t, maxRelays/2, m.engine.locked.core.relays.pending, "one address takes half at most")
		tr.takeSent()
		tr.arrive("10.99.0.10:7946", (&indirectPing{SeqNo: 1, Target: []byte{192, 0, 2, 1}, Port: 53}).appendTo(nil))
		require.Len(t, tr.takeSent(), 1, "another one is served")
	})
}

// What one unusual packet needed is not kept.
func TestIntakeKeepsLittle(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t).node("n1", quiet)
		in := newPacketHandler(m.inbound)
		var compounds [][]byte
		for range 15 {
			compounds = append(compounds, appendCompound(nil, slices.Repeat([][]byte{(&suspect{Incarnation: 1, Node: borrow("x"), From: borrow("y")}).appendTo(nil)}, maxCompoundParts)))
		}
		packet, _ := appendShorter(nil, appendCompound(nil, compounds))
		in.packet(packet, sender{}, time.Now())
		require.Greater(t, cap(in.items), keepItems)
		in.finish()
		require.LessOrEqual(t, cap(in.items), keepItems)
		big, _ := appendShorter(nil, append([]byte{byte(nackMsg)}, make([]byte, 900<<10)...))
		in.packet(big, sender{}, time.Now())
		in.finish()
		require.LessOrEqual(t, cap(in.reader.unpacked), keepScratch)
		require.LessOrEqual(t, cap(in.reader.msgs), keepItems)
	})
}
