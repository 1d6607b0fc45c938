package node

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// How a broadcast came to a node.
const (
	ByGossip = "gossip" // as a user message
	ByState  = "state"  // inside the user state of a push/pull
	Own      = "own"    // sent here
)

// The first byte of every user message says what it is.
const (
	broadcastTag = 'B'
	directTag    = 'D'
)

// App is the program around a node: it replicates broadcasts in the way that
// programs do (each node passes on what is new to it, and push/pull carries
// everything known), and it records what its node tells.
// Its methods may be called by anyone at any time.
type App struct {
	// What the node is given. Set before Start, or not at all.
	RefuseMerge func(others []Member) error
	RefuseAlive func(Member) error
	AckPayload  []byte // non-nil: the node has a ping delegate
	Log         Log

	mu     sync.Mutex
	meta   string
	state  []byte // goes first in the user state
	queue  func(msg []byte)
	ended  bool
	record record
}

type record struct {
	broadcasts map[string]string // text → how it came
	direct     map[string]int
	events     []Event
	conflicts  []string
	pongs      []Pong
	states     []State
	view       map[string]Member // by the last event
}

// Event is one call of the event delegate.
type Event struct {
	Kind string // "join", "leave" or "update"
	Node Member
	At   time.Time
}

// Pong is one call of the ping delegate.
type Pong struct {
	From    string
	RTT     time.Duration
	Payload string
}

// State is one user state received.
type State struct {
	Prefix string // what SetState gave at the other end
	Join   bool
}

// SetMeta sets what the node will say about itself when it is next asked.
func (a *App) SetMeta(meta string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.meta = meta
}

// SetState puts bytes in front of the user state sent from now on.
func (a *App) SetState(prefix string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = []byte(prefix)
}

// SetQueue tells where broadcasts go; adapters call it.
func (a *App) SetQueue(queue func(msg []byte)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = queue
}

// Direct dresses a message that goes to one node.
func Direct(text string) []byte { return append([]byte{directTag}, text...) }

// Broadcast sends text to all nodes, through the queue.
func (a *App) Broadcast(text string) { a.learn(text, Own) }

// learn records a broadcast and passes it on if it is new. The queue is called
// without the lock, since a library may call back from its queue.
func (a *App) learn(text, how string) {
	queue := a.recordBroadcast(text, how)
	if queue != nil && how != ByState {
		queue(append([]byte{broadcastTag}, text...))
	}
}

// recordBroadcast returns the queue, or nil if the broadcast was known.
func (a *App) recordBroadcast(text, how string) func(msg []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.record.broadcasts == nil {
		a.record.broadcasts = make(map[string]string)
	}
	if _, known := a.record.broadcasts[text]; known {
		return nil
	}
	a.record.broadcasts[text] = how
	return a.queue
}

// NodeMeta, NotifyMsg, LocalState and MergeRemoteState have the shape that
// both libraries want from a delegate.
func (a *App) NodeMeta(limit int) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.meta == "" {
		return nil
	}
	return []byte(a.meta[:min(limit, len(a.meta))])
}

// NotifyMsg takes a user message.
func (a *App) NotifyMsg(msg []byte) {
	if len(msg) == 0 {
		a.count("")
		return
	}
	text := string(msg[1:])
	if msg[0] == broadcastTag {
		a.learn(text, ByGossip)
		return
	}
	a.count(text)
}

func (a *App) count(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.record.direct == nil {
		a.record.direct = make(map[string]int)
	}
	a.record.direct[text]++
}

// LocalState is the prefix, a zero byte, and all broadcasts known.
func (a *App) LocalState(bool) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	texts := make([]string, 0, len(a.record.broadcasts))
	for text := range a.record.broadcasts {
		texts = append(texts, text)
	}
	list, err := json.Marshal(texts)
	if err != nil {
		panic(err) // strings always marshal
	}
	return bytes.Join([][]byte{a.state, list}, []byte{0})
}

// MergeRemoteState takes what LocalState made elsewhere.
func (a *App) MergeRemoteState(buf []byte, join bool) {
	prefix, list, _ := bytes.Cut(buf, []byte{0})
	var texts []string
	if err := json.Unmarshal(list, &texts); err != nil {
		a.Log.Write([]byte("[ERR] test: user state: " + err.Error() + "\n"))
	}
	for _, text := range texts {
		a.learn(text, ByState)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.states = append(a.record.states, State{Prefix: string(prefix), Join: join})
}

// End says that the node is being killed: what it still tells, such as the
// outcome of suspicions whose timers outlive it, is not recorded.
func (a *App) End() {
	a.Log.end()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}

// Changed records an event.
func (a *App) Changed(kind string, m Member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	if a.record.view == nil {
		a.record.view = make(map[string]Member)
	}
	a.record.view[m.Name] = m
	a.record.events = append(a.record.events, Event{Kind: kind, Node: m, At: time.Now()})
}

// Seen gives a member as the last event about it did, or only its name.
func (a *App) Seen(name string) Member {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, ok := a.record.view[name]; ok {
		return m
	}
	return Member{Name: name}
}

// Conflicted records a name conflict.
func (a *App) Conflicted(existing, other Member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.conflicts = append(a.record.conflicts, existing.Name+" "+existing.Addr+" "+other.Addr)
}

// Answered records a completed ping.
func (a *App) Answered(from string, rtt time.Duration, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.pongs = append(a.record.pongs, Pong{From: from, RTT: rtt, Payload: string(payload)})
}

// Received tells how a broadcast came, or "" if it did not.
func (a *App) Received(text string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record.broadcasts[text]
}

// ByGossip is how many of the broadcasts known here came by gossip.
func (a *App) ByGossip() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := 0
	for _, how := range a.record.broadcasts {
		if how == ByGossip {
			count++
		}
	}
	return count
}

// Broadcasts is how many broadcasts are known here.
func (a *App) Broadcasts() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.record.broadcasts)
}

// DirectCount is how often a direct message has come.
func (a *App) DirectCount(text string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record.direct[text]
}

// Events gives the events of one node, or of all when name is empty.
func (a *App) Events(name string) []Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	var events []Event
	for _, e := range a.record.events {
		if name == "" || e.Node.Name == name {
			events = append(events, e)
		}
	}
	return events
}

// Conflicts gives the conflicts as "name mine theirs".
func (a *App) Conflicts() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.record.conflicts)
}

// Pongs gives the completed pings.
func (a *App) Pongs() []Pong {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.record.pongs)
}

// States gives the user states received.
func (a *App) States() []State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.record.states)
}

// Log collects the lines of a node's log. Its zero value is ready.
type Log struct {
	mu    sync.Mutex
	lines []string
	ended bool
}

func (l *Log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// Write takes one line, as log.Logger writes it.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return len(p), nil
	}
	l.lines = append(l.lines, strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// Lines gives what was logged from the given line on.
func (l *Log) Lines(from int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[min(from, len(l.lines)):])
}

// Len is the number of lines so far.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}
