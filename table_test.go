package memberlist

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func testNode(name string, state NodeStateType) *Node {
	return newNode(name, addrOfTestNode(name), 7946, nil, testVersions(), state)
}

// A new record comes at a random place of the probe order, so that new nodes are
// neither first nor last (P95).
func TestNewNodesGetARandomPlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const rounds, before = 3000, 4
	var places [before + 1]int
	for range rounds {
		table := newTable()
		for _, name := range nodeNames("old", before) {
			table.add(rng, testNode(name, StateAlive), 0)
		}
		m := table.add(rng, testNode("new", StateAlive), 0)
		places[slices.Index(table.order, m)]++
	}
	for place, n := range places {
		require.InDelta(t, rounds/len(places), n, float64(rounds/len(places)/4), "place %d of %v", place, places)
	}
}

// TestShuffleKeepsTheRecordsAndChangesTheOrder checks P46.
func TestShuffleKeepsTheRecordsAndChangesTheOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	table := newTable()
	for _, name := range nodeNames("n", 50) {
		table.add(rng, testNode(name, StateAlive), 0)
	}
	before := slices.Clone(table.order)
	table.shuffle(rng)
	require.NotEqual(t, before, table.order)
	require.ElementsMatch(t, before, table.order)
	checkTable(t, &table)
}

// Whatever is done to a table, its indexes, its counts and what readers see of it
// agree with a plain map (P33, P44).
func TestTableAgreesWithAModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	table := newTable()
	model := map[string]NodeStateType{}
	pool := append(nodeNames("n", 300), "10.0.0.1", "2001:db8::7")
	for step := range 20_000 {
		name := pool[rng.IntN(len(pool))]
		state := NodeStateType(rng.IntN(4))
		_, known := model[name]
		switch {
		case !known:
			table.add(rng, testNode(name, state), instant(step))
			model[name] = state
		case rng.IntN(3) == 0:
			forget(&table, table.get(name))
			delete(model, name)
		default:
			table.setNode(table.get(name), testNode(name, state), instant(step))
			model[name] = state
		}
		if step%500 == 0 {
			checkTable(t, &table)
			checkAgainstModel(t, &table, model)
		}
	}
}

// forget removes a record by itself rather than its place.
func forget(table *table, m *member) { table.remove(slices.Index(table.order, m)) }

func checkAgainstModel(t *testing.T, table *table, model map[string]NodeStateType) {
	t.Helper()
	var shown []string
	var counts [4]int
	addresses := 0
	for name, state := range model {
		require.Equal(t, state, table.get(name).state(), name)
		counts[state]++
		if state == StateAlive || state == StateSuspect {
			shown = append(shown, name)
		}
		if net.ParseIP(name) != nil {
			addresses++
		}
	}
	require.Equal(t, counts, table.counts)
	require.Equal(t, len(shown), table.live())
	require.EqualValues(t, len(model), table.view.known.Load(), "every state counts (P44)")
	require.EqualValues(t, len(shown), table.view.shown.Load())
	require.EqualValues(t, addresses, table.view.addressNames.Load())
	var seen []string
	for _, n := range table.view.members() {
		require.Equal(t, model[n.Name], n.State)
		seen = append(seen, n.Name)
	}
	require.ElementsMatch(t, shown, seen, "members are alive or suspect (P33)")
}

// checkTable checks what ties the parts of a table together.
func checkTable(t *testing.T, table *table) {
	t.Helper()
	require.Equal(t, len(table.order), table.byName.used)
	slots := map[int]bool{}
	for _, m := range table.order {
		require.Same(t, m, table.get(m.node.Name))
		require.False(t, slots[int(m.slot)], "two records in slot %d", m.slot)
		slots[int(m.slot)] = true
		shown := table.view.at(int(m.slot)).Load()
		if m.gone() {
			require.Nil(t, shown)
		} else {
			require.Same(t, m.node, shown)
		}
	}
}

// Slots are used again: a table that sees many nodes come and go does not grow.
func TestTableReusesSlots(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	table := newTable()
	for i := range 10 * viewPageSize {
		m := table.add(rng, testNode(fmt.Sprint(i), StateAlive), 0)
		forget(&table, m)
	}
	require.Len(t, *table.view.pages.Load(), 1)
}

