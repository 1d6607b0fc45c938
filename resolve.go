package memberlist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// joinTarget is an entry of Join taken apart (P19).
type joinTarget struct {
	node string     // node name in front of the first slash; may be empty
	host string     // name to look up, or the IP as it was written
	ip   netip.Addr // the IP; invalid if host is a name
	port uint16
}

// parseJoinTarget takes an entry apart: an optional "node/", a host name, IPv4
// or IPv6 address, and an optional port (P19).
func parseJoinTarget(entry string, defaultPort int) (joinTarget, error) {
	var t joinTarget
	rest := entry
	if node, behind, ok := strings.Cut(entry, "/"); ok {
		if node == "" {
			return joinTarget{}, errEmptyNodeName
		}
		t.node, rest = node, behind
	}
	host, port, hasPort, err := splitHostPort(rest)
	if err != nil {
		return joinTarget{}, err
	}
	if !hasPort {
		port = strconv.Itoa(defaultPort)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return joinTarget{}, fmt.Errorf("port %q is not a number from 0 to %d", port, maxPort)
	}
	t.host, t.port = host, uint16(number)
	if ip, err := netip.ParseAddr(host); err == nil {
		t.ip = ip.Unmap()
	}
	return t, t.checkHost()
}

// checkHost refuses what can neither be an IP nor a name.
func (t joinTarget) checkHost() error {
	if t.host == "" {
		return errors.New("host name is empty")
	}
	if strings.ContainsAny(t.host, "[]") || (!t.ip.IsValid() && strings.Contains(t.host, ":")) {
		return fmt.Errorf("%q is neither a host name nor an IP address", t.host)
	}
	return nil
}

// splitHostPort splits "host:port" where a port is there: a bracketed host has
// one if a colon follows the bracket, any other if it holds exactly one colon.
// So a bare IPv6 address has none, and "host:" has an empty one (P146).
func splitHostPort(s string) (host, port string, hasPort bool, err error) {
	if !strings.HasPrefix(s, "[") {
		if strings.Count(s, ":") != 1 {
			return s, "", false, nil
		}
		host, port, _ = strings.Cut(s, ":")
		return host, port, true, nil
	}
	host, rest, closed := strings.Cut(s[1:], "]")
	if !closed {
		return "", "", false, fmt.Errorf("missing ']' in %q", s)
	}
	if rest == "" {
		return host, "", false, nil
	}
	port, hasPort = strings.CutPrefix(rest, ":")
	if !hasPort {
		return "", "", false, fmt.Errorf("%q follows the bracket in place of a port", rest)
	}
	return host, port, true, nil
}

// addresses gives the target's name and port to each of the IPs.
func (t joinTarget) addresses(ips []netip.Addr) []Address {
	list := make([]Address, 0, len(ips))
	for _, ip := range ips {
		list = append(list, Address{Addr: netip.AddrPortFrom(ip, t.port).String(), Name: t.node})
	}
	return list
}

// isServiceName reports whether a name has the form "_service._proto.name" of
// SRV records.
func isServiceName(host string) bool {
	labels := strings.SplitN(host, ".", 3)
	return len(labels) == 3 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_") && labels[2] != ""
}

// maxServiceTargets bounds the hosts that are looked up for one SRV name.
const maxServiceTargets = 128

// service is the part of an SRV record that is of use here.
type service struct {
	host string
	port uint16
}

