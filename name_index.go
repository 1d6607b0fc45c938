package memberlist

import (
	"hash/maphash"
	"math/bits"
)

// nameIndex finds the record of a name. It is a hash table with open addressing:
// a record is at the place that the hash of its name says, or behind it, with no
// gap in between. Before a record is looked at its tag is compared, seven bits of
// the hash, since a record with its name is mostly two cache misses. It takes 9
// bytes a place, and at least half of the places are in use when it has grown; a map
// takes 25 and more.
type nameIndex struct {
	seed    maphash.Seed
	tags    []uint8   // 0 is a free place
	records []*member // as long as tags
	used    int
}

const (
	tagInUse      = 0x80
	leastPlaces   = 8
	fullNumerator = 4 // four fifths of the places may be in use
	fullDivisor   = 5
)

func newNameIndex() nameIndex { return nameIndex{seed: maphash.MakeSeed()} }

// home is the place where the search for a name begins, and its tag.
func (x *nameIndex) home(name borrowed) (place int, tag uint8) {
	h := name.hash(x.seed)
	high, _ := bits.Mul64(h, uint64(len(x.tags)))
	return int(high), tagInUse | uint8(h)
}

// next is the place behind another.
func (x *nameIndex) next(place int) int {
	if place++; place < len(x.tags) {
		return place
	}
	return 0
}

// get returns the record of a name, or nil.
func (x *nameIndex) get(name borrowed) *member {
	if x.used == 0 {
		return nil
	}
	place, tag := x.home(name)
	for ; x.tags[place] != 0; place = x.next(place) {
		if x.tags[place] == tag && name.is(x.records[place].node.Name) {
			return x.records[place]
		}
	}
	return nil
}

// add enters a record whose name is not in the index.
func (x *nameIndex) add(m *member) {
	if !x.hasRoom(x.used + 1) {
		x.resize(x.used + x.used/2)
	}
	x.used++
	x.put(m)
}

// hasRoom reports whether that many records fit.
func (x *nameIndex) hasRoom(records int) bool {
	return records*fullDivisor <= len(x.tags)*fullNumerator
}

// reserve makes room for that many records in all.
func (x *nameIndex) reserve(records int) {
	if !x.hasRoom(records) {
		x.resize(records)
	}
}

// resize makes the index just large enough for that many records.
func (x *nameIndex) resize(records int) {
	places := max(leastPlaces, records*fullDivisor/fullNumerator+1)
	old := x.records
	x.tags, x.records = make([]uint8, places), make([]*member, places)
	for _, m := range old {
		if m != nil {
			x.put(m)
		}
	}
}

func (x *nameIndex) put(m *member) {
	place, tag := x.home(borrow(m.node.Name))
	for x.tags[place] != 0 {
		place = x.next(place)
	}
	x.tags[place], x.records[place] = tag, m
}

// remove takes out a record that is in the index. Those behind it, up to the first
// gap, move up if they may, so that no search ends too early.
func (x *nameIndex) remove(m *member) {
	gap, _ := x.home(borrow(m.node.Name))
	for x.records[gap] != m {
		gap = x.next(gap)
	}
	for place := x.next(gap); x.tags[place] != 0; place = x.next(place) {
		home, tag := x.home(borrow(x.records[place].node.Name))
		if x.distance(home, place) >= x.distance(gap, place) {
			x.tags[gap], x.records[gap] = tag, x.records[place]
			gap = place
		}
	}
	x.tags[gap], x.records[gap] = 0, nil
	x.used--
}

// distance is how far it is from one place to another that comes behind it.
func (x *nameIndex) distance(from, to int) int {
	if to < from {
		to += len(x.tags)
	}
	return to - from
}
