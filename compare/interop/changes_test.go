package interop_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
)

// steady sends broadcasts, four a second from nodes at random, for as long as a
// cluster is being changed, and proves at the end that none was lost.
type steady struct {
	*cluster
	stopped chan struct{}
	done    chan struct{}
	from    chan []*node.App // who sends from now on
	texts   []string
}

func (c *cluster) steadily() *steady {
	s := &steady{
		cluster: c,
		stopped: make(chan struct{}),
		done:    make(chan struct{}),
		from:    make(chan []*node.App),
	}
	go s.send()
	s.only(c.running())
	return s
}

func (s *steady) send() {
	defer close(s.done)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	from := <-s.from
	for {
		select {
		case <-tick.C:
			text := fmt.Sprintf("steady %d", len(s.texts))
			s.texts = append(s.texts, text)
			from[rand.IntN(len(from))].Broadcast(text)
		case from = <-s.from:
		case <-s.stopped:
			return
		}
	}
}

// only lets these nodes send from now on.
func (s *steady) only(peers []*peer) {
	var apps []*node.App
	for _, p := range peers {
		apps = append(apps, p.app)
	}
	s.from <- apps
}

// finish stops sending and waits until every node knows every broadcast. Most
// have come by gossip; push/pull has to bring the few that gossip missed and
// what happened while a node was down.
func (s *steady) finish() {
	s.t.Helper()
	close(s.stopped)
	<-s.done
	s.within(5*time.Minute, "every broadcast is everywhere", func() bool {
		return !slices.ContainsFunc(s.running(), func(p *peer) bool { return p.app.Broadcasts() != len(s.texts) })
	})
	for _, p := range s.running() {
		require.Positive(s.t, p.app.ByGossip(), "broadcasts to %s by gossip", p.name())
	}
}

// noComplaints wants that nothing above INFO was logged, anywhere.
func (c *cluster) noComplaints(but ...string) {
	c.t.Helper()
	for _, p := range c.peers {
		for _, line := range p.app.Log.Lines(0) {
			expected := slices.ContainsFunc(but, func(text string) bool { return strings.Contains(line, text) })
			require.False(c.t, isComplaint(line) && !expected, "%s (%s): %s", p.name(), p.lib.Name(), line)
		}
	}
}

// mixed starts count nodes of alternating kinds, joined into one cluster.
func mixed(t *testing.T, count int, opts func(side int, name string) node.Options) *cluster {
	return grown(t, [2]node.Library{theirs, ourside}, count, opts)
}

// grown is a cluster of nodes of two libraries in turn.
func grown(t *testing.T, libraries [2]node.Library, count int, opts func(side int, name string) node.Options) *cluster {
	c := newCluster(t)
	for i := range count {
		p := c.add(libraries[i%2], opts(i%2, fmt.Sprintf("n%d", i+1)))
		if i > 0 {
			c.join(p, c.peers[i-1])
		}
	}
	c.whole(time.Minute)
	return c
}

// TestKeyRotation exchanges the key of a running cluster, three times.
func TestKeyRotation(t *testing.T) {
	for length, label := range map[int]string{16: "", 24: "blue", 32: "blue"} {
		t.Run(fmt.Sprintf("AES-%d/label %q", 8*length, label), func(t *testing.T) {
			t.Parallel()
			enter(t, "list", rowRotation, "")
			synctest.Test(t, func(t *testing.T) { rotate(t, length, label) })
		})
	}
}

func rotate(t *testing.T, length int, label string) {
	key := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, length) }
	s := setting{dressing{keys: [][]byte{key(0)}, label: label}, [2]uint8{2, 1}, [2]bool{true, true}}
	c := mixed(t, 6, s.options)
	defer c.stop()
	sending := c.steadily()
	for round := 1; round <= 3; round++ {
		for _, step := range []func(node.Node) error{
			func(n node.Node) error { return n.AddKey(key(round)) },
			func(n node.Node) error { return n.UseKey(key(round)) },
			func(n node.Node) error { return n.RemoveKey(key(round - 1)) },
		} {
			for _, p := range c.peers {
				require.NoError(t, step(p.node))
				time.Sleep(2 * time.Second)
			}
		}
	}
	sending.finish()
	for _, p := range c.peers { // nobody was restarted
		require.Greater(t, p.app.ByGossip(), len(sending.texts)/2, "broadcasts to %s by gossip", p.name())
	}
	c.noComplaints()
	c.noLeaves(nil)
}

