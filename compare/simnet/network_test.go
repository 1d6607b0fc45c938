package simnet

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// arrival is a packet that came, and when.
type arrival struct {
	text string
	from string
	at   time.Duration
}

// box collects what arrives at an endpoint.
type box struct {
	*Endpoint
	arrivals []arrival
	room     int // packets that still fit; negative is no limit
}

// inNetwork runs a test with a network and so many endpoints in a bubble.
func inNetwork(t *testing.T, conditions Conditions, count int, test func(t *testing.T, n *Network, boxes []*box)) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(conditions, 1)
		defer n.Close()
		boxes := make([]*box, count)
		for i := range boxes {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7946)
			b := &box{Endpoint: n.Listen(addr), room: -1}
			b.OnPacket(func(buf []byte, from net.Addr, _ time.Time) bool {
				if b.room == 0 {
					return false
				}
				b.room--
				b.arrivals = append(b.arrivals, arrival{string(buf), from.String(), n.Now()})
				return true
			})
			boxes[i] = b
		}
		test(t, n, boxes)
	})
}

// pass lets virtual time go by, and everything happen that is due then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *box) say(t *testing.T, to *box, text string) {
	t.Helper()
	_, err := b.Send([]byte(text), to.Addr().String())
	require.NoError(t, err)
}

func TestPacketArrivesAfterLatencyUnderItsSendersAddress(t *testing.T) {
	inNetwork(t, Conditions{Latency: Fixed(3 * time.Millisecond)}, 2, func(t *testing.T, n *Network, b []*box) {
		buf := []byte("hello")
		_, err := b[0].Send(buf, b[1].Addr().String())
		require.NoError(t, err)
		buf[0] = 'X' // the network has its own copy
		pass(time.Second)
		require.Equal(t, []arrival{{"hello", "10.0.0.1:7946", 3 * time.Millisecond}}, b[1].arrivals)
		require.Empty(t, b[0].arrivals)
	})
}

func TestPacketsArriveInTheOrderOfTheirTime(t *testing.T) {
	inNetwork(t, LAN(), 3, func(t *testing.T, n *Network, b []*box) {
		for i := range 1000 {
			b[i%2].say(t, b[2], "x")
			if i%10 == 0 {
				pass(100 * time.Microsecond)
			}
		}
		pass(time.Second)
		require.Len(t, b[2].arrivals, 1000)
		for i, a := range b[2].arrivals[1:] {
			require.GreaterOrEqual(t, a.at, b[2].arrivals[i].at)
		}
	})
}

func TestLANLatencyHasTheMeanAndBoundsThatItSays(t *testing.T) {
	inNetwork(t, LAN(), 2, func(t *testing.T, n *Network, b []*box) {
		var sum time.Duration
		const draws = 20000
		for range draws {
			d := n.delay(b[0].Endpoint, b[1].Endpoint)
			require.GreaterOrEqual(t, d, 150*time.Microsecond)
			require.LessOrEqual(t, d, 5*time.Millisecond)
			sum += d
		}
		require.InDelta(t, 250, float64(sum.Microseconds())/draws, 5)
	})
}

func TestWANLatencyGrowsWithTheDistance(t *testing.T) {
	inNetwork(t, WAN(), 3, func(t *testing.T, n *Network, b []*box) {
		b[0].place, b[1].place, b[2].place = [2]float64{0, 0}, [2]float64{0.1, 0}, [2]float64{1, 1}
		mean := func(to *box) float64 {
			var sum time.Duration
			for range 2000 {
				sum += n.delay(b[0].Endpoint, to.Endpoint)
			}
			return float64(sum.Microseconds()) / 2000 / 1000
		}
		require.InDelta(t, 2+12/1.4142, mean(b[1]), 0.3)
		require.InDelta(t, 122, mean(b[2]), 2)
	})
}

func TestLossRatesOfNetworkAndEndpointsMultiply(t *testing.T) {
	inNetwork(t, Conditions{Loss: 0.25}, 2, func(t *testing.T, n *Network, b []*box) {
		const sent = 20000
		count := func() float64 {
			b[1].arrivals = nil
			for range sent {
				b[0].say(t, b[1], "x")
			}
			pass(time.Second)
			return float64(len(b[1].arrivals)) / sent
		}
		require.InDelta(t, 0.75, count(), 0.01)
		b[0].SetLoss(0, 0.8)
		require.InDelta(t, 0.75*0.2, count(), 0.01)
		b[0].SetLoss(0.8, 0) // what it hears, not what it says
		b[1].SetLoss(0.5, 0)
		require.InDelta(t, 0.75*0.5, count(), 0.01)
		n.SetLoss(0)
		b[1].SetLoss(0, 0)
		require.Equal(t, 1.0, count())
	})
}

