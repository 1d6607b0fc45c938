package memberlist

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/go-multierror"
)

// Versions of the protocol, for [Config.ProtocolVersion].
const (
	// ProtocolVersionMin is the lowest version that this library understands
	// and can speak.
	ProtocolVersionMin uint8 = 1

	// ProtocolVersion2Compatible is the version spoken by default. What later
	// versions brought is used towards nodes that understand it, whatever
	// version is spoken.
	ProtocolVersion2Compatible = 2

	// ProtocolVersionMax is the highest version that this library understands
	// and can speak.
	ProtocolVersionMax = 5
)

// MetaMaxSize is the maximum length of a node's metadata in bytes.
const MetaMaxSize = 512

// Config holds the settings of a node. Start from a preset, [DefaultLANConfig],
// [DefaultWANConfig] or [DefaultLocalConfig], and change what differs. Each field
// names its default in the presets as LAN / WAN / Local, or one value if they
// agree. If no default is named, it is the zero value.
//
// [Create] takes ownership of the Config: do not change it afterwards, and give
// each node its own. Create writes to it what it decided: Keyring, if only
// SecretKey was set; BindPort and AdvertisePort, if BindPort was 0; and the
// defaults of fields whose documentation says so.
//
// Durations are limited to nine years, intervals to at least a millisecond, and
// numbers of nodes and factors to about a million. So math.MaxInt64 can stand
// for never.
//
// All nodes of a cluster need the same timing: a node with a shorter suspicion
// timeout than the others declares nodes dead for all of them.
type Config struct {
	// ---- Identity ----

	// Name identifies the node. It must be unique in the cluster; the library
	// does not check that, but reports a second node with the name to Conflict.
	// Default: the host name. A name longer than 512 bytes is an error. An
	// empty name is accepted but of no use.
	Name string

	// Label is a tag of at most LabelMaxSize bytes in front of everything that
	// is sent. Input with another label is refused, so clusters that can reach
	// each other by mistake stay apart. The label is not secret. Empty: no
	// label is sent, and input with a label is refused.
	Label string

	// SkipInboundLabelCheck also accepts input without a label. Input with
	// another label is still refused, unless Label is empty: then any label is
	// accepted. Use it for nodes behind a proxy that checks and strips labels,
	// or to introduce a label in a running cluster: first set this field on all
	// nodes, then set Label on all nodes, then unset this field. With
	// encryption a label cannot be introduced this way, since it is part of
	// what is sealed.
	SkipInboundLabelCheck bool

	// ProtocolVersion is the protocol version that the node speaks, from
	// ProtocolVersionMin to ProtocolVersionMax. Default: 2. Zero is an error.
	// With version 1 the node ignores the ports in messages and pads what it
	// seals. Versions 2 to 5 differ only in what the node announces: features
	// of later versions are used with every node that understands them. There
	// is rarely a reason to change the default.
	ProtocolVersion uint8

	// DelegateProtocolVersion, DelegateProtocolMin and DelegateProtocolMax are
	// the version of the program's own protocol that this node speaks, and the
	// lowest and highest version that it understands. The library announces
	// them, and refuses exchanges between nodes that do not understand each
	// other. All zero on all nodes: no restriction.
	DelegateProtocolVersion uint8
	DelegateProtocolMin     uint8
	DelegateProtocolMax     uint8

	// ---- Network ----

	// Transport carries packets and streams. Nil: a NetTransport, that is UDP
	// and TCP, on BindAddr and BindPort. A NodeAwareTransport is given node
	// names as well as addresses. Shutdown shuts the transport down.
	Transport Transport

	// BindAddr is the IP address to listen on for packets and streams. Default:
	// "0.0.0.0", which is all interfaces, like "::" and the empty string. A
	// host name, or an address with a port, is an error. It is not used if
	// Transport is set.
	BindAddr string

	// BindPort is the port to listen on for packets and streams. Default: 7946.
	// Zero: the system chooses a port that is free for both, and Create writes
	// it to BindPort and AdvertisePort. BindPort is also the port of addresses
	// that name none, in Join and in messages of old nodes; with a Transport it
	// should be the cluster's usual port.
	BindPort int

	// AdvertiseAddr is the IP address at which other nodes reach this one.
	// Empty: BindAddr or, if that means all interfaces, the first suitable
	// address of an interface.
	AdvertiseAddr string

	// AdvertisePort is the port that goes with AdvertiseAddr. Default: 7946. If
	// AdvertiseAddr is empty it is not used, and the port that the node listens
	// on is advertised.
	AdvertisePort int

	// TCPTimeout limits the time to connect, the time of each direction of an
	// exchange on a stream, and the time of a DNS lookup, each separately.
	// Default: 10 s / 30 s / 1 s. Zero or less: 10 s.
	TCPTimeout time.Duration

	// UDPBufferSize is the size in bytes that packets aim for. Default: 1400,
	// which fits an Ethernet frame. A message that is longer is sent in a
	// packet of its own; over UDP the system fragments such a packet, and it is
	// lost if one fragment is. Raise the value if the whole network, or the
	// Transport, carries larger packets; over UDP values above 65500 have no
	// further effect. Zero or less: 1400. Less than 128 in addition to the
	// label is an error.
	UDPBufferSize int

	// CIDRsAllowed lists the networks from which members are accepted. It
	// applies to the address that a node advertises and to the address from
	// which the news of it comes. ParseCIDRs parses a list. Empty: all
	// networks.
	CIDRsAllowed []net.IPNet

	// RequireNodeNames makes sending to an address without a node name fail
	// with ErrNodeNameRequired. It is meant for transports that route or
	// authenticate by name.
	RequireNodeNames bool

	// DNSConfigPath is the file, in the format of resolv.conf, that names the
	// DNS server for Join. A host name with a dot is first looked up there over
	// TCP, since an answer with many addresses does not fit into a datagram.
	// Default: "/etc/resolv.conf". Empty: only the system's resolver is used.
	DNSConfigPath string

	// ---- Failure detection ----

	// ProbeInterval is the time between two probes. Each probe checks one other
	// node; all nodes are probed in turn. A node whose health score is not 0
	// probes more slowly. Default: 1 s / 5 s / 1 s. Zero or less: no probes,
	// and so no failure detection.
	ProbeInterval time.Duration

	// ProbeTimeout is how long a probe waits for a direct answer before it asks
	// relays. Set it to at least the 99th percentile of the round trip time,
	// and to less than ProbeInterval. Default: 500 ms / 3 s / 200 ms. Zero or
	// less: relays are asked at once.
	ProbeTimeout time.Duration

	// AdaptiveProbeTimeout replaces ProbeTimeout by a timeout for each node,
	// computed from its smoothed round trip time and deviation. It is at least
	// half of ProbeTimeout and at most four times ProbeTimeout. Off by default.
	AdaptiveProbeTimeout bool

	// IndirectChecks is the number of relays that are asked to ping a node that
	// did not answer. Default: 3 / 3 / 1. Zero or less: none.
	IndirectChecks int

	// DisableTcpPings turns off the ping on a stream that accompanies the
	// indirect probe. Off by default: nodes are pinged on streams.
	DisableTcpPings bool

	// DisableTcpPingsForNode turns off pings on streams for single nodes, by
	// name. It is called before each such ping, on the goroutine that would
	// send it and with no lock held; calls can be concurrent. Nil: only
	// DisableTcpPings decides.
	DisableTcpPingsForNode func(nodeName string) bool

	// SuspicionMult scales the time in which a suspect can refute before it is
	// declared dead. That is at least SuspicionMult × max(1, log10(nodes)) ×
	// ProbeInterval. A higher value detects failures later and makes fewer
	// false accusations. SuspicionMult − 2 is the number of confirmations by
	// other nodes that shorten the time to this minimum. Default: 4 / 6 / 3.
	// Zero or less: a suspect has no time to refute.
	SuspicionMult int

	// SuspicionMaxTimeoutMult is the time that a suspect has if no other node
	// confirms the suspicion, as a multiple of the minimum. Default: 6. One or
	// less: always the minimum.
	SuspicionMaxTimeoutMult int

	// AwarenessMaxMultiplier is an upper bound of the health score (see
	// GetHealthScore), which stays below it. A node with score s waits s + 1
	// times as long between probes. Default: 8. Less than 1: 1, so the score is
	// always 0.
	AwarenessMaxMultiplier int

	// DeadNodeReclaimTime is the time after which a node at another address may
	// take the name of a dead node even if the old address still answers. It
	// only adds to the normal check of addresses, which always applies: if a
	// node answers at a new address and no longer at the old one, it is taken
	// to have moved within one ProbeTimeout. The name of a node that left is
	// free at once. Zero: a name is never freed by time alone.
	DeadNodeReclaimTime time.Duration

	// ---- Dissemination ----

	// GossipInterval is the time between two gossip rounds. Default: 200 ms /
	// 500 ms / 100 ms. Zero or less: no rounds; changes travel only on probes.
	GossipInterval time.Duration

	// GossipNodes is the number of nodes that each gossip round sends to.
	// Default: 3 / 4 / 3. Zero or less: no gossip.
	GossipNodes int

	// GossipToTheDeadTime is how long a dead node still receives gossip, so
	// that it can refute, and how long nodes that died or left stay in the
	// member table. Default: 30 s / 60 s / 15 s. Zero or less: they are removed
	// at the next opportunity.
	GossipToTheDeadTime time.Duration

	// RetransmitMult scales how often a broadcast is sent: RetransmitMult ×
	// ceil(log10(nodes + 1)) times. If it is above 1, changes of membership are
	// sent at least min(nodes, 12) times, since fewer would not reach every node
	// of a small cluster. Default: 4 / 4 / 2. Zero or less: once.
	RetransmitMult int

	// EnableCompression compresses what is sent if that makes it shorter.
	// Compressed input is always accepted. Default: true.
	EnableCompression bool

	// HandoffQueueDepth is the number of messages from packets that can wait in
	// each queue to be handled and, with a Transport of the program's own, the
	// number of packets that can wait to be sent. Each queue is also limited to
	// 16 MiB, or to HandoffQueueDepth × UDPBufferSize if that is more; a single
	// larger message is accepted if the queue is empty. What does not fit is
	// dropped, logged and counted. Default: 1024. Zero or less: 1024.
	HandoffQueueDepth int

	// NodeSelection limits the targets of gossip and push/pull, for instance to
	// the node's own zone. Nil: all nodes.
	NodeSelection NodeSelectionDelegate

	// ---- State exchange and healing ----

	// PushPullInterval is the time between two full state exchanges with
	// another node, on a stream. With more than 32 nodes the interval grows.
	// Default: 30 s / 60 s / 15 s. Zero or less: no periodic exchanges.
	PushPullInterval time.Duration

	// PushPullNodes is the number of nodes that each round exchanges state
	// with, one after the other. Default: 1. Zero or less: 1.
	PushPullNodes int

	// ReconnectInterval is the longest time between two attempts to reach a
	// node that died (not one that left), so that a cluster heals after a
	// partition. A node that died recently is tried more often: first every two
	// probe intervals, then at intervals of 1/240 of the time since its death.
	// The members share the work, and each sends at most one such ping per
	// probe interval. Default: 30 s / 60 s / 30 s. Zero or less: dead nodes are
	// not tried.
	ReconnectInterval time.Duration

	// ReconnectTimeout is how long after its death a node is tried. Default: 24
	// h / 72 h / 24 h. Zero or less: as long as it stays in the member table,
	// see GossipToTheDeadTime.
	ReconnectTimeout time.Duration

	// Seeds are addresses of nodes, in the form that Join accepts, or
	// "_service._proto.name" for a DNS SRV record. They also serve a node that
	// never called Join. Every RejoinInterval the library resolves them again
	// and exchanges state with each address that belongs to no living member
	// and not to this node; if there is none, nothing is sent. So parts of a
	// cluster that never met become one. An entry of the form "name/address"
	// counts as known while a node with that name is alive, whatever its
	// address. A seed that cannot be resolved is logged once an hour. After
	// Leave the seeds are not contacted until the next Join. Empty: none.
	Seeds []string

	// SeedSource returns additional seeds, for instance from a file or an API.
	// It is called before each time that the seeds are resolved, on a goroutine
	// of the library, with no lock held; calls do not overlap. The context ends
	// after RejoinInterval (ReconnectInterval if that is zero) and with
	// Shutdown. No seeds are contacted until the call returns. An error is
	// logged once an hour; only Seeds are contacted that time. Nil: none.
	SeedSource func(context.Context) ([]string, error)

	// RejoinInterval is the time between two attempts to contact the seeds,
	// jittered by a tenth. The first attempt comes within one interval of
	// Create. It has no effect without Seeds and SeedSource. Default: 30 s / 60
	// s / 30 s. Zero or less: the seeds are contacted every ReconnectInterval,
	// and only if no other node is left, or at most two are left and more than
	// that were lost.
	RejoinInterval time.Duration

	// detector turns off parts of the failure detector, for tests and experiments.
	detector detectorSwitches

	// ---- Encryption ----

	// SecretKey is the key to seal with: 16, 24 or 32 bytes select AES-128,
	// AES-192 or AES-256. If Keyring is nil, Create makes a Keyring from it.
	// Otherwise Create adds it to the Keyring and makes it the primary key.
	// Empty: only Keyring counts.
	SecretKey []byte

	// Keyring holds the keys. The primary key seals, any key opens. Keys can be
	// added, removed and made primary at any time. If it is nil or empty, and
	// SecretKey is empty, nothing is encrypted; adding a key to an empty
	// Keyring later turns encryption on.
	Keyring *Keyring

	// GossipVerifyIncoming refuses input that is not sealed with a key of the
	// Keyring. Turn it off to accept clear text as well while encryption is
	// introduced. It has no effect without keys. Default: true.
	GossipVerifyIncoming bool

	// GossipVerifyOutgoing seals what is sent. Turn it off to send clear text,
	// although there are keys, while encryption is introduced. Default: true.
	GossipVerifyOutgoing bool

	// MinEncryptionVersion is the lowest encryption version that is accepted.
	// Default: 0, which is all. Set it to 1 if no node speaks protocol version
	// 1; only such nodes seal with version 0, which pads. The version is not
	// authenticated. Without this setting, somebody who can change packets on
	// their way can present one version as the other, and so cut off what looks
	// like padding at the end of a message, or leave padding there. More than
	// 1, or 1 together with ProtocolVersion 1, is an error.
	MinEncryptionVersion uint8

	// ---- Hooks ----

	// Delegate provides and receives the program's own data. Nil: none.
	Delegate Delegate

	// Events is told when nodes join, leave and change. See also
	// EventReasonDelegate. Nil: nobody is told.
	Events EventDelegate

	// Conflict is told when two nodes claim the same name. Nil: it is only
	// logged.
	Conflict ConflictDelegate

	// Merge can refuse a Join, on both sides. Nil: none is refused.
	Merge MergeDelegate

	// Ping receives round trip times and adds data to the answers to pings.
	// Nil: nobody receives them, and answers are empty.
	Ping PingDelegate

	// Alive can refuse single nodes. Nil: none is refused.
	Alive AliveDelegate

	// ---- Logging and metrics ----

	// LogOutput receives classic log lines, "[WARN] memberlist: …", with the
	// standard flags of package log. LogOutput and Logger must not both be set.
	// If LogOutput, Logger and StructuredLogger are all nil, lines go to
	// standard error.
	LogOutput io.Writer

	// Logger receives the classic log lines instead of LogOutput. With
	// log.Lshortfile a line names the place in the library that wrote it.
	Logger *log.Logger

	// StructuredLogger receives the log as records. Each message is one of a
	// fixed set of texts; what varies is in attributes such as node, addr,
	// incarnation and err. It can be set in addition to LogOutput or Logger. If
	// only StructuredLogger is set, no classic lines are written, and levels
	// that its handler does not want cost nothing.
	StructuredLogger *slog.Logger

	// MetricLabels are added to every metric. Metrics go to the global instance
	// of github.com/hashicorp/go-metrics.
	MetricLabels []metrics.Label

	// QueueCheckInterval is the time between two samples of the length of the
	// broadcast queue. Default: 30 s. Zero or less: none.
	QueueCheckInterval time.Duration

	// ---- Compatibility ----

	// MsgpackUseNewTimeFormat has no effect, since no message contains a time.
	// It is there for compatibility.
	MsgpackUseNewTimeFormat bool
}

