package interop_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
	"github.com/seed-83836a96/memberlist/compare/interop/wiretap"
)

// quiet are options of a node that does nothing by itself.
func quiet(o node.Options) node.Options {
	o.ProbeInterval, o.GossipInterval, o.PushPullInterval = time.Hour, time.Hour, time.Hour
	return o
}

// TestManyStates hands 300 nodes' states from one library to the other in one
// push/pull, in each setting of the matrix and in both directions.
func TestManyStates(t *testing.T) {
	for _, s := range settings() {
		for side, libs := range [][2]node.Library{{theirs, ourside}, {ourside, theirs}} {
			t.Run(fmt.Sprintf("%v/%s to %s", s, libs[0].Name(), libs[1].Name()), func(t *testing.T) {
				t.Parallel()
				enter(t, "states", s.name, s.column())
				synctest.Test(t, func(t *testing.T) {
					handOver(t, libs[0], libs[1], s, s.options(side, "holder"), s.options(1-side, "joiner"))
				})
			})
		}
	}
}

func handOver(t *testing.T, holderLib, joinerLib node.Library, s setting, holderOpts, joinerOpts node.Options) {
	c := newCluster(t)
	defer c.stop()
	holder := c.add(holderLib, quiet(holderOpts))
	joiner := c.add(joinerLib, quiet(joinerOpts))
	want := teach(t, c, holder, 300, s)

	holder.app.SetState(strings.Repeat("state", 20000))
	c.join(joiner, holder)
	got := make(map[string]node.Member)
	for _, m := range joiner.node.Members() {
		got[m.Name] = m
	}
	want["holder"], want["joiner"] = holder.node.Local(), joiner.node.Local()
	require.Equal(t, want, got)
	require.Len(t, joiner.app.Events(""), 302)
	require.Equal(t, []node.State{{Prefix: strings.Repeat("state", 20000), Join: true}}, joiner.app.States())
	for _, p := range c.running() {
		for _, line := range p.app.Log.Lines(0) {
			require.False(t, isComplaint(line), "%s: %s", p.name(), line)
		}
	}
}

// teach makes a node know many others, by a push/pull that no library wrote.
func teach(t *testing.T, c *cluster, p *peer, count int, s setting) map[string]node.Member {
	var states []wiretap.State
	want := make(map[string]node.Member)
	for i := range count {
		ip := [4]byte{10, 9}
		binary.BigEndian.PutUint16(ip[2:], uint16(i))
		st := wiretap.State{
			Name: fmt.Sprintf("n%03d", i), Addr: ip[:], Port: port, Incarnation: 1,
			Meta: strings.Repeat("m", i), Protocol: uint8(1 + i%5),
		}
		states = append(states, st)
		want[st.Name] = node.Member{
			Name: st.Name, Addr: netip.AddrPortFrom(netip.AddrFrom4(ip), port).String(), Meta: st.Meta,
			PMin: 1, PMax: 5, PCur: st.Protocol,
		}
	}
	var key []byte
	if len(s.keys) > 0 {
		key = s.keys[0]
	}
	stream, err := wiretap.JoinStream(states, nil, s.label, key, p.opts.Protocol)
	require.NoError(t, err)
	end, err := c.net.Open(netip.MustParseAddrPort("10.9.255.255:1"))
	require.NoError(t, err)
	defer end.Close()
	conn, err := end.Dial(p.addr.String(), time.Second)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(stream)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err)
	c.within(time.Second, "states are merged", func() bool { return len(p.node.Members()) == count+1 })
	return want
}