// A record's time of change is that of its last change of state, not of its last
// update (P101).
func TestChangeTimeIsThatOfTheState(t *testing.T) {
	table := newTable()
	m := table.add(rand.New(rand.NewPCG(1, 1)), testNode("n", StateAlive), 1)
	table.setNode(m, testNode("n", StateAlive), 2)
	require.Equal(t, instant(1), m.since)
	table.setNode(m, testNode("n", StateSuspect), 3)
	require.Equal(t, instant(3), m.since)
}

// When a record was made is known for as long as it is there, though it costs
// nothing while it is also the time of the last change.
func TestARecordRemembersWhenItWasMade(t *testing.T) {
	table := newTable()
	m := table.add(rand.New(rand.NewPCG(1, 1)), testNode("n", StateAlive), 5)
	require.Equal(t, instant(5), m.knownSince())
	table.setNode(m, testNode("n", StateAlive), 6)
	table.setNode(m, testNode("n", StateDead), 5)
	require.Nil(t, m.detector)
	for i, state := range []NodeStateType{StateAlive, StateSuspect, StateSuspect, StateDead, StateAlive} {
		table.setNode(m, testNode("n", state), instant(7+i))
		require.Equal(t, instant(5), m.knownSince())
	}
	require.Equal(t, instant(11), m.since)
}

// A record that was forgotten stays what it was: timers and pings may hold it.
func TestForgottenRecordsAreNotUsedAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	table := newTable()
	table.reserve(3 * recordsAtOnce)
	seen := map[*member]bool{}
	for i := range 5 * recordsAtOnce {
		m := table.add(rng, testNode(fmt.Sprint(i), StateAlive), 0)
		require.False(t, seen[m])
		seen[m] = true
		forget(&table, m)
		require.Equal(t, fmt.Sprint(i), m.node.Name)
	}
}

// The places of a table that is told how many nodes come are made once.
func TestTableReservesRoom(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	table := newTable()
	table.reserve(1000)
	room, places := cap(table.order), len(table.byName.tags)
	require.Less(t, room, 1200)
	for _, name := range nodeNames("n", 1000) {
		table.add(rng, testNode(name, StateAlive), 0)
	}
	require.Equal(t, room, cap(table.order))
	require.Len(t, table.byName.tags, places)
	checkTable(t, &table)
}