func TestDuplicatesAndReordering(t *testing.T) {
	c := Conditions{Latency: Fixed(time.Millisecond), Duplicate: 0.1, Reorder: 0.2, ReorderBy: 100 * time.Millisecond}
	inNetwork(t, c, 2, func(t *testing.T, n *Network, b []*box) {
		const sent = 10000
		for i := range sent {
			b[0].say(t, b[1], fmt.Sprintf("%05d", i))
			pass(time.Millisecond)
		}
		pass(time.Second)
		require.InDelta(t, 1.1*sent, len(b[1].arrivals), 100)
		highest, late := "", 0
		for _, a := range b[1].arrivals {
			if a.text < highest {
				late++
			}
			highest = max(highest, a.text)
		}
		require.InDelta(t, 0.2*sent, late, 0.05*sent)
	})
}

func TestSocketQueueDropsWhatDoesNotFit(t *testing.T) {
	inNetwork(t, Conditions{}, 2, func(t *testing.T, n *Network, b []*box) {
		b[1].room = 10
		for range 25 {
			b[0].say(t, b[1], "x")
		}
		pass(time.Second)
		require.Len(t, b[1].arrivals, 10)
		require.Equal(t, 15, b[1].Traffic().Overflow)
		require.Equal(t, Traffic{Packets: 25, PacketBytes: 25}, b[0].Traffic())
	})
}

func TestCutsAreOneWay(t *testing.T) {
	inNetwork(t, Conditions{}, 3, func(t *testing.T, n *Network, b []*box) {
		everybodySays := func() (heard [3]int) {
			for i := range b {
				b[i].arrivals = nil
			}
			for i := range b {
				for j := range b {
					if i != j {
						b[i].say(t, b[j], "x")
					}
				}
			}
			pass(time.Second)
			for i := range b {
				heard[i] = len(b[i].arrivals)
			}
			return heard
		}
		require.Equal(t, [3]int{2, 2, 2}, everybodySays())
		n.Cut(b[0].Endpoint, b[1].Endpoint, true)
		require.Equal(t, [3]int{2, 1, 2}, everybodySays())
		n.Cut(b[0].Endpoint, b[1].Endpoint, false)
		b[0].CutIn(true)
		require.Equal(t, [3]int{0, 2, 2}, everybodySays())
		b[0].CutIn(false)
		b[0].CutOut(true)
		require.Equal(t, [3]int{2, 1, 1}, everybodySays())
		b[0].CutOut(false)
		b[0].SetSide(1)
		require.Equal(t, [3]int{0, 1, 1}, everybodySays())
		b[0].SetSide(0)
		require.Equal(t, [3]int{2, 2, 2}, everybodySays())
	})
}

func TestPacketUnderWayIsLostWhenTheCutComes(t *testing.T) {
	inNetwork(t, Conditions{Latency: Fixed(10 * time.Millisecond)}, 2, func(t *testing.T, n *Network, b []*box) {
		b[0].say(t, b[1], "x")
		pass(5 * time.Millisecond)
		b[1].SetSide(1)
		pass(time.Second)
		require.Empty(t, b[1].arrivals)
	})
}

func TestStalledProcessHearsAndSaysNothingUntilTheStallEnds(t *testing.T) {
	for mode, name := range map[StallMode]string{StallBlocks: "blocks", StallQueues: "queues"} {
		t.Run(name, func(t *testing.T) {
			inNetwork(t, Conditions{Latency: Fixed(time.Millisecond)}, 2, func(t *testing.T, n *Network, b []*box) {
				b[1].Stall(10*time.Second, mode)
				b[0].say(t, b[1], "to")
				b[1].say(t, b[0], "from")
				returned := n.Now()
				pass(20*time.Second - n.Now())
				require.Equal(t, []arrival{{"to", "10.0.0.1:7946", 10 * time.Second}}, b[1].arrivals)
				require.Equal(t, []arrival{{"from", "10.0.0.2:7946", 10*time.Second + time.Millisecond}}, b[0].arrivals)
				if mode == StallBlocks {
					require.Equal(t, 10*time.Second, returned, "the sender is blocked before its send")
				} else {
					require.Zero(t, returned, "the sender runs on")
				}
			})
		})
	}
}