// noLeaves wants that no running node was told that another went, but those
// that expected names in the time of the event.
func (c *cluster) noLeaves(expected func(name string, at time.Time) bool) {
	c.t.Helper()
	for _, p := range c.peers {
		for _, e := range p.app.Events("") {
			if e.Kind == "leave" && (expected == nil || !expected(e.Node.Name, e.At)) {
				require.Failf(c.t, "a node was declared gone", "%s at %s (%s), %v", e.Node.Name, p.name(), p.lib.Name(), e.At)
			}
		}
	}
}

// manner is how a node ends before it is started again.
type manner int

const (
	leaves       manner = iota // leaves, and is back at once
	killedMissed               // killed, and back once everyone has missed it
	killedQuick                // killed, and back before anyone notices
)

// outages remembers which node was down when, and all programs that ever ran.
type outages struct {
	*cluster
	downs []outage
	past  []*peer // copies of peers as they were before their restarts
}

type outage struct {
	name     string
	from, to time.Time
}

// restart ends a node and starts it again under its name, on the given library
// and with the given options.
func (o *outages) restart(s *steady, p *peer, how manner, lib node.Library, opts node.Options) {
	o.t.Helper()
	s.only(o.others(p))
	time.Sleep(5 * time.Second) // lets what it has sent spread
	begin := time.Now()
	if how == leaves {
		require.NoError(o.t, p.node.Leave(10*time.Second))
	}
	before := *p
	o.kill(p)
	o.past = append(o.past, &before)
	switch how {
	case killedMissed:
		o.whole(2 * time.Minute)
	case killedQuick:
		time.Sleep(300 * time.Millisecond)
	}
	p.lib, p.opts = lib, opts
	o.start(p)
	o.join(p, o.others(p)[rand.IntN(len(o.others(p)))])
	o.whole(time.Minute)
	s.only(o.running())
	// What was said about the former life may still be on its way.
	o.downs = append(o.downs, outage{p.name(), begin, time.Now().Add(10 * time.Second)})
	time.Sleep(5 * time.Second)
}

// onlyOutages wants that nobody was ever missed but while it was down.
func (o *outages) onlyOutages() {
	o.t.Helper()
	all := &cluster{t: o.t, peers: slices.Concat(o.peers, o.past)}
	all.noLeaves(func(name string, at time.Time) bool {
		return slices.ContainsFunc(o.downs, func(d outage) bool {
			return d.name == name && !at.Before(d.from) && !at.After(d.to)
		})
	})
}

// stepByStep takes a mixed cluster through stages, by restarting node after node
// with the options of the next stage.
func stepByStep(t *testing.T, stages []func(*node.Options)) {
	inStages(t, [2]node.Library{theirs, ourside}, stages)
}

func inStages(t *testing.T, libraries [2]node.Library, stages []func(*node.Options)) {
	plain := setting{protocols: [2]uint8{2, 2}, compress: [2]bool{false, true}}
	c := grown(t, libraries, 6, func(side int, name string) node.Options {
		o := plain.options(side, name)
		stages[0](&o)
		return o
	})
	defer c.stop()
	o := &outages{cluster: c}
	sending := c.steadily()
	for i, stage := range stages[1:] {
		for j, p := range c.peers {
			opts := plain.options(j%2, p.name())
			stage(&opts)
			o.restart(sending, p, manner((i+j)%3), p.lib, opts)
		}
	}
	sending.finish()
	o.onlyOutages()
	c.noComplaints("Refuting a", "Push/Pull with")
}

