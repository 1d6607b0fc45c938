package bench

import (
	"bytes"
	stdlzw "compress/lzw"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/seed-83836a96/memberlist/compare/bench/lib"
	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

// What the work costs when nothing but the work is done: no goroutines but what
// the work needs, no checks but those that keep the program from crashing, all
// memory there beforehand.

// record is what a node at least has to remember of another.
type record struct {
	incarnation uint32
}

// walkGossip takes a compound of alive and suspect messages apart as far as is
// needed to tell news from what is known, and notes the news.
func walkGossip(known map[string]*record, packet []byte) (news int) {
	n := int(packet[1])
	lengths, rest := packet[2:2+2*n], packet[2+2*n:]
	for i := range n {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		msg := rest[:size]
		rest = rest[size:]
		name, incarnation := glance(msg)
		if r := known[string(name)]; r != nil && incarnation > r.incarnation {
			r.incarnation = incarnation
			news++
		}
	}
	return news
}

// glance reads name and incarnation at the places where they are in the
// messages that the benchmarks make.
func glance(msg []byte) (name []byte, incarnation uint32) {
	var at int
	if msg[0] == 4 { // alive: Addr of four bytes, Incarnation, Meta nil, Node
		at = 2 + 5 + 5 + 12
		incarnation = binary.BigEndian.Uint32(msg[at+1:])
		at += 5 + 5 + 1 + 5
	} else { // suspect: From of any length, Incarnation, Node
		at = 2 + 5
		at += 1 + int(msg[at]&0x1f) + 12
		incarnation = binary.BigEndian.Uint32(msg[at+1:])
		at += 5 + 5
	}
	size := int(msg[at] & 0x1f)
	return msg[at+1 : at+1+size], incarnation
}

func knownRecords(ms []wire.Member) map[string]*record {
	known := make(map[string]*record, len(ms))
	for _, m := range ms {
		known[m.Name] = &record{incarnation: m.Incarnation}
	}
	return known
}

// opener undoes one layer of a packet without allocating.
type opener func(packet []byte) []byte

func openNothing(packet []byte) []byte { return packet }

func newDecompressor() opener {
	r := stdlzw.NewReader(nil, stdlzw.LSB, 8).(*stdlzw.Reader)
	var src bytes.Reader
	buf := make([]byte, 1<<16)
	return func(packet []byte) []byte {
		src.Reset(packet)
		r.Reset(&src, stdlzw.LSB, 8)
		n := 0
		for {
			k, err := r.Read(buf[n:])
			n += k
			if err == io.EOF {
				return buf[:n]
			}
			if err != nil {
				panic(err) // the benchmark's own data
			}
		}
	}
}

func newDecrypter() opener {
	aead := wire.AEAD(keys[0])
	buf := make([]byte, 0, 1<<16)
	return func(packet []byte) []byte {
		plain, err := aead.Open(buf, packet[1:13], packet[13:], nil)
		if err != nil {
			panic(err) // the benchmark's own data
		}
		return plain
	}
}

func lzwData(msg []byte) []byte {
	var buf bytes.Buffer
	w := stdlzw.NewWriter(&buf, stdlzw.LSB, 8)
	_, _ = w.Write(msg) // a bytes.Buffer takes everything
	_ = w.Close()
	return buf.Bytes()
}

var layers = []struct {
	name  string
	close func([]byte) []byte
	open  func() opener
}{
	{"plain", openNothing, func() opener { return openNothing }},
	{"lzw", lzwData, newDecompressor},
	{"aes", func(p []byte) []byte { return wire.Seal(keys[0], nil, p) }, newDecrypter},
}

// BenchmarkLimitGossip opens packets and walks over what is in them.
func BenchmarkLimitGossip(b *testing.B) {
	for _, l := range layers {
		b.Run(l.name, func(b *testing.B) {
			ms := members(gossipMembers, 0)
			known := knownRecords(ms)
			msgs := make([][]byte, len(ms))
			for i := range ms {
				msgs[i] = wire.Alive(ms[i])
			}
			packets, _ := wire.Fill(msgs, packetSize)
			for i := range packets {
				packets[i] = l.close(packets[i])
			}
			open := l.open()
			done := 0
			m := newMeter(b)
			for done < b.N {
				for _, p := range packets {
					walkGossip(known, open(p))
				}
				done += len(msgs)
			}
			m.report(done)
		})
	}
}

// BenchmarkLimitOpenAES decrypts 1400 bytes.
func BenchmarkLimitOpenAES(b *testing.B) {
	open := newDecrypter()
	packet := wire.Seal(keys[0], nil, wire.User(someText(packetSize-30, 1)))
	m := newMeter(b)
	for range b.N {
		open(packet)
	}
	m.report(b.N)
}

// BenchmarkLimitPingIn takes a ping from a channel and makes its ack.
func BenchmarkLimitPingIn(b *testing.B) {
	ch := make(chan *lib.Packet, packetDepth)
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		ack := make([]byte, 0, 64)
		for p := range ch {
			seq, err := wire.SeqNo(p.Buf)
			if err != nil {
				panic(err) // the benchmark's own data
			}
			ack = appendAck(ack[:0], seq)
			sent.Add(int64(len(ack)))
		}
	}()
	packet := &lib.Packet{Buf: wire.Ping(100_000, selfName, peer), From: peerAddr}
	m := newMeter(b)
	for range b.N {
		ch <- packet
	}
	close(ch)
	<-done
	m.report(b.N)
}

