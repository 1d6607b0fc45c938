package simnet

import (
	"io"
	"net"
	"time"
)

// streamPatience is how long a streams-only endpoint waits for the bytes of a
// packet, and for a connection to carry one.
const streamPatience = 5 * time.Second

// The first byte of a stream between streams-only endpoints says what it is.
const (
	carriesPacket = 'P'
	carriesStream = 'S'
)

// receiveQueue is how many packets wait for the goroutine of Serve.
const receiveQueue = 4096

// Packet is one received datagram.
type Packet struct {
	Buf  []byte
	From net.Addr
	At   time.Time
}

// Sender is the outgoing side of an endpoint.
type Sender interface {
	Send(packet []byte, to string) (time.Time, error)
	Dial(to string, timeout time.Duration) (net.Conn, error)
}

// Serve calls onPacket and onStream for what arrives, each from one goroutine,
// until the endpoint is closed, and returns the way to send. With streamsOnly
// the endpoint uses no datagrams: each packet travels on a stream of its own,
// as in programs that have only TCP or TLS. All endpoints of a network must
// then do so.
func Serve(e *Endpoint, streamsOnly bool, onPacket func(Packet), onStream func(net.Conn)) Sender {
	if streamsOnly {
		go e.eachStream(func(c net.Conn) { go sortStream(c, onPacket, onStream) })
		return streamSender{e}
	}
	packets := make(chan Packet, receiveQueue)
	e.OnPacket(func(buf []byte, from net.Addr, at time.Time) bool {
		select {
		case packets <- Packet{Buf: buf, From: from, At: at}:
			return true
		default:
			return false
		}
	})
	go e.eachPacket(packets, onPacket)
	go e.eachStream(onStream)
	return e
}

func (e *Endpoint) eachPacket(packets <-chan Packet, f func(Packet)) {
	for {
		select {
		case p := <-packets:
			f(p)
		case <-e.done:
			return
		}
	}
}

func (e *Endpoint) eachStream(f func(net.Conn)) {
	for {
		select {
		case c := <-e.accept:
			f(c)
		case <-e.done:
			return
		}
	}
}

func sortStream(c net.Conn, onPacket func(Packet), onStream func(net.Conn)) {
	var mark [1]byte
	c.SetReadDeadline(time.Now().Add(streamPatience))
	if _, err := io.ReadFull(c, mark[:]); err != nil {
		c.Close()
		return
	}
	if mark[0] == carriesStream {
		c.SetReadDeadline(time.Time{})
		onStream(c)
		return
	}
	defer c.Close()
	if buf, err := io.ReadAll(c); err == nil {
		onPacket(Packet{Buf: buf, From: c.RemoteAddr(), At: time.Now()})
	}
}

// streamSender sends packets over streams.
type streamSender struct{ e *Endpoint }

func (s streamSender) Dial(to string, timeout time.Duration) (net.Conn, error) {
	return s.open(to, timeout, carriesStream)
}

// Send does not wait for the connection, like the transports that it imitates.
func (s streamSender) Send(packet []byte, to string) (time.Time, error) {
	buf := append([]byte(nil), packet...)
	go func() {
		c, err := s.open(to, streamPatience, carriesPacket)
		if err != nil {
			return
		}
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(streamPatience))
		c.Write(buf)
	}()
	return time.Now(), nil
}

func (s streamSender) open(to string, timeout time.Duration, mark byte) (net.Conn, error) {
	c, err := s.e.Dial(to, timeout)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{mark}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