// detectorSwitches turn off the parts of the failure detector that go beyond SWIM and
// Lifeguard, to measure what each is worth (docs/detector.md). In the zero value all
// parts are on. None changes the wire format. Programs have no use for them, so they
// are not exported.
type detectorSwitches struct {
	noSelfCheck        bool // accuse others without proof that this node is reachable
	noFinalProbe       bool // declare suspects dead without probing them once more
	noRepeatedPing     bool // do not repeat pings that are not answered
	noResponsiveRelays bool // choose relays uniformly
	noStallGuard       bool // deadlines that passed while the process stood still count
	noAddressCheck     bool // a known name at another address is a conflict
	noTombstones       bool // forget verdicts together with the node
	noResync           bool // wait for the next full exchange after having been cut off
	noAccuserCheck     bool // accept accusations of nodes that are suspect, gone or new
}

// DefaultLANConfig returns the preset for a local network: round trips of a few
// milliseconds, all nodes in one data centre. In a small cluster a dead node is
// suspected after about two seconds and declared dead four seconds later.
func DefaultLANConfig() *Config {
	// P1 lists the values.
	hostname, _ := os.Hostname() // empty if the system has none
	return &Config{
		Name:            hostname,
		ProtocolVersion: ProtocolVersion2Compatible,

		BindAddr:      "0.0.0.0",
		BindPort:      7946,
		AdvertisePort: 7946,
		TCPTimeout:    10 * time.Second,
		UDPBufferSize: 1400,
		DNSConfigPath: "/etc/resolv.conf",

		ProbeInterval:           time.Second,
		ProbeTimeout:            500 * time.Millisecond,
		IndirectChecks:          3,
		SuspicionMult:           4,
		SuspicionMaxTimeoutMult: 6,
		AwarenessMaxMultiplier:  8,

		GossipInterval:      200 * time.Millisecond,
		GossipNodes:         3,
		GossipToTheDeadTime: 30 * time.Second,
		RetransmitMult:      4,
		EnableCompression:   true,
		HandoffQueueDepth:   1024,

		PushPullInterval:  30 * time.Second,
		PushPullNodes:     1,
		ReconnectInterval: 30 * time.Second,
		ReconnectTimeout:  24 * time.Hour,
		RejoinInterval:    30 * time.Second,

		GossipVerifyIncoming: true,
		GossipVerifyOutgoing: true,

		QueueCheckInterval: 30 * time.Second,
	}
}

