package memberlist

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// errNoAdvertiseAddr has the text that P151 gives. It says "private" for the
// sake of those who look for it; any usable address would have been taken.
var errNoAdvertiseAddr = errors.New("no private IP address found, and explicit IP not provided")

// privateBlocks are the special-purpose address blocks listed in the tables of
// RFC 6890, sections 2.2.2 and 2.2.3, but for the IPv4-mapped addresses, which
// count as the IPv4 addresses that they stand for.
var privateBlocks = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // "this host on this network"
	netip.MustParsePrefix("10.0.0.0/8"),      // private use
	netip.MustParsePrefix("100.64.0.0/10"),   // shared address space
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback
	netip.MustParsePrefix("169.254.0.0/16"),  // link local
	netip.MustParsePrefix("172.16.0.0/12"),   // private use
	netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocol assignments, DS-Lite
	netip.MustParsePrefix("192.0.2.0/24"),    // TEST-NET-1
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relay anycast
	netip.MustParsePrefix("192.168.0.0/16"),  // private use
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking
	netip.MustParsePrefix("198.51.100.0/24"), // TEST-NET-2
	netip.MustParsePrefix("203.0.113.0/24"),  // TEST-NET-3
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, limited broadcast
	netip.MustParsePrefix("::/128"),          // unspecified
	netip.MustParsePrefix("::1/128"),         // loopback
	netip.MustParsePrefix("64:ff9b::/96"),    // IPv4-IPv6 translation
	netip.MustParsePrefix("100::/64"),        // discard only
	netip.MustParsePrefix("2001::/23"),       // IETF protocol assignments, among them TEREDO
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4
	netip.MustParsePrefix("fc00::/7"),        // unique local
	netip.MustParsePrefix("fe80::/10"),       // linked-scoped unicast
}

// isPrivate reports whether addr lies in one of the special-purpose blocks of
// RFC 6890. Everything outside counts as public (P13).
func isPrivate(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, block := range privateBlocks {
		if block.Contains(addr) {
			return true
		}
	}
	return false
}

// interfaceAddr is an address of a network interface that is up.
type interfaceAddr struct {
	addr netip.Addr
	// defaultRoute says that packets to the rest of the world leave by the
	// interface that has this address.
	defaultRoute bool
}

// chooseAdvertiseAddr returns the address that others are most likely to
// reach: the first one of the best class that has any. The best class is that
// of private addresses at an interface with a default route, in which IPv4 goes
// before IPv6 (P137). Machines without such an address have only public or IPv6
// addresses, or are on a network that leads nowhere else; they take the first
// usable address that there is, again the default route and IPv4 preferred. It
// fails if there is no global unicast address at all.
func chooseAdvertiseAddr(addrs []interfaceAddr) (best netip.Addr, ok bool) {
	bestClass := 0
	for _, a := range addrs {
		// Loopback, link-local and multicast addresses mean nothing to others.
		if !a.addr.IsGlobalUnicast() {
			continue
		}
		if class := advertiseClass(a); !ok || class < bestClass {
			best, bestClass, ok = a.addr, class, true
		}
	}
	return best, ok
}

// advertiseClass orders the usable addresses: the smaller the better.
func advertiseClass(a interfaceAddr) int {
	class := 0
	if !a.defaultRoute {
		class += 4
	}
	if !isPrivate(a.addr) {
		class += 2
	}
	if a.addr.Is6() {
		class++
	}
	return class
}

// findAdvertiseAddr chooses among the addresses that this machine has now. The
// result is in 16-byte form also for IPv4 (P137, W72).
func findAdvertiseAddr() (net.IP, error) {
	addrs, err := interfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("failed to list the addresses of this machine: %w", err)
	}
	addr, ok := chooseAdvertiseAddr(addrs)
	if !ok {
		return nil, errNoAdvertiseAddr
	}
	b := addr.As16()
	return b[:], nil
}

// interfaceAddrs lists the addresses of all interfaces that are up, in the
// order in which the system names them.
func interfaceAddrs() ([]interfaceAddr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	// These targets are reserved for documentation: nobody's, and reached by
	// the default route if there is one.
	sources := []netip.Addr{
		sourceAddr("udp4", "203.0.113.1:9"),
		sourceAddr("udp6", "[2001:db8::1]:9"),
	}
	var all []interfaceAddr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		// An interface can vanish while the list is walked.
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		all = append(all, markDefaultRoute(addrs, sources)...)
	}
	return all, nil
}

// markDefaultRoute converts the addresses of one interface. They have a default
// route if one of sources, where packets to the world come from, is among them.
func markDefaultRoute(addrs []net.Addr, sources []netip.Addr) []interfaceAddr {
	var converted []interfaceAddr
	defaultRoute := false
	for _, a := range addrs {
		network, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(network.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		for _, source := range sources {
			defaultRoute = defaultRoute || addr == source
		}
		converted = append(converted, interfaceAddr{addr: addr})
	}
	for i := range converted {
		converted[i].defaultRoute = defaultRoute
	}
	return converted
}

// sourceAddr returns the local address from which packets to target would be
// sent, or the zero Addr if there is no route. Nothing is sent: connecting a
// UDP socket only asks the system for the route, on every platform alike.
func sourceAddr(network, target string) netip.Addr {
	conn, err := net.Dial(network, target)
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	return local.AddrPort().Addr().Unmap().WithZone("")
}
