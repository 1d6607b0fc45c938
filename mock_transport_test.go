package memberlist

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// mockPair is a new network with two endpoints, a and b.
func mockPair() (network *MockNetwork, a, b *MockTransport) {
	network = new(MockNetwork)
	return network, network.NewTransport("a"), network.NewTransport("b")
}

func shutdownAll(t *testing.T, transports ...*MockTransport) {
	t.Helper()
	for _, transport := range transports {
		require.NoError(t, transport.Shutdown())
	}
}

func sendText(t *testing.T, from, to *MockTransport, text string) {
	t.Helper()
	_, err := from.WriteTo([]byte(text), to.addr.String())
	require.NoError(t, err)
}

// received returns what waits to be taken, without waiting.
func received(transport *MockTransport) (texts []string) {
	for {
		select {
		case p := <-transport.PacketCh():
			texts = append(texts, string(p.Buf))
		default:
			return texts
		}
	}
}

// acceptAll closes what b accepts, or passes it on, until it is shut down.
func accept(transport *MockTransport) <-chan net.Conn {
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			select {
			case conn := <-transport.StreamCh():
				accepted <- conn
			case <-transport.done:
				return
			}
		}
	}()
	return accepted
}

// TestMockAddresses checks P140.
func TestMockAddresses(t *testing.T) {
	var network MockNetwork
	for i := 1; i <= 3; i++ {
		transport := network.NewTransport("same name")
		ip, port, err := transport.FinalAdvertiseAddr("10.0.0.1", 7946)
		require.NoError(t, err)
		require.Equal(t, net.IPv4(127, 0, 0, 1), ip, "in 16-byte form, whatever is configured")
		require.Len(t, ip, net.IPv6len)
		require.Equal(t, i, port)
		require.Equal(t, "mock", transport.addr.Network())
		require.Equal(t, fmt.Sprintf("127.0.0.1:%d", i), transport.addr.String())
	}
}

// A known address is meant, whatever the name; the name finds nodes at others. The
// mock network of hashicorp/memberlist has it the other way round (P140), so that a
// node that was restarted answers for its old address.
func TestMockRoutesByAddressThenName(t *testing.T) {
	_, a, b := mockPair()
	for _, to := range []Address{
		{Addr: "127.0.0.1:2"},
		{Addr: "127.0.0.1:2", Name: "b"},
		{Addr: "127.0.0.1:2", Name: "a"},
		{Addr: "127.0.0.1:2", Name: "c"},
		{Addr: "nowhere", Name: "b"},
	} {
		_, err := a.WriteToAddress([]byte("hello"), to)
		require.NoError(t, err)
		p := <-b.PacketCh()
		require.Equal(t, "hello", string(p.Buf))
		require.Equal(t, &a.addr, p.From)
	}
	for text, to := range map[string]Address{
		"no route to 127.0.0.1:3":     {Addr: "127.0.0.1:3"},
		"no route to c (127.0.0.1:3)": {Addr: "127.0.0.1:3", Name: "c"},
	} {
		_, err := a.WriteToAddress([]byte("hello"), to)
		require.EqualError(t, err, text)
		_, err = a.DialAddressTimeout(to, time.Second)
		require.EqualError(t, err, text)
	}
}

