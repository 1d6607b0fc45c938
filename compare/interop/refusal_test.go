package interop_test

import (
	"errors"
	"fmt"
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

// eachWay runs a test with each library on either side, in each dressing.
func eachWay(t *testing.T, row string, f func(t *testing.T, s setting, first, second node.Library)) {
	for _, d := range dressings {
		s := setting{d, [2]uint8{2, 2}, [2]bool{true, true}}
		for _, pair := range [][2]node.Library{{theirs, ourside}, {ourside, theirs}, {ourside, ourside}} {
			t.Run(fmt.Sprintf("%s/%s-%s", d.name, pair[0].Name(), pair[1].Name()), func(t *testing.T) {
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
