package memberlist

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
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

// MetaMaxSize is the longest meta data of a node in bytes.
const MetaMaxSize = 512

// Config holds all settings of a node. Start from one of the presets,
// [DefaultLANConfig], [DefaultWANConfig] or [DefaultLocalConfig], and change
// what has to differ. The fields name the defaults of the presets as LAN / WAN
// / Local, or one value where they agree; nothing is said where it is the zero
// value.
//
// [Create] takes the configuration over: do not change it afterwards, and give
// each node its own. Create itself writes what it decided into it: Keyring, if
// only SecretKey was given; BindPort and AdvertisePort, if BindPort was 0; and
// defaults for the few fields below whose zero value says so.
//
// A duration of more than nine years is taken for nine years, which is never, an
// interval below a millisecond for a millisecond, and a number of nodes or factor
// above a million for a million. So math.MaxInt64 may stand for never.
//
// The timing has to be the same on all nodes of a cluster to be of use: a node
// with a shorter suspicion than the others accuses for all of them.
type Config struct {
	// ---- Identity ----

	// Name identifies the node and must be unique in the cluster. The library
	// does not check it; a second node of the name is told to Conflict.
	// Default: the host name. More than 512 bytes are an error, and nodes with
	// such a name are not let in. An empty name is taken as it is, and is of no
	// use.
	Name string

	// Label is a tag of at most LabelMaxSize bytes in front of everything that
	// is sent. Only input with the same label is accepted: clusters that could
	// reach each other by mistake stay apart. It is not secret. Empty: no
	// label, and input that has one is refused.
	Label string

	// SkipInboundLabelCheck accepts input without a label as if it had the
	// right one; another label is still refused. Without a Label, any is
	// accepted. It is for nodes behind something that checks labels and strips
	// them, and for the time in which a cluster is given its label: first all
	// nodes get this switch, then the label, then the switch is taken off. With
	// encryption that cannot be, since a label is part of what is sealed.
	SkipInboundLabelCheck bool

	// ProtocolVersion is the version spoken, ProtocolVersionMin to
	// ProtocolVersionMax. Default: 2. Zero is an error. With
	// version 1, ports in messages are not relied upon and what is sealed is
	// padded; 2 to 5 differ only in what is announced. Features of later versions
	// are used towards nodes that understand them, whatever version is spoken.
	// There is rarely a reason to change the default.
	ProtocolVersion uint8

	// DelegateProtocolVersion, DelegateProtocolMin and DelegateProtocolMax are
	// the version of the program's own protocol that it speaks, and the lowest
	// and highest that it understands. The library announces them and refuses
	// exchanges with nodes that they do not go together with. All zero
	// everywhere: no restriction.
	DelegateProtocolVersion uint8
	DelegateProtocolMin     uint8
	DelegateProtocolMax     uint8

	// ---- Network ----

	// Transport carries packets and streams. nil: a NetTransport on
	// BindAddr:BindPort, that is, UDP and TCP. If it is a NodeAwareTransport it
	// is told node names as well as addresses. Shutdown shuts it down.
	Transport Transport

	// BindAddr is the IP to listen on for packets and streams. Default:
	// "0.0.0.0", all interfaces, as are "::" and the empty string. A host name,
	// or an address with a port, is an error. Not used with a Transport.
	BindAddr string

	// BindPort is the port to listen on for both. Default: 7946. Zero: the
	// system chooses one that is free for both, and Create writes it here and
	// into AdvertisePort. It is also the port of addresses that name
	// none, in Join and in messages of old nodes, so with a Transport too it
	// should be the cluster's usual port.
	BindPort int

	// AdvertiseAddr is the IP that other nodes are told to reach this one at.
	// Empty: BindAddr, or the first suitable address of an interface if that is
	// unspecific.
	AdvertiseAddr string

	// AdvertisePort is the port to go with AdvertiseAddr. Default: 7946. It is
	// not used if AdvertiseAddr is empty; the bound port is told then.
	AdvertisePort int

	// TCPTimeout limits connecting and, separately, each direction of an
	// exchange over a stream, and the lookup of names over DNS. Default: 10 s /
	// 30 s / 1 s. Zero or less: 10 s.
	TCPTimeout time.Duration

	// UDPBufferSize is the size in bytes that packets aim for. Default: 1400,
	// what an Ethernet frame carries with room to spare. A message that is longer
	// is sent in a packet of its own: by UDP that is broken into fragments, and
	// lost with any of them. Raise it if the whole network, or the Transport,
	// carries more; over UDP, 65500 is as good as anything above. Zero or less:
	// 1400. Less than 128 beside the label is an error.
	UDPBufferSize int

	// CIDRsAllowed are the networks from which members are accepted, by their
	// advertised address and by that of the sender. ParseCIDRs makes them from
	// text. Empty, nil or not: all.
	CIDRsAllowed []net.IPNet

	// RequireNodeNames makes sending to an address without a node name fail
	// with ErrNodeNameRequired. It is for transports that route or authenticate
	// by name.
	RequireNodeNames bool

	// DNSConfigPath is the file that the name server for Join is read from, in
	// the format of resolv.conf. Names with a dot are asked for there over TCP
	// first, since answers with many addresses do not fit into a datagram.
	// Default: "/etc/resolv.conf". Empty: only the system's resolver is asked.
	DNSConfigPath string

	// ---- Failure detection ----

	// ProbeInterval is the time between two probes; each probe asks one other
	// node, all of them in turn. Default: 1 s / 5 s / 1 s. Zero or less: no
	// probes, and so no failure detection. A node that is overloaded itself
	// stretches it.
	ProbeInterval time.Duration

	// ProbeTimeout is how long a direct answer may take before relays are
	// asked; set it to the 99th percentile of the round trip time or above.
	// Default: 500 ms / 3 s / 200 ms. It should be shorter than ProbeInterval.
	// Zero or less: relays are asked at once.
	ProbeTimeout time.Duration

	// AdaptiveProbeTimeout replaces ProbeTimeout by a time for each node, made
	// from its smoothed round trip time and deviation and kept between half and
	// four times ProbeTimeout. Off by default.
	AdaptiveProbeTimeout bool

	// IndirectChecks is the number of relays that are asked to ping a node
	// which did not answer. Default: 3 / 3 / 1. Zero or less: none.
	IndirectChecks int

	// DisableTcpPings switches off the ping over a stream that is tried beside
	// the relays. Off by default: nodes are pinged over streams.
	DisableTcpPings bool

	// DisableTcpPingsForNode decides the same for one node, by its name. It is
	// called each time before such a ping, on the goroutine that would make it and
	// under no lock, and may be called concurrently. nil: DisableTcpPings alone
	// decides.
	DisableTcpPingsForNode func(nodeName string) bool

	// SuspicionMult is the factor of the time a suspect has to defend itself
	// before it is declared dead: at least SuspicionMult × max(1, log10(nodes))
	// × ProbeInterval. Higher is slower and errs less. Two less than it is the
	// number of confirmations by other nodes that shorten the time to this
	// minimum. Default: 4 / 6 / 3. Zero or less: no time at all.
	SuspicionMult int

	// SuspicionMaxTimeoutMult is the time that a suspect has if nobody confirms
	// the suspicion, as a multiple of the minimum. Default: 6. 1 and less:
	// always the minimum.
	SuspicionMaxTimeoutMult int

	// AwarenessMaxMultiplier bounds the health score (GetHealthScore) from
	// above: it is less than this. A node with score s probes s + 1 times as
	// slowly. Default: 8. Below 1: 1, no score.
	AwarenessMaxMultiplier int

	// DeadNodeReclaimTime is the time after which the name of a dead node may
	// be taken over by a node at another address without being asked for at the
	// old one. Zero: time alone does not free it. The name of a node that left is
	// free at once. Whatever it is, a node that answers at another address,
	// and no more at the old one, is taken for moved within a ProbeTimeout.
	DeadNodeReclaimTime time.Duration

	// ---- Dissemination ----

	// GossipInterval is the time between two rounds of gossip. Default: 200 ms
	// / 500 ms / 100 ms. Zero or less: none; news ride on probes alone.
	GossipInterval time.Duration

	// GossipNodes is the number of random nodes that each round sends to.
	// Default: 3 / 4 / 3. Zero or less: no gossip.
	GossipNodes int

	// GossipToTheDeadTime is how long a dead node is still sent gossip, so that
	// it can defend itself, and how long dead and left nodes stay in the table.
	// Default: 30 s / 60 s / 15 s. Zero or less: they are dropped at the next
	// occasion.
	GossipToTheDeadTime time.Duration

	// RetransmitMult is the factor of how often a broadcast is sent:
	// RetransmitMult × ceil(log10(nodes + 1)) times. Above 1, news of members
	// are sent eight times at least, or as often as there are nodes if these are
	// fewer: with less, small clusters miss some. Default: 4 / 4 / 2. Zero or less:
	// once.
	RetransmitMult int

	// EnableCompression compresses what is sent, where that makes it shorter.
	// What is received may be compressed anyway. Default: true.
	EnableCompression bool

	// HandoffQueueDepth bounds each of the queues in which messages that
	// arrived in packets wait to be handled, and with a Transport of the program's
	// own each of those in which packets wait to be sent. What comes when it is
	// full is dropped, with a warning and a count. Each is also bounded in bytes: to
	// 16 MiB, or to HandoffQueueDepth packets of UDPBufferSize if that is more; one
	// message that is larger fits if the queue is empty. Default: 1024. Zero or
	// less: 1024.
	HandoffQueueDepth int

	// NodeSelection narrows down the targets of gossip and push/pull, for
	// instance to the own zone. nil: all nodes.
	NodeSelection NodeSelectionDelegate

	// ---- State exchange and healing ----

	// PushPullInterval is the time between two exchanges of the whole state
	// with another node, over a stream. Above 32 nodes it is stretched.
	// Default: 30 s / 60 s / 15 s. Zero or less: none but those of Join.
	PushPullInterval time.Duration

	// PushPullNodes is the number of nodes that each round exchanges with, one
	// after the other. Default: 1. Zero or less: 1.
	PushPullNodes int

	// ReconnectInterval is the longest time between two pings to a node that died,
	// not left, so that a cluster which was parted becomes whole again. A node that
	// died a short while ago is pinged more often, every two probe intervals at
	// first, and later each 240th part of the time since its death. The members
	// share that work; each sends not more than one such ping in a probe interval.
	// Default: 30 s / 60 s / 30 s. Zero or less: nobody is looked for.
	ReconnectInterval time.Duration

	// ReconnectTimeout is how long a node is remembered for that after its
	// death. Default: 24 h / 72 h / 24 h. Zero or less: until it leaves the
	// table (GossipToTheDeadTime).
	ReconnectTimeout time.Duration

	// Seeds are entries in the form that Join takes, and names of the form
	// "_service._proto.name" for SRV records. Each RejoinInterval they are
	// resolved anew, and state is exchanged with the addresses that neither a
	// living member nor this node has; nothing is sent if there are none. So parts
	// of a cluster that never met become one. An entry with a node name in front
	// counts as known while a node of that name lives, at whatever address. A seed
	// that cannot be resolved is warned of, once an hour. After Leave the seeds are
	// left in peace until the next Join. Empty: none.
	Seeds []string

	// SeedSource returns further entries for Seeds, from a file, an API or
	// anything else. It is called each time before the seeds are resolved, by one
	// goroutine of the library at a time, under no lock. The context ends after
	// RejoinInterval, without one after ReconnectInterval, and with Shutdown; while
	// the call has not returned, no seeds are contacted. An error is warned of, once
	// an hour, and Seeds alone are contacted this time. nil: none.
	SeedSource func(context.Context) ([]string, error)

	// RejoinInterval is the time, jittered by a tenth, between two times that the
	// seeds are resolved and contacted, the first of which comes within one interval
	// of Create. Without Seeds and SeedSource it has no effect. Default: 30 s / 60 s
	// / 30 s. Zero or less: they are contacted each ReconnectInterval, only while no
	// other node is left, or at most two and more than that were lost.
	RejoinInterval time.Duration

	// Detector switches off single parts of the failure detector that go beyond
	// SWIM and Lifeguard, to compare or to rule one out. Zero: all are on, as they
	// should be in production. Which parts there are can change between versions.
	Detector DetectorSwitches

	// ---- Encryption ----

	// SecretKey is the key to seal with: 16, 24 or 32 bytes for AES-128,
	// AES-192 or AES-256. Without a Keyring Create makes one of it; with one it
	// is added there and made primary. Empty: the Keyring alone decides.
	SecretKey []byte

	// Keyring holds the keys: sealing is done with the primary one, opening
	// with any. Keys can be added, removed and exchanged at any time. nil or
	// empty, and no SecretKey: no encryption; adding a key to an empty ring
	// later switches it on.
	Keyring *Keyring

	// GossipVerifyIncoming refuses what is not sealed with a key of the ring.
	// Default: true. Off, clear text is accepted too, for the time in which a
	// cluster is given its keys. Without keys it has no effect.
	GossipVerifyIncoming bool

	// GossipVerifyOutgoing seals what is sent. Default: true. Off, clear text
	// is sent even with keys, for the same purpose.
	GossipVerifyOutgoing bool

	// MinEncryptionVersion is the lowest version of encryption that is accepted.
	// Default: 0, all. Set it to 1 where no node speaks protocol version 1: only those
	// seal with version 0, which pads. The version is not authenticated, so whoever can
	// change packets on their way can turn one version into the other, and so cut what
	// looks like padding from the end of a message, or leave padding there. 1 together
	// with ProtocolVersion 1, or more than 1, is an error.
	MinEncryptionVersion uint8

	// ---- Hooks ----

	// Delegate provides and receives the program's own data. nil: none.
	Delegate Delegate

	// Events is told which nodes come and go; see also EventReasonDelegate.
	// nil: nobody.
	Events EventDelegate

	// Conflict is told when two nodes claim one name. nil: it is only logged.
	Conflict ConflictDelegate

	// Merge can refuse a Join on both sides. nil: none is refused.
	Merge MergeDelegate

	// Ping gets round trip times and fills the answers to pings. nil: nobody,
	// empty answers.
	Ping PingDelegate

	// Alive can refuse single nodes. nil: none is refused.
	Alive AliveDelegate

	// ---- Logging and metrics ----

	// LogOutput is where classic log lines go, with the standard flags of
	// package log: "[WARN] memberlist: …". LogOutput and Logger must not both
	// be set. nil, and neither Logger nor StructuredLogger: standard error.
	LogOutput io.Writer

	// Logger gets the classic log lines, in place of LogOutput. With log.Lshortfile
	// a line names the place in the library where it was written.
	Logger *log.Logger

	// StructuredLogger gets the same as records. The message is one of a fixed
	// set of texts; what differs between two records of a message is in the
	// attributes, such as node, addr, incarnation and err. It may
	// be set beside LogOutput or Logger, and then both get everything. If it is
	// set alone, nothing is written elsewhere, and levels that it does not want
	// cost nothing. nil: none.
	StructuredLogger *slog.Logger

	// MetricLabels are put on every metric. The metrics themselves go to the
	// global instance of github.com/hashicorp/go-metrics.
	MetricLabels []metrics.Label

	// QueueCheckInterval is the time between two samples of the length of the
	// broadcast queue. Default: 30 s. Zero or less: none.
	QueueCheckInterval time.Duration

	// ---- Compatibility ----

	// MsgpackUseNewTimeFormat has no effect, since no message contains a time.
	MsgpackUseNewTimeFormat bool
}

