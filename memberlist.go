// Package memberlist provides cluster membership and failure detection. It
// implements SWIM failure detection with the Lifeguard extensions, gossip, and
// full state exchange, over UDP and TCP or over a custom transport.
//
// # Use
//
// A program creates a node with [Create] from a configuration, which is one of
// [DefaultLANConfig], [DefaultWANConfig] and [DefaultLocalConfig] with changes, and
// calls [Memberlist.Join] with the address of any other node. From then on
// [Memberlist.Members] returns the nodes of the cluster, and the [EventDelegate] is
// told of each change. [Memberlist.Leave] announces a departure, and
// [Memberlist.Shutdown] stops the node.
//
// User data travels in four ways: metadata of up to 512 bytes with each node
// ([Delegate] NodeMeta, [Memberlist.UpdateNode]), messages to one node
// ([Memberlist.SendBestEffort], [Memberlist.SendReliable]), broadcasts that are added
// to gossip ([Delegate] GetBroadcasts, [TransmitLimitedQueue]), and state that is
// merged in full exchanges ([Delegate] LocalState, MergeRemoteState).
//
// # What callers may rely on
//
// All methods may be called from any goroutine at any time, also from a callback, and
// after Leave and Shutdown. They do not deadlock or panic. No lock is held during a
// callback. A [Node] that was handed out is a snapshot and never changes.
//
// Membership is eventually consistent: for a short time, nodes can have different
// lists of members.
//
// # Compatibility
//
// The exported names and the wire format are those of
// github.com/hashicorp/memberlist v0.7.0. A program can be switched by a replace line,
// and a running cluster node by node. The file docs/differences.md lists what a program
// can notice; docs/spec states the rules that a node follows.
//
// # Papers
//
// SWIM: Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style
// Process Group Membership Protocol", 2002. Lifeguard: Dadgar, Phillips, Currey,
// "Lifeguard: Local Health Awareness for More Accurate Failure Detection", 2018.
package memberlist

import (
	"context"
	"fmt"
	"net"
)

// Memberlist is a running node. It is created by [Create] and must not be copied. All
// methods are safe for concurrent use.
type Memberlist struct {
	services
	config     *Config
	transport  NodeAwareTransport
	events     *notifier
	engine     *engine
	broadcasts *TransmitLimitedQueue
	admission  *admission
	outbound   *outbound
	inbound    *inbound
	exchanges  *exchanges
	joining    *joining
	pings      *userPings
	performer  *performer
}

// Create starts a node and returns it. The node is alone until it joins others or
// others join it. Create takes ownership of conf, which must not be changed
// afterwards. It writes to conf what it decided: the Keyring made from SecretKey,
// and the ports if BindPort was 0.
//
// Create calls Delegate.NodeMeta and AliveDelegate.NotifyAlive for this node. It
// returns after EventDelegate.NotifyJoin has been called for this node.
//
// Create fails if the configuration is invalid, the sockets cannot be opened, the
// metadata is too long ([ErrTooLarge]), this node's address is in none of
// Config.CIDRsAllowed ([ErrRejected]), or Config.Transport was shut down or serves
// another node. After a failure nothing is left running, and Config.Transport is
// still open and can be passed to Create again. If this node's own AliveDelegate
// refuses it, Create succeeds, but the node starts as one that has left: it is not a
// member, and Join tries again.
func Create(conf *Config) (*Memberlist, error) {
	if err := conf.validate(); err != nil {
		return nil, err
	}
	if err := conf.complete(); err != nil {
		return nil, err
	}
	bindPort, advertisePort := conf.BindPort, conf.AdvertisePort
	m, err := newMemberlist(conf)
	if err != nil {
		return nil, err
	}
	if err := m.begin(); err != nil {
		m.abandon()
		conf.BindPort, conf.AdvertisePort = bindPort, advertisePort
		return nil, err
	}
	return m, nil
}

// abandon takes apart a node that could not begin. A transport of the caller's
// stays open: nothing has been read from it yet.
func (m *Memberlist) abandon() {
	if m.config.Transport != nil {
		m.life.endOnce.Do(m.life.end)
	}
	_ = m.Shutdown()
}

