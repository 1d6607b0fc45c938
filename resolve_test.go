package memberlist

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// TestJoinEntries checks P19, P146.
func TestJoinEntries(t *testing.T) {
	for _, test := range []struct {
		entry, node, host string
		port              uint16
		isIP              bool
	}{
		{"host", "", "host", 7946, false},
		{"host.example.com", "", "host.example.com", 7946, false},
		{"host.example.com.", "", "host.example.com.", 7946, false},
		{"host:80", "", "host", 80, false},
		{"host:0", "", "host", 0, false},
		{"host:65535", "", "host", 65535, false},
		{"host:0080", "", "host", 80, false},
		{"[host]:80", "", "host", 80, false},
		{"10.0.0.1", "", "10.0.0.1", 7946, true},
		{"10.0.0.1:80", "", "10.0.0.1", 80, true},
		{"[10.0.0.1]:80", "", "10.0.0.1", 80, true},
		{"::1", "", "::1", 7946, true},
		{"::", "", "::", 7946, true},
		{"fe80::1%eth0", "", "fe80::1%eth0", 7946, true},
		{"2001:db8::7946", "", "2001:db8::7946", 7946, true},
		{"[::1]", "", "::1", 7946, true},
		{"[::1]:80", "", "::1", 80, true},
		{"[fe80::1%eth0]:80", "", "fe80::1%eth0", 80, true},
		{"::ffff:10.0.0.1", "", "::ffff:10.0.0.1", 7946, true},
		{"node/host", "node", "host", 7946, false},
		{"node/host:80", "node", "host", 80, false},
		{"node/10.0.0.1:80", "node", "10.0.0.1", 80, true},
		{"node/::1", "node", "::1", 7946, true},
		{"node/[::1]", "node", "::1", 7946, true},
		{"node/[::1]:80", "node", "::1", 80, true},
		{"a:b c/host", "a:b c", "host", 7946, false},
		{"node/a/b", "node", "a/b", 7946, false}, // only the first slash counts
		{"010.0.0.1", "", "010.0.0.1", 7946, false},
	} {
		target, err := parseJoinTarget(test.entry, 7946)
		require.NoError(t, err, test.entry)
		require.Equal(t, test.node, target.node, test.entry)
		require.Equal(t, test.host, target.host, test.entry)
		require.Equal(t, test.port, target.port, test.entry)
		require.Equal(t, test.isIP, target.ip.IsValid(), test.entry)
	}
}

// TestBadJoinEntries checks P19, P146.
func TestBadJoinEntries(t *testing.T) {
	for entry, text := range map[string]string{
		"/host":         "empty node name provided",
		"/":             "empty node name provided",
		"":              "host name is empty",
		"node/":         "host name is empty",
		":80":           "host name is empty",
		"[]:80":         "host name is empty",
		"host:":         `port "" is not a number from 0 to 65535`,
		"[::1]:":        `port "" is not a number from 0 to 65535`,
		"host:http":     `port "http" is not a number from 0 to 65535`,
		"host:65536":    `port "65536" is not a number from 0 to 65535`,
		"host:-1":       `port "-1" is not a number from 0 to 65535`,
		"host:+1":       `port "+1" is not a number from 0 to 65535`,
		"host:0x50":     `port "0x50" is not a number from 0 to 65535`,
		"host: 1":       `port " 1" is not a number from 0 to 65535`,
		"[::1":          `missing ']' in "[::1"`,
		"[::1]80":       `"80" follows the bracket in place of a port`,
		"host:80:90":    `"host:80:90" is neither a host name nor an IP address`,
		"10.0.0.1:80:1": `"10.0.0.1:80:1" is neither a host name nor an IP address`,
		"[host:80]":     `"host:80" is neither a host name nor an IP address`,
		"::1%a]":        `"::1%a]" is neither a host name nor an IP address`,
		"ho]st":         `"ho]st" is neither a host name nor an IP address`,
		"[[::1]]:80":    `"]:80" follows the bracket in place of a port`,
	} {
		_, err := parseJoinTarget(entry, 7946)
		require.EqualError(t, err, text, entry)
	}
}

