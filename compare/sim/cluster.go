package sim

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// Cluster is a number of nodes on one network, and the account of what each of
// them believes. A node is known by its number, from which its name follows;
// the same number comes back with the same name.
type Cluster struct {
	Net  *simnet.Network
	opts ClusterOptions

	mu         sync.Mutex // guards everything below
	slots      []slot
	numbers    map[string]int
	addresses  map[netip.AddrPort]int // 1-based, in the order of use
	changes    []Change
	wrong      int           // wrong entries in the views of all live nodes
	wholeSince time.Duration // when wrong last became 0
	nextAddr   uint32
}

// ClusterOptions say how a cluster is made.
type ClusterOptions struct {
	Size          int
	Spare         int // further numbers, for nodes that are started later
	Library       Library
	Other         Library // runs every second node if set
	Preset        Preset
	SuspicionMult int
	Conditions    simnet.Conditions
	Seed          uint64
	Log           io.Writer
}

// Change is one event that a node told its program.
type Change struct {
	At       time.Duration
	Observer int
	Subject  int
	Present  bool // joined or was updated; else it left or died
}

// slot is what there is to a number.
type slot struct {
	node     Node
	endpoint *simnet.Endpoint
	live     bool
	addr     int   // the address under which it can be reached, 0 while it is away
	view     []int // for each number, the address at which this node has it, 0 if it is no member
	wrong    int   // entries of view that are wrong
}

// NewCluster starts opts.Size nodes that know each other. It fails when they
// do not find together in five minutes.
func NewCluster(opts ClusterOptions) (*Cluster, error) {
	c := &Cluster{
		Net:       simnet.NewNetwork(opts.Conditions, opts.Seed),
		opts:      opts,
		slots:     make([]slot, opts.Size+opts.Spare),
		numbers:   make(map[string]int),
		addresses: make(map[netip.AddrPort]int),
	}
	for i := range c.slots {
		c.numbers[c.NodeName(i)] = i
		c.slots[i].view = make([]int, len(c.slots))
	}
	if err := c.form(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// form has everyone join through the first node, as with a seed, each in its turn.
func (c *Cluster) form() error {
	for i := range c.opts.Size {
		if err := c.Start(i, c.NewAddr()); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		if _, err := c.Node(i).Join(c.Addr(0)); err != nil {
			return err
		}
	}
	if _, whole := c.AwaitWhole(5 * time.Minute); !whole {
		return fmt.Errorf("sim: %d nodes did not find together: %d wrong entries", c.opts.Size, c.Wrong())
	}
	return nil
}

// Close shuts every node and the network down, and waits until what the
// libraries leave behind has ended.
func (c *Cluster) Close() {
	for i := range c.slots {
		c.Kill(i)
	}
	c.Net.Close()
	time.Sleep(2 * time.Minute)
}

// NodeName is the name of a number.
func (c *Cluster) NodeName(number int) string { return fmt.Sprintf("n%03d", number) }

// NewAddr is an address that nobody had before.
func (c *Cluster) NewAddr() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextAddr++
	ip := netip.AddrFrom4([4]byte{10, byte(c.nextAddr >> 16), byte(c.nextAddr >> 8), byte(c.nextAddr)})
	return netip.AddrPortFrom(ip, 7946)
}

// Start runs the node with the given number, which knows nobody, at an address.
func (c *Cluster) Start(number int, addr netip.AddrPort) error {
	library := c.opts.Library
	if c.opts.Other != nil && number%2 == 1 {
		library = c.opts.Other
	}
	endpoint := c.Net.Listen(addr)
	c.mu.Lock()
	s := &c.slots[number]
	s.endpoint = endpoint
	s.live = true
	clear(s.view)
	c.setAddr(number, c.addressNumber(addr))
	c.mu.Unlock()
	node, err := library.Start(NodeSpec{
		Name:          c.NodeName(number),
		Endpoint:      endpoint,
		Preset:        c.opts.Preset,
		SuspicionMult: c.opts.SuspicionMult,
		Events:        &observer{c, number, endpoint},
		Log:           c.opts.Log,
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	s.node = node
	return err
}

// Kill ends a node without a word, if it runs.
func (c *Cluster) Kill(number int) {
	c.mu.Lock()
	s := &c.slots[number]
	node, endpoint := s.node, s.endpoint
	s.node, s.live = nil, false
	c.setAddr(number, 0)
	c.mu.Unlock()
	if node != nil {
		endpoint.Close()
		node.Shutdown()
	}
}

// Leave has a node say good-bye and ends it then.
func (c *Cluster) Leave(number int, timeout time.Duration) {
	c.mu.Lock()
	s := &c.slots[number]
	node := s.node
	s.live = false
	c.setAddr(number, 0)
	c.mu.Unlock()
	if node != nil {
		node.Leave(timeout)
	}
	c.Kill(number)
}

// Node is the running node of a number, or nil.
func (c *Cluster) Node(number int) Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slots[number].node
}

// Endpoint is the endpoint of a number.
func (c *Cluster) Endpoint(number int) *simnet.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slots[number].endpoint
}

// Addr is the address of a number, as one joins it.
func (c *Cluster) Addr(number int) string { return c.Endpoint(number).Addr().String() }

// Wrong is how many entries in the views of live nodes are wrong: live nodes
// that are missing or known at another address, and others that are listed.
func (c *Cluster) Wrong() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong
}