// DefaultWANConfig returns the preset for wide area networks, where round trips
// take up to seconds: slower and more patient than [DefaultLANConfig].
func DefaultWANConfig() *Config {
	c := DefaultLANConfig()
	c.TCPTimeout = 30 * time.Second
	c.ProbeInterval = 5 * time.Second
	c.ProbeTimeout = 3 * time.Second
	c.SuspicionMult = 6
	c.GossipInterval = 500 * time.Millisecond
	c.GossipNodes = 4
	c.GossipToTheDeadTime = 60 * time.Second
	c.PushPullInterval = 60 * time.Second
	c.ReconnectInterval = 60 * time.Second
	c.ReconnectTimeout = 72 * time.Hour
	c.RejoinInterval = 60 * time.Second
	return c
}

// DefaultLocalConfig returns the preset for nodes on one machine, as in tests
// and examples: quicker than [DefaultLANConfig], and less thorough.
func DefaultLocalConfig() *Config {
	c := DefaultLANConfig()
	c.TCPTimeout = time.Second
	c.ProbeTimeout = 200 * time.Millisecond
	c.IndirectChecks = 1
	c.SuspicionMult = 3
	c.GossipInterval = 100 * time.Millisecond
	c.GossipToTheDeadTime = 15 * time.Second
	c.RetransmitMult = 2
	c.PushPullInterval = 15 * time.Second
	return c
}

