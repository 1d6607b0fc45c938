package memberlist

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// NodeStateType is the state of a node. The values are part of the wire format.
type NodeStateType int

const (
	// StateAlive is a member in good standing.
	StateAlive NodeStateType = iota
	// StateSuspect is a member that somebody could not reach. It still counts as
	// a member and has until the end of the suspicion to refute.
	StateSuspect
	// StateDead is a node that did not refute a suspicion in time.
	StateDead
	// StateLeft is a node that announced its departure.
	StateLeft
)

// String returns the name of the state in lower case, as in the label node_state of the
// metric memberlist.node.instances.
func (s NodeStateType) String() string {
	switch s {
	case StateAlive:
		return "alive"
	case StateSuspect:
		return "suspect"
	case StateDead:
		return "dead"
	case StateLeft:
		return "left"
	}
	return fmt.Sprintf("unknown state %d", int(s))
}

// Node is a snapshot of one member. The library never writes to a Node after handing it
// out: a change appears as a new Node in the next call or event. A Node is shared by all
// who asked for it, so callers must not modify it, nor the bytes of Addr and Meta.
//
// Two Nodes of one member are different pointers if anything about the member has
// changed between them, including its state. So a *Node does not identify a member,
// neither with == nor as a map key. Use Name.
type Node struct {
	// Name is the unique name of the node.
	Name string
	// Addr is the advertised IP address in the form in which the node announced
	// it: 4 or 16 bytes.
	Addr net.IP
	// Meta is what the node's Delegate gave as NodeMeta; at most MetaMaxSize
	// bytes come from this library.
	Meta []byte
	// State is the node's state at the time of the snapshot. For the nodes given
	// to MergeDelegate.NotifyMerge it is the other side's view. Programs that must
	// also run on hashicorp/memberlist cannot rely on it: it is always 0 there,
	// except in NotifyMerge.
	State NodeStateType
	// Port is the advertised port, for packets and streams.
	Port uint16
	// PMin is the lowest protocol version that the node understands, PMax the
	// highest, PCur the one that it speaks.
	PMin, PMax, PCur uint8
	// DMin, DMax and DCur are the same for the user's own protocol, as configured
	// by DelegateProtocolMin, Max and Version.
	DMin, DMax, DCur uint8
}

// Address returns "ip:port", with brackets around an IPv6 address.
func (n *Node) Address() string { return joinHostPort(n.Addr, n.Port) }

// FullAddress returns the address together with the node's name.
func (n *Node) FullAddress() Address { return Address{Addr: n.Address(), Name: n.Name} }

// String returns the node's name.
func (n *Node) String() string { return n.Name }

// NodeState is a node together with what the member table records about it. A
// NodeSelectionDelegate chooses from these. It is a snapshot like Node.
type NodeState struct {
	Node
	// Incarnation orders what is said about the node: newer beats older. Only the
	// node itself raises it.
	Incarnation uint32
	// State is the node's state.
	State NodeStateType
	// StateChange is when the node entered this state.
	StateChange time.Time
}

// Address returns "ip:port" of the node.
func (s *NodeState) Address() string { return s.Node.Address() }

// FullAddress returns the node's address together with its name.
func (s *NodeState) FullAddress() Address { return s.Node.FullAddress() }

// DeadOrLeft reports whether the node is dead or has left.
func (s *NodeState) DeadOrLeft() bool { return s.State == StateDead || s.State == StateLeft }

// newNode makes the immutable record of a node (P34). It owns its bytes.
func newNode(name string, addr []byte, port uint16, meta, vsn []byte, state NodeStateType) *Node {
	return nodeFrom(borrow(name), addr, port, meta, vsn, state)
}

