package memberlist

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// P13: public is what lies outside the blocks of RFC 6890. For each block its
// first and last address and its neighbours.
func TestPrivateBlocks(t *testing.T) {
	for addr, private := range map[string]bool{
		"0.0.0.0": true, "0.255.255.255": true, "1.0.0.0": false,
		"9.255.255.255": false, "10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false,
		"100.63.255.255": false, "100.64.0.0": true, "100.127.255.255": true, "100.128.0.0": false,
		"126.255.255.255": false, "127.0.0.1": true, "128.0.0.0": false,
		"169.253.255.255": false, "169.254.0.0": true, "169.255.0.0": false,
		"172.15.255.255": false, "172.16.0.0": true, "172.31.255.255": true, "172.32.0.0": false,
		"191.255.255.255": false, "192.0.0.0": true, "192.0.1.0": false,
		"192.0.2.1": true, "192.0.3.0": false,
		"192.88.99.1": true, "192.88.100.0": false,
		"192.167.255.255": false, "192.168.0.0": true, "192.168.255.255": true, "192.169.0.0": false,
		"198.17.255.255": false, "198.18.0.0": true, "198.19.255.255": true, "198.20.0.0": false,
		"198.51.100.7": true, "198.51.101.0": false,
		"203.0.113.7": true, "203.0.114.0": false,
		"8.8.8.8": false, "224.0.0.1": false,
		"239.255.255.255": false, "240.0.0.0": true, "255.255.255.255": true,

		"::": true, "::1": true, "::2": false,
		"64:ff9b::808:808": true, "64:ff9b:0:0:0:1::": false,
		"100::1": true, "100:0:0:1::": false,
		"2000::1": false, "2001::1": true, "2001:1ff::1": true, "2001:200::1": false,
		"2001:db8::1": true, "2001:db9::1": false,
		"2002::1": true, "2003::1": false,
		"fbff::1": false, "fc00::1": true, "fdff::1": true, "fe00::1": false,
		"fe80::1": true, "fe80::1%eth0": true, "febf::1": true, "fec0::1": false,
		"2a00::1": false, "ff02::1": false,

		"::ffff:10.0.0.1": true, "::ffff:8.8.8.8": false,
	} {
		require.Equal(t, private, isPrivate(netip.MustParseAddr(addr)), addr)
	}
}

// P137, and what is chosen where the reference finds nothing.
func TestChooseAdvertiseAddr(t *testing.T) {
	const routed = "+" // marks addresses of an interface with a default route
	for name, test := range map[string]struct {
		addrs []string
		want  string // empty: none
	}{
		"private at the default route":         {[]string{"127.0.0.1", "+10.0.0.5"}, "10.0.0.5"},
		"the first of several":                 {[]string{"+192.168.1.2", "+10.0.0.5", "+172.16.0.1"}, "192.168.1.2"},
		"another interface is nearer":          {[]string{"172.17.0.1", "+10.0.0.5"}, "10.0.0.5"},
		"IPv4 before IPv6":                     {[]string{"+fd00::5", "+10.0.0.5"}, "10.0.0.5"},
		"private before public":                {[]string{"+8.8.4.4", "+2a00::5", "+10.0.0.5"}, "10.0.0.5"},
		"unique local before public":           {[]string{"+8.8.4.4", "+fd00::5"}, "fd00::5"},
		"public only":                          {[]string{"127.0.0.1", "::1", "+8.8.4.4", "+fe80::1"}, "8.8.4.4"},
		"public IPv4 before public IPv6":       {[]string{"+2a00::5", "+8.8.4.4"}, "8.8.4.4"},
		"IPv6 only":                            {[]string{"127.0.0.1", "::1", "+fe80::1", "+2a00::5", "+2a00::6"}, "2a00::5"},
		"public at the route before the rest":  {[]string{"172.17.0.1", "+8.8.4.4"}, "8.8.4.4"},
		"public IPv6 at the route, too":        {[]string{"172.17.0.1", "+2a00::5"}, "2a00::5"},
		"no default route, private":            {[]string{"127.0.0.1", "10.0.0.5"}, "10.0.0.5"},
		"no default route, private and public": {[]string{"8.8.4.4", "10.0.0.5"}, "10.0.0.5"},
		"no default route, IPv6":               {[]string{"fe80::1", "2a00::5"}, "2a00::5"},
		"documentation addresses are usable":   {[]string{"+192.0.2.2"}, "192.0.2.2"},
		"loopback":                             {[]string{"127.0.0.1", "::1"}, ""},
		"link local":                           {[]string{"+169.254.1.1", "+fe80::1"}, ""},
		"multicast and unspecified":            {[]string{"+224.0.0.1", "+ff02::1", "0.0.0.0", "::"}, ""},
		"limited broadcast":                    {[]string{"+255.255.255.255"}, ""},
		"nothing":                              {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var addrs []interfaceAddr
			for _, a := range test.addrs {
				a, defaultRoute := cutPrefix(a, routed)
				addrs = append(addrs, interfaceAddr{netip.MustParseAddr(a), defaultRoute})
			}
			got, ok := chooseAdvertiseAddr(addrs)
			require.Equal(t, test.want != "", ok)
			if ok {
				require.Equal(t, netip.MustParseAddr(test.want), got)
			}
		})
	}
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true
	}
	return s, false
}

// TestDefaultRouteIsThatOfTheInterface checks P137.
func TestDefaultRouteIsThatOfTheInterface(t *testing.T) {
	network := func(cidr string) net.Addr {
		ip, n, err := net.ParseCIDR(cidr)
		require.NoError(t, err)
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	addrs := []net.Addr{
		network("10.0.0.5/8"),
		&net.UnixAddr{Name: "no network"},
		&net.IPNet{IP: net.IP{1, 2, 3}},
		network("fd00::5/64"),
	}
	source := netip.MustParseAddr("fd00::5")
	require.Equal(t, []interfaceAddr{
		{netip.MustParseAddr("10.0.0.5"), true},
		{source, true},
	}, markDefaultRoute(addrs, []netip.Addr{{}, source}))
	first := netip.MustParseAddr("10.0.0.5")
	require.Equal(t, []interfaceAddr{
		{first, true},
		{source, true},
	}, markDefaultRoute(addrs, []netip.Addr{first, {}}), "the other addresses do not undo it")
	require.Equal(t, []interfaceAddr{
		{netip.MustParseAddr("10.0.0.5"), false},
		{source, false},
	}, markDefaultRoute(addrs, []netip.Addr{{}, netip.MustParseAddr("10.0.0.6")}))
}

// TestSourceAddr checks P137.
func TestSourceAddr(t *testing.T) {
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), sourceAddr("udp4", "127.0.0.1:9"))
	require.False(t, sourceAddr("udp4", "[::1]:9").IsValid())
	require.False(t, sourceAddr("unix", t.TempDir()+"/none").IsValid())
}

// What this machine has is not known, but the loopback interface is there (P137).
func TestInterfaceAddrs(t *testing.T) {
	addrs, err := interfaceAddrs()
	require.NoError(t, err)
	require.Contains(t, addrs, interfaceAddr{netip.MustParseAddr("127.0.0.1"), false})
	best, ok := chooseAdvertiseAddr(addrs)
	found, err := findAdvertiseAddr()
	if !ok {
		require.EqualError(t, err, "no private IP address found, and explicit IP not provided")
		return
	}
	require.NoError(t, err)
	require.Len(t, found, net.IPv6len, "W72: 16 bytes when found")
	require.Equal(t, best.String(), found.String())
}