// BuildVsnArray returns the six bytes by which a node with this configuration
// announces its versions: lowest and highest protocol version understood,
// version spoken, and the same of the delegate's protocol.
func (c *Config) BuildVsnArray() []byte {
	return []byte{ // P4, W66
		ProtocolVersionMin, ProtocolVersionMax, c.ProtocolVersion,
		c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion,
	}
}

// EncryptionEnabled reports whether the keyring holds at least one key. The
// answer can change while the node runs, with the keys. A SecretKey counts only
// once Create has put it into the ring.
func (c *Config) EncryptionEnabled() bool {
	return c.Keyring != nil && c.Keyring.GetPrimaryKey() != nil // P5
}

// IPMustBeChecked reports whether members are accepted from certain networks
// only.
func (c *Config) IPMustBeChecked() bool {
	return len(c.CIDRsAllowed) > 0
}

// IPAllowed returns nil if a member may have this address, and otherwise an
// error for which errors.Is(err, ErrRejected) holds. A nil address is in no
// network.
func (c *Config) IPAllowed(ip net.IP) error {
	if !c.IPMustBeChecked() { // P6
		return nil
	}
	for i := range c.CIDRsAllowed {
		if c.CIDRsAllowed[i].Contains(ip) {
			return nil
		}
	}
	return newKindError(ErrRejected, "%s is not allowed", ip)
}

