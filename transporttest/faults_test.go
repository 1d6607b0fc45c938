package transporttest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

// faultyAs is the environment variable that makes the test program one that runs
// the suite on a transport with the fault of that name.
const faultyAs = "TRANSPORTTEST_FAULT"

// wrong is a good transport, changed in one place by what is not nil.
type wrong struct {
	*memoryTransport
	write    func(b []byte)
	deliver  func(*memoryPacket)
	sent     func(time.Time) time.Time
	dial     func(net.Conn) net.Conn
	shutdown func()
	channel  bool // a new one at each call

	packets chan *memoryPacket
	ended   chan struct{}
	once    atomic.Bool
}

func (w *wrong) start() *wrong {
	w.packets, w.ended = make(chan *memoryPacket), make(chan struct{})
	go func() {
		for {
			select {
			case p := <-w.memoryTransport.PacketCh():
				if w.deliver != nil {
					w.deliver(p)
				}
				select {
				case w.packets <- p:
				case <-w.ended:
					return
				}
			case <-w.ended:
				return
			}
		}
	}()
	return w
}

func (w *wrong) PacketCh() <-chan *memoryPacket {
	if w.channel {
		return make(chan *memoryPacket)
	}
	return w.packets
}

func (w *wrong) WriteTo(b []byte, addr string) (time.Time, error) {
	at, err := w.memoryTransport.WriteTo(b, addr)
	if w.write != nil {
		w.write(b)
	}
	if w.sent != nil {
		at = w.sent(at)
	}
	return at, err
}

func (w *wrong) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	conn, err := w.memoryTransport.DialTimeout(addr, timeout)
	if err == nil && w.dial != nil {
		conn = w.dial(conn)
	}
	return conn, err
}

func (w *wrong) Shutdown() error {
	if w.once.CompareAndSwap(false, true) {
		close(w.ended)
	}
	if w.shutdown != nil {
		w.shutdown()
	}
	return w.memoryTransport.Shutdown()
}

// timeless is a connection that takes no deadline.
type timeless struct{ net.Conn }

func (c timeless) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// faults are what can be wrong with a transport, and the test that is to find it.
var faults = map[string]struct {
	test string
	make func(*wrong)
}{
	"receiver shares one buffer": {"PacketBufferBelongsToReceiver", func(w *wrong) {
		shared := make([]byte, 1<<16)
		w.deliver = func(p *memoryPacket) { p.Buf = shared[:copy(shared, p.Buf)] }
	}},
	"packets lose their last byte": {"PacketsArriveWhole", func(w *wrong) {
		w.deliver = func(p *memoryPacket) { p.Buf = p.Buf[:max(0, len(p.Buf)-1)] }
	}},
	"sender's bytes are changed":  {"PacketBufferOfSenderIsNotChanged", func(w *wrong) { w.write = func(b []byte) { clear(b) } }},
	"packets come from nowhere":   {"PacketTellsWhereToAnswer", func(w *wrong) { w.deliver = func(p *memoryPacket) { p.From = nil } }},
	"packets carry no time":       {"TimesEncloseTheRoundTrip", func(w *wrong) { w.deliver = func(p *memoryPacket) { p.Timestamp = time.Time{} } }},
	"packets are sent in future":  {"TimesEncloseTheRoundTrip", func(w *wrong) { w.sent = func(t time.Time) time.Time { return t.Add(time.Hour) } }},
	"each call has a channel":     {"ChannelsAreAlwaysTheSame", func(w *wrong) { w.channel = true }},
	"streams take no deadline":    {"StreamHonoursDeadlines", func(w *wrong) { w.dial = func(c net.Conn) net.Conn { return timeless{c} } }},
	"a goroutine is left behind":  {"AdvertisedAddressIsStable", func(w *wrong) { w.shutdown = func() { go func() { select {} }() } }},
	"nothing comes from Shutdown": {"AdvertisedAddressIsStable", func(w *wrong) { w.shutdown = func() { select {} } }},
}

// A suite that finds no fault proves nothing: each fault is found by its test.
func TestFaultsAreFound(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestTransportWithFault$/^"+fault.test+"$")
			cmd.Env = append(os.Environ(), faultyAs+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("the suite passes:\n%s", out)
			}
			if !bytes.Contains(out, []byte("--- FAIL: TestTransportWithFault/"+fault.test)) {
				t.Fatalf("another test failed:\n%s", out)
			}
		})
	}
}

// TestTransportWithFault runs the suite on a transport as faultyAs says; without
// it, on one that is wrapped and has no fault.
func TestTransportWithFault(t *testing.T) {
	fault := faults[os.Getenv(faultyAs)]
	if fault.make != nil { // what is lost for good need not be waited for long
		patience = 500 * time.Millisecond
		defer func() { patience = 10 * time.Second }()
	}
	Run(t, func(*testing.T) (a, b *wrong) {
		var network memoryNetwork
		var pair []*wrong
		for range 2 {
			w := &wrong{memoryTransport: network.open()}
			if fault.make != nil {
				fault.make(w)
			}
			pair = append(pair, w.start())
		}
		return pair[0], pair[1]
	})
}
