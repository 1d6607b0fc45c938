package sim

import (
	"io"
	"net"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// A Library makes nodes. Both libraries are used as they are, through the API
// that every program uses.
type Library interface {
	// Name is how the library is called in reports.
	Name() string
	// Start creates a running node which knows nobody yet.
	Start(NodeSpec) (Node, error)
}

// Preset is one of the three configurations that both libraries come with.
type Preset string

// The presets.
const (
	PresetLAN   Preset = "lan"
	PresetWAN   Preset = "wan"
	PresetLocal Preset = "local"
)

// NodeSpec is what a node is made from.
type NodeSpec struct {
	Name     string
	Endpoint *simnet.Endpoint
	Preset   Preset
	// SuspicionMult replaces the preset's value unless it is 0.
	SuspicionMult int
	// Events is told what the node's event delegate is told.
	Events Events
	// Log gets the node's log lines; nil drops them.
	Log io.Writer
}

// Events are a node's announcements about others and itself. They may come from
// any goroutine, and with the library's locks held.
type Events interface {
	// Present says that a member joined, or was updated, and is known at addr.
	Present(name string, addr net.IP, port uint16)
	// Gone says that a member left or died.
	Gone(name string)
}

// Node is a running node.
type Node interface {
	// Join exchanges state with the given addresses and returns how many succeeded.
	Join(addrs ...string) (int, error)
	// Leave announces the departure and waits up to the timeout.
	Leave(timeout time.Duration) error
	// Update announces the node anew, which raises its incarnation.
	Update(timeout time.Duration) error
	// Shutdown stops the node without a word.
	Shutdown()
	// EachMember calls f for every member that the node lists.
	EachMember(f func(name string, addr net.IP, port uint16))
	// Health is the node's health score; 0 is healthy.
	Health() int
}