// newMemberlist puts a node together. The transport is open afterwards, but
// nothing runs yet.
func newMemberlist(conf *Config) (*Memberlist, error) {
	log, err := newLogger(conf)
	if err != nil {
		return nil, err
	}
	transport, err := openTransport(conf, log)
	if err != nil {
		return nil, err
	}
	aware, wrapped := nodeAware(transport)
	if wrapped {
		log.debugf("Transport is not a NodeAwareTransport", logFields{},
			"configured Transport is not a NodeAwareTransport and some features may not work as desired")
	}
	m := &Memberlist{config: conf, services: newServices(conf, log), transport: aware}
	m.makeParts()
	return m, nil
}

// makeParts makes the parts of the node, each after those that it uses.
func (m *Memberlist) makeParts() {
	core := newCore(m.config, newRandom())
	_, reasons := m.config.Events.(EventReasonDelegate)
	core.listenFor(m.config.Events != nil, reasons)
	m.broadcasts = core.broadcasts()
	m.events = newNotifier(m.tasks, m.config)
	m.engine = newEngine(core, m.events)
	m.admission = newAdmission(m.services, m.config)
	users := newUserDelivery(m.services, m.config, m.events)
	m.outbound = newOutbound(m.services, m.config, m.engine, m.broadcasts, m.transport)
	m.outbound.queueOutgoing()
	streams := &sessions{services: m.services, config: m.config, wire: m.outbound.wire, transport: m.transport, direct: m.outbound.direct}
	streams.memory = &memoryBudget{limit: maxStreamMemory, free: freeStreamMemory}
	streams.deliveries = &memoryBudget{limit: maxDeliveryMemory}
	m.exchanges = &exchanges{sessions: streams, engine: m.engine, admission: m.admission, users: users}
	m.inbound = &inbound{
		services: m.services, config: m.config, transport: m.transport, engine: m.engine, events: m.events,
		admission: m.admission, outbound: m.outbound, users: users, streams: m.exchanges.take,
	}
	m.inbound.holdBack()
	m.joining = &joining{m.services, m.events, newResolver(m.config, m.log), m.exchanges}
	m.pings = newUserPings(m.life, m.engine, m.outbound)
	rejoining := &rejoining{services: m.services, config: m.config, engine: m.engine, joining: m.joining, direct: m.outbound.direct}
	m.performer = &performer{
		services: m.services, broadcasts: m.broadcasts, nodes: &nodeSelection{m.config, m.engine},
		outbound: m.outbound, exchanges: m.exchanges, rejoining: rejoining, roundTrips: newRoundTrips(m.services, m.config),
	}
	m.engine.perform = m.performer.perform
}

// openTransport is the configured transport, or a NetTransport on the bind
// address (P9, P10).
func openTransport(conf *Config, log *logger) (Transport, error) {
	if conf.Transport != nil {
		return conf.Transport, nil
	}
	nc := &NetTransportConfig{
		BindAddrs:    []string{conf.BindAddr},
		BindPort:     conf.BindPort,
		MetricLabels: conf.MetricLabels,
	}
	t, err := openNetTransport(nc, log, newDatagramIO)
	if err != nil {
		return nil, fmt.Errorf("could not set up network transport: failed to obtain an address: %w", err)
	}
	if conf.BindPort == 0 {
		port := t.GetAutoBindPort()
		conf.BindPort, conf.AdvertisePort = port, port
		log.debugf("Using a bind port of the system's choice", logFields{more: []logAttr{{"port", port}}},
			"Using dynamic bind port %d", port)
	}
	return t, nil
}

// begin makes the node hear, introduces it to itself and starts the clockwork. It
// fails only before anything is heard, so that a transport of the caller's is as it
// was.
func (m *Memberlist) begin() error {
	ip, port, err := m.advertised()
	if err != nil {
		return err
	}
	meta, err := m.nodeMeta()
	if err != nil {
		return err
	}
	if err := m.config.IPAllowed(ip); err != nil {
		return &RejectedError{Reason: err}
	}
	if err := m.inbound.listen(); err != nil {
		return err
	}
	m.warnIfPublic(ip)
	m.tasks.startLoop(func() { m.engine.run(m.life.ctx) })
	m.introduce(ip, port, meta)
	return nil
}

// introduce makes the node a member of its own cluster, unless its AliveDelegate
// objects.
func (m *Memberlist) introduce(ip net.IP, port uint16, meta []byte) {
	refusal := m.admitSelf(m.life.ctx, ip, port, meta)
	if refusal != nil {
		m.log.warnf("The own node was refused and takes no part", logFields{err: refusal},
			"The own node was refused and takes no part: %v", refusal)
	}
	eventSeq := m.engine.step(func(c *core, now instant) {
		if refusal != nil {
			c.startAsLeft(now, ip, port, meta)
		} else {
			c.announceSelf(now, ip, port, meta, nil)
		}
		c.start(now)
	})
	_ = m.events.wait(m.life.ctx, eventSeq) // fails only after Shutdown, which nobody can have called yet
}