// BenchmarkLimitPing is a round trip between two goroutines.
func BenchmarkLimitPing(b *testing.B) {
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
		close(back)
	}()
	m := newMeter(b)
	for i := range b.N {
		there <- i
		<-back
	}
	m.report(b.N)
	close(there)
	<-back
}

// BenchmarkLimitPushPull opens a state of 10,000 members, looks each one up, and
// makes as large a one.
func BenchmarkLimitPushPull(b *testing.B) {
	for _, c := range []struct {
		name string
		meta int
		open func() opener
		seal func() opener
	}{
		{"plain", 0, func() opener { return openNothing }, func() opener { return openNothing }},
		{"meta+aes", 100, newBigDecrypter, newEncrypter},
		{"meta+lzw", 100, newBigDecompressor, newCompressor},
	} {
		b.Run(c.name, func(b *testing.B) {
			ms := members(manyMembers, c.meta)
			known := knownRecords(ms)
			state := wire.PushPull(ms, false, nil)
			seal, open := c.seal(), c.open()
			closed := bytes.Clone(seal(state))
			answer := make([]byte, 0, len(state))
			m := newMeter(b)
			for range b.N {
				answer = copyState(answer[:0], known, open(closed))
				if len(answer) != len(state) {
					b.Fatalf("%d bytes of %d", len(answer), len(state))
				}
				seal(answer)
			}
			m.report(b.N)
		})
	}
}

// copyState looks up each member of a push/pull and writes it to dst.
func copyState(dst []byte, known map[string]*record, state []byte) []byte {
	const first = "\x87\xa4Addr"
	at := bytes.Index(state, []byte(first))
	dst = append(dst, state[:at]...)
	for at < len(state) {
		end := memberEnd(state[at:], known)
		dst = append(dst, state[at:at+end]...)
		at += end
	}
	return dst
}

// memberEnd returns the length of the member entry that b begins with.
func memberEnd(b []byte, known map[string]*record) int {
	at := 1 + 5 + 5 // map, Addr of four bytes
	incarnation := binary.BigEndian.Uint32(b[at+12+1:])
	at += 12 + 5 + 5 // Incarnation, Meta
	switch c := b[at]; {
	case c == 0xc0:
		at++
	case c == 0xda:
		at += 3 + int(binary.BigEndian.Uint16(b[at+1:]))
	default:
		at += 1 + int(c&0x1f)
	}
	at += 5 // Name
	size := int(b[at] & 0x1f)
	if r := known[string(b[at+1:at+1+size])]; r == nil || r.incarnation != incarnation {
		panic("a member that nobody knows")
	}
	at += 1 + size
	at += 5 + 3     // Port
	at += 6 + 1     // State
	at += 4 + 1 + 6 // Vsn
	return at
}

