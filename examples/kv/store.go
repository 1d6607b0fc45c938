package main

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// entry is one change of one key: a value, or that it was deleted.
type entry struct {
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value,omitempty"`
	Deleted bool            `json:"deleted,omitempty"`
	Version version         `json:"version"`
}

// version orders the changes of a key over all nodes: by time, and those of one
// moment by the node that made them.
type version struct {
	Time int64  `json:"time"`
	Node string `json:"node"`
}

func (v version) compare(other version) int {
	return cmp.Or(cmp.Compare(v.Time, other.Time), strings.Compare(v.Node, other.Node))
}

// store holds the latest entry of each key. Deleted keys stay as entries too, or
// a node that slept through the deletion would bring them back.
type store struct {
	now func() time.Time

	mu      sync.Mutex
	latest  int64 // the latest time that was given out or seen
	entries map[string]entry
}

func newStore(now func() time.Time) *store {
	return &store{now: now, entries: map[string]entry{}}
}

// change makes e the latest entry of its key. Its time is that of the clock, but
// always after every change that this node has seen, so that whoever reads a
// value and changes it wins even where the clocks are apart.
func (s *store) change(e entry, node string) entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = max(s.now().UnixNano(), s.latest+1)
	e.Version = version{Time: s.latest, Node: node}
	s.entries[e.Key] = e
	return e
}

// merge takes over an entry from another node if it is later than ours, and
// tells whether it was.
func (s *store) merge(e entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = max(s.latest, e.Version.Time)
	if ours, known := s.entries[e.Key]; known && ours.Version.compare(e.Version) >= 0 {
		return false
	}
	s.entries[e.Key] = e
	return true
}

func (s *store) get(key string) (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known := s.entries[key]
	return e, known && !e.Deleted
}

// all returns every entry, the deleted ones too, in the order of the keys.
func (s *store) all() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]entry, 0, len(s.entries))
	for _, e := range s.entries {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}