// WholeSince tells whether every view is right, and since when.
func (c *Cluster) WholeSince() (since time.Duration, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wholeSince, c.wrong == 0
}

// AwaitWhole waits until every view is right, or for the limit.
// It returns the time that it took, to a tenth of a second at worst when it is
// not reached.
func (c *Cluster) AwaitWhole(limit time.Duration) (took time.Duration, whole bool) {
	start := c.Net.Now()
	for {
		if since, whole := c.WholeSince(); whole {
			return max(0, since-start), true
		}
		if c.Net.Now()-start >= limit {
			return limit, false
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Changes are all changes so far that the filter lets through.
func (c *Cluster) Changes(filter func(Change) bool) []Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Change
	for _, change := range c.changes {
		if filter(change) {
			found = append(found, change)
		}
	}
	return found
}

// CountChanges is the number of changes that the filter lets through.
func (c *Cluster) CountChanges(filter func(Change) bool) int { return len(c.Changes(filter)) }

// Check compares the account with what the nodes list when asked, and returns
// an error for the first difference.
func (c *Cluster) Check() error {
	for i := range c.slots {
		node := c.Node(i)
		if node == nil {
			continue
		}
		view := make([]int, len(c.slots))
		node.EachMember(func(name string, addr net.IP, port uint16) {
			view[c.numbers[name]] = c.addressNumberOf(addr, port)
		})
		c.mu.Lock()
		for j, have := range view {
			if noted := c.slots[i].view[j]; noted != have && i != j {
				c.mu.Unlock()
				return fmt.Errorf("sim: %s has %s at address %d, but told of %d", c.NodeName(i), c.NodeName(j), have, noted)
			}
		}
		c.mu.Unlock()
	}
	return nil
}

// Traffic adds up what the endpoints of the given numbers have sent.
func (c *Cluster) Traffic(numbers []int) simnet.Traffic {
	var sum simnet.Traffic
	for _, number := range numbers {
		t := c.Endpoint(number).Traffic()
		sum.Packets += t.Packets
		sum.PacketBytes += t.PacketBytes
		sum.Streams += t.Streams
		sum.StreamBytes += t.StreamBytes
		sum.Overflow += t.Overflow
	}
	return sum
}

// addressNumber numbers the addresses; c.mu is held.
func (c *Cluster) addressNumber(addr netip.AddrPort) int {
	number := c.addresses[addr]
	if number == 0 {
		number = len(c.addresses) + 1
		c.addresses[addr] = number
	}
	return number
}

func (c *Cluster) addressNumberOf(ip net.IP, port uint16) int {
	addr, _ := netip.AddrFromSlice(ip)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addressNumber(netip.AddrPortFrom(addr.Unmap(), port))
}

// setAddr sets where a number can be reached and counts anew what is wrong
// about it; c.mu is held.
func (c *Cluster) setAddr(number, addr int) {
	c.slots[number].addr = addr
	for i := range c.slots {
		c.recount(i)
	}
}

// recount counts the wrong entries of one view; c.mu is held.
func (c *Cluster) recount(observer int) {
	s := &c.slots[observer]
	wrong := 0
	if s.live {
		for j, have := range s.view {
			if have != c.slots[j].addr {
				wrong++
			}
		}
	}
	c.addWrong(s, wrong-s.wrong)
}

// addWrong changes the count of wrong entries of one view; c.mu is held.
func (c *Cluster) addWrong(s *slot, change int) {
	before := c.wrong
	s.wrong += change
	c.wrong += change
	if before != 0 && c.wrong == 0 {
		c.wholeSince = c.Net.Now()
	}
}

// see notes that the observer has the subject at an address now; c.mu is held.
func (c *Cluster) see(observer, subject, addr int) {
	s := &c.slots[observer]
	truth := c.slots[subject].addr
	was, is := s.view[subject] != truth, addr != truth
	s.view[subject] = addr
	if s.live && was != is {
		change := 1
		if was {
			change = -1
		}
		c.addWrong(s, change)
	}
	c.changes = append(c.changes, Change{c.Net.Now(), observer, subject, addr != 0})
}

// observer is the event delegate of one run of one number.
type observer struct {
	cluster  *Cluster
	number   int
	endpoint *simnet.Endpoint
}

func (o *observer) Present(name string, ip net.IP, port uint16) {
	c := o.cluster
	addr := c.addressNumberOf(ip, port)
	c.mu.Lock()
	defer c.mu.Unlock()
	o.note(c.numbers[name], addr)
}

func (o *observer) Gone(name string) {
	o.cluster.mu.Lock()
	defer o.cluster.mu.Unlock()
	o.note(o.cluster.numbers[name], 0)
}

// note drops what an earlier run of the same number still has to say.
func (o *observer) note(subject, addr int) {
	if s := &o.cluster.slots[o.number]; s.endpoint == o.endpoint && s.live {
		o.cluster.see(o.number, subject, addr)
	}
}