// A node that comes back has a new endpoint and its old name.
func TestMockNameGoesOverToTheNewEndpoint(t *testing.T) {
	network, a, b := mockPair()
	shutdownAll(t, b)
	again := network.NewTransport("b")
	_, err := a.WriteToAddress([]byte("hello"), Address{Addr: b.addr.String(), Name: "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"hello"}, received(again))
}

func TestMockDeliversCopiesInOrder(t *testing.T) {
	_, a, b := mockPair()
	buf := []byte("0")
	var want []string
	for i := range mockQueue {
		buf[0] = byte(i)
		want = append(want, string(buf))
		_, err := a.WriteTo(buf, b.addr.String())
		require.NoError(t, err)
	}
	require.Equal(t, want, received(b))
}

// Two nodes that send to each other while both queues are full get on again.
func TestMockFullQueueHoldsUpTheSenderForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		fill := func() {
			for range mockQueue {
				sendText(t, a, b, "fill")
			}
		}
		fill()
		require.Equal(t, mockPatience, duration(func() { sendText(t, a, b, "too much") }))
		require.EqualValues(t, 1, network.Dropped())
		require.Zero(t, duration(func() { sendText(t, a, b, "too much") }), "nobody takes anything, as is known now")
		require.EqualValues(t, 2, network.Dropped())
		require.Len(t, received(b), mockQueue)

		// Once there is room again, the sender waits again.
		fill()
		go func() {
			time.Sleep(mockPatience / 2)
			<-b.PacketCh()
		}()
		require.Equal(t, mockPatience/2, duration(func() { sendText(t, a, b, "last") }))
		texts := received(b)
		require.Equal(t, "last", texts[len(texts)-1])
		require.EqualValues(t, 2, network.Dropped())
	})
}

func TestMockShutdownOfEitherEndReleasesTheSender(t *testing.T) {
	for _, name := range []string{"sender", "receiver"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network, a, b := mockPair()
				for range mockQueue {
					sendText(t, a, b, "fill")
				}
				ends := map[string]*MockTransport{"sender": a, "receiver": b}
				go func() {
					time.Sleep(mockPatience / 2)
					shutdownAll(t, ends[name])
				}()
				require.Equal(t, mockPatience/2, duration(func() { sendText(t, a, b, "too much") }))
				synctest.Wait()
				require.NotZero(t, network.Dropped())
			})
		})
	}
}

func TestMockShutdownStopsDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		sendText(t, a, b, "untaken")
		network.SetLatency(time.Second, 0)
		sendText(t, a, b, "on its way")
		shutdownAll(t, b, b)
		sendText(t, a, b, "late")
		network.SetLatency(0, 0)
		sendText(t, a, b, "late")
		time.Sleep(time.Minute)
		require.Empty(t, received(b))
		require.EqualValues(t, 4, network.Dropped())

		_, err := b.WriteTo([]byte("from the grave"), a.addr.String())
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = b.DialTimeout(a.addr.String(), time.Second)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = a.DialTimeout(b.addr.String(), time.Second)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		shutdownAll(t, a)
	})
}

// Shutdown joins a delivery that is running.
func TestMockShutdownDuringADelayedDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		network.SetLatency(time.Second, 0)
		for range mockQueue + 2 {
			sendText(t, a, b, "delayed")
		}
		time.Sleep(time.Second)
		synctest.Wait() // the queue is full, and the delivery waits for room
		shutdownAll(t, b)
		require.Empty(t, received(b))
		require.EqualValues(t, mockQueue+2, network.Dropped())
	})
}

func TestMockLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		start := time.Now()
		network.SetLatency(30*time.Millisecond, 0)
		sendText(t, a, b, "slow")
		network.SetLatency(10*time.Millisecond, 0)
		sendText(t, a, b, "fast 1")
		sendText(t, a, b, "fast 2")
		network.SetLatency(0, 0)
		sendText(t, a, b, "at once")
		require.Equal(t, []string{"at once"}, received(b))
		for _, want := range []struct {
			text string
			at   time.Duration
		}{{"fast 1", 10}, {"fast 2", 10}, {"slow", 30}} {
			p := <-b.PacketCh()
			require.Equal(t, want.text, string(p.Buf))
			require.Equal(t, want.at*time.Millisecond, time.Since(start))
			require.Equal(t, time.Now(), p.Timestamp)
		}
		// The delivery rests, and starts again.
		network.SetLatency(5*time.Millisecond, 0)
		sendText(t, a, b, "again")
		start = time.Now()
		require.Equal(t, "again", string((<-b.PacketCh()).Buf))
		require.Equal(t, 5*time.Millisecond, time.Since(start))
		require.Zero(t, network.Dropped())
	})
}

func TestMockJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		const latency, jitter = 10 * time.Millisecond, 20 * time.Millisecond
		network.SetLatency(latency, jitter)
		start := time.Now()
		var sent []string
		for i := range 100 {
			sent = append(sent, fmt.Sprint(i))
			sendText(t, a, b, sent[i])
		}
		var order []string
		earliest, latest := time.Hour, time.Duration(0)
		for range sent {
			order = append(order, string((<-b.PacketCh()).Buf))
			earliest, latest = min(earliest, time.Since(start)), max(latest, time.Since(start))
		}
		require.GreaterOrEqual(t, earliest, latency)
		require.Less(t, latest, latency+jitter)
		require.Greater(t, latest-earliest, jitter/2)
		require.NotEqual(t, sent, order, "packets overtake each other")
		require.ElementsMatch(t, sent, order)
	})
}

func TestMockInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		network.SetLatency(time.Hour, 0)
		for range mockInFlight + 10 {
			sendText(t, a, b, "x")
		}
		require.EqualValues(t, 10, network.Dropped())
		shutdownAll(t, b)
		require.EqualValues(t, mockInFlight+10, network.Dropped())
	})
}

// lossPattern tells which of n packets from one to another arrive.
func lossPattern(t *testing.T, from, to *MockTransport, n int) []string {
	t.Helper()
	for i := range n {
		sendText(t, from, to, fmt.Sprint(i))
	}
	return received(to)
}

func TestMockLossIsReproducible(t *testing.T) {
	const n = 200
	pattern := func(seed uint64) []string {
		network, a, b := mockPair()
		network.Seed(seed)
		network.SetLoss(0.25)
		arrived := lossPattern(t, a, b, n)
		require.EqualValues(t, n-len(arrived), network.Dropped())
		return arrived
	}
	first := pattern(1)
	require.InDelta(t, n*3/4, len(first), n/8)
	require.Equal(t, first, pattern(1))
	require.NotEqual(t, first, pattern(2))

	// Endpoints that come later are seeded too, and what others send does not
	// matter.
	var network MockNetwork
	network.Seed(1)
	network.SetLoss(0.25)
	a, b := network.NewTransport("a"), network.NewTransport("b")
	lossPattern(t, b, a, 17)
	require.Equal(t, first, lossPattern(t, a, b, n))
}

func TestMockLossOfAllAndNothing(t *testing.T) {
	network, a, b := mockPair()
	network.SetLoss(1)
	require.Empty(t, lossPattern(t, a, b, 10))
	network.SetLoss(0)
	require.Len(t, lossPattern(t, a, b, 10), 10)
}

// reaches reports who gets packets of whom, as "ab" if b gets those of a.
func reaches(t *testing.T, transports ...*MockTransport) (pairs []string) {
	t.Helper()
	for _, from := range transports {
		for _, to := range transports {
			sendText(t, from, to, "ping")
			if len(received(to)) > 0 {
				pairs = append(pairs, from.addr.name+to.addr.name)
			}
		}
	}
	return pairs
}

func TestMockCutsAndPartitions(t *testing.T) {
	network, a, b := mockPair()
	c := network.NewTransport("c")
	all := []string{"aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc"}
	without := func(pairs ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(pairs, p) })
	}
	check := func(want []string) {
		t.Helper()
		require.Equal(t, want, reaches(t, a, b, c))
	}
	check(all)
	network.Cut("a", "b")
	check(without("ab"))
	network.Cut("b", "c")
	network.Mend("a", "b")
	check(without("bc"))
	network.Partition([]string{"a"})
	check(without("ab", "ac", "ba", "ca", "bc"))
	network.Partition([]string{"a", "c"}, []string{"b"})
	check(without("ab", "ba", "cb", "bc"))
	network.Partition([]string{"a"}, []string{"b"}, []string{"c"})
	check([]string{"aa", "bb", "cc"})
	network.Partition()
	check(without("bc"))
	network.Partition([]string{"b"})
	network.Heal()
	check(all)

	// Those that come later are on the side of those that were not named.
	network.Partition([]string{"a"})
	d := network.NewTransport("d")
	require.Equal(t, []string{"aa", "bb", "bd", "db", "dd"}, reaches(t, a, b, d))
}

func TestMockStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		accepted := accept(b)
		near, err := a.DialTimeout(b.addr.String(), time.Second)
		require.NoError(t, err)
		far := <-accepted
		require.Equal(t, &b.addr, near.RemoteAddr())
		require.Equal(t, &a.addr, near.LocalAddr())
		require.Equal(t, &a.addr, far.RemoteAddr())
		require.Equal(t, &b.addr, far.LocalAddr())
		require.Len(t, network.streams, 1)

		go func() { _, _ = near.Write([]byte("hello")); near.Close() }()
		text, err := io.ReadAll(far)
		require.NoError(t, err)
		require.Equal(t, "hello", string(text))
		require.NoError(t, far.Close())
		require.Empty(t, network.streams, "a network keeps no closed streams")
		shutdownAll(t, a, b)
	})
}

func TestMockStreamLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		network.SetLatency(10*time.Millisecond, 0)
		accepted := accept(b)
		var near net.Conn
		var err error
		require.Equal(t, 20*time.Millisecond, duration(func() {
			near, err = a.DialTimeout(b.addr.String(), time.Second)
		}), "there and back")
		require.NoError(t, err)
		far := <-accepted
		go func() { _, _ = near.Write([]byte("hello")) }()
		require.Equal(t, 10*time.Millisecond, duration(func() {
			_, err = io.ReadFull(far, make([]byte, 5))
			require.NoError(t, err)
		}))

		require.Equal(t, 15*time.Millisecond, duration(func() {
			_, err = a.DialTimeout(b.addr.String(), 15*time.Millisecond)
		}))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing answers within the time")

		go func() { time.Sleep(5 * time.Millisecond); network.Cut("b", "a") }()
		require.Equal(t, 5*time.Millisecond, duration(func() { _, err = near.Write([]byte("into the void")) }))
		require.ErrorIs(t, err, syscall.ECONNRESET, "on its way")
		shutdownAll(t, a, b)
	})
}