// nodeFrom is newNode for what an alive message or a node state says.
func nodeFrom(name borrowed, addr []byte, port uint16, meta, vsn []byte, state NodeStateType) *Node {
	n, owned := nodeWithRoom(name.len() + len(addr) + len(meta))
	owned = name.appendTo(owned)
	n.Name, n.Port, n.State = textOf(owned), port, state
	owned = append(owned, addr...)
	n.Addr = net.IP(owned[name.len():len(owned):len(owned)])
	if meta != nil {
		start := len(owned)
		owned = append(owned, meta...)
		n.Meta = owned[start:len(owned):len(owned)]
	}
	n.setVersions(vsn)
	return n
}

// nodeWithRoom makes a Node together with room for that many bytes. They share one
// piece of memory, in the sizes that the allocator has: that is what a member
// costs most of, and 20 to 30 bytes less than two pieces.
func nodeWithRoom(size int) (*Node, []byte) {
	switch {
	case size <= 16:
		m := new(struct {
			Node
			room [16]byte
		})
		return &m.Node, m.room[:0]
	case size <= 32:
		m := new(struct {
			Node
			room [32]byte
		})
		return &m.Node, m.room[:0]
	case size <= 48:
		m := new(struct {
			Node
			room [48]byte
		})
		return &m.Node, m.room[:0]
	case size <= 64:
		m := new(struct {
			Node
			room [64]byte
		})
		return &m.Node, m.room[:0]
	case size <= 96:
		m := new(struct {
			Node
			room [96]byte
		})
		return &m.Node, m.room[:0]
	case size <= 128:
		m := new(struct {
			Node
			room [128]byte
		})
		return &m.Node, m.room[:0]
	}
	return new(Node), make([]byte, 0, size)
}

// withState is a copy of n in another state. It shares nothing with n, which would
// otherwise stay in memory for the sake of its bytes.
func (n *Node) withState(state NodeStateType) *Node {
	versions := n.versions()
	return newNode(n.Name, n.Addr, n.Port, n.Meta, versions[:], state)
}

// setVersions takes over the six version bytes of W66; fewer count as zero (W67).
func (n *Node) setVersions(vsn []byte) {
	if len(vsn) < 6 {
		return
	}
	n.PMin, n.PMax, n.PCur = vsn[0], vsn[1], vsn[2]
	n.DMin, n.DMax, n.DCur = vsn[3], vsn[4], vsn[5]
}

// versions are the six bytes of W66.
func (n *Node) versions() [6]byte {
	return [6]byte{n.PMin, n.PMax, n.PCur, n.DMin, n.DMax, n.DCur}
}

// sameContent reports whether n carries this meta and these versions.
func (n *Node) sameContent(meta, vsn []byte) bool {
	versions := n.versions()
	return bytes.Equal(n.Meta, meta) && bytes.Equal(versions[:], vsn)
}

// says reports whether n shows exactly what an alive message about it says.
func (n *Node) says(a *alive) bool {
	return n.Port == a.Port && bytes.Equal(n.Addr, a.Addr) && n.sameContent(a.Meta, a.Vsn) &&
		(n.Meta == nil) == (a.Meta == nil)
}

// at reports whether n lives at the address.
func (n *Node) at(ip []byte, port uint16) bool {
	return n.Port == port && sameIP(n.Addr, ip)
}

// joinHostPort is the text form of an advertised address (P37, W73).
func joinHostPort(ip net.IP, port uint16) string {
	if ap := addrPortOf(ip, port); ap.IsValid() {
		return ap.String()
	}
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
}

// addrPortOf is the address of a packet's destination or sender. The 16-byte
// form of an IPv4 address gives the same result as the 4-byte one.
func addrPortOf(ip []byte, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// sameIP compares two advertised addresses. The 4-byte and the 16-byte form of
// one IPv4 address are the same address, other than in the reference (W72).
func sameIP(a, b []byte) bool {
	return string(a) == string(b) || net.IP(a).Equal(net.IP(b))
}

// copyOfNode copies a node with the bytes it refers to, so that a receiver who
// changes them does not change the snapshot that others hold (P127).
func copyOfNode(node *Node) *Node {
	c := *node
	c.Addr = slices.Clone(node.Addr)
	c.Meta = bytes.Clone(node.Meta)
	return &c
}
