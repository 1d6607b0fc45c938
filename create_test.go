package memberlist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// advertiser is a transport whose advertised address a test decides about, and
// which counts what it is asked for.
type advertiser struct {
	*MockTransport
	ip        net.IP
	port      int
	err       error
	asked     atomic.Int32
	askedWith atomic.Value // "ip:port"
	shutdowns atomic.Int32
}

func (a *advertiser) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	a.asked.Add(1)
	a.askedWith.Store(fmt.Sprintf("%s:%d", ip, port))
	if a.err != nil || a.ip != nil {
		return a.ip, a.port, a.err
	}
	return a.MockTransport.FinalAdvertiseAddr(ip, port)
}

func (a *advertiser) Shutdown() error {
	a.shutdowns.Add(1)
	return a.MockTransport.Shutdown()
}

// advertise puts an advertiser around the transport of a configuration.
func advertise(cfg *Config) *advertiser {
	a := &advertiser{MockTransport: cfg.Transport.(*MockTransport)}
	cfg.Transport = a
	return a
}

// TestFailedCreateLeavesNothingBehind checks P9.
func TestFailedCreateLeavesNothingBehind(t *testing.T) {
	errNoAddress := errors.New("no address today")
	_, elsewhere, _ := net.ParseCIDR("10.0.0.0/8")
	for name, test := range map[string]struct {
		change func(*Config, *advertiser)
		want   error
		text   string
		opened bool // whether the transport is asked for its address
	}{
		"version": {
			change: func(cfg *Config, _ *advertiser) { cfg.ProtocolVersion = 0 },
			want:   ErrVersion, text: "protocol version '0' too low. Must be in range: [1, 5]",
		},
		"key": {
			change: func(cfg *Config, _ *advertiser) { cfg.SecretKey = []byte("short") },
			want:   errKeySize, text: "key size must be 16, 24 or 32 bytes",
		},
		"label": {
			change: func(cfg *Config, _ *advertiser) { cfg.Label = string(bytes.Repeat([]byte("x"), 256)) },
			want:   ErrTooLarge, text: `could not use "` + string(bytes.Repeat([]byte("x"), 256)) + `" as a label: too long`,
		},
		"address": {
			change: func(_ *Config, a *advertiser) { a.err = errNoAddress },
			want:   errNoAddress, text: "failed to get final advertise address: no address today", opened: true,
		},
		"meta": {
			change: func(cfg *Config, _ *advertiser) {
				cfg.Delegate = &hooks{meta: func() []byte { return make([]byte, MetaMaxSize+1) }}
			},
			want: ErrTooLarge, text: "Node meta data provided is longer than the limit", opened: true,
		},
		// P14: in the reference these two succeed without a local node.
		"allowed networks": {
			change: func(cfg *Config, _ *advertiser) { cfg.CIDRsAllowed = []net.IPNet{*elsewhere} },
			want:   ErrRejected, text: "127.0.0.1 is not allowed", opened: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				cfg := c.config("n1")
				a := advertise(cfg)
				test.change(cfg, a)
				m, err := Create(cfg)
				require.Nil(t, m)
				require.ErrorIs(t, err, test.want)
				require.ErrorContains(t, err, test.text)
				synctest.Wait()
				require.Empty(t, bubbleGoroutines())
				require.Equal(t, test.opened, a.asked.Load() > 0)
				require.Zero(t, a.shutdowns.Load(), "the transport is the caller's")
			})
		})
	}
}

// A node that its own delegate refuses runs, but takes no part, and no method of
// it panics. Serf relies on Create succeeding then (P14).
func TestNodeRefusedByItsOwnDelegateStandsAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cfg := newMesh(t).config("n1")
		veto := true
		cfg.Alive = aliveFunc(func(*Node) error {
			if veto {
				return errors.New("not this one")
			}
			return nil
		})
		m, err := Create(cfg)
		require.NoError(t, err)
		defer m.Shutdown()
		require.Empty(t, m.Members())
		require.Equal(t, "n1", m.LocalNode().Name)
		require.ErrorIs(t, m.UpdateNode(time.Second), ErrRejected)
		require.NoError(t, m.Leave(time.Second))
		veto = false
		_, err = m.Join([]string{"127.0.0.1:99"})
		require.Error(t, err)
		require.Len(t, m.Members(), 1)
	})
}

// TestLongestMetaAndLabelAreAccepted checks P9.
func TestLongestMetaAndLabelAreAccepted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		meta := bytes.Repeat([]byte("m"), MetaMaxSize)
		nodes := newMesh(t).grow(2, func(cfg *Config) {
			cfg.Delegate = &hooks{meta: func() []byte { return meta }}
			cfg.Label = string(bytes.Repeat([]byte("x"), LabelMaxSize))
		})
		require.Equal(t, meta, statusOf(nodes[0], "n2").Node.Meta)
	})
}