func newBigDecrypter() opener {
	aead := wire.AEAD(keys[0])
	buf := make([]byte, 0, 4<<20)
	return func(box []byte) []byte {
		plain, err := aead.Open(buf, box[:12], box[12:], nil)
		if err != nil {
			panic(err) // the benchmark's own data
		}
		return plain
	}
}

func newEncrypter() opener {
	aead := wire.AEAD(keys[0])
	buf := make([]byte, 4<<20)
	return func(msg []byte) []byte {
		rand.Read(buf[:12])
		return aead.Seal(buf[:12], buf[:12], msg, nil)
	}
}

func newBigDecompressor() opener {
	r := stdlzw.NewReader(nil, stdlzw.LSB, 8).(*stdlzw.Reader)
	var out bytes.Buffer
	out.Grow(4 << 20)
	return func(data []byte) []byte {
		out.Reset()
		r.Reset(bytes.NewReader(data), stdlzw.LSB, 8)
		if _, err := out.ReadFrom(r); err != nil {
			panic(err) // the benchmark's own data
		}
		return out.Bytes()
	}
}

func newCompressor() opener {
	var out sink
	out.Grow(4 << 20)
	w := stdlzw.NewWriter(nil, stdlzw.LSB, 8).(*stdlzw.Writer)
	return func(msg []byte) []byte {
		out.Reset()
		w.Reset(&out, stdlzw.LSB, 8)
		_, _ = w.Write(msg) // a bytes.Buffer takes everything
		_ = w.Close()
		return out.Bytes()
	}
}

// sink is a buffer that the compressor does not put another one in front of.
type sink struct{ bytes.Buffer }

func (*sink) Flush() error { return nil }

// BenchmarkLimitQueuePut appends what was put.
func BenchmarkLimitQueuePut(b *testing.B) {
	queue := make([]lib.Broadcast, 0, deepQueue)
	m := newMeter(b)
	for range b.N {
		if len(queue) == deepQueue {
			queue = queue[:0]
		}
		queue = append(queue, &rumour{"node", rumourTexts[0]})
	}
	m.report(b.N)
}

// BenchmarkLimitQueueGet takes a packet full off the end of a slice.
func BenchmarkLimitQueueGet(b *testing.B) {
	queue := make([]*rumour, deepQueue)
	for i := range queue {
		queue[i] = newRumour(strconv.Itoa(i))
	}
	at := 0
	m := newMeter(b)
	for range b.N {
		out := make([][]byte, 0, 20)
		for free := packetSize - 2; free > 0; {
			msg := queue[at].msg
			at = (at + 1) % len(queue)
			out = append(out, msg)
			free -= len(msg) + 2
		}
		if len(out) < 10 {
			b.Fatal(len(out))
		}
	}
	m.report(b.N)
}

// BenchmarkLimitMembers makes a slice of those of 10,000 nodes that are alive.
func BenchmarkLimitMembers(b *testing.B) {
	type entry struct {
		node  *lib.Node
		state int
	}
	table := make([]*entry, manyMembers)
	for i := range table {
		table[i] = &entry{node: &lib.Node{}}
	}
	defer runtime.KeepAlive(newBallast())
	m := newMeter(b)
	for range b.N {
		alive := make([]*lib.Node, 0, len(table))
		for _, e := range table {
			if e.state == 0 {
				alive = append(alive, e.node)
			}
		}
		if len(alive) != manyMembers {
			b.Fatal(len(alive))
		}
	}
	m.report(b.N)
}

