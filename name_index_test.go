package memberlist

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// indexModel is an index beside the map that it has to agree with.
type indexModel struct {
	t     testing.TB
	index nameIndex
	byMap map[string]*member
}

func newIndexModel(t testing.TB) *indexModel {
	return &indexModel{t: t, index: newNameIndex(), byMap: map[string]*member{}}
}

func (x *indexModel) add(name string) {
	if x.byMap[name] == nil {
		m := &member{node: testNode(name, StateAlive)}
		x.index.add(m)
		x.byMap[name] = m
	}
}

func (x *indexModel) remove(name string) {
	if m := x.byMap[name]; m != nil {
		x.index.remove(m)
		delete(x.byMap, name)
	}
}

func (x *indexModel) check(pool []string) {
	x.t.Helper()
	require.Equal(x.t, len(x.byMap), x.index.used)
	require.True(x.t, x.index.hasRoom(x.index.used))
	for _, name := range pool {
		if x.index.get(borrow(name)) != x.byMap[name] {
			require.Same(x.t, x.byMap[name], x.index.get(borrow(name)), name)
		}
	}
	inUse := 0
	for place, tag := range x.index.tags {
		require.Equal(x.t, tag != 0, x.index.records[place] != nil, "what was removed is not kept alive")
		if tag != 0 {
			inUse++
		}
	}
	require.Equal(x.t, len(x.byMap), inUse)
}

func TestNameIndexAgreesWithAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	pool := append(nodeNames("n", 200), "")
	for _, reserved := range []int{0, 1, 100, 300} {
		x := newIndexModel(t)
		x.index.reserve(reserved)
		x.check(pool)
		for step := range 20_000 {
			// The number of names swings, so that the index is full at times and
			// nearly empty at others.
			name, growing := pool[rng.IntN(len(pool))], step/500%2 == 0
			if growing == (rng.IntN(5) > 0) {
				x.add(name)
			} else {
				x.remove(name)
			}
			if step%100 == 0 {
				x.check(pool)
			}
		}
	}
}

// Names of one home queue up behind it and round the end, and whichever goes first,
// the others are still found.
func TestNameIndexWithCollisions(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		x := newIndexModel(t)
		x.index.reserve(30)
		want := rng.IntN(len(x.index.tags))
		var names []string
		for i := 0; len(names) < 20; i++ {
			name := fmt.Sprint(round, "/", i)
			home, _ := x.index.home(borrow(name))
			if x.index.distance(want, home) < 3 {
				names = append(names, name)
				x.add(name)
			}
		}
		x.check(names)
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			x.remove(name)
			x.check(names)
		}
	}
}

func TestNameIndexReservesNoMoreThanItNeeds(t *testing.T) {
	x := newIndexModel(t)
	x.index.reserve(1000)
	places := len(x.index.tags)
	require.LessOrEqual(t, places, 1000*5/4+1)
	for _, name := range nodeNames("n", 1000) {
		x.add(name)
	}
	require.Len(t, x.index.tags, places)
	require.Zero(t, testing.AllocsPerRun(100, func() { x.index.get(borrow("n500")); x.index.get(borrow("unknown")) }))
}

// FuzzNameIndex adds and removes names of one byte: a byte of the input adds the
// name of its low bits, or removes it if the highest is set.
func FuzzNameIndex(f *testing.F) {
	f.Add([]byte("abc\xe1\xe2abc\xe3"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x85, 0x80, 0x89, 5, 0})
	var pool []string
	for b := range 128 {
		pool = append(pool, string(rune(b)))
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		x := newIndexModel(t)
		for _, b := range steps {
			name := pool[b&0x7f]
			if b < 0x80 {
				x.add(name)
			} else {
				x.remove(name)
			}
		}
		x.check(pool)
	})
}
