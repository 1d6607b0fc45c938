package programs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

// tcpOnly is a transport that has nothing but TCP, or TLS over it: each packet is framed
// on a connection that is kept open for its destination, as programs do it that run
// gossip over TLS or through proxies. Sending never fails visibly.
type tcpOnly struct {
	listener net.Listener
	secure   *tls.Config // nil: plain TCP
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	done     chan struct{}
	wg       sync.WaitGroup

	mu    sync.Mutex
	pool  map[string]net.Conn
	inbox map[net.Conn]bool
}

const (
	packetConn = 'p'
	streamConn = 's'
)

func newTCPOnly(t *testing.T, secure *tls.Config) *tcpOnly {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	o := &tcpOnly{
		listener: l,
		secure:   secure,
		packets:  make(chan *memberlist.Packet),
		streams:  make(chan net.Conn),
		done:     make(chan struct{}),
		pool:     make(map[string]net.Conn),
		inbox:    make(map[net.Conn]bool),
	}
	o.wg.Go(o.accept)
	return o
}

func (o *tcpOnly) accept() {
	for {
		c, err := o.listener.Accept()
		if err != nil {
			return
		}
		o.wg.Go(func() { o.handle(c) })
	}
}

func (o *tcpOnly) handle(c net.Conn) {
	var kind [1]byte
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		c.Close()
		return
	}
	if kind[0] == streamConn {
		select {
		case o.streams <- c:
		case <-o.done:
			c.Close()
		}
		return
	}
	o.track(c, true)
	defer o.track(c, false)
	defer c.Close()
	for {
		packet, from, err := readFrame(c)
		if err != nil {
			return
		}
		select {
		case o.packets <- &memberlist.Packet{Buf: packet, From: from, Timestamp: time.Now()}:
		case <-o.done:
			return
		}
	}
}

func (o *tcpOnly) track(c net.Conn, open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if open {
		o.inbox[c] = true
	} else {
		delete(o.inbox, c)
	}
}

// A frame is the sender's address, its length before it, and the packet, its
// length before it.
func readFrame(r io.Reader) (packet []byte, from net.Addr, err error) {
	addr, err := readBlock(r)
	if err != nil {
		return nil, nil, err
	}
	tcp, err := net.ResolveTCPAddr("tcp", string(addr))
	if err != nil {
		return nil, nil, err
	}
	packet, err = readBlock(r)
	return packet, tcp, err
}

func readBlock(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	block := make([]byte, min(binary.BigEndian.Uint32(head[:]), 1<<20))
	_, err := io.ReadFull(r, block)
	return block, err
}

func appendBlock(b, block []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(block))), block...)
}

func (o *tcpOnly) WriteTo(b []byte, addr string) (time.Time, error) {
	frame := appendBlock(appendBlock(nil, []byte(o.listener.Addr().String())), b)
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.pool[addr]
	if c == nil {
		var err error
		if c, err = o.dial(addr, time.Second); err != nil {
			return time.Now(), nil
		}
		frame = append([]byte{packetConn}, frame...)
		o.pool[addr] = c
	}
	if _, err := c.Write(frame); err != nil {
		c.Close()
		delete(o.pool, addr)
	}
	return time.Now(), nil
}

func (o *tcpOnly) dial(addr string, timeout time.Duration) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: timeout}
	if o.secure != nil {
		return tls.DialWithDialer(dialer, "tcp", addr, o.secure)
	}
	return dialer.Dial("tcp", addr)
}

func (o *tcpOnly) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	c, err := o.dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{streamConn}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (o *tcpOnly) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	a := o.listener.Addr().(*net.TCPAddr)
	return a.IP.To4(), a.Port, nil
}

func (o *tcpOnly) PacketCh() <-chan *memberlist.Packet { return o.packets }
func (o *tcpOnly) StreamCh() <-chan net.Conn           { return o.streams }

// Shutdown waits for everything that it started: it may do so, since the
// library goes on reading the channels until it returns.
func (o *tcpOnly) Shutdown() error {
	o.listener.Close()
	close(o.done)
	o.mu.Lock()
	for _, c := range o.pool {
		c.Close()
	}
	for c := range o.inbox {
		c.Close()
	}
	o.mu.Unlock()
	o.wg.Wait()
	return nil
}

// selfSigned makes a certificate for both ends of a connection, and what trusts it.
func selfSigned(t *testing.T) *tls.Config {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// TestStreamOnly: a cluster that has no datagrams, replicating broadcasts.
func TestStreamOnly(t *testing.T) {
	for name, secure := range map[string]*tls.Config{"TCP": nil, "TLS": selfSigned(t)} {
		t.Run(name, func(t *testing.T) { streamOnly(t, secure) })
	}
}

func streamOnly(t *testing.T, secure *tls.Config) {
	var logged lines
	var nodes []*memberlist.Memberlist
	var hubs []*replica
	for i := range 3 {
		r := &replica{seen: make(map[string]bool)}
		cfg := loopbackConfig(fmt.Sprint("node", i), &logged)
		cfg.Transport, cfg.Delegate = newTCPOnly(t, secure), r.delegate()
		cfg.Label, cfg.SecretKey = "tcp", bytes.Repeat([]byte{7}, 32)
		cfg.DisableTcpPings = true
		cfg.UDPBufferSize = 10 << 20 // packets are no datagrams: no reason to keep them small
		m := create(t, cfg)
		r.queue.NumNodes = func() int { return 3 }
		r.queue.RetransmitMult = 4
		nodes, hubs = append(nodes, m), append(hubs, r)
		if i > 0 {
			_, err := m.Join([]string{hostPort(nodes[0].LocalNode())})
			require.NoError(t, err)
		}
	}
	big := string(bytes.Repeat([]byte("big "), 15000))
	for i, r := range hubs {
		r.say(fmt.Sprint("said by ", i))
		r.say(fmt.Sprint(big, i))
	}
	for i, m := range nodes {
		within(t, 20*time.Second, "three members and six messages", func() bool {
			return m.NumMembers() == 3 && hubs[i].count() == 6
		})
	}
	for i, m := range nodes {
		require.NoError(t, m.SendReliable(nodes[(i+1)%3].LocalNode(), []byte(fmt.Sprint("sent by ", i))))
	}
	for i := range nodes { // each passes on what it is sent
		within(t, 20*time.Second, "nine messages", func() bool { return hubs[i].count() == 9 })
	}
	require.NoError(t, nodes[2].Leave(10*time.Second))
	for _, m := range nodes[:2] {
		within(t, 20*time.Second, "two members", func() bool { return m.NumMembers() == 2 })
	}
	for _, line := range logged.get() {
		require.NotContains(t, line, "[ERR]")
	}
}

// replica passes on what it hears, once.
type replica struct {
	queue memberlist.TransmitLimitedQueue

	mu   sync.Mutex
	seen map[string]bool
}

func (r *replica) delegate() *hub {
	return &hub{
		notifyMsg:     func(b []byte) { r.say(string(b)) },
		getBroadcasts: r.queue.GetBroadcasts,
	}
}

func (r *replica) say(text string) {
	r.mu.Lock()
	fresh := !r.seen[text]
	r.seen[text] = true
	r.mu.Unlock()
	if fresh {
		r.queue.QueueBroadcast(plain(text))
	}
}

func (r *replica) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

type plain []byte

func (p plain) Invalidates(memberlist.Broadcast) bool { return false }
func (p plain) Message() []byte                       { return p }
func (p plain) Finished()                             {}
