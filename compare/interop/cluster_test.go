package interop_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
	"github.com/seed-83836a96/memberlist/compare/simnet"
)

const (
	port    = 7946
	latency = time.Millisecond
)

// peer is one node of a cluster, or the place where one was.
type peer struct {
	lib  node.Library
	opts node.Options
	addr netip.AddrPort
	app  *node.App
	node node.Node // nil while it is not running
}

func (p *peer) name() string { return p.opts.Name }

// cluster is a set of nodes on one simulated network.
type cluster struct {
	t     testing.TB
	net   *simnet.Network
	peers []*peer
	added int // peers so far: an address is not used again, since some may still ask there
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, net: simnet.NewNetwork(simnet.Conditions{Latency: simnet.Fixed(latency), SocketQueue: 4096}, 1)}
}

// add makes a peer with the next address and starts it. A hook may prepare its
// program first.
func (c *cluster) add(lib node.Library, opts node.Options, hooks ...func(*node.App)) *peer {
	p := &peer{lib: lib, opts: opts}
	c.peers = append(c.peers, p)
	c.added++
	n := c.added
	p.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), port)
	c.start(p, hooks...)
	return p
}

// start runs a peer's node anew, under a new program that knows nothing.
func (c *cluster) start(p *peer, hooks ...func(*node.App)) {
	c.t.Helper()
	p.app = &node.App{AckPayload: []byte("payload of " + p.name())}
	p.app.SetMeta("meta of " + p.name())
	for _, hook := range hooks {
		hook(p.app)
	}
	end, err := c.net.Open(p.addr)
	require.NoError(c.t, err)
	p.opts.Endpoint = end
	p.node, err = p.lib.Start(p.opts, p.app)
	require.NoError(c.t, err, p.name())
}

// join lets a peer join others and wants every one of them to be reached.
func (c *cluster) join(p *peer, others ...*peer) {
	c.t.Helper()
	var hosts []string
	for _, o := range others {
		hosts = append(hosts, o.addr.String())
	}
	n, err := p.node.Join(hosts...)
	require.NoError(c.t, err, "%s joins %v", p.name(), hosts)
	require.Equal(c.t, len(hosts), n, "%s joins %v", p.name(), hosts)
}

// kill lets a node vanish without a word.
func (c *cluster) kill(p *peer) {
	c.t.Helper()
	p.app.End()
	p.opts.Endpoint.Close()
	require.NoError(c.t, p.node.Shutdown())
	p.node = nil
}

// stop ends all nodes that run, waits until what they had begun has run into
// its timeouts, and closes the network.
func (c *cluster) stop() {
	for _, p := range c.running() {
		c.kill(p)
	}
	time.Sleep(10 * time.Minute)
	c.net.Close()
}

func (c *cluster) running() []*peer {
	return slices.DeleteFunc(slices.Clone(c.peers), func(p *peer) bool { return p.node == nil })
}

// others are the running peers but one.
func (c *cluster) others(but *peer) []*peer {
	return slices.DeleteFunc(c.running(), func(p *peer) bool { return p == but })
}

// within waits for a condition in steps of 50 ms.
func (c *cluster) within(limit time.Duration, what string, holds func() bool) {
	c.t.Helper()
	for start := time.Now(); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > limit {
			require.FailNow(c.t, "not within "+limit.String()+": "+what, c.dump())
		}
	}
}

// whole waits until every running node lists exactly the running ones, and then for
// the events about them, which ours delivers a moment later.
func (c *cluster) whole(limit time.Duration) {
	c.t.Helper()
	c.within(limit, "every node lists every node", func() bool {
		want := names(c.running())
		for _, p := range c.running() {
			if !slices.Equal(memberNames(p.node.Members()), want) {
				return false
			}
		}
		return true
	})
	time.Sleep(50 * time.Millisecond)
}

func names(peers []*peer) []string {
	var all []string
	for _, p := range peers {
		all = append(all, p.name())
	}
	slices.Sort(all)
	return all
}

func memberNames(members []node.Member) []string {
	var all []string
	for _, m := range members {
		all = append(all, m.Name)
	}
	slices.Sort(all)
	return all
}

// kinds counts a node's events about another.
func kinds(p *peer, about string) string {
	var all []string
	for _, e := range p.app.Events(about) {
		all = append(all, e.Kind)
	}
	return strings.Join(all, " ")
}

// dump is what a failed test shows: views and the last lines of the logs.
func (c *cluster) dump() string {
	var b strings.Builder
	for _, p := range c.peers {
		if p.node == nil {
			fmt.Fprintf(&b, "%s (%s): not running\n", p.name(), p.lib.Name())
			continue
		}
		fmt.Fprintf(&b, "%s (%s) lists %v\n", p.name(), p.lib.Name(), memberNames(p.node.Members()))
		lines := p.app.Log.Lines(0)
		for _, line := range lines[max(0, len(lines)-12):] {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	return b.String()
}