func FuzzParseJoinTarget(f *testing.F) {
	for _, entry := range []string{
		"host", "host:80", "10.0.0.1", "10.0.0.1:80", "::1", "[::1]", "[::1]:80", "node/host:80", "node/[fe80::1%eth0]:1",
		"/host", "", ":", "host:", "[", "]", "[]", "a/b/c", "::ffff:1.2.3.4", "_a._b.c", "\x00", "[::1%a]b]:1",
	} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		target, err := parseJoinTarget(entry, 7946)
		if err != nil {
			return
		}
		require.NotEmpty(t, target.host)
		require.Contains(t, entry, target.host)
		require.Equal(t, strings.Contains(entry, "/"), target.node != "")
		// The canonical form of an entry means the same.
		canonical := net.JoinHostPort(target.host, fmt.Sprint(target.port))
		if target.node != "" {
			canonical = target.node + "/" + canonical
		} else if strings.Contains(target.host, "/") {
			return // cannot be written without a node name
		}
		again, err := parseJoinTarget(canonical, 1)
		require.NoError(t, err)
		require.Equal(t, target, again)
		for _, address := range target.addresses([]netip.Addr{target.ip}) {
			if target.ip.IsValid() {
				_, err := netip.ParseAddrPort(address.Addr)
				require.NoError(t, err)
			}
		}
	})
}

func TestServiceNames(t *testing.T) {
	for _, name := range []string{"_memberlist._udp.example.com", "_a._b.c", "_a._b.c."} {
		require.True(t, isServiceName(name), name)
	}
	for _, name := range []string{"", "host", "a.b.c", "_a.b.c", "a._b.c", "_a._b", "_a._b.", "10.0.0.1"} {
		require.False(t, isServiceName(name), name)
	}
}

// ---- a name server on loopback ----

// zone maps "NAME TYPE" to the records of the answer, in the form of a zone file.
type zone map[string][]string

// startNameServer answers TCP queries from a zone and returns the address.
func startNameServer(t *testing.T, listenOn string, z zone) (addr string, asked func() []string) {
	t.Helper()
	listener, err := net.Listen("tcp", listenOn)
	if err != nil && strings.Contains(listenOn, "::1") {
		t.Skip("no IPv6 here")
	}
	require.NoError(t, err)
	var mu sync.Mutex
	var questions []string
	handle := func(w dns.ResponseWriter, query *dns.Msg) {
		key := query.Question[0].Name + " " + dns.TypeToString[query.Question[0].Qtype]
		mu.Lock()
		questions = append(questions, key)
		mu.Unlock()
		answer := new(dns.Msg).SetReply(query)
		records, ok := z[key]
		if !ok {
			answer.Rcode = dns.RcodeNameError
		}
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			answer.Answer = append(answer.Answer, rr)
		}
		_ = w.WriteMsg(answer)
	}
	started := make(chan struct{})
	server := &dns.Server{
		Listener: listener, Net: "tcp", Handler: dns.HandlerFunc(handle),
		NotifyStartedFunc: func() { close(started) },
	}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown())
		require.NoError(t, <-done)
	})
	return listener.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return questions
	}
}

// resolvConf writes a file that names a server, and returns its path.
func resolvConf(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	require.NoError(t, os.WriteFile(path, []byte("# test\nsearch example.com\nnameserver "+server+"\nnameserver 192.0.2.1\n"), 0o600))
	return path
}

// system stands for the resolver of the system, which a test must not ask.
type system struct {
	ips   map[string][]string
	srv   map[string][]*net.SRV
	err   error
	asked []string
}

func (s *system) lookupIPs(ctx context.Context, network, host string) ([]netip.Addr, error) {
	s.asked = append(s.asked, host+" "+network)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	var ips []netip.Addr
	for _, ip := range s.ips[host] {
		ips = append(ips, netip.MustParseAddr(ip))
	}
	return ips, nil
}

func (s *system) lookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	s.asked = append(s.asked, name+" srv"+service+proto)
	return "", s.srv[name], s.err
}

// testResolver returns a resolver that reads the name server from path.
func testResolver(t *testing.T, path string, s *system) (*resolver, *bytes.Buffer) {
	t.Helper()
	out := new(bytes.Buffer)
	cfg := &Config{DNSConfigPath: path, BindPort: 7946, TCPTimeout: time.Hour, Logger: log.New(out, "", 0)}
	l, err := newLogger(cfg)
	require.NoError(t, err)
	r := newResolver(cfg, l)
	r.systemIPs, r.systemSRV = s.lookupIPs, s.lookupSRV
	return r, out
}