// advertised asks the transport for the address to tell others.
func (m *Memberlist) advertised() (net.IP, uint16, error) {
	ip, port, err := m.transport.FinalAdvertiseAddr(m.config.AdvertiseAddr, m.config.AdvertisePort)
	if err != nil {
		return nil, 0, fmt.Errorf("failed to get final advertise address: %w", err)
	}
	return ip, uint16(port), nil
}

// warnIfPublic warns of a public address without encryption (P13).
func (m *Memberlist) warnIfPublic(ip net.IP) {
	addr := addrPortOf(ip, 0).Addr()
	if addr.IsValid() && !isPrivate(addr) && !m.config.EncryptionEnabled() {
		m.log.warnf("Public address without encryption", logFields{addr: ip.String()},
			"Binding to public address %s without encryption!", ip)
	}
}

// nodeMeta asks the delegate for the node's metadata (P12, P27); without a delegate
// there is none (P28).
func (m *Memberlist) nodeMeta() ([]byte, error) {
	if m.config.Delegate == nil {
		return nil, nil
	}
	meta := m.config.Delegate.NodeMeta(MetaMaxSize)
	if len(meta) > MetaMaxSize {
		return nil, newKindError(ErrTooLarge, "Node meta data provided is longer than the limit: %d bytes, at most %d", len(meta), MetaMaxSize)
	}
	return meta, nil
}

// admitSelf decides about this node as about every alive message (P12, P14).
func (m *Memberlist) admitSelf(ctx context.Context, ip net.IP, port uint16, meta []byte) error {
	a := alive{Node: borrow(m.config.Name), Addr: ip, Port: port, Meta: meta, Vsn: m.config.BuildVsnArray()}
	return m.admission.admit(ctx, &a)
}

// Members returns all members, which are the nodes that are alive or suspect,
// including this one, in no particular order. The slice belongs to the caller. The
// nodes are snapshots and must not be modified. Members never blocks.
func (m *Memberlist) Members() []*Node { return m.engine.view.members() }

// NumMembers returns the number of nodes that Members would return. It never blocks.
func (m *Memberlist) NumMembers() int { return int(m.engine.view.shown.Load()) }

// LocalNode returns a snapshot of this node. It never blocks, and works after Leave
// and Shutdown.
func (m *Memberlist) LocalNode() *Node { return m.engine.self.Load() } // P36

// ProtocolVersion returns the protocol version that this node speaks.
func (m *Memberlist) ProtocolVersion() uint8 { return m.config.ProtocolVersion }

// GetHealthScore returns this node's estimate of its own health, from 0 (healthy) to
// Config.AwarenessMaxMultiplier − 1. The score rises when probes fail, when relays do
// not answer, and when the node has to refute what others say about it. It falls with
// each successful probe.
func (m *Memberlist) GetHealthScore() int { return int(m.engine.health.Load()) }

// Shutdown stops the node. It closes the transport, ends exchanges and background
// work, and unblocks callers of other methods. It does not announce a departure:
// without a Leave before it, the other nodes detect a failure. It may be called from a
// callback and more than once, and always returns nil.
//
// When Shutdown returns, no goroutine of the node is running, except one that is
// inside a callback that takes more than a quarter of a second, or from which Shutdown
// itself was called. Events that have not been delivered are dropped.
func (m *Memberlist) Shutdown() error {
	m.life.down.Store(true)
	if m.tasks.callers.inCallback() {
		m.tasks.start(m.stopTransport)
		m.stopWork()
		return nil
	}
	m.stopTransport()
	m.stopWork()
	m.tasks.join()
	return nil
}

// stopTransport shuts the transport down while its channels are still being
// read (P138), and ends the reading then.
func (m *Memberlist) stopTransport() {
	m.life.endOnce.Do(func() {
		if err := m.transport.Shutdown(); err != nil {
			m.log.errorf("Failed to shut down the transport", logFields{err: err},
				"Failed to shutdown transport: %v", err)
		}
		m.life.end()
	})
}

// stopWork lets every goroutine of the node come to its end.
func (m *Memberlist) stopWork() {
	m.exchanges.set.closeAll()
	m.tasks.closeQueues()
	m.events.close()
	m.tasks.close()
	m.log.flush()
}