// Create asks about this node first, tells of it before it returns, and starts
// with incarnation 1 (P12, P15).
func TestCreateIntroducesTheOwnNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		cfg := c.config("n1")
		cfg.AdvertiseAddr, cfg.AdvertisePort = "10.9.8.7", 1234
		cfg.GossipInterval = 0
		a := advertise(cfg)
		a.ip, a.port = net.IP{10, 9, 8, 7}, 1234
		var order []string
		cfg.Delegate = &hooks{meta: func() []byte { order = append(order, "NodeMeta"); return []byte("mine") }}
		cfg.Alive = aliveFunc(func(n *Node) error {
			order = append(order, "NotifyAlive "+n.Name+" "+n.Address()+" "+string(n.Meta))
			return nil
		})
		events := &trace{hook: func(kind string, n *Node) { order = append(order, kind+" "+n.Name) }}
		cfg.Events = events
		m := c.start(cfg)
		require.Equal(t, []string{"NodeMeta", "NotifyAlive n1 10.9.8.7:1234 mine", "join n1"}, order)
		require.Equal(t, "10.9.8.7:1234", a.askedWith.Load())

		n := m.LocalNode()
		require.Equal(t, "10.9.8.7:1234", n.Address())
		require.Len(t, n.Addr, 4, "the form that the transport chose stays (W72)")
		require.Equal(t, "mine", string(n.Meta))
		require.Equal(t, []byte{1, 5, 2, 0, 0, 0}, cfg.BuildVsnArray())
		require.Equal(t, []*Node{n}, m.Members())
		require.Equal(t, uint32(1), incarnationOf(m, "n1"))

		// The own alive message waits for somebody to go to.
		p := c.puppet("p", nil)
		p.introduce(m)
		p.send(m, (&ping{SeqNo: 5, Node: borrow("n1")}).appendTo(nil))
		synctest.Wait()
		require.Len(t, p.heard(ackMsg), 1)
		eventSeq := false
		for _, h := range p.heard(aliveMsg) {
			var says alive
			_, err := says.decode(h.body)
			require.NoError(t, err)
			eventSeq = eventSeq || says.Node.is("n1") && says.Incarnation == 1 && string(says.Meta) == "mine"
		}
		require.True(t, eventSeq)
	})
}

// TestNoDelegateNoMeta checks P28.
func TestNoDelegateNoMeta(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t).node("n1")
		require.Nil(t, m.LocalNode().Meta)
		require.NoError(t, m.UpdateNode(time.Second))
		require.Nil(t, m.LocalNode().Meta)
	})
}

// TestPublicAddressWithoutEncryptionIsWarnedOf checks P13.
func TestPublicAddressWithoutEncryptionIsWarnedOf(t *testing.T) {
	const warning = "Binding to public address"
	for name, test := range map[string]struct {
		ip   net.IP
		key  []byte
		want int
	}{
		"public":            {ip: net.IP{8, 8, 8, 8}, want: 1},
		"public IPv6":       {ip: net.ParseIP("2600::1"), want: 1},
		"public, encrypted": {ip: net.IP{8, 8, 8, 8}, key: make([]byte, 16)},
		"private":           {ip: net.IP{10, 0, 0, 1}},
		"private, 16 bytes": {ip: net.ParseIP("192.168.1.1")},
		"loopback":          {ip: net.IP{127, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				cfg := c.config("n1")
				a := advertise(cfg)
				a.ip, a.port = test.ip, 7946
				cfg.SecretKey = test.key
				lines := new(logLines)
				cfg.LogOutput = lines
				c.start(cfg)
				require.Len(t, lines.with("[WARN] memberlist: ", warning), test.want)
			})
		})
	}
}

// nameless hides that a transport takes names.
type nameless struct{ Transport }

// TestTransportWithoutNamesIsWrapped checks P11.
func TestTransportWithoutNamesIsWrapped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		nodes := c.grow(3, func(cfg *Config) {
			cfg.Transport = nameless{cfg.Transport}
			cfg.LogOutput = lines
		})
		require.Len(t, lines.with("[DEBUG] memberlist: ", "not a NodeAwareTransport"), 3)
		require.NoError(t, nodes[0].SendReliable(statusNode(nodes[0], "n2"), []byte("by address")))
	})
}

// ---- on real sockets ----

// loopback is a silent configuration on 127.0.0.1 and a port of the system's choice.
func loopback(name string) *Config {
	cfg := DefaultLocalConfig()
	cfg.Name = name
	cfg.BindAddr, cfg.BindPort = "127.0.0.1", 0
	cfg.LogOutput = io.Discard
	return cfg
}

