package interop_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/interop/node"
)

const words = "no room for strangers"

func refuseMerge(a *node.App) {
	a.RefuseMerge = func([]node.Member) error { return errors.New(words) }
}

// refuseAlive refuses everyone but the node itself.
func refuseAlive(self string) func(*node.App) {
	return func(a *node.App) {
		a.RefuseAlive = func(m node.Member) error {
			if m.Name == self {
				return nil
			}
			return errors.New(words)
		}
	}
}

// eachWay runs a test with each library on either side, in each setting; with -short
// only in those in which both sides compress.
func eachWay(t *testing.T, row string, f func(t *testing.T, s setting, first, second node.Library)) {
	for _, s := range settings() {
		if testing.Short() && s.compress != [2]bool{true, true} {
			continue
		}
		for _, pair := range [][2]node.Library{{theirs, ourside}, {ourside, theirs}, {ourside, ourside}} {
			t.Run(fmt.Sprintf("%v/%s-%s", s, pair[0].Name(), pair[1].Name()), func(t *testing.T) {
				t.Parallel()
				enter(t, "list", row, "")
				synctest.Test(t, func(t *testing.T) { f(t, s, pair[0], pair[1]) })
			})
		}
	}
}

// A merge delegate that refuses on the accepting side: nothing is merged there.
// Our library says so to the joiner in an error answer, which the reference
// understands; the reference itself answers before it asks (W57), so that a
// joiner of any kind takes the join for a success.
func TestMergeRefusedByAcceptor(t *testing.T) {
	eachWay(t, rowMerge, func(t *testing.T, s setting, acceptor, joiner node.Library) {
		c := newCluster(t)
		defer c.stop()
		a := c.add(acceptor, s.options(0, "acceptor"), refuseMerge)
		j := c.add(joiner, s.options(1, "joiner"))
		n, err := j.node.Join(a.addr.String())
		if acceptor == ourside {
			require.ErrorContains(t, err, words)
			require.Zero(t, n)
			require.Equal(t, []string{"joiner"}, memberNames(j.node.Members()))
		} else {
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		time.Sleep(time.Millisecond)
		require.Empty(t, a.app.States(), "user state merged all the same")
	})
}

// A merge delegate that refuses at the joiner: its own words come back from Join.
func TestMergeRefusedByJoiner(t *testing.T) {
	eachWay(t, rowMerge, func(t *testing.T, s setting, acceptor, joiner node.Library) {
		c := newCluster(t)
		defer c.stop()
		a := c.add(acceptor, s.options(0, "acceptor"))
		j := c.add(joiner, s.options(1, "joiner"), refuseMerge)
		n, err := j.node.Join(a.addr.String())
		require.ErrorContains(t, err, words)
		require.Zero(t, n)
		require.Equal(t, []string{"joiner"}, memberNames(j.node.Members()))
		require.Empty(t, j.app.States())
	})
}

// An alive delegate that refuses, on either side: the node stays out of that
// side's view, for good, and no event tells of it.
func TestAliveRefused(t *testing.T) {
	eachWay(t, rowAlive, func(t *testing.T, s setting, first, second node.Library) {
		c := newCluster(t)
		defer c.stop()
		strict := c.add(first, s.options(0, "strict"), refuseAlive("strict"))
		other := c.add(second, s.options(1, "other"))
		third := c.add(first, s.options(0, "third"))
		c.join(third, other)
		_, _ = other.node.Join(strict.addr.String())
		_, _ = strict.node.Join(third.addr.String())
		time.Sleep(time.Minute)
		require.Equal(t, []string{"strict"}, memberNames(strict.node.Members()))
		require.Empty(t, kinds(strict, "other")+kinds(strict, "third"))
		require.Contains(t, memberNames(other.node.Members()), "third")
		require.Contains(t, memberNames(third.node.Members()), "other")
	})
}

// What an alive delegate that refuses says reaches the joiner: from its own library
// where that is ours, and from the acceptor's in an error answer, which the reference
// understands. The reference itself tells nobody but its log.
func TestAliveRefusalReachesTheJoiner(t *testing.T) {
	eachWay(t, rowAlive, func(t *testing.T, s setting, acceptor, joiner node.Library) {
		for _, strict := range []string{"acceptor", "joiner"} {
			c := newCluster(t)
			defer c.stop()
			hooks := map[string][]func(*node.App){strict: {refuseAlive(strict)}}
			a := c.add(acceptor, s.options(0, "acceptor"), hooks["acceptor"]...)
			j := c.add(joiner, s.options(1, "joiner"), hooks["joiner"]...)
			refuser := a
			if strict == "joiner" {
				refuser = j
			}
			n, err := j.node.Join(a.addr.String())
			if refuser.lib == ourside {
				require.ErrorContains(t, err, words)
				require.Zero(t, n)
				require.Equal(t, []string{"joiner"}, memberNames(j.node.Members()))
			} else {
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			time.Sleep(time.Millisecond) // the acceptor merges after its answer
			require.Equal(t, []string{strict}, memberNames(refuser.node.Members()))
			require.Contains(t, strings.Join(refuser.app.Log.Lines(0), "\n"), words)
		}
	})
}

// A cluster of both kinds, one of ours refusing a stranger who asks it: the stranger is
// told, and nobody on either side ever hears of the other.
func TestRefusalKeepsAClusterApart(t *testing.T) {
	strangers := func(others ...node.Member) error {
		if slices.ContainsFunc(others, func(m node.Member) bool { return m.Name == "stranger" }) {
			return errors.New(words)
		}
		return nil
	}
	for row, hook := range map[string]func(*node.App){
		rowMerge: func(a *node.App) { a.RefuseMerge = func(others []node.Member) error { return strangers(others...) } },
		rowAlive: func(a *node.App) { a.RefuseAlive = func(m node.Member) error { return strangers(m) } },
	} {
		for _, d := range dressings {
			for _, lib := range []node.Library{theirs, ourside} {
				t.Run(fmt.Sprintf("%s/%s/%s", row, d.name, lib.Name()), func(t *testing.T) {
					t.Parallel()
					enter(t, "list", row, "")
					synctest.Test(t, func(t *testing.T) {
						s := setting{d, [2]uint8{2, 2}, [2]bool{true, true}}
						refuseStranger(t, mixed(t, 6, s.options), lib, hook, s)
					})
				})
			}
		}
	}
}

func refuseStranger(t *testing.T, c *cluster, lib node.Library, hook func(*node.App), s setting) {
	defer c.stop()
	gate := c.add(ourside, s.options(1, "gate"), hook)
	c.join(gate, c.peers[0])
	c.whole(time.Minute)
	members := names(c.running())
	stranger := c.add(lib, s.options(0, "stranger"))
	n, err := stranger.node.Join(gate.addr.String())
	require.ErrorContains(t, err, words)
	require.Zero(t, n)
	time.Sleep(time.Minute)
	require.Equal(t, []string{"stranger"}, memberNames(stranger.node.Members()))
	for _, p := range c.others(stranger) {
		require.Equal(t, members, memberNames(p.node.Members()), p.name())
		require.Empty(t, kinds(p, "stranger"), p.name())
		require.Empty(t, kinds(stranger, p.name()))
	}
}
