package main

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func clockAt(nanos int64) func() time.Time {
	return func() time.Time { return time.Unix(0, nanos) }
}

func TestTheLaterChangeWinsInWhateverOrder(t *testing.T) {
	changes := []entry{
		{Key: "k", Value: json.RawMessage("1"), Version: version{10, "a"}},
		{Key: "k", Value: json.RawMessage("2"), Version: version{10, "b"}},
		{Key: "k", Deleted: true, Version: version{11, "a"}},
		{Key: "k", Value: json.RawMessage("3"), Version: version{12, "a"}},
		{Key: "k", Deleted: true, Version: version{12, "b"}},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for upTo := 1; upTo <= len(changes); upTo++ {
		for range 50 {
			s := newStore(clockAt(0))
			for _, i := range random.Perm(upTo) {
				s.merge(changes[i])
			}
			require.Equal(t, []entry{changes[upTo-1]}, s.all())
		}
	}
}

func TestMergeTellsWhatIsNews(t *testing.T) {
	s := newStore(clockAt(5))
	e := entry{Key: "k", Value: json.RawMessage("1"), Version: version{10, "a"}}
	require.True(t, s.merge(e))
	require.False(t, s.merge(e))
	require.False(t, s.merge(entry{Key: "k", Version: version{9, "z"}}))
}

func TestChangeIsLaterThanAllThatWasSeen(t *testing.T) {
	s := newStore(clockAt(5))
	s.merge(entry{Key: "other", Version: version{1000, "fast clock"}})
	first := s.change(entry{Key: "k"}, "a")
	second := s.change(entry{Key: "k"}, "a")
	require.Equal(t, version{1001, "a"}, first.Version)
	require.Equal(t, version{1002, "a"}, second.Version)
	require.Equal(t, int64(5), newStore(clockAt(5)).change(entry{Key: "k"}, "a").Version.Time)
}

func TestDeletedKeyIsNotFoundAndStaysDeleted(t *testing.T) {
	s := newStore(clockAt(5))
	value := s.change(entry{Key: "k", Value: json.RawMessage("1")}, "a")
	_, found := s.get("k")
	require.True(t, found)
	s.change(entry{Key: "k", Deleted: true}, "a")
	_, found = s.get("k")
	require.False(t, found)
	require.False(t, s.merge(value), "a node that missed the deletion does not undo it")
}