func createOnLoopback(t *testing.T, cfg *Config) *Memberlist {
	t.Helper()
	m, err := Create(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Shutdown() })
	return m
}

// TestChosenPortIsWrittenBack checks P8, P10.
func TestChosenPortIsWrittenBack(t *testing.T) {
	cfg := loopback("n1")
	cfg.AdvertisePort = 4321
	lines := new(logLines)
	cfg.LogOutput = lines
	m := createOnLoopback(t, cfg)
	require.NotZero(t, cfg.BindPort)
	require.Equal(t, cfg.BindPort, cfg.AdvertisePort, "what was set is overwritten")
	require.EqualValues(t, cfg.BindPort, m.LocalNode().Port)
	require.Len(t, lines.with("[DEBUG] memberlist: ", fmt.Sprint("dynamic bind port ", cfg.BindPort)), 1)

	// The same port serves both protocols.
	conn, err := net.Dial("tcp", m.LocalNode().Address())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = m.Ping("n1", &net.UDPAddr{IP: m.LocalNode().Addr, Port: cfg.BindPort})
	require.NoError(t, err)
}

// TestPortInUse checks P151.
func TestPortInUse(t *testing.T) {
	first := loopback("n1")
	createOnLoopback(t, first)
	second := loopback("n2")
	second.BindPort = first.BindPort
	m, err := Create(second)
	require.Nil(t, m)
	require.ErrorContains(t, err, fmt.Sprintf(
		`could not set up network transport: failed to obtain an address: failed to start TCP listener on "127.0.0.1" port %d: `, first.BindPort))
	require.ErrorContains(t, err, "address already in use")
	require.Equal(t, first.BindPort, second.BindPort)
}

// TestAdvertiseAddressThatIsNone checks P151.
func TestAdvertiseAddressThatIsNone(t *testing.T) {
	cfg := loopback("n1")
	cfg.AdvertiseAddr = "nonsense"
	_, err := Create(cfg)
	require.EqualError(t, err, `failed to get final advertise address: failed to parse advertise address "nonsense"`)
}

// Everything once on real sockets: joining, messages both ways, an update and a
// departure.
func TestRealSocketsCarryACluster(t *testing.T) {
	events := make(chan NodeEvent, 64)
	got := make(chan string, 16)
	key := bytes.Repeat([]byte{3}, 32)
	var nodes []*Memberlist
	meta := new(metaBox)
	for i := range 3 {
		cfg := loopback(fmt.Sprintf("n%d", i+1))
		cfg.Label, cfg.SecretKey = "real", bytes.Clone(key)
		cfg.RetransmitMult = 8 // so that chance does not leave somebody out
		switch i {
		case 0:
			cfg.Events = &ChannelEventDelegate{Ch: events}
			cfg.Delegate = &hooks{msg: func(msg []byte) { got <- string(msg) }}
		case 2:
			cfg.Delegate = meta
		}
		nodes = append(nodes, createOnLoopback(t, cfg))
	}
	var passed []NodeEvent // read, but not awaited so far
	await := func(kind NodeEventType, name string) *Node {
		t.Helper()
		is := func(e NodeEvent) bool { return e.Event == kind && e.Node.Name == name }
		if i := slices.IndexFunc(passed, is); i >= 0 {
			return passed[i].Node
		}
		limit := time.NewTimer(10 * time.Second)
		defer limit.Stop()
		for {
			select {
			case e := <-events:
				passed = append(passed, e)
				if is(e) {
					return e.Node
				}
			case <-limit.C:
				t.Fatalf("no event %d about %s, only %v", kind, name, passed)
			}
		}
	}
	seed := nodes[0].LocalNode().Address()
	for _, m := range nodes[1:] {
		joined, err := m.Join([]string{seed})
		require.NoError(t, err)
		require.Equal(t, 1, joined)
	}
	await(NodeJoin, "n2")
	await(NodeJoin, "n3")
	require.Equal(t, 3, nodes[0].NumMembers())

	to := nodes[0].LocalNode()
	require.NoError(t, nodes[1].SendBestEffort(to, []byte("packet")))
	require.Equal(t, "packet", <-got)
	require.NoError(t, nodes[1].SendReliable(to, bytes.Repeat([]byte("s"), 1<<20)))
	require.Len(t, <-got, 1<<20)
	rtt, err := nodes[1].Ping("n1", &net.UDPAddr{IP: to.Addr, Port: int(to.Port)})
	require.NoError(t, err)
	require.Positive(t, rtt)

	meta.set("changed")
	require.NoError(t, nodes[2].UpdateNode(10*time.Second))
	require.Equal(t, "changed", string(await(NodeUpdate, "n3").Meta))
	require.NoError(t, nodes[2].Leave(10*time.Second))
	require.Equal(t, StateLeft, await(NodeLeave, "n3").State)
}

