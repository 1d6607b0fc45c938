package programs

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// gateway is a NetTransport whose node sits in one of several sites. Nodes of other sites
// are only reached through the door of their site, a TCP listener that hands what comes to
// the transport: packets, one a connection, and streams.
type gateway struct {
	*memberlist.NetTransport
	site  string
	doors map[string]string // node name → address

	packets, streams atomic.Int64 // that came through the door
}

// open gives the node a door, for as long as the test runs.
func (g *gateway) open(t *testing.T, name string) {
	door, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { door.Close() })
	g.doors[name] = door.Addr().String()
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			go g.admit(c)
		}
	}()
}

func (g *gateway) admit(c net.Conn) {
	var kind [1]byte
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		c.Close()
		return
	}
	if kind[0] == packetConn {
		g.packets.Add(1)
		g.IngestPacket(c, c.RemoteAddr(), time.Now(), true)
		return
	}
	g.streams.Add(1)
	g.IngestStream(c)
}

// far says whether a node is in another site.
func (g *gateway) far(a memberlist.Address) bool { return !strings.HasSuffix(a.Name, "."+g.site) }

func (g *gateway) through(name string, kind byte, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", g.doors[name], timeout)
	if err != nil {
		return nil, err
	}
	_, err = c.Write([]byte{kind})
	return c, err
}

func (g *gateway) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if !g.far(a) {
		return g.NetTransport.WriteToAddress(b, a)
	}
	c, err := g.through(a.Name, packetConn, time.Second)
	if err != nil {
		return time.Time{}, err
	}
	defer c.Close()
	_, err = c.Write(b)
	return time.Now(), err
}

func (g *gateway) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if !g.far(a) {
		return g.NetTransport.DialAddressTimeout(a, timeout)
	}
	return g.through(a.Name, streamConn, timeout)
}

// TestGatewaysBetweenSites: three nodes in two sites, of which the one alone in its site is
// reached through its door only.
func TestGatewaysBetweenSites(t *testing.T) {
	var logged lines
	var heard atomic.Int64
	doors := make(map[string]string)
	nodes := make(map[string]*memberlist.Memberlist)
	gates := make(map[string]*gateway)
	for _, name := range []string{"one.east", "two.east", "three.west"} {
		inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
		require.NoError(t, err)
		_, site, _ := strings.Cut(name, ".")
		gates[name] = &gateway{NetTransport: inner, site: site, doors: doors}
		gates[name].open(t, name)
	}
	for name, gate := range gates {
		cfg := loopbackConfig(name, &logged)
		cfg.Transport, cfg.RequireNodeNames = gate, true
		cfg.AdvertiseAddr, cfg.AdvertisePort = "127.0.0.1", gate.GetAutoBindPort()
		cfg.ProbeInterval, cfg.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
		cfg.Delegate = &hub{notifyMsg: func([]byte) { heard.Add(1) }}
		nodes[name] = create(t, cfg)
	}
	one := nodes["one.east"].LocalNode()
	for _, name := range []string{"two.east", "three.west"} {
		_, err := nodes[name].Join([]string{fmt.Sprintf("%s/%s", one.Name, hostPort(one))})
		require.NoError(t, err)
	}
	west := nodes["three.west"].LocalNode()
	for _, m := range nodes {
		within(t, 20*time.Second, "three members", func() bool { return m.NumMembers() == 3 })
		require.NoError(t, m.SendReliable(west, []byte("hello")))
		require.NoError(t, m.SendBestEffort(west, []byte("hello")))
	}
	within(t, 20*time.Second, "six messages", func() bool { return heard.Load() == 6 })
	for name, gate := range gates {
		within(t, 20*time.Second, "packets through the door of "+name, func() bool { return gate.packets.Load() > 0 })
	}
	require.Positive(t, gates["one.east"].streams.Load())
	require.Positive(t, gates["three.west"].streams.Load())
	for _, line := range logged.get() {
		require.NotContains(t, line, "[ERR]")
	}

	require.NoError(t, nodes["three.west"].Shutdown())
	for _, name := range []string{"one.east", "two.east"} {
		within(t, 30*time.Second, "the lost node is missed", func() bool { return nodes[name].NumMembers() == 2 })
	}
}
