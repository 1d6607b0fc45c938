package memberlist

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// textSet is a Delegate whose state is a set of texts, which grows by merging.
type textSet struct {
	hooks
	mu  sync.Mutex
	set map[string]bool
}

func newTextSet() *textSet { return &textSet{set: map[string]bool{}} }

func (d *textSet) write(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set[text] = true
}

func (d *textSet) has(texts ...string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !slices.ContainsFunc(texts, func(text string) bool { return !d.set[text] })
}

func (d *textSet) LocalState(bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return []byte(strings.Join(slices.Collect(maps.Keys(d.set)), " "))
}

func (d *textSet) MergeRemoteState(state []byte, _ bool) {
	for text := range strings.FieldsSeq(string(state)) {
		d.write(text)
	}
}

// healingTimes is how long it takes, from the end of a partition, until …
type healingTimes struct {
	met     time.Duration // … user state of either side is on the other
	members time.Duration // … everybody is a member everywhere
	state   time.Duration // … everybody has everybody's user state
}

// heal parts a cluster in the middle for a time and measures how it becomes whole.
func heal(t *testing.T, size int, apart time.Duration, seed uint64, changes ...func(*Config)) (h healingTimes) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var pads []*textSet
		nodes, _ := c.watched(size, append(changes, func(cfg *Config) {
			pads = append(pads, newTextSet())
			cfg.Delegate = pads[len(pads)-1]
		})...)
		c.network.SetLatency(time.Millisecond, time.Millisecond)
		rng := rand.New(rand.NewPCG(seed, 1))
		time.Sleep(time.Duration(rng.Int64N(int64(time.Minute))))
		near := names(nodes)[:size/2]
		c.network.Partition(near)
		for i, d := range pads {
			if i < size/2 {
				d.write("near")
			} else {
				d.write("far")
			}
		}
		time.Sleep(apart)
		c.network.Heal()
		began := time.Now()
		note := func(at *time.Duration, holds bool) {
			if *at == 0 && holds {
				*at = max(time.Since(began), 1)
			}
		}
		for h.members == 0 || h.state == 0 {
			note(&h.met, anyHas(pads[:size/2], "far") && anyHas(pads[size/2:], "near"))
			note(&h.members, whole(nodes))
			note(&h.state, !slices.ContainsFunc(pads, func(d *textSet) bool { return !d.has("near", "far") }))
			require.Less(t, time.Since(began), 10*time.Minute)
			time.Sleep(20 * time.Millisecond)
		}
	})
	return h
}

func anyHas(pads []*textSet, text string) bool {
	return slices.ContainsFunc(pads, func(d *textSet) bool { return d.has(text) })
}

// However small the cluster, all are members everywhere soon after the end of a partition,
// and have what programs keep. -v prints the figures: median, 90th percentile and worst (P183).
func TestPartedClusterIsWholeWithinSeconds(t *testing.T) {
	skipManyClusters(t)
	for _, size := range []int{2, 3, 5, 8, 24} {
		for _, apart := range []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute} {
			t.Run(fmt.Sprint(size, " nodes ", apart), func(t *testing.T) {
				t.Parallel()
				checkHealing(t, size, apart)
			})
		}
	}
}

func checkHealing(t *testing.T, size int, apart time.Duration) {
	runs := 6
	if size > 8 {
		runs = 1
	}
	var met, members, state []time.Duration
	for seed := range runs {
		h := heal(t, size, apart, uint64(seed))
		met, members, state = append(met, h.met), append(members, h.members), append(state, h.state)
	}
	t.Logf("%2d nodes, %5s apart: first user state %s, members %s, all user state %s",
		size, apart, quantiles(met), quantiles(members), quantiles(state))
	require.LessOrEqual(t, members[runs/2], 3*time.Second, "the median")
	require.LessOrEqual(t, members[runs-1], 8*time.Second, "the worst")
	require.LessOrEqual(t, met[runs-1], 8*time.Second)
	if apart > time.Minute { // before, some are still suspects on one side, and so not lost
		require.LessOrEqual(t, state[runs-1], 8*time.Second)
	}
}

// quantiles sorts times and returns the median, the 90th percentile and the worst.
func quantiles(times []time.Duration) string {
	slices.Sort(times)
	p := func(q float64) float64 { return times[min(int(q*float64(len(times))), len(times)-1)].Seconds() }
	return fmt.Sprintf("%.1f/%.1f/%.1f s", p(.5), p(.9), p(1))
}

// A node that was away for an hour, and one that was away for longer, is found within the
// time that searchAge and ReconnectInterval say (P185).
func TestLongLostNodeIsFoundWithinTheStatedTime(t *testing.T) {
	skipManyClusters(t)
	for apart, limit := range map[time.Duration]time.Duration{
		time.Hour:      18 * time.Second,
		12 * time.Hour: 35 * time.Second,
	} {
		h := heal(t, 2, apart, 1, func(cfg *Config) { cfg.PushPullInterval, cfg.QueueCheckInterval = 0, 0 })
		t.Logf("2 nodes, %s apart: members after %.1f s", apart, h.members.Seconds())
		require.LessOrEqual(t, h.members, limit)
	}
}