func addrs(list []Address) []string {
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return texts
}

// TestLiteralAddressesAreNotLookedUp checks P145.
func TestLiteralAddressesAreNotLookedUp(t *testing.T) {
	s := &system{}
	r, out := testResolver(t, "/nonexistent", s)
	for entry, want := range map[string]string{
		"10.0.0.1":           "10.0.0.1:7946",
		"10.0.0.1:80":        "10.0.0.1:80",
		"::1":                "[::1]:7946",
		"[::1]":              "[::1]:7946",
		"[2001:db8::1]:80":   "[2001:db8::1]:80",
		"fe80::1%eth0":       "[fe80::1%eth0]:7946",
		"::ffff:10.0.0.1":    "10.0.0.1:7946",
		"a/10.0.0.1":         "a (10.0.0.1:7946)",
		"a/[2001:DB8::1]:80": "a ([2001:db8::1]:80)",
	} {
		list, err := r.resolve(t.Context(), entry)
		require.NoError(t, err, entry)
		require.Equal(t, []string{want}, addrs(list), entry)
		seeds, err := r.resolveSeed(t.Context(), entry)
		require.NoError(t, err, entry)
		require.Equal(t, list, seeds)
	}
	require.Empty(t, s.asked)
	require.Empty(t, out.String())
}

// TestDefaultPortFollowsTheConfiguration checks P145.
func TestDefaultPortFollowsTheConfiguration(t *testing.T) {
	r, _ := testResolver(t, "", &system{})
	r.cfg.BindPort = 12345 // as Create does when the system chose the port
	list, err := r.resolve(t.Context(), "10.0.0.1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:12345"}, addrs(list))
}

// TestNameServerIsAskedOverTCPFirst checks P145.
func TestNameServerIsAskedOverTCPFirst(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(loopback, func(t *testing.T) {
			server, asked := startNameServer(t, loopback, zone{
				"web.example.com. ANY": {
					"web.example.com. 60 IN CNAME web2.example.com.",
					"web.example.com. 60 IN TXT \"10.9.9.9\"",
					"web.example.com. 60 IN A 10.0.0.1",
					"web.example.com. 60 IN AAAA 2001:db8::1",
					"other.example.com. 60 IN A 10.0.0.2",
					"web.example.com. 60 IN A 10.0.0.1",
				},
			})
			s := &system{ips: map[string][]string{"web.example.com": {"10.9.9.9"}}}
			r, out := testResolver(t, resolvConf(t, server), s)
			list, err := r.resolve(t.Context(), "b/web.example.com:80")
			require.NoError(t, err)
			require.Equal(t, []string{"b (10.0.0.1:80)", "b ([2001:db8::1]:80)", "b (10.0.0.2:80)"}, addrs(list))
			require.Equal(t, []string{"web.example.com. ANY"}, asked())
			require.Empty(t, s.asked)
			require.Equal(t, "[DEBUG] memberlist: Ignoring the alias web2.example.com. in the answer for web.example.com\n", out.String())
		})
	}
}

// TestSystemIsAskedIfTheNameServerHasNoAddress checks P145.
func TestSystemIsAskedIfTheNameServerHasNoAddress(t *testing.T) {
	server, asked := startNameServer(t, "127.0.0.1:0", zone{
		"alias.example.com. ANY": {"alias.example.com. 60 IN CNAME web.example.com."},
		"empty.example.com. ANY": {},
	})
	for _, host := range []string{"alias.example.com", "empty.example.com", "unknown.example.com"} {
		s := &system{ips: map[string][]string{host: {"10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1"}}}
		r, out := testResolver(t, resolvConf(t, server), s)
		list, err := r.resolve(t.Context(), host)
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.1:7946", "[2001:db8::1]:7946"}, addrs(list))
		require.Equal(t, []string{host + " ip"}, s.asked)
		require.NotContains(t, out.String(), "[WARN]")
		if strings.HasPrefix(host, "unknown") {
			require.Contains(t, out.String(), "[DEBUG] memberlist: Lookup of unknown.example.com over TCP failed, "+
				"asking the system: name server "+server+" answered NXDOMAIN")
		}
	}
	require.Len(t, asked(), 3)
}

