package memberlist

import (
	"net"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the streams that others open to a node. A node needs few at a time; many
// are open only if somebody opens them for nothing, or if very many nodes join at
// once.
const (
	// maxPushPulls is how many incoming full exchanges are answered at once (P122).
	maxPushPulls = 127

	// maxStreams is how many incoming streams are open at once, and
	// maxStreamsPerSource how many of them from one IP address, or from one network
	// of 64 bits with IPv6. Nodes on the same machine count only for the whole.
	maxStreams          = 1024
	maxStreamsPerSource = 256

	// maxTurnedAway is how many that are too many are told so at once. The rest are
	// closed without a word.
	maxTurnedAway = 32

	// turnAwayTime is how long one of them may take to hear it.
	turnAwayTime = time.Second
)

// streamSet holds the open streams, so that they can be counted, and closed by
// Shutdown.
type streamSet struct {
	turnedAway atomic.Int32 // streams that are being told that they are too many

	mu struct {
		sync.Mutex
		open     map[net.Conn]streamSource
		inbound  int
		bySource map[streamSource]int
		closed   bool

		exchanges         int // incoming full exchanges that are answered
		exchangesBySource map[streamSource]int
	}
}

// streamSource is whose share of the streams a stream takes. The zero value is
// nobody's: of streams that this node opened.
type streamSource struct {
	inbound bool
	network netip.Prefix // not valid if the streams of the source are not counted
}

// sourceOf tells where an incoming stream comes from.
func sourceOf(conn net.Conn) streamSource {
	source := streamSource{inbound: true}
	ap, err := netip.ParseAddrPort(addrText(conn))
	if addr := ap.Addr().Unmap(); err == nil && !addr.IsLoopback() {
		const ipv6Network = 64
		source.network, _ = addr.Prefix(min(addr.BitLen(), ipv6Network))
	}
	return source
}

// keyable returns a stream that can be the key of a map. Transports may have streams of
// any type, and a struct that holds a slice cannot be compared.
func keyable(conn net.Conn) net.Conn {
	if conn == nil || reflect.ValueOf(conn).Comparable() {
		return conn
	}
	return &struct{ net.Conn }{conn}
}

// add takes in a stream that this node opened; false, and the stream is closed, after
// closeAll.
func (s *streamSet) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		_ = conn.Close()
		return false
	}
	s.keep(conn, streamSource{})
	return true
}

// admit takes in a stream that somebody else opened, and reports whether it is not
// one too many (P199).
func (s *streamSet) admit(conn net.Conn) bool {
	source := sourceOf(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	tooMany := s.mu.inbound >= maxStreams ||
		source.network.IsValid() && s.mu.bySource[source] >= maxStreamsPerSource
	if tooMany {
		return false
	}
	s.keep(conn, source)
	return true
}

// keep enters a stream. The lock is held.
func (s *streamSet) keep(conn net.Conn, source streamSource) {
	if s.mu.open == nil {
		s.mu.open = make(map[net.Conn]streamSource)
		s.mu.bySource = make(map[streamSource]int)
	}
	s.mu.open[conn] = source
	if source.inbound {
		s.mu.inbound++
	}
	if source.network.IsValid() {
		s.mu.bySource[source]++
	}
}

// remove closes a stream. It may have been removed before.
func (s *streamSet) remove(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	source, open := s.mu.open[conn]
	if !open {
		return
	}
	delete(s.mu.open, conn)
	if source.inbound {
		s.mu.inbound--
	}
	if source.network.IsValid() {
		s.mu.bySource[source]--
		if s.mu.bySource[source] == 0 {
			delete(s.mu.bySource, source)
		}
	}
}

func (s *streamSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	for conn := range s.mu.open {
		_ = conn.Close()
	}
}

// takePlace takes one of the places for full exchanges, if one is free. give gives
// it back. A source may have as many as are left free, as with relays; nodes on the
// same machine count only for the whole.
func (s *streamSet) takePlace(source streamSource) (give func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := maxPushPulls - s.mu.exchanges
	if free <= 0 || s.mu.exchangesBySource[source] >= free {
		return nil, false
	}
	s.addExchange(source, 1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.addExchange(source, -1)
	}, true
}

// addExchange counts a full exchange. The lock is held.
func (s *streamSet) addExchange(source streamSource, n int) {
	s.mu.exchanges += n
	if source.network.IsValid() {
		if s.mu.exchangesBySource == nil {
			s.mu.exchangesBySource = make(map[streamSource]int)
		}
		s.mu.exchangesBySource[source] += n
		if s.mu.exchangesBySource[source] == 0 {
			delete(s.mu.exchangesBySource, source)
		}
	}
}

// crowded reports whether so many streams are open that most of them must be idle.
func (s *streamSet) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.inbound > maxStreams/4
}

// addrText is the address of the other end, empty if it has none.
func addrText(conn net.Conn) string {
	if addr := conn.RemoteAddr(); addr != nil {
		return addr.String()
	}
	return ""
}