// resolver turns entries of Join and Config.Seeds into addresses (section 18 of
// the protocol). It keeps nothing, so each call sees what the name servers say
// now. It is safe for concurrent use.
type resolver struct {
	cfg *Config
	log *logger

	// Replaced in tests.
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	systemIPs func(ctx context.Context, network, host string) ([]netip.Addr, error)
	systemSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

func newResolver(cfg *Config, log *logger) *resolver {
	return &resolver{
		cfg:       cfg,
		log:       log,
		dial:      new(net.Dialer).DialContext,
		systemIPs: net.DefaultResolver.LookupNetIP,
		systemSRV: net.DefaultResolver.LookupSRV,
	}
}

// resolve returns the addresses that an entry of Join stands for, all with the
// entry's node name. The error is an *UnreachableError if the name was looked
// up in vain.
func (r *resolver) resolve(ctx context.Context, entry string) ([]Address, error) {
	target, err := parseJoinTarget(entry, r.cfg.BindPort)
	if err != nil {
		return nil, err
	}
	return r.resolveTarget(ctx, target)
}

func (r *resolver) resolveTarget(ctx context.Context, target joinTarget) ([]Address, error) {
	ips, err := r.lookup(ctx, target)
	if err != nil {
		return nil, err
	}
	return target.addresses(ips), nil
}

// resolveSeed is like resolve and also follows SRV records, if the entry's name
// has their form. Their ports count, not that of the entry. Hosts that cannot
// be found are left out, unless all are.
func (r *resolver) resolveSeed(ctx context.Context, entry string) ([]Address, error) {
	target, err := parseJoinTarget(entry, r.cfg.BindPort)
	if err != nil {
		return nil, err
	}
	if !isServiceName(target.host) {
		return r.resolveTarget(ctx, target)
	}
	services := r.lookupServices(ctx, target.host)
	if len(services) == 0 {
		return r.resolveTarget(ctx, target)
	}
	var found []Address
	for _, s := range services {
		var ips []netip.Addr
		t := joinTarget{node: target.node, host: s.host, port: s.port}
		if ips, err = r.lookup(ctx, t); err != nil {
			r.log.debugf("Host of a seed cannot be resolved", logFields{addr: s.host, err: err, more: []logAttr{{"seed", entry}}},
				"Host %s of seed %s cannot be resolved: %v", s.host, entry, err)
			continue
		}
		found = append(found, t.addresses(ips)...)
	}
	if len(found) == 0 {
		return nil, err
	}
	return found, nil
}

// lookup finds the IPs of a target: itself if it is one, else what a name
// server answers over TCP, else what the system's resolver does (P145).
func (r *resolver) lookup(ctx context.Context, target joinTarget) ([]netip.Addr, error) {
	if target.ip.IsValid() {
		return []netip.Addr{target.ip}, nil
	}
	if ips := r.lookupOverTCP(ctx, target.host); len(ips) > 0 {
		return ips, nil
	}
	ips, err := r.systemIPs(ctx, "ip", target.host)
	if err == nil && len(ips) == 0 {
		err = errors.New("no addresses found")
	}
	if err != nil {
		return nil, &UnreachableError{Addr: target.host, Err: withContext(ctx, err)}
	}
	return distinct(ips), nil
}

// lookupOverTCP asks the configured name server for all addresses of a name
// with a dot. Answers with many addresses do not fit into a datagram. It
// returns nothing if that fails for whatever reason (P145.1).
func (r *resolver) lookupOverTCP(ctx context.Context, host string) []netip.Addr {
	var ips []netip.Addr
	for _, rr := range r.askOverTCP(ctx, host, dns.TypeANY) {
		switch rr := rr.(type) {
		case *dns.A:
			ips = appendIP(ips, rr.A)
		case *dns.AAAA:
			ips = appendIP(ips, rr.AAAA)
		case *dns.CNAME:
			r.log.debugf("Ignoring an alias in a DNS answer", logFields{addr: host, more: []logAttr{{"alias", rr.Target}}},
				"Ignoring the alias %s in the answer for %s", rr.Target, host)
		}
	}
	return distinct(ips)
}

// lookupServices returns what the SRV records of a name point to.
func (r *resolver) lookupServices(ctx context.Context, name string) []service {
	var found []service
	for _, rr := range r.askOverTCP(ctx, name, dns.TypeSRV) {
		if srv, ok := rr.(*dns.SRV); ok {
			found = append(found, service{host: srv.Target, port: srv.Port})
		}
	}
	if len(found) == 0 {
		_, records, err := r.systemSRV(ctx, "", "", name)
		if err != nil {
			r.log.debugf("No SRV records", logFields{addr: name, err: err}, "No SRV records of %s: %v", name, err)
		}
		for _, srv := range records {
			found = append(found, service{host: srv.Target, port: srv.Port})
		}
	}
	return found[:min(len(found), maxServiceTargets)]
}

// askOverTCP returns the answer records for a name with a dot; none, and a line
// in the log, if there is no answer.
func (r *resolver) askOverTCP(ctx context.Context, host string, kind uint16) []dns.RR {
	if !strings.Contains(host, ".") || r.cfg.DNSConfigPath == "" {
		return nil
	}
	records, err := r.query(ctx, host, kind)
	if err != nil {
		r.log.debugf("Lookup over TCP failed, asking the system", logFields{addr: host, err: err},
			"Lookup of %s over TCP failed, asking the system: %v", host, err)
	}
	return records
}

// query puts one question to the first configured name server over TCP, within
// Config.TCPTimeout.
func (r *resolver) query(ctx context.Context, host string, kind uint16) ([]dns.RR, error) {
	server, err := nameServer(r.cfg.DNSConfigPath)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.TCPTimeout)
	defer cancel()
	conn, err := r.dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	question := new(dns.Msg).SetQuestion(dns.Fqdn(host), kind)
	answer, err := exchangeDNS(&dns.Conn{Conn: conn}, question)
	if err != nil {
		return nil, withContext(ctx, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("name server %s answered %s", server, dns.RcodeToString[answer.Rcode])
	}
	return answer.Answer, nil
}

func exchangeDNS(conn *dns.Conn, question *dns.Msg) (*dns.Msg, error) {
	if err := conn.WriteMsg(question); err != nil {
		return nil, err
	}
	answer, err := conn.ReadMsg()
	if err != nil {
		return nil, err
	}
	if !answer.Response || answer.Id != question.Id {
		return nil, dns.ErrId
	}
	return answer, nil
}

// nameServer returns "host:port" of the first name server in a file like
// resolv.conf. The entry may carry its own port.
func nameServer(path string) (string, error) {
	config, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the name server: %w", err)
	}
	if len(config.Servers) == 0 {
		return "", fmt.Errorf("no name server in %s", path)
	}
	host, port, hasPort, err := splitHostPort(config.Servers[0])
	if err != nil {
		return "", err
	}
	if !hasPort {
		port = config.Port
	}
	return net.JoinHostPort(host, port), nil
}

// withContext makes an error that came from the end of a context wrap what the
// context says, since closing a connection only shows as a failed read.
func withContext(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// appendIP appends an address from a record, unless it has no sensible length.
func appendIP(ips []netip.Addr, raw net.IP) []netip.Addr {
	if ip, ok := netip.AddrFromSlice(raw); ok {
		return append(ips, ip)
	}
	return ips
}

// distinct returns the addresses once each, in order, IPv4 ones in their short
// form.
func distinct(ips []netip.Addr) []netip.Addr {
	seen := make(map[netip.Addr]bool, len(ips))
	var list []netip.Addr
	for _, ip := range ips {
		if ip = ip.Unmap(); !seen[ip] {
			seen[ip] = true
			list = append(list, ip)
		}
	}
	return list
}