// Readers take no lock while the table changes. Under the race detector this
// also proves that no published node is written again (P34).
func TestMembersCanBeReadWhileTheTableChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	table := newTable()
	first := table.add(rng, testNode("first", StateAlive), 0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := checkSnapshot(table.view.members()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var added []*member
	for i := range 2000 {
		state := []NodeStateType{StateAlive, StateSuspect}[i%2]
		table.setNode(first, testNode("first", state), 0)
		if i%3 != 0 && len(added) > 0 {
			forget(&table, added[0])
			added = added[1:]
			continue
		}
		added = append(added, table.add(rng, testNode(fmt.Sprint(i), state), 0))
	}
	close(stop)
	readers.Wait()
}

// checkSnapshot checks that a member that was there all the time is there, once,
// and that every node is whole.
func checkSnapshot(nodes []*Node) error {
	count := map[string]int{}
	for _, n := range nodes {
		count[n.Name]++
		if !n.Addr.Equal(addrOfTestNode(n.Name)) || n.State != StateAlive && n.State != StateSuspect {
			return fmt.Errorf("half-written node %+v", *n)
		}
	}
	if count["first"] != 1 {
		return fmt.Errorf("the first node is there %d times", count["first"])
	}
	return nil
}

// A node owns its bytes: what it was made from may be used again (P34).
func TestNodesOwnTheirBytes(t *testing.T) {
	name, addr, meta, vsn := []byte("name"), []byte{10, 0, 0, 1}, []byte("meta"), testVersions()
	n := nodeFrom(borrowBytes(name), addr, 1, meta, vsn, StateAlive)
	for _, b := range [][]byte{name, addr, meta, vsn} {
		clear(b)
	}
	require.Equal(t, "name", n.Name)
	require.Equal(t, net.IP{10, 0, 0, 1}, n.Addr)
	require.Equal(t, []byte("meta"), n.Meta)
	require.Equal(t, [6]byte(testVersions()), n.versions())
	grown := append(n.Addr, 'X')
	require.Equal(t, []byte("meta"), n.Meta, "appending to the address does not reach the meta data")
	require.Len(t, grown, 5)
}

// Name, address and metadata lie with the Node in one piece of memory, whatever
// their size, or in one beside it (P34).
func TestNodesOfAllSizesOwnTheirBytes(t *testing.T) {
	for size := range 200 {
		name, meta := bytes.Repeat([]byte("n"), size/2), bytes.Repeat([]byte("m"), size-size/2)
		addr := []byte{10, 0, 0, 1}
		n := newNode(string(name), addr, 1, meta, testVersions(), StateAlive)
		s := n.withState(StateSuspect)
		require.Equal(t, string(name), n.Name)
		require.Equal(t, net.IP(addr), n.Addr)
		require.Equal(t, meta, n.Meta)
		n.State = StateSuspect
		require.Equal(t, n, s)
		allocs := testing.AllocsPerRun(10, func() { newNode(n.Name, addr, 1, meta, nil, StateAlive) })
		if size+len(addr) <= 128 {
			require.Equal(t, 1.0, allocs, "%d bytes", size)
		} else {
			require.Equal(t, 2.0, allocs, "%d bytes", size)
		}
	}
}

func TestNodesTellNilFromEmptyMeta(t *testing.T) {
	require.Nil(t, newNode("n", nil, 1, nil, nil, StateAlive).Meta)
	require.NotNil(t, newNode("n", nil, 1, []byte{}, nil, StateAlive).Meta)
}

// TestANodeInAnotherStateIsAnotherNode checks P34.
func TestANodeInAnotherStateIsAnotherNode(t *testing.T) {
	n := testNode("n", StateAlive)
	s := n.withState(StateSuspect)
	require.Equal(t, StateAlive, n.State)
	require.Equal(t, StateSuspect, s.State)
	require.Equal(t, n.Address(), s.Address())
}

// TestShortVersionArraysCountAsZero checks W67.
func TestShortVersionArraysCountAsZero(t *testing.T) {
	require.Zero(t, newNode("n", nil, 1, nil, []byte{1, 5, 2, 0, 0}, StateAlive).versions())
	n := newNode("n", nil, 1, nil, []byte{1, 5, 2, 6, 8, 7, 99}, StateAlive)
	require.Equal(t, [6]byte{1, 5, 2, 6, 8, 7}, n.versions())
}

// TestMembersOfAnEmptyTable checks P33.
func TestMembersOfAnEmptyTable(t *testing.T) {
	table := newTable()
	require.Empty(t, table.view.members())
}

// TestNodeAddresses checks P37.
func TestNodeAddresses(t *testing.T) {
	n := newNode("name", net.ParseIP("2001:db8::7"), 7946, nil, nil, StateAlive)
	require.Equal(t, "[2001:db8::7]:7946", n.Address())
	require.Equal(t, Address{Addr: "[2001:db8::7]:7946", Name: "name"}, n.FullAddress())
	require.Equal(t, "name", n.String())
	s := NodeState{Node: *n, State: StateLeft, StateChange: time.Unix(1, 0)}
	require.Equal(t, n.Address(), s.Address())
	require.Equal(t, n.FullAddress(), s.FullAddress())
}

func TestStateNames(t *testing.T) {
	want := map[NodeStateType]string{
		StateAlive: "alive", StateSuspect: "suspect", StateDead: "dead", StateLeft: "left", 9: "unknown state 9",
	}
	for state := range maps.Keys(want) {
		require.Equal(t, want[state], state.String())
		require.Equal(t, state == StateDead || state == StateLeft, (&NodeState{State: state}).DeadOrLeft())
	}
}

// A long list that brings few nodes leaves no room for many behind.
func TestLongListOfFewNodesLeavesLittleBehind(t *testing.T) {
	c := newTestCore(t)
	states := make([]pushNodeState, 100_000)
	for i := range states {
		states[i] = pushNodeState{Name: borrow("x"), Addr: addrOfTestNode("x"), Port: 1, Incarnation: 1, Vsn: testVersions()}
	}
	c.merge(c.now, states)
	require.LessOrEqual(t, cap(c.table.order), 2048)
	require.LessOrEqual(t, len(c.table.byName.tags), 2048)
	require.NotNil(t, c.table.get("x"))
}
