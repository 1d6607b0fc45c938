// Package node is the common face of the two libraries: what a test wants from
// a node, whichever library runs it, and the program around the node that
// records what happened. The adapters in the packages beside this one put it on
// github.com/hashicorp/memberlist and on this repository's library.
package node

import (
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Library starts nodes of one kind.
type Library interface {
	// Name is a short name for tables, such as "v0.7.0".
	Name() string
	// Start creates a node. The App is the program around it; it must not be
	// used with another node.
	Start(Options, *App) (Node, error)
}

// Options are the settings that the tests vary; zero values mean the preset's.
type Options struct {
	Name     string
	Preset   string           // "lan" (also when empty), "wan" or "local"
	Endpoint *simnet.Endpoint // nil: real sockets on BindAddr:BindPort
	Streams  bool             // with Endpoint: a transport that carries packets over streams only

	// StripLabels makes the transport remove the label header of whatever comes
	// in, as something in front of a node does it. With Endpoint only.
	StripLabels bool

	BindAddr string
	BindPort int

	Protocol    uint8
	Label       string
	SkipLabel   bool
	Keys        [][]byte // the first is the primary one
	EmptyRing   bool     // a keyring without keys, to be filled later
	Unverified  bool     // GossipVerifyIncoming off
	Unsealed    bool     // GossipVerifyOutgoing off
	Compression bool

	ProbeInterval    time.Duration
	ProbeTimeout     time.Duration
	GossipInterval   time.Duration
	PushPullInterval time.Duration
	GossipToTheDead  time.Duration
	TCPTimeout       time.Duration
	DeadReclaim      time.Duration
	SuspicionMult    int
	RetransmitMult   int
	UDPBufferSize    int
	DisableTCPPings  bool
	RequireNames     bool
}

// Node is a running node.
type Node interface {
	Join(hosts ...string) (int, error)
	Leave(timeout time.Duration) error
	Update(timeout time.Duration) error
	Shutdown() error

	Members() []Member
	Local() Member
	HealthScore() int

	// SendBestEffort, SendReliable and Ping look the member up by name among
	// Members.
	SendBestEffort(to string, msg []byte) error
	SendReliable(to string, msg []byte) error
	Ping(to string) (time.Duration, error)
	// SendToAddress sends to "ip:port" without a name.
	SendToAddress(addr string, msg []byte) error

	// Queue hands a message to the library's TransmitLimitedQueue.
	Queue(msg []byte)
	// Queued is how many messages wait there.
	Queued() int

	AddKey(key []byte) error
	UseKey(key []byte) error
	RemoveKey(key []byte) error
}

// Member is one entry of a member list. Its fields are as the last event about
// the node gave them: the nodes that v0.7.0 hands out elsewhere go on changing
// while the caller reads them.
type Member struct {
	Name string
	Addr string // "ip:port"
	Meta string
	PMin uint8
	PMax uint8
	PCur uint8
}
