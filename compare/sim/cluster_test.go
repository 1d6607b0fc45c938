package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// inCluster runs a test with a small cluster of each library, and of both.
func inCluster(t *testing.T, opts ClusterOptions, test func(t *testing.T, c *Cluster)) {
	for name, libraries := range map[string][2]Library{
		LibraryTheirs: {Theirs{}, nil},
		LibraryOurs:   {Ours{}, nil},
		LibraryMixed:  {Theirs{}, Ours{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := opts
				opts.Library, opts.Other = libraries[0], libraries[1]
				opts.Preset, opts.Conditions, opts.Seed = PresetLAN, simnet.LAN(), 1
				c, err := NewCluster(opts)
				require.NoError(t, err)
				defer c.Close()
				test(t, c)
				require.NoError(t, c.Check())
			})
		})
	}
}

func TestAccountFollowsTheViews(t *testing.T) {
	inCluster(t, ClusterOptions{Size: 6, Spare: 1}, func(t *testing.T, c *Cluster) {
		require.Zero(t, c.Wrong())
		require.NoError(t, c.Check())

		killed := c.Net.Now()
		c.Kill(3)
		require.Equal(t, 5, c.Wrong(), "five views still have it")
		took, whole := c.AwaitWhole(time.Minute)
		require.True(t, whole)
		require.Greater(t, took, 2*time.Second)
		require.NoError(t, c.Check())
		require.Equal(t, 5, c.CountChanges(deathsSince(killed, set([]int{3}), set([]int{0, 1, 2, 4, 5}))))

		require.NoError(t, c.Start(6, c.NewAddr()))
		require.Equal(t, 5+5, c.Wrong(), "nobody knows the new one, and it knows nobody")
		_, err := c.Node(6).Join(c.Addr(0))
		require.NoError(t, err)
		_, whole = c.AwaitWhole(time.Minute)
		require.True(t, whole)

		c.Leave(2, 5*time.Second)
		_, whole = c.AwaitWhole(time.Minute) // it can miss one, which then needs a suspicion
		require.True(t, whole)
		require.NoError(t, c.Start(2, c.NewAddr()))
		_, err = c.Node(2).Join(c.Addr(0))
		require.NoError(t, err)
		_, whole = c.AwaitWhole(time.Minute)
		require.True(t, whole, "one that left may return at another address")
	})
}

func TestEveryScenarioOfTheTableExists(t *testing.T) {
	for _, row := range Table() {
		found := false
		for _, s := range Scenarios() {
			found = found || nameMatches(row.Scenario, s.Name)
		}
		require.True(t, found, row.Scenario)
	}
	names := map[string]bool{}
	for _, s := range Scenarios() {
		require.False(t, names[s.Name], "%s is there twice", s.Name)
		names[s.Name] = true
	}
}

func TestSameSeedGivesTheSameScheduleForBothLibraries(t *testing.T) {
	var picked [][]int
	probe := &Scenario{Name: "probe", Size: 5, Run: func(r *Run) {
		picked = append(picked, r.Pick(3))
	}}
	for _, library := range []Library{Theirs{}, Ours{}} {
		synctest.Test(t, func(t *testing.T) {
			require.Empty(t, probe.Execute(7, ClusterOptions{Library: library}).Error)
		})
	}
	require.Equal(t, picked[0], picked[1])
}