func TestStalledProcessHoldsWhatItsSocketQueueHolds(t *testing.T) {
	inNetwork(t, Conditions{SocketQueue: 5}, 2, func(t *testing.T, n *Network, b []*box) {
		b[1].Stall(10*time.Second, StallQueues)
		for range 8 {
			b[0].say(t, b[1], "x")
		}
		pass(20 * time.Second)
		require.Len(t, b[1].arrivals, 5)
		require.Equal(t, 3, b[1].Traffic().Overflow)
	})
}

func TestStallsFollowEachOtherWithLifeBetween(t *testing.T) {
	inNetwork(t, Conditions{}, 2, func(t *testing.T, n *Network, b []*box) {
		for i := range 3 {
			n.After(time.Duration(i)*1500*time.Millisecond, func() { b[1].Stall(time.Second, StallBlocks) })
		}
		for range 45 {
			pass(100 * time.Millisecond)
			b[0].say(t, b[1], "x")
		}
		pass(time.Second)
		require.Len(t, b[1].arrivals, 45)
		for _, a := range b[1].arrivals {
			phase := a.at % (1500 * time.Millisecond)
			require.True(t, phase >= time.Second || phase == 0, "arrived at %s", a.at)
		}
	})
}

func TestClosedEndpointIsGone(t *testing.T) {
	inNetwork(t, Conditions{}, 2, func(t *testing.T, n *Network, b []*box) {
		b[1].Close()
		b[0].say(t, b[1], "x")
		_, err := b[1].Send([]byte("x"), b[0].Addr().String())
		require.ErrorIs(t, err, net.ErrClosed)
		pass(time.Second)
		require.Empty(t, b[1].arrivals)
		again := n.Listen(b[1].Addr())
		var heard int
		again.OnPacket(func([]byte, net.Addr, time.Time) bool { heard++; return true })
		b[0].say(t, b[1], "x")
		pass(time.Second)
		require.Equal(t, 1, heard, "the address is free for the next process")
	})
}

// accept waits for a stream.
func accept(t *testing.T, b *box) net.Conn {
	t.Helper()
	select {
	case conn := <-b.Streams():
		return conn
	case <-time.After(time.Minute):
		t.Fatal("no stream came")
		return nil
	}
}

func TestStreamCarriesBytesBothWaysInOrder(t *testing.T) {
	for _, loss := range []float64{0, 0.3} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			c := LAN()
			c.Loss = loss
			inNetwork(t, c, 2, func(t *testing.T, n *Network, b []*box) {
				sent := make([]byte, 1<<20)
				for i := range sent {
					sent[i] = byte(i * i >> 8)
				}
				go func() {
					conn := accept(t, b[1])
					defer conn.Close()
					io.Copy(conn, conn) // until the other end says that it has written all
				}()
				conn, err := b[0].Dial(b[1].Addr().String(), time.Hour)
				require.NoError(t, err)
				go func() {
					conn.Write(sent)
				}()
				got := make([]byte, len(sent))
				_, err = io.ReadFull(conn, got)
				require.NoError(t, err)
				require.Equal(t, sent, got)
				require.NoError(t, conn.Close())
			})
		})
	}
}

func TestStreamEndsAfterAllWasRead(t *testing.T) {
	inNetwork(t, LAN(), 2, func(t *testing.T, n *Network, b []*box) {
		conn, err := b[0].Dial(b[1].Addr().String(), time.Second)
		require.NoError(t, err)
		_, err = conn.Write([]byte("all of it"))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		far := accept(t, b[1])
		got, err := io.ReadAll(far)
		require.NoError(t, err)
		require.Equal(t, "all of it", string(got))
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, far.Close())
	})
}

func TestDialTakesARoundTripAndFailsAsItShould(t *testing.T) {
	inNetwork(t, Conditions{Latency: Fixed(5 * time.Millisecond)}, 3, func(t *testing.T, n *Network, b []*box) {
		_, err := b[0].Dial(b[1].Addr().String(), time.Second)
		require.NoError(t, err)
		require.Equal(t, 10*time.Millisecond, n.Now())

		b[1].SetSide(1)
		start := n.Now()
		_, err = b[0].Dial(b[1].Addr().String(), 3*time.Second)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 3*time.Second, n.Now()-start)

		n.After(500*time.Millisecond, func() { b[1].SetSide(0) })
		start = n.Now()
		_, err = b[0].Dial(b[1].Addr().String(), 3*time.Second)
		require.NoError(t, err, "the request is repeated after a second")
		require.Equal(t, time.Second+10*time.Millisecond, n.Now()-start)

		b[2].Close()
		start = n.Now()
		_, err = b[0].Dial(b[2].Addr().String(), 3*time.Second)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.Equal(t, 10*time.Millisecond, n.Now()-start)
		var opError *net.OpError
		require.ErrorAs(t, err, &opError)
		require.Equal(t, "dial", opError.Op)
	})
}