// ParseCIDRs parses networks in the form "10.0.0.0/8" for
// [Config.CIDRsAllowed]. Space around an entry is ignored. It returns those
// that are right, never nil, and a *multierror.Error with one error for each
// that is not.
func ParseCIDRs(cidrs []string) ([]net.IPNet, error) {
	networks := []net.IPNet{} // not nil (P7)
	var wrong *multierror.Error
	for _, entry := range cidrs {
		entry = strings.TrimSpace(entry)
		_, network, err := net.ParseCIDR(entry)
		if err != nil {
			wrong = multierror.Append(wrong, fmt.Errorf("invalid cidr: %s", entry))
			continue
		}
		networks = append(networks, *network)
	}
	return networks, wrong.ErrorOrNil()
}

// validate checks, in this order, what can be known to be wrong before anything
// is started (P9). It changes nothing.
func (c *Config) validate() error {
	if err := c.validateVersion(); err != nil {
		return err
	}
	if len(c.SecretKey) > 0 {
		if err := ValidateKey(c.SecretKey); err != nil {
			return err
		}
	}
	if c.LogOutput != nil && c.Logger != nil {
		return errTwoLogOutputs
	}
	if err := c.validateEncryptionVersion(); err != nil {
		return err
	}
	if len(c.Label) > LabelMaxSize {
		return newKindError(ErrTooLarge, "could not use %q as a label: too long", c.Label)
	}
	if len(c.Name) > maxNameLen {
		return newKindError(ErrTooLarge, "node name of %d bytes is over the limit of %d: change Config.Name", len(c.Name), maxNameLen)
	}
	if err := c.validateBufferSize(); err != nil {
		return err
	}
	return c.validatePorts()
}