// BenchmarkLimitNumMembers reads a number that another goroutine may write.
func BenchmarkLimitNumMembers(b *testing.B) {
	var n atomic.Int64
	m := newMeter(b)
	for range b.N {
		if n.Load() != 0 {
			b.Fatal("no")
		}
	}
	m.report(b.N)
}

// BenchmarkLimitHeapPerMember holds nothing of a member but the Node that users
// see, a few numbers, and a way to find it by name.
func BenchmarkLimitHeapPerMember(b *testing.B) {
	for _, c := range []struct {
		name string
		meta int
	}{{"meta-0", 0}, {"meta-64", 64}} {
		b.Run(c.name, func(b *testing.B) {
			type entry struct {
				node lib.Node
				_    uint32 // incarnation
				_    int64  // since
			}
			ms := members(manyMembers, c.meta)
			before := heapInUse()
			table := make(map[string]*entry, len(ms))
			for _, m := range ms {
				name := string(append([]byte(nil), m.Name...))
				table[name] = &entry{node: lib.Node{Name: name, Addr: bytes.Clone(m.Addr), Meta: bytes.Clone(m.Meta)}}
			}
			b.ReportMetric(float64(heapInUse()-before)/manyMembers, "heap-B/member")
			runtime.KeepAlive(table)
			runtime.KeepAlive(ms)
		})
	}
}

// BenchmarkLimitSend is what a user message of 512 bytes needs at least.
func BenchmarkLimitSend(b *testing.B) {
	msg := someText(512, 1)
	for _, c := range []struct {
		name string
		seal opener
	}{{"lzw", newCompressor()}, {"aes", newEncrypter()}} {
		b.Run(c.name, func(b *testing.B) {
			m := newMeter(b)
			for range b.N {
				c.seal(msg)
			}
			m.report(b.N)
		})
	}
}

// BenchmarkLimitUDP sends datagrams of 512 bytes from socket to socket.
func BenchmarkLimitUDP(b *testing.B) {
	from, to := udpPair(b)
	var received atomic.Int64
	signal := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 1<<16)
		for {
			if _, _, err := to.ReadFromUDPAddrPort(buf); err != nil {
				return
			}
			if received.Add(1)%16 == 0 {
				signal <- struct{}{}
			}
		}
	}()
	msg := someText(512, 1)
	addr := to.LocalAddr().(*net.UDPAddr).AddrPort()
	done := 0
	m := newMeter(b)
	for ; done < b.N; done += 16 {
		for range 16 {
			if _, err := from.WriteToUDPAddrPort(msg, addr); err != nil {
				b.Fatal(err)
			}
		}
		await(b, signal, "datagrams")
	}
	m.report(done)
}

func udpPair(b *testing.B) (from, to *net.UDPConn) {
	b.Helper()
	open := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	from, to = open(), open()
	_ = to.SetReadBuffer(2 << 20) // what the system grants is enough
	return from, to
}

// BenchmarkLimitUDPBatched is the same with sixteen datagrams a system call.
func BenchmarkLimitUDPBatched(b *testing.B) {
	from, to := udpPair(b)
	signal := make(chan struct{}, 1)
	var received int
	go readBatches(to, func(n int) {
		for ; n > 0; n-- {
			if received++; received%16 == 0 {
				signal <- struct{}{}
			}
		}
	})
	batch := batchOf(16, someText(512, 1), to.LocalAddr())
	conn := ipv4.NewPacketConn(from)
	done := 0
	m := newMeter(b)
	for ; done < b.N; done += 16 {
		if err := writeBatch(conn, batch); err != nil {
			b.Fatal(err)
		}
		await(b, signal, "datagrams")
	}
	m.report(done)
}

func batchOf(n int, msg []byte, to net.Addr) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: [][]byte{msg}, Addr: to}
	}
	return ms
}