func TestStreamDeadlines(t *testing.T) {
	inNetwork(t, LAN(), 2, func(t *testing.T, n *Network, b []*box) {
		conn, err := b[0].Dial(b[1].Addr().String(), time.Second)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
		start := n.Now()
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 2*time.Second, n.Now()-start)

		require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Second)))
		written, err := conn.Write(make([]byte, 1<<20))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nobody reads: the window is full")
		require.InDelta(t, windowSize, written, segmentSize)
		var netError net.Error
		require.ErrorAs(t, err, &netError)
		require.True(t, netError.Timeout())

		require.NoError(t, conn.SetDeadline(time.Time{}))
		far := accept(t, b[1])
		go far.Write([]byte("x"))
		_, err = conn.Read(make([]byte, 1))
		require.NoError(t, err, "a deadline can be taken back")
	})
}

func TestStreamSurvivesAShortCut(t *testing.T) {
	inNetwork(t, LAN(), 2, func(t *testing.T, n *Network, b []*box) {
		conn, err := b[0].Dial(b[1].Addr().String(), time.Second)
		require.NoError(t, err)
		far := accept(t, b[1])
		b[0].SetSide(1)
		_, err = conn.Write([]byte("late"))
		require.NoError(t, err)
		n.After(time.Second, func() { b[0].SetSide(0) })
		start := n.Now()
		_, err = io.ReadFull(far, make([]byte, 4))
		require.NoError(t, err)
		// Tries after 0.2, 0.6 and 1.4 s.
		require.InDelta(t, 1.4, (n.Now() - start).Seconds(), 0.01)
	})
}

func TestStreamOfAStalledProcess(t *testing.T) {
	inNetwork(t, LAN(), 2, func(t *testing.T, n *Network, b []*box) {
		b[1].Stall(10*time.Second, StallBlocks)
		conn, err := b[0].Dial(b[1].Addr().String(), time.Second)
		require.NoError(t, err, "the system accepts on behalf of the process")
		_, err = conn.Write([]byte("x"))
		require.NoError(t, err)
		far := accept(t, b[1])
		require.Equal(t, 10*time.Second, n.Now(), "the process gets it when the stall is over")
		b[1].Stall(10*time.Second, StallBlocks)
		_, err = far.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 20*time.Second, n.Now())
		b[1].Stall(10*time.Second, StallBlocks)
		_, err = far.Write([]byte("y"))
		require.NoError(t, err)
		require.Equal(t, 30*time.Second, n.Now())
	})
}

func TestStreamIsResetWhenAProcessDies(t *testing.T) {
	inNetwork(t, LAN(), 2, func(t *testing.T, n *Network, b []*box) {
		conn, err := b[0].Dial(b[1].Addr().String(), time.Second)
		require.NoError(t, err)
		far := accept(t, b[1])
		n.After(time.Second, b[1].Close)
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = far.Read(make([]byte, 1))
		require.Error(t, err)
	})
}

func TestClosingTheNetworkFailsWhoeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(LAN(), 1)
		one := n.Listen(netip.MustParseAddrPort("10.0.0.1:1"))
		two := n.Listen(netip.MustParseAddrPort("10.0.0.2:1"))
		conn, err := one.Dial("10.0.0.2:1", time.Second)
		require.NoError(t, err)
		failed := make(chan error)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			failed <- err
		}()
		two.Stall(time.Hour, StallBlocks)
		go func() {
			_, err := two.Send([]byte("x"), "10.0.0.1:1")
			failed <- err
		}()
		pass(time.Second)
		n.Close()
		require.Error(t, <-failed)
		require.Error(t, <-failed)
	})
}

func TestEventQueueIsOrderedByTimeThenByArrival(t *testing.T) {
	var q eventQueue
	var order []int
	for i := range 2000 {
		q.push(time.Duration(i*7919%101), funcEvent(func() { order = append(order, i) }))
	}
	for len(q.heap) > 0 {
		q.pop().fire(nil, 0)
	}
	for i, number := range order[1:] {
		before := order[i]
		a, b := before*7919%101, number*7919%101
		require.True(t, a < b || a == b && before < number)
	}
}