// minBufferSize is the least UDPBufferSize beside the label. Sealed as version 0, it
// leaves 80 bytes for broadcasts.
const minBufferSize = 128

// validateBufferSize refuses packets in which there is no room.
func (c *Config) validateBufferSize() error {
	least := minBufferSize
	if c.Label != "" {
		least += labelHeadLen + len(c.Label)
	}
	if c.UDPBufferSize > 0 && c.UDPBufferSize < least {
		return fmt.Errorf("packets of %d bytes have no room for broadcasts, %d are needed: change Config.UDPBufferSize", c.UDPBufferSize, least)
	}
	return nil
}

func (c *Config) validateVersion() error {
	var wrong string
	switch v := c.ProtocolVersion; {
	case v < ProtocolVersionMin:
		wrong = "low"
	case v > ProtocolVersionMax:
		wrong = "high"
	default:
		return nil
	}
	return newKindError(ErrVersion, "protocol version '%d' too %s. Must be in range: [%d, %d]",
		c.ProtocolVersion, wrong, ProtocolVersionMin, ProtocolVersionMax)
}

// validateEncryptionVersion refuses a least version that is not known, or that this
// node itself does not write (W86).
func (c *Config) validateEncryptionVersion() error {
	switch least, written := c.MinEncryptionVersion, boxVersion(c.ProtocolVersion); {
	case least > boxPlain:
		return fmt.Errorf("encryption version %d is not known: Config.MinEncryptionVersion can be 0 or 1", least)
	case written < least:
		return newKindError(ErrVersion, "protocol version %d goes with encryption version %d, and Config.MinEncryptionVersion is %d",
			c.ProtocolVersion, written, least)
	}
	return nil
}

