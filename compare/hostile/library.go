package hostile

import (
	"io"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// A Library makes nodes. Both are used as they are, with the LAN preset.
type Library interface {
	// Name is how the library is called in the document.
	Name() string
	// Start creates a running node that knows nobody.
	Start(Setup) (Node, error)
}

// Setup is what a node is made from. Zero values leave out what they stand for.
type Setup struct {
	Name     string
	Endpoint *simnet.Endpoint
	Key      []byte
	Log      io.Writer
	// OnMessage takes user messages, and OnUpdate is called for each update of a
	// member. Both may block.
	OnMessage func([]byte)
	OnUpdate  func()
}

// Node is a running node.
type Node interface {
	Join(addr string) error
	// Members are the names of those that the node lists, itself among them.
	Members() []string
	// Queue hands a broadcast to the library's TransmitLimitedQueue, and Queued is
	// how many wait there.
	Queue(msg []byte)
	Queued() int
	Shutdown()
}