// TestEncryptionStepByStep switches encryption on in a running cluster: keys
// first, then sealing, then insisting on it.
func TestEncryptionStepByStep(t *testing.T) {
	for _, length := range []int{16, 24, 32} {
		t.Run(fmt.Sprintf("AES-%d", 8*length), func(t *testing.T) {
			t.Parallel()
			enter(t, "list", rowEncryption, "")
			synctest.Test(t, func(t *testing.T) {
				stepByStep(t, []func(*node.Options){
					func(o *node.Options) {},
					func(o *node.Options) { o.Keys, o.Unverified, o.Unsealed = aes(length), true, true },
					func(o *node.Options) { o.Keys, o.Unverified = aes(length), true },
					func(o *node.Options) { o.Keys = aes(length) },
				})
			})
		})
	}
}

// TestLabelStepByStep introduces a label in a running cluster. The transport
// strips labels while SkipInboundLabelCheck is on, which is how that switch is
// meant to be used with v0.7.0.
func TestLabelStepByStep(t *testing.T) {
	enter(t, "list", rowLabel, "")
	synctest.Test(t, func(t *testing.T) {
		stepByStep(t, []func(*node.Options){
			func(o *node.Options) {},
			func(o *node.Options) { o.StripLabels, o.SkipLabel = true, true },
			func(o *node.Options) { o.StripLabels, o.SkipLabel, o.Label = true, true, "blue" },
			func(o *node.Options) { o.Label = "blue" },
		})
	})
}

// TestLabelStepByStepWithoutHelp introduces a label among nodes of this library with
// nothing that strips labels: those without one that do not check take any (W42).
func TestLabelStepByStepWithoutHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inStages(t, [2]node.Library{ourside, ourside}, []func(*node.Options){
			func(o *node.Options) {},
			func(o *node.Options) { o.SkipLabel = true },
			func(o *node.Options) { o.SkipLabel, o.Label = true, "blue" },
			func(o *node.Options) { o.Label = "blue" },
		})
	})
}

// TestSkippingNodesAmongStrictOnes is the last step without such a transport:
// our nodes with SkipInboundLabelCheck take the configured label as well as
// none, so they live with nodes that insist on it (W42). Nodes of v0.7.0 that
// skip the check would refuse the label.
func TestSkippingNodesAmongStrictOnes(t *testing.T) {
	for _, d := range dressings[len(dressings)-2:] {
		t.Run(d.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := setting{d, [2]uint8{2, 2}, [2]bool{true, true}}
				c := mixed(t, 6, func(side int, name string) node.Options {
					o := s.options(side, name)
					o.SkipLabel = side == 1
					return o
				})
				defer c.stop()
				sending := c.steadily()
				time.Sleep(time.Minute)
				sending.finish()
				c.noLeaves(nil)
				c.noComplaints()
			})
		})
	}
}

// TestRollingExchange turns a cluster of ten nodes of v0.7.0 into one of ours,
// node by node, and back.
func TestRollingExchange(t *testing.T) {
	sealed := dressings[len(dressings)-1]
	for _, s := range []setting{
		{dressings[0], [2]uint8{2, 2}, [2]bool{true, true}},
		{sealed, [2]uint8{1, 1}, [2]bool{false, true}},
		{sealed, [2]uint8{5, 5}, [2]bool{false, false}},
	} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			enter(t, "list", rowRolling, "")
			synctest.Test(t, func(t *testing.T) { exchange(t, s) })
		})
	}
}

func exchange(t *testing.T, s setting) {
	c := newCluster(t)
	defer c.stop()
	for i := range 10 {
		p := c.add(theirs, s.options(0, fmt.Sprintf("n%d", i+1)))
		if i > 0 {
			c.join(p, c.peers[0])
		}
	}
	c.whole(time.Minute)
	o := &outages{cluster: c}
	sending := c.steadily()
	for i, lib := range []node.Library{ourside, theirs} {
		for j, p := range c.peers {
			o.restart(sending, p, manner((i+j)%3), lib, s.options(i, p.name()))
		}
	}
	sending.finish()
	o.onlyOutages()
	c.noComplaints("Refuting a", "Push/Pull with")
}