// TestNamesThatDNSCannotCarryGoToTheSystem checks P145.
func TestNamesThatDNSCannotCarryGoToTheSystem(t *testing.T) {
	server, asked := startNameServer(t, "127.0.0.1:0", zone{})
	host := strings.Repeat("x", 64) + ".example.com" // a label has at most 63
	s := &system{ips: map[string][]string{host: {"10.0.0.1"}}}
	r, _ := testResolver(t, resolvConf(t, server), s)
	list, err := r.resolve(t.Context(), host)
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:7946"}, addrs(list))
	require.Empty(t, asked())
}

// TestNamesWithoutADotGoToTheSystem checks P145.
func TestNamesWithoutADotGoToTheSystem(t *testing.T) {
	server, asked := startNameServer(t, "127.0.0.1:0", zone{"web. ANY": {"web. 60 IN A 10.9.9.9"}})
	s := &system{ips: map[string][]string{"web": {"10.0.0.1"}}}
	r, _ := testResolver(t, resolvConf(t, server), s)
	list, err := r.resolve(t.Context(), "web")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:7946"}, addrs(list))
	require.Empty(t, asked())
}

// TestNoNameServerIsNoError checks P145.
func TestNoNameServerIsNoError(t *testing.T) {
	directory := t.TempDir()
	empty := filepath.Join(directory, "empty")
	require.NoError(t, os.WriteFile(empty, []byte("search example.com\n"), 0o600))
	for path, text := range map[string]string{
		"":                                    "",
		filepath.Join(directory, "missing"):   "cannot read the name server",
		empty:                                 "no name server in",
		resolvConf(t, "[::1"):                 "missing ']'",
		resolvConf(t, closedPort(t)):          "connection refused",
		resolvConf(t, "127.0.0.1:notaport"):   "over TCP failed",
		resolvConf(t, "name.does.not.parse/"): "over TCP failed",
	} {
		s := &system{ips: map[string][]string{"web.example.com": {"10.0.0.1"}}}
		r, out := testResolver(t, path, s)
		dial := r.dial
		r.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if !strings.HasPrefix(addr, "127.0.0.1:") {
				return nil, errors.New("not loopback")
			}
			return dial(ctx, network, addr)
		}
		list, err := r.resolve(t.Context(), "web.example.com")
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.1:7946"}, addrs(list))
		if text == "" {
			require.Empty(t, out.String())
			continue
		}
		require.Contains(t, out.String(), "[DEBUG] memberlist: Lookup of web.example.com over TCP failed")
		require.Contains(t, out.String(), text)
	}
}

// closedPort returns a loopback address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// TestNameServerEntryMayCarryAPort checks P145.
func TestNameServerEntryMayCarryAPort(t *testing.T) {
	for server, want := range map[string]string{
		"10.0.0.1":        "10.0.0.1:53",
		"10.0.0.1:8600":   "10.0.0.1:8600",
		"::1":             "[::1]:53",
		"2001:db8::1":     "[2001:db8::1]:53",
		"[::1]":           "[::1]:53",
		"[::1]:8600":      "[::1]:8600",
		"fe80::1%eth0":    "[fe80::1%eth0]:53",
		"[fe80::1%e]:853": "[fe80::1%e]:853",
	} {
		got, err := nameServer(resolvConf(t, server))
		require.NoError(t, err, server)
		require.Equal(t, want, got)
	}
}

// TestNamesThatCannotBeResolved checks P18.
func TestNamesThatCannotBeResolved(t *testing.T) {
	gone := &net.DNSError{Err: "no such host", Name: "web", IsNotFound: true}
	for _, test := range []struct {
		system *system
		entry  string
		text   string
	}{
		{&system{err: gone}, "web", "lookup web: no such host"},
		{&system{err: gone}, "a/web:80", "lookup web: no such host"},
		{&system{}, "web", "cannot reach web: no addresses found"},
	} {
		r, _ := testResolver(t, "", test.system)
		for _, resolve := range []func(context.Context, string) ([]Address, error){r.resolve, r.resolveSeed} {
			list, err := resolve(t.Context(), test.entry)
			require.EqualError(t, err, test.text)
			require.Empty(t, list)
			var unreachable *UnreachableError
			require.ErrorAs(t, err, &unreachable)
			require.Equal(t, "web", unreachable.Addr)
		}
	}
}

