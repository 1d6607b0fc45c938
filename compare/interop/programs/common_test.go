package programs

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// lines collects log lines.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// bubbleTransport is a transport of a program's own, made for virtual time.
type bubbleTransport struct {
	end     *simnet.Endpoint
	sender  simnet.Sender
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func newBubbleTransport(t *testing.T, network *simnet.Network, addr string) *bubbleTransport {
	end, err := network.Open(netip.MustParseAddrPort(addr))
	require.NoError(t, err)
	b := &bubbleTransport{end: end, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	b.sender = simnet.Serve(end, false,
		func(d simnet.Packet) {
			select {
			case b.packets <- &memberlist.Packet{Buf: d.Buf, From: d.From, Timestamp: d.At}:
			case <-end.Closed():
			}
		},
		func(c net.Conn) {
			select {
			case b.streams <- c:
			case <-end.Closed():
				c.Close()
			}
		})
	return b
}

func (b *bubbleTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	a := b.end.Addr()
	return net.IP(a.Addr().AsSlice()), int(a.Port()), nil
}

func (b *bubbleTransport) WriteTo(p []byte, addr string) (time.Time, error) {
	return b.sender.Send(p, addr)
}

func (b *bubbleTransport) PacketCh() <-chan *memberlist.Packet { return b.packets }
func (b *bubbleTransport) StreamCh() <-chan net.Conn           { return b.streams }

func (b *bubbleTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return b.sender.Dial(addr, timeout)
}

func (b *bubbleTransport) Shutdown() error {
	b.end.Close()
	return nil
}

// hub is the delegate of these programs: what is nil does nothing.
type hub struct {
	notifyMsg     func([]byte)
	localState    func(join bool) []byte
	mergeState    func([]byte, bool)
	getBroadcasts func(overhead, limit int) [][]byte
	nodeMeta      func(limit int) []byte
}

func (h *hub) NodeMeta(limit int) []byte {
	if h.nodeMeta == nil {
		return nil
	}
	return h.nodeMeta(limit)
}

func (h *hub) NotifyMsg(b []byte) {
	if h.notifyMsg != nil {
		h.notifyMsg(b)
	}
}

func (h *hub) GetBroadcasts(overhead, limit int) [][]byte {
	if h.getBroadcasts == nil {
		return nil
	}
	return h.getBroadcasts(overhead, limit)
}

func (h *hub) LocalState(join bool) []byte {
	if h.localState == nil {
		return nil
	}
	return h.localState(join)
}

func (h *hub) MergeRemoteState(b []byte, join bool) {
	if h.mergeState != nil {
		h.mergeState(b, join)
	}
}

// happening is the event delegate: it calls back with "join", "leave" or "update".
type happening func(kind string, n *memberlist.Node)

func (h happening) NotifyJoin(n *memberlist.Node)   { h("join", n) }
func (h happening) NotifyLeave(n *memberlist.Node)  { h("leave", n) }
func (h happening) NotifyUpdate(n *memberlist.Node) { h("update", n) }

// within polls until the condition holds.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); !holds(); <-tick.C {
		if time.Since(start) > limit {
			require.FailNow(t, "not within "+limit.String()+": "+what)
		}
	}
}

func memberNames(m *memberlist.Memberlist) []string {
	var all []string
	for _, n := range m.Members() {
		all = append(all, n.Name)
	}
	slices.Sort(all)
	return all
}

// loopbackConfig is for nodes on real sockets: the local preset on a port that
// the system chooses.
func loopbackConfig(name string, log *lines) *memberlist.Config {
	cfg := memberlist.DefaultLocalConfig()
	cfg.Name, cfg.BindAddr, cfg.BindPort = name, "127.0.0.1", 0
	cfg.LogOutput = log
	return cfg
}

func create(t *testing.T, cfg *memberlist.Config) *memberlist.Memberlist {
	t.Helper()
	m, err := memberlist.Create(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Shutdown()) })
	return m
}

func hostPort(n *memberlist.Node) string {
	return net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
}

func udpAddr(n *memberlist.Node) net.Addr { return &net.UDPAddr{IP: n.Addr, Port: int(n.Port)} }

// newNetwork makes a network for a bubble. It is called first: its cleanup is
// then the last to run, after the nodes are shut down, and lets what they had begun
// run into its timeouts before it closes the network.
func newNetwork(t *testing.T) *simnet.Network {
	network := simnet.NewNetwork(simnet.Conditions{Latency: simnet.Fixed(time.Millisecond), SocketQueue: 4096}, 1)
	t.Cleanup(func() {
		time.Sleep(10 * time.Minute)
		network.Close()
	})
	return network
}