// validatePorts refuses ports that do not exist (P9).
func (c *Config) validatePorts() error {
	const text = "port %d is not in the range [0, %d]: change Config.%s"
	if c.BindPort < 0 || c.BindPort > maxPort {
		return fmt.Errorf(text, c.BindPort, maxPort, "BindPort")
	}
	if c.AdvertiseAddr != "" && (c.AdvertisePort < 0 || c.AdvertisePort > maxPort) {
		return fmt.Errorf(text, c.AdvertisePort, maxPort, "AdvertisePort")
	}
	return nil
}

// maxPort is the highest port number.
const maxPort = 65535

// complete fills in what the configuration leaves to the library: the keyring,
// and the fields whose zero value stands for a default. It is called once,
// after validate (P8, P9).
func (c *Config) complete() error {
	if err := c.completeKeyring(); err != nil {
		return err
	}
	c.boundTimes()
	c.boundFactors()
	if c.TCPTimeout <= 0 {
		c.TCPTimeout = 10 * time.Second
	}
	if c.UDPBufferSize <= 0 {
		c.UDPBufferSize = 1400
	}
	if c.HandoffQueueDepth <= 0 {
		c.HandoffQueueDepth = 1024
	}
	return nil
}

// boundTimes replaces times that the protocol cannot reckon with by the next one
// that it can: the largest durations stand for never, and would overflow (P157).
func (c *Config) boundTimes() {
	for _, period := range []*time.Duration{
		&c.ProbeInterval, &c.GossipInterval, &c.PushPullInterval,
		&c.ReconnectInterval, &c.RejoinInterval, &c.QueueCheckInterval,
	} {
		if *period > 0 { // else it is off
			*period = max(*period, shortestPeriod)
		}
		*period = bounded(*period, 0, longestPeriod)
	}
	for _, limit := range []*time.Duration{
		&c.TCPTimeout, &c.ProbeTimeout, &c.DeadNodeReclaimTime,
		&c.GossipToTheDeadTime, &c.ReconnectTimeout,
	} {
		*limit = bounded(*limit, 0, longestPeriod)
	}
}

// boundFactors does the same for numbers of nodes and factors (P157).
func (c *Config) boundFactors() {
	for _, factor := range []*int{
		&c.IndirectChecks, &c.SuspicionMult, &c.SuspicionMaxTimeoutMult,
		&c.GossipNodes, &c.RetransmitMult,
	} {
		*factor = bounded(*factor, 0, maxFactor)
	}
	c.AwarenessMaxMultiplier = bounded(c.AwarenessMaxMultiplier, 1, maxFactor) // P68
	c.PushPullNodes = bounded(c.PushPullNodes, 1, maxFactor)                   // P154
}

// maxFactor bounds what counts nodes or multiplies: more than any cluster has.
const maxFactor = 1 << 20

// bounded is the value nearest to v from low to high.
func bounded[T cmp.Ordered](v, low, high T) T { return min(max(v, low), high) }

// completeKeyring puts SecretKey into the ring as its primary key (P9).
func (c *Config) completeKeyring() error {
	if len(c.SecretKey) == 0 {
		return nil
	}
	if c.Keyring == nil {
		ring, err := NewKeyring(nil, c.SecretKey)
		if err != nil {
			return err
		}
		c.Keyring = ring
		return nil
	}
	if err := c.Keyring.AddKey(c.SecretKey); err != nil {
		return err
	}
	return c.Keyring.UseKey(c.SecretKey)
}

// knownPort is the port of a message: this node's bind port where none is given,
// and always for a node that speaks version 1 (W65, W74).
func (c *Config) knownPort(port uint16) uint16 {
	if port == 0 || c.ProtocolVersion == 1 {
		return uint16(c.BindPort)
	}
	return port
}

// minQueueBytes is how many bytes each queue may hold at least.
const minQueueBytes = 16 << 20

// queueBytes is how many bytes each queue may hold: as many as its packets have when
// they are of the size in which this node fills its own (P198).
func (c *Config) queueBytes() int {
	depth, size := c.HandoffQueueDepth, c.UDPBufferSize
	if depth > math.MaxInt/size {
		return math.MaxInt
	}
	return max(minQueueBytes, depth*size)
}
