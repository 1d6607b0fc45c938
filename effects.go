package memberlist

import (
	"net/netip"
	"time"
)

// effects is what the core wants done in the world. The shell takes it while it
// still holds the lock, and carries it out after releasing it.
type effects struct {
	packets  []outPacket
	gossip   []*Node
	streams  []streamTask
	events   []event
	logs     []logLine
	rtts     []roundTrip
	signals  []chan struct{} // to be closed
	answered []*pingWaiter
	metrics  metricCounts

	selectGossip bool // gossip targets are to be chosen by a NodeSelectionDelegate
	sample       bool // the queue depth is to be reported
}

func (fx *effects) empty() bool {
	return len(fx.packets) == 0 && len(fx.gossip) == 0 && len(fx.streams) == 0 &&
		len(fx.events) == 0 && len(fx.logs) == 0 &&
		len(fx.rtts) == 0 && len(fx.signals) == 0 && len(fx.answered) == 0 &&
		fx.metrics == (metricCounts{}) && !fx.selectGossip && !fx.sample
}

// reset makes fx empty and keeps its room, without keeping what it pointed to.
func (fx *effects) reset() {
	*fx = effects{
		packets: emptied(fx.packets), gossip: emptied(fx.gossip), streams: emptied(fx.streams),
		events: emptied(fx.events), logs: emptied(fx.logs), rtts: emptied(fx.rtts),
		signals: emptied(fx.signals), answered: emptied(fx.answered),
	}
}

// keepEffects is how many effects of a kind a list keeps room for.
const keepEffects = 64

func emptied[T any](list []T) []T {
	if cap(list) > keepEffects {
		return nil
	}
	clear(list)
	return list[:0]
}

// destination is where a packet goes.
type destination struct {
	addr netip.AddrPort // used when text is empty
	text string         // "host:port" as the caller gave it
	name string
	node *Node // set when the packet is meant for this known member (W25)
}

// outPacket is one packet to send.
type outPacket struct {
	to        destination
	msg       []byte  // the encoded main message
	piggyback bool    // broadcasts may go with it (P75)
	urgent    urgency // the queue it takes where sending may block
	seq       uint32  // of the ping in it, 0 = none: its sending is reported back

	passed chan struct{} // not a packet: to be closed when those before it were sent
}

// urgency is the queue of a packet on transports whose sending may block, so
// that slow gossip does not hold up probes, nor probes answers.
type urgency uint8

const (
	urgentReply urgency = iota
	urgentProbe
	urgentGossip
	urgencies
)

type streamKind uint8

const (
	streamProbe    streamKind = iota // fallback ping (P55)
	streamSync                       // periodic push/pull (P115)
	streamVisit                      // push/pull for a reason
	streamSeeds                      // a join with the configured seeds
	streamLeave                      // tells a member of this node's departure
	streamIdentify                   // push/pull that tells which address the node has
)

// streamTask is an exchange that the core wants on a stream.
type streamTask struct {
	kind    streamKind
	node    *Node         // nil: a streamSync whose partners are still to be selected
	seq     uint32        // streamProbe: of the ping that it backs up
	timeout time.Duration // streamProbe, streamLeave, streamIdentify
	quiet   bool          // streamProbe: failing is nothing to tell

	checkFor  *indirectProbe // streamProbe: whose target was asked at the same moment; nil if it is the target
	departure *departure     // streamLeave
	notice    *notice        // streamLeave
}

// roundTrip is a direct ack in time, for the ping delegate (P53).
type roundTrip struct {
	node    *Node
	rtt     time.Duration
	payload []byte
}

// logLine is a log line that is still to be written.
type logLine struct {
	level   logLevel
	message string
	fields  logFields
	format  string
	args    []any
	pc      uintptr // where it was asked for
}

// metricCounts are the counters of P147 that the core's decisions feed.
type metricCounts struct {
	alive, suspect, dead int
	degradedProbe        int
	degradedTimeout      int
	health               int
	healthChanged        bool
	probeTook            time.Duration
	probeEnded           bool
	relaysRefused        int
}

// toNode is the destination of a packet to a known member.
func toNode(n *Node) destination {
	return destination{addr: addrPortOf(n.Addr, n.Port), name: n.Name, node: n}
}
