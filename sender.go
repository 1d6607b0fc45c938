package memberlist

import (
	"net"
	"net/netip"
)

// sender is where a packet came from.
type sender struct {
	addr  netip.AddrPort // from NetTransport, which lends its packets
	other net.Addr       // from other transports, which give them away
}

func (s sender) String() string {
	if s.other != nil {
		return s.other.String()
	}
	return s.addr.String()
}

// log is the end of a log line about the sender (P149).
func (s sender) log() string {
	if s.other == nil && !s.addr.IsValid() {
		return LogAddress(nil)
	}
	return LogStringAddress(s.String())
}

// destination is where answers to the sender go.
func (s sender) destination() destination {
	if s.other != nil {
		return destination{text: s.other.String()}
	}
	return destination{addr: s.addr}
}

// ip is the sender's IP, invalid if the transport has other addresses.
func (s sender) ip() netip.Addr {
	if s.other == nil {
		return s.addr.Addr()
	}
	if ap := addrPortFrom(s.other); ap.IsValid() {
		return ap.Addr()
	}
	ap, _ := netip.ParseAddrPort(s.other.String())
	return ap.Addr().Unmap()
}