// A long way does not hold a writer beyond its deadline, whenever that is set, nor
// beyond the end of its own side.
func TestMockWriteOnALongWayEndsInTime(t *testing.T) {
	for name, run := range map[string]struct {
		end  func(net.Conn)
		want error
	}{
		"deadline set before": {func(c net.Conn) { _ = c.SetDeadline(time.Now().Add(5 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		"deadline set on the way": {func(c net.Conn) {
			time.AfterFunc(5*time.Millisecond, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
		}, os.ErrDeadlineExceeded},
		"closed": {func(c net.Conn) { time.AfterFunc(5*time.Millisecond, func() { _ = c.Close() }) }, io.ErrClosedPipe},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network, a, b := mockPair()
				accepted := accept(b)
				near, err := a.DialTimeout(b.addr.String(), time.Second)
				require.NoError(t, err)
				defer (<-accepted).Close()
				network.SetLatency(time.Hour, 0)
				run.end(near)
				require.Equal(t, 5*time.Millisecond, duration(func() { _, err = near.Write([]byte("hello")) }))
				require.ErrorIs(t, err, run.want)
				shutdownAll(t, a, b)
			})
		})
	}
}

func TestMockDialAcrossACutTimesOut(t *testing.T) {
	for _, cut := range [][2]string{{"a", "b"}, {"b", "a"}} {
		synctest.Test(t, func(t *testing.T) {
			network, a, b := mockPair()
			network.Cut(cut[0], cut[1])
			var err error
			dial := func(timeout time.Duration) time.Duration {
				return duration(func() { _, err = a.DialTimeout(b.addr.String(), timeout) })
			}
			require.Equal(t, 3*time.Second, dial(3*time.Second))
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			require.True(t, timeout.Timeout())
			require.EqualError(t, err, "dial mock 127.0.0.1:1->127.0.0.1:2: i/o timeout")
			require.Equal(t, mockDialLimit, dial(0), "without a timeout it does not take for ever either")
			require.Zero(t, dial(-1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)

			go func() { time.Sleep(time.Second); shutdownAll(t, a) }()
			require.Equal(t, time.Second, dial(time.Minute))
			require.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

func TestMockDialWaitsForTheOtherSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, a, b := mockPair()
		var err error
		dial := func(timeout time.Duration) time.Duration {
			return duration(func() { _, err = a.DialTimeout(b.addr.String(), timeout) })
		}
		require.Equal(t, time.Second, dial(time.Second))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nobody takes the stream")
		require.Empty(t, network.streams)

		go func() { time.Sleep(time.Second); shutdownAll(t, b) }()
		require.Equal(t, time.Second, dial(time.Minute))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)

		c := network.NewTransport("c")
		go func() { time.Sleep(time.Second); shutdownAll(t, a) }()
		require.Equal(t, time.Second, duration(func() { _, err = a.DialTimeout(c.addr.String(), time.Minute) }))
		require.ErrorIs(t, err, net.ErrClosed)
		shutdownAll(t, c)
	})
}

func TestMockCutBreaksStreams(t *testing.T) {
	for name, cut := range map[string]func(*MockNetwork){
		"there":     func(n *MockNetwork) { n.Cut("a", "b") },
		"back":      func(n *MockNetwork) { n.Cut("b", "a") },
		"partition": func(n *MockNetwork) { n.Partition([]string{"b"}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network, a, b := mockPair()
				c := network.NewTransport("c")
				acceptedB, acceptedC := accept(b), accept(c)
				near, err := a.DialTimeout(b.addr.String(), time.Second)
				require.NoError(t, err)
				far := <-acceptedB
				other, err := a.DialTimeout(c.addr.String(), time.Second)
				require.NoError(t, err)
				farOther := <-acceptedC

				go func() { time.Sleep(time.Second); cut(network) }()
				_, err = far.Read(make([]byte, 1))
				require.ErrorIs(t, err, syscall.ECONNRESET)
				require.EqualError(t, err, "read mock 127.0.0.1:2->127.0.0.1:1: "+syscall.ECONNRESET.Error())
				_, err = near.Write([]byte("x"))
				require.ErrorIs(t, err, syscall.ECONNRESET)

				network.Heal()
				_, err = near.Read(make([]byte, 1))
				require.ErrorIs(t, err, syscall.ECONNRESET, "what is broken stays broken")
				go func() { _, _ = other.Write([]byte("x")) }()
				_, err = farOther.Read(make([]byte, 1))
				require.NoError(t, err, "others are not touched")
				shutdownAll(t, a, b, c)
			})
		})
	}
}

// The race detector watches.
func TestMockIsSafeForConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network MockNetwork
		var nodes []*MockTransport
		for i := range 4 {
			nodes = append(nodes, network.NewTransport(fmt.Sprint(i)))
		}
		var group sync.WaitGroup
		for i, node := range nodes {
			accepted := accept(node)
			group.Go(func() {
				for {
					select {
					case <-node.PacketCh():
					case conn := <-accepted:
						conn.Close()
					case <-node.done:
						return
					}
				}
			})
			group.Go(func() {
				for k := range 200 {
					peer := nodes[k%len(nodes)]
					_, _ = node.WriteTo([]byte{byte(k)}, peer.addr.String())
					if conn, err := node.DialTimeout(peer.addr.String(), time.Millisecond); err == nil {
						conn.Close()
					}
					time.Sleep(time.Millisecond)
				}
				shutdownAll(t, node)
			})
			group.Go(func() {
				for k := range 50 {
					network.SetLatency(time.Duration(k%3)*time.Millisecond, time.Millisecond)
					network.SetLoss(float64(k%2) / 10)
					network.Seed(uint64(k))
					network.Cut(fmt.Sprint(i), fmt.Sprint(k%4))
					network.Partition([]string{fmt.Sprint(k % 4)})
					time.Sleep(2 * time.Millisecond)
					network.Heal()
				}
			})
		}
		group.Wait()
	})
}
