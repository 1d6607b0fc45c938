package memberlist

import "math/rand/v2"

// core is the protocol: the member table, the rules by which messages change it
// (SWIM §4, Lifeguard §IV), and the deadlines. It has no clock, socket,
// goroutine or log; it is given the time with each call and leaves effects
// behind. It is not safe for concurrent use.
type core struct {
	cfg   *Config
	rng   *rand.Rand
	queue *TransmitLimitedQueue // broadcasts about members (P84)

	noEvents  bool // nobody wants to hear of changes
	noReasons bool // nobody wants to hear their reasons

	table             table
	verdicts          verdicts // about names that are not in the table
	timers            timerHeap
	timersAfterSweep  int // alarms that the last sweep left
	pings             map[uint32]*pendingPing
	relays            relays
	unknownRequesters answerAllowance

	self            *member
	incarnation     uint32 // the highest that this node has used or was accused with
	leaving         bool   // Leave was called and Join not since
	departure       *departure
	health          awareness
	probing         prober
	gossiping       gossipRounds
	selfCheck       selfCheck
	streamSelfCheck selfCheck
	unverified      failedProbe // waits for an alibi; none if its member is nil
	syncing         bool        // a periodic push/pull is on its way

	lost           lostNodes
	reunion        reunion
	nextReconnect  instant
	seeding        bool    // the seeds are being tried
	nextSeeding    instant // not before
	lastRefutation instant // last time the own refutation was queued
	suspectRecord  *member // one whose record may have been led away, to ask it
	nextLeap       instant // the next advance by more than one may not come before

	messages []byte // the piece of memory that broadcasts are written to

	fx effects
}

func newCore(cfg *Config, rng *rand.Rand) *core {
	c := &core{
		cfg:      cfg,
		rng:      rng,
		table:    newTable(),
		verdicts: newVerdicts(cfg),
		pings:    make(map[uint32]*pendingPing),
		health:   newAwareness(cfg.AwarenessMaxMultiplier),
	}
	c.queue = &TransmitLimitedQueue{
		NumNodes:       func() int { return int(c.table.view.known.Load()) },
		RetransmitMult: cfg.RetransmitMult,
		sendsAlone:     true,
	}
	if cfg.RetransmitMult > 1 {
		c.queue.least = fewNodes
	}
	return c
}

// adjustHealth changes the local health score (P67).
func (c *core) adjustHealth(delta int) {
	if c.health.apply(delta) {
		c.fx.metrics.health, c.fx.metrics.healthChanged = c.health.score, true
	}
}

// emit reports a change of a member to the user.
func (c *core) emit(kind eventKind, change Change) {
	if c.noEvents || c.noReasons && kind == eventNone {
		return
	}
	e := event{kind: kind, node: change.Node}
	if !c.noReasons {
		e.change = new(Change)
		*e.change = change
	}
	c.fx.events = append(c.fx.events, e)
}

// logf asks for a log line, as the methods of logger do. It remembers the place of
// its caller, since the line is written later from elsewhere.
func (c *core) logf(level logLevel, message string, fields logFields, format string, args ...any) {
	line := logLine{level: level, message: message, fields: fields, format: format, args: args, pc: callerPC(1)}
	c.fx.logs = append(c.fx.logs, line)
}