// DetectorSwitches names the parts of the failure detector that are this
// library's own. All are on in the zero value; none changes the wire format, and
// nodes with and without them live together. docs/detector.md tells what each is
// worth.
type DetectorSwitches struct {
	// NoAlibi lets a node accuse others without proof that it can hear itself.
	NoAlibi bool
	// NoLastQuestion declares suspects dead without asking them once more.
	NoLastQuestion bool
	// NoSecondPing does not repeat pings that are not answered.
	NoSecondPing bool
	// NoHeardRelays chooses the relays of indirect probes uniformly.
	NoHeardRelays bool
	// NoStallGuard takes deadlines that passed while the process stood still for
	// passed.
	NoStallGuard bool
	// NoAddressCheck takes a known name at another address for a conflict
	// without asking for it at the two addresses.
	NoAddressCheck bool
	// NoTombstones forgets what was said about a node together with the node.
	NoTombstones bool
	// NoWakeUp waits for the next full exchange after having been cut off.
	NoWakeUp bool
	// NoWitnessCheck takes accusations at their word, also those by nodes that are
	// suspect or gone themselves, were so a moment ago, or have just come.
	NoWitnessCheck bool
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

// knownPort is the port of a message: the own bind port where none is given,
// and always for a node that speaks version 1 (W65, W74).
func (c *Config) knownPort(port uint16) uint16 {
	if port == 0 || c.ProtocolVersion == 1 {
		return uint16(c.BindPort)
	}
	return port
}