func writeBatch(conn *ipv4.PacketConn, batch []ipv4.Message) error {
	for len(batch) > 0 {
		n, err := conn.WriteBatch(batch, 0)
		if err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

func readBatches(c *net.UDPConn, got func(int)) {
	conn := ipv4.NewPacketConn(c)
	ms := make([]ipv4.Message, 32)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	for {
		n, err := conn.ReadBatch(ms, 0)
		if err != nil {
			return
		}
		got(n)
	}
}

// BenchmarkLimitUDPFlood sends without waiting, one by one and batched.
func BenchmarkLimitUDPFlood(b *testing.B) {
	msg := someText(512, 1)
	b.Run("single", func(b *testing.B) {
		from, to := udpPair(b)
		var received atomic.Int64
		go func() {
			buf := make([]byte, 1<<16)
			for {
				if _, _, err := to.ReadFromUDPAddrPort(buf); err != nil {
					return
				}
				received.Add(1)
			}
		}()
		addr := to.LocalAddr().(*net.UDPAddr).AddrPort()
		flood(b, &received, func(n int) error {
			for range n {
				if _, err := from.WriteToUDPAddrPort(msg, addr); err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Run("batched", func(b *testing.B) {
		from, to := udpPair(b)
		var received atomic.Int64
		go readBatches(to, func(n int) { received.Add(int64(n)) })
		conn := ipv4.NewPacketConn(from)
		batch := batchOf(32, msg, to.LocalAddr())
		flood(b, &received, func(n int) error { return writeBatch(conn, batch[:n]) })
	})
}

func flood(b *testing.B, received *atomic.Int64, send func(n int) error) {
	m := newMeter(b)
	start := time.Now()
	for left := b.N; left > 0; {
		n := min(left, 32)
		if err := send(n); err != nil {
			b.Fatal(err)
		}
		left -= n
	}
	arrived, last := awaitQuiet(received)
	m.report(b.N)
	reportFlood(b, arrived, last.Sub(start))
}

// BenchmarkLimitTCP opens a connection, sends so many bytes, and closes it.
func BenchmarkLimitTCP(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			read := make(chan struct{})
			go func() {
				buf := make([]byte, size)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.ReadFull(c, buf) // a short message shows as a hanging benchmark
					c.Close()
					read <- struct{}{}
				}
			}()
			msg := make([]byte, size)
			m := newMeter(b)
			for range b.N {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.Write(msg); err != nil {
					b.Fatal(err)
				}
				c.Close()
				await(b, read, "the end")
			}
			m.report(b.N)
		})
	}
}

// BenchmarkLimitIdle does what 64 idle nodes cannot do without: a ping and an
// ack for each and every second, on sockets, with a timer.
func BenchmarkLimitIdle(b *testing.B) {
	const size, watch = 64, 4 * time.Second
	for range b.N {
		stop := startPingers(b, size)
		start := processTime()
		time.Sleep(watch)
		b.ReportMetric(float64(processTime()-start)/size/watch.Seconds(), "idle-cpu-ns/node-s")
		stop()
	}
}

func startPingers(b *testing.B, size int) (stop func()) {
	b.Helper()
	conns := make([]*net.UDPConn, size)
	for i := range conns {
		conns[i], _ = udpPair(b)
	}
	quit := make(chan struct{})
	for i, c := range conns {
		go answerPings(c)
		next := conns[(i+1)%size].LocalAddr().(*net.UDPAddr).AddrPort()
		go func() {
			// Gossip finds nothing to send, but has to look.
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for n := i; ; n++ {
				select {
				case <-quit:
					return
				case <-tick.C:
				}
				if n%5 == 0 {
					_, _ = c.WriteToUDPAddrPort([]byte("p this is about as long as a ping in a cluster with names"), next)
				}
			}
		}()
	}
	return func() {
		close(quit)
		for _, c := range conns {
			c.Close()
		}
	}
}

func answerPings(c *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n > 0 && buf[0] == 'p' {
			_, _ = c.WriteToUDPAddrPort([]byte("ack of such a ping"), from) // the socket may be closing
		}
	}
}