// TestBadEntriesAreNotLookedUp checks P19.
func TestBadEntriesAreNotLookedUp(t *testing.T) {
	s := &system{}
	r, _ := testResolver(t, "", s)
	for _, resolve := range []func(context.Context, string) ([]Address, error){r.resolve, r.resolveSeed} {
		_, err := resolve(t.Context(), "/host")
		require.EqualError(t, err, "empty node name provided")
		require.Empty(t, s.asked)
		var unreachable *UnreachableError
		require.False(t, errors.As(err, &unreachable))
	}
}

// ---- servers that misbehave, in virtual time ----

// overPipe makes the resolver talk to serve instead of a real server.
func overPipe(t *testing.T, r *resolver, serve func(server net.Conn)) {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	r.dial = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		wg.Go(func() {
			defer server.Close()
			serve(server)
		})
		return client, nil
	}
}

// TestSilentNameServerCostsOneTCPTimeout checks P145.
func TestSilentNameServerCostsOneTCPTimeout(t *testing.T) {
	path := resolvConf(t, "192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		s := &system{ips: map[string][]string{"web.example.com": {"10.0.0.1"}}}
		r, out := testResolver(t, path, s)
		r.cfg.TCPTimeout = 10 * time.Second
		overPipe(t, r, func(server net.Conn) { _, _ = io.Copy(io.Discard, server) })
		start := time.Now()
		list, err := r.resolve(t.Context(), "web.example.com")
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.1:7946"}, addrs(list))
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Contains(t, out.String(), context.DeadlineExceeded.Error())
	})
}

func TestResolvingEndsWithItsContext(t *testing.T) {
	path := resolvConf(t, "192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		r, _ := testResolver(t, path, &system{})
		overPipe(t, r, func(server net.Conn) { _, _ = io.Copy(io.Discard, server) })

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		start := time.Now()
		_, err := r.resolve(ctx, "web.example.com")
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 3*time.Second, time.Since(start))

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = r.resolveSeed(ctx, "_memberlist._udp.example.com")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrTimeout)
		require.Equal(t, time.Second, time.Since(start))
	})
}

// rawAnswer reads one query and writes what answer makes of it.
func rawAnswer(answer func(query *dns.Msg) []byte) func(net.Conn) {
	return func(server net.Conn) {
		query, err := (&dns.Conn{Conn: server}).ReadMsg()
		if err != nil {
			return
		}
		raw := answer(query)
		_, _ = server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
	}
}

func TestHostileDNSAnswersAreNotBelieved(t *testing.T) {
	path := resolvConf(t, "192.0.2.1")
	reply := func(query *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(query)
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.IP{10, 9, 9, 9},
		}}
		return m
	}
	pack := func(m *dns.Msg) []byte {
		raw, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return raw
	}
	for name, answer := range map[string]func(*dns.Msg) []byte{
		"other id":     func(q *dns.Msg) []byte { m := reply(q); m.Id++; return pack(m) },
		"no response":  func(q *dns.Msg) []byte { m := reply(q); m.Response = false; return pack(m) },
		"failure":      func(q *dns.Msg) []byte { m := reply(q); m.Rcode = dns.RcodeServerFailure; return pack(m) },
		"truncated":    func(q *dns.Msg) []byte { raw := pack(reply(q)); return raw[:len(raw)-3] },
		"noise":        func(*dns.Msg) []byte { return bytes.Repeat([]byte{0xff}, 600) },
		"empty":        func(*dns.Msg) []byte { return nil },
		"pointer loop": func(q *dns.Msg) []byte { raw := pack(reply(q)); copy(raw[12:], []byte{0xc0, 12}); return raw },
	} {
		t.Run(name, func(t *testing.T) {
			s := &system{ips: map[string][]string{"web.example.com": {"10.0.0.1"}}}
			r, _ := testResolver(t, path, s)
			overPipe(t, r, rawAnswer(answer))
			list, err := r.resolve(t.Context(), "web.example.com")
			require.NoError(t, err)
			require.Equal(t, []string{"10.0.0.1:7946"}, addrs(list))
		})
	}
	r, _ := testResolver(t, path, &system{})
	overPipe(t, r, rawAnswer(func(q *dns.Msg) []byte { return pack(reply(q)) }))
	list, err := r.resolve(t.Context(), "web.example.com")
	require.NoError(t, err)
	require.Equal(t, []string{"10.9.9.9:7946"}, addrs(list), "the answer is believed if nothing is wrong with it")
}

// ---- SRV records ----