// forbidden lets no node exist.
func forbidden(cfg *Config) {
	_, elsewhere, _ := net.ParseCIDR("203.0.113.0/24")
	cfg.CIDRsAllowed = []net.IPNet{*elsewhere}
}

// What goes wrong in Create leaves the transport of the caller as it was: with the
// mistake mended, the same configuration makes a node that is heard and hears.
func TestCreateCanBeTriedAgainWithTheSameTransport(t *testing.T) {
	for name, wrap := range map[string]func(Transport) Transport{
		"in memory": func(t Transport) Transport { return t },
		"foreign":   func(t Transport) Transport { return nameless{t} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				cfg := c.config("n1")
				cfg.Transport = wrap(cfg.Transport)
				for range 3 {
					forbidden(cfg)
					_, err := Create(cfg)
					require.ErrorIs(t, err, ErrRejected)
				}
				cfg.CIDRsAllowed = nil
				m := c.start(cfg)
				other := c.node("n2")
				joined, err := other.Join([]string{m.LocalNode().Address()})
				require.NoError(t, err)
				require.Equal(t, 1, joined)
				time.Sleep(10 * time.Second)
				require.Equal(t, 2, m.NumMembers())
				require.Equal(t, StateAlive, statusNode(other, "n1").State)
			})
		})
	}
}

func TestCreateCanBeTriedAgainWithTheSameNetTransport(t *testing.T) {
	transport, err := NewNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
	require.NoError(t, err)
	cfg := loopback("n1")
	cfg.Transport = transport
	forbidden(cfg)
	_, err = Create(cfg)
	require.ErrorIs(t, err, ErrRejected)
	cfg.CIDRsAllowed = nil
	m := createOnLoopback(t, cfg)
	other := createOnLoopback(t, loopback("n2"))
	joined, err := other.Join([]string{m.LocalNode().Address()})
	require.NoError(t, err)
	require.Equal(t, 1, joined)
	_, err = other.Ping("n1", &net.UDPAddr{IP: m.LocalNode().Addr, Port: int(m.LocalNode().Port)})
	require.NoError(t, err)
}

// A transport belongs to one node, and ends with it.
func TestCreateRefusesATransportThatIsClosedOrInUse(t *testing.T) {
	transport, err := NewNetTransport(&NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
	require.NoError(t, err)
	first, second := loopback("n1"), loopback("n2")
	first.Transport, second.Transport = transport, transport
	m := createOnLoopback(t, first)
	_, err = Create(second)
	require.ErrorIs(t, err, errTransportInUse)
	_, err = m.Ping("n1", &net.UDPAddr{IP: m.LocalNode().Addr, Port: int(m.LocalNode().Port)})
	require.NoError(t, err, "the node that has the transport goes on")
	require.NoError(t, m.Shutdown())
	_, err = Create(second)
	require.ErrorIs(t, err, net.ErrClosed)
}

// closedChannels is a transport that closes its channels in Shutdown and knows
// nothing else of it.
type closedChannels struct {
	Transport
	packets chan *Packet
	streams chan net.Conn
}

func (c *closedChannels) PacketCh() <-chan *Packet  { return c.packets }
func (c *closedChannels) StreamCh() <-chan net.Conn { return c.streams }

func (c *closedChannels) Shutdown() error {
	close(c.packets)
	close(c.streams)
	return nil
}

func TestCreateOnAClosedTransportInMemoryIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		cfg := c.config("n1")
		require.NoError(t, c.start(cfg).Shutdown())
		_, err := Create(cfg)
		require.ErrorIs(t, err, net.ErrClosed)

		cfg = c.config("n2")
		cfg.Transport = &closedChannels{cfg.Transport, make(chan *Packet), make(chan net.Conn)}
		require.NoError(t, c.start(cfg).Shutdown(), "channels may be closed")
		_, err = Create(cfg)
		require.ErrorIs(t, err, net.ErrClosed)
		synctest.Wait()
		require.Empty(t, bubbleGoroutines())
	})
}

// A Create that fails has decided nothing.
func TestFailedCreateTakesBackTheChosenPort(t *testing.T) {
	cfg := loopback("n1")
	cfg.AdvertisePort = 4321
	forbidden(cfg)
	_, err := Create(cfg)
	require.ErrorIs(t, err, ErrRejected)
	require.Zero(t, cfg.BindPort)
	require.Equal(t, 4321, cfg.AdvertisePort)
}