func TestSeedsFollowServiceRecords(t *testing.T) { // P188
	server, asked := startNameServer(t, "127.0.0.1:0", zone{
		"_memberlist._udp.example.com. SRV": {
			"_memberlist._udp.example.com. 60 IN SRV 0 0 8001 a.example.com.",
			"_memberlist._udp.example.com. 60 IN SRV 0 0 8002 gone.example.com.",
			"_memberlist._udp.example.com. 60 IN SRV 0 0 8003 b.example.com.",
			"_memberlist._udp.example.com. 60 IN TXT ignored",
		},
		"a.example.com. ANY": {"a.example.com. 60 IN A 10.0.0.1", "a.example.com. 60 IN AAAA 2001:db8::1"},
		"b.example.com. ANY": {"b.example.com. 60 IN A 10.0.0.2"},
	})
	s := &system{}
	r, _ := testResolver(t, resolvConf(t, server), s)
	list, err := r.resolveSeed(t.Context(), "_memberlist._udp.example.com:99")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:8001", "[2001:db8::1]:8001", "10.0.0.2:8003"}, addrs(list))
	require.Equal(t, "_memberlist._udp.example.com. SRV", asked()[0])
	require.Equal(t, []string{"gone.example.com. ip"}, s.asked)
}

func TestSeedsAskTheSystemForServiceRecords(t *testing.T) {
	const name = "_memberlist._udp.example.com"
	s := &system{
		srv: map[string][]*net.SRV{name: {{Target: "a.example.com.", Port: 8001}, {Target: "10.0.0.2", Port: 8002}}},
		ips: map[string][]string{"a.example.com.": {"10.0.0.1"}, "10.0.0.2": {"10.0.0.2"}},
	}
	r, _ := testResolver(t, "", s)
	list, err := r.resolveSeed(t.Context(), "b/"+name)
	require.NoError(t, err)
	require.Equal(t, []string{"b (10.0.0.1:8001)", "b (10.0.0.2:8002)"}, addrs(list))
}

func TestSeedsWithoutServiceRecordsAreOrdinaryNames(t *testing.T) {
	const name = "_memberlist._udp.example.com"
	s := &system{ips: map[string][]string{name: {"10.0.0.1"}, "web": {"10.0.0.2"}}}
	r, _ := testResolver(t, "", s)
	list, err := r.resolveSeed(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:7946"}, addrs(list))
	list, err = r.resolveSeed(t.Context(), "web:80")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.2:80"}, addrs(list))
	require.NotContains(t, s.asked, "web srv")
}

func TestSeedWhoseHostsAreAllUnknownIsAnError(t *testing.T) {
	const name = "_memberlist._udp.example.com"
	s := &system{srv: map[string][]*net.SRV{name: {{Target: "a.example.com.", Port: 1}, {Target: "b.example.com.", Port: 2}}}}
	r, _ := testResolver(t, "", s)
	list, err := r.resolveSeed(t.Context(), name)
	require.Empty(t, list)
	var unreachable *UnreachableError
	require.ErrorAs(t, err, &unreachable)
}

func TestServiceRecordsAreBounded(t *testing.T) {
	const name = "_memberlist._udp.example.com"
	s := &system{srv: map[string][]*net.SRV{}, ips: map[string][]string{}}
	for i := range 3 * maxServiceTargets {
		host := fmt.Sprintf("h%d.example.com.", i)
		s.srv[name] = append(s.srv[name], &net.SRV{Target: host, Port: uint16(i)})
		s.ips[host] = []string{fmt.Sprintf("10.0.%d.%d", i/250, i%250)}
	}
	r, _ := testResolver(t, "", s)
	list, err := r.resolveSeed(t.Context(), name)
	require.NoError(t, err)
	require.Len(t, list, maxServiceTargets)
}

// The resolver of the system answers for names that every machine knows (P145).
func TestSystemResolverIsReal(t *testing.T) {
	cfg := DefaultLANConfig()
	cfg.LogOutput = io.Discard
	l, err := newLogger(cfg)
	require.NoError(t, err)
	list, err := newResolver(cfg, l).resolve(t.Context(), "localhost:80")
	require.NoError(t, err)
	require.NotEmpty(t, list)
	for _, a := range list {
		require.True(t, netip.MustParseAddrPort(a.Addr).Addr().IsLoopback(), a.Addr)
	}
}
