package memberlist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/require"
)

// TestEveryEntryIsContactedWithTheJoinFlag checks P16.
func TestEveryEntryIsContactedWithTheJoinFlag(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1")
		var entries []string
		var received []func() []remoteState
		for i := range 4 {
			p := c.puppet(fmt.Sprintf("p%d", i), nil)
			received = append(received, p.acceptState(func(s remoteState) []byte { return p.state(s.join, nil, p.self()) }))
			entries = append(entries, p.tr.addr.String())
		}
		joined, err := m.Join(entries)
		require.NoError(t, err)
		require.Equal(t, 4, joined)
		require.Equal(t, 5, m.NumMembers())
		for i, states := range received {
			require.Len(t, states(), 1, entries[i])
			require.True(t, states()[0].join)
		}
	})
}

// A name that has several addresses: all of them are contacted (P16).
func TestEveryAddressOfAnEntryIsContacted(t *testing.T) {
	first, second := loopback("n1"), loopback("n2")
	second.BindAddr = "127.0.0.2"
	a := createOnLoopback(t, first)
	second.BindPort = first.BindPort
	b, err := Create(second)
	if err != nil {
		t.Skipf("no second loopback address here: %v", err)
	}
	defer func() { _ = b.Shutdown() }()

	third := loopback("n3")
	m := createOnLoopback(t, third)
	names := &system{ips: map[string][]string{"cluster": {"127.0.0.1", "127.0.0.2"}}}
	m.joining.resolver.systemIPs = names.lookupIPs
	joined, err := m.Join([]string{fmt.Sprintf("cluster:%d", a.LocalNode().Port)})
	require.NoError(t, err)
	require.Equal(t, 2, joined)
	require.Equal(t, 3, m.NumMembers())
}

// TestSomeOfTheEntriesFail checks P17, P18.
func TestSomeOfTheEntriesFail(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		a := c.node("n1")
		b := c.node("n2", func(cfg *Config) { cfg.LogOutput = lines })
		refusing := c.puppet("refusing", nil)
		require.NoError(t, refusing.tr.Shutdown())
		unresolvable, refused := "127.0.0.1:port", refusing.tr.addr.String()

		joined, err := b.Join([]string{unresolvable, refused, a.LocalNode().Address()})
		require.NoError(t, err)
		require.Equal(t, 1, joined)
		require.Len(t, lines.with("[WARN] memberlist: Failed to resolve 127.0.0.1:port: "), 1)
		require.Len(t, lines.with("[DEBUG] memberlist: Failed to join "+refused+": "), 1)
	})
}

// TestAllEntriesFail checks P17, P18.
func TestAllEntriesFail(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1")
		refusing := c.puppet("refusing", nil)
		require.NoError(t, refusing.tr.Shutdown())
		refused := refusing.tr.addr.String()
		joined, err := m.Join([]string{"/127.0.0.1:1", refused, "127.0.0.1:99999"})
		require.Zero(t, joined)
		var all *multierror.Error
		require.ErrorAs(t, err, &all)
		require.Len(t, all.Errors, 3)
		require.EqualError(t, all.Errors[0], "failed to resolve /127.0.0.1:1: empty node name provided") // P19
		require.ErrorContains(t, all.Errors[1], "failed to join "+refused+": ")
		require.ErrorContains(t, all.Errors[2], "failed to resolve 127.0.0.1:99999: ")
		for i, seed := range []string{"/127.0.0.1:1", refused, "127.0.0.1:99999"} {
			var failed *JoinError
			require.ErrorAs(t, all.Errors[i], &failed)
			require.Equal(t, seed, failed.Seed)
		}
		var unreachable *UnreachableError
		require.ErrorAs(t, err, &unreachable)
		require.Equal(t, refused, unreachable.Addr)
		require.NotErrorIs(t, err, ErrTimeout)
	})
}

// TestJoiningNobodyIsNoError checks P17.
func TestJoiningNobodyIsNoError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t).node("n1")
		for _, entries := range [][]string{nil, {}} {
			joined, err := m.Join(entries)
			require.NoError(t, err)
			require.Zero(t, joined)
		}
	})
}

// Join blocks until the exchange is over and its events are delivered, and can be
// called again (P20, P125).
func TestJoinReturnsAfterItsEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		c.network.SetLatency(20*time.Millisecond, 0)
		nodes := c.grow(3)
		events := &trace{hook: func(string, *Node) { time.Sleep(100 * time.Millisecond) }}
		m := c.node("n4", func(cfg *Config) { cfg.Events = events })
		require.Equal(t, []string{"join n4"}, events.take())
		joinNode(t, m, nodes[0])
		require.ElementsMatch(t, []string{"join n1", "join n2", "join n3"}, events.take())
		joinNode(t, m, nodes[1])
		require.Empty(t, events.take(), "nothing new")
	})
}

// One good seed among 100 that swallow packets: the state is there in less than a
// second, and the call is back after one timeout.
func TestJoinAmongSeedsThatSwallowPackets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		good := c.node("good")
		var entries []string
		for i := range 99 {
			entries = append(entries, c.puppet(fmt.Sprintf("deaf%d", i), nil).tr.addr.String())
		}
		entries = append(entries, good.LocalNode().Address())
		m := c.node("n1")
		done := make(chan struct{})
		var took time.Duration
		go func() {
			defer close(done)
			took = duration(func() {
				joined, err := m.Join(entries)
				require.NoError(t, err)
				require.Equal(t, 1, joined)
			})
		}()
		within(t, time.Second, "the state is there", func() bool { return m.NumMembers() == 2 && good.NumMembers() == 2 })
		<-done
		require.InDelta(t, m.config.TCPTimeout.Seconds(), took.Seconds(), 0.5)
	})
}

// countingDialer counts how many dials are under way at the same time.
type countingDialer struct {
	*MockTransport
	now, most atomic.Int32
}

func (d *countingDialer) DialAddressTimeout(to Address, timeout time.Duration) (net.Conn, error) {
	now := d.now.Add(1)
	defer d.now.Add(-1)
	for most := d.most.Load(); now > most && !d.most.CompareAndSwap(most, now); most = d.most.Load() {
	}
	return d.MockTransport.DialAddressTimeout(to, timeout)
}

func TestJoinContactsAtMost128SeedsAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		cfg := c.config("n1")
		dialer := &countingDialer{MockTransport: cfg.Transport.(*MockTransport)}
		cfg.Transport = dialer
		m := c.start(cfg)
		var entries []string
		for i := range 300 {
			entries = append(entries, c.puppet(fmt.Sprintf("deaf%d", i), nil).tr.addr.String())
		}
		took := duration(func() {
			joined, err := m.Join(entries)
			require.Zero(t, joined)
			require.ErrorIs(t, err, ErrTimeout)
			var all *multierror.Error
			require.ErrorAs(t, err, &all)
			require.Len(t, all.Errors, 300)
		})
		require.EqualValues(t, maxJoins, dialer.most.Load())
		require.InDelta(t, 3*cfg.TCPTimeout.Seconds(), took.Seconds(), 0.5)
	})
}

// Whatever an exchange is at when the context ends, Join is back at once.
func TestJoinContextIsCancelledAtEveryStage(t *testing.T) {
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for name, prepare := range map[string]func(p *puppet){
		"connecting": func(*puppet) {},
		"writing":    func(p *puppet) { p.accept(func(net.Conn) { <-p.t.Context().Done() }) },
		"reading":    func(p *puppet) { p.accept(silent) },
		"reading the rest": func(p *puppet) {
			p.accept(func(conn net.Conn) {
				go silent(conn)
				_, _ = conn.Write([]byte{byte(pushPullMsg)})
				<-p.t.Context().Done()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				m := c.node("n1", func(cfg *Config) { cfg.TCPTimeout = time.Hour })
				p := c.puppet("p", nil)
				prepare(p)
				for _, kind := range []error{context.Canceled, context.DeadlineExceeded} {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if kind == context.Canceled {
						ctx, cancel = context.WithCancel(t.Context())
						time.AfterFunc(time.Second, cancel)
					}
					took := duration(func() {
						joined, err := m.JoinContext(ctx, []string{p.tr.addr.String()})
						require.Zero(t, joined)
						require.ErrorIs(t, err, kind)
						require.Equal(t, kind == context.DeadlineExceeded, errors.Is(err, ErrTimeout), "%v", err)
					})
					cancel()
					require.GreaterOrEqual(t, took, time.Second)
					require.Less(t, took, 1100*time.Millisecond)
				}
				// The streams are given up, so nothing of them is left.
				require.NoError(t, m.Shutdown())
				synctest.Wait()
				require.Empty(t, bubbleGoroutinesOf("*Memberlist"))
			})
		})
	}
}

// An ended context beforehand: nobody is contacted.
func TestJoinContextThatHasEnded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		a, b := c.node("n1"), c.node("n2")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		joined, err := b.JoinContext(ctx, []string{a.LocalNode().Address()})
		require.Zero(t, joined)
		require.ErrorIs(t, err, context.Canceled)
		synctest.Wait()
		require.Equal(t, 1, a.NumMembers())
	})
}

// The words of the delegate that refuses a join reach the joiner, whichever
// delegate it is and on which side (W89).
func TestJoinerLearnsWhyItWasRejected(t *testing.T) {
	errVeto := errors.New("only on Thursdays")
	veto := func(n *Node) error {
		if n.Name == "joiner" {
			return errVeto
		}
		return nil
	}
	for name, test := range map[string]struct {
		seed, joiner func(*Config)
		remote       bool
	}{
		"remote merge delegate": {
			seed:   func(cfg *Config) { cfg.Merge = mergeFunc(func([]*Node) error { return errVeto }) },
			remote: true,
		},
		"remote alive delegate": {
			seed:   func(cfg *Config) { cfg.Alive = aliveFunc(veto) },
			remote: true,
		},
		"own merge delegate": {
			joiner: func(cfg *Config) { cfg.Merge = mergeFunc(func([]*Node) error { return errVeto }) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				lines := new(logLines)
				use := func(change func(*Config)) func(*Config) {
					return func(cfg *Config) {
						cfg.LogOutput, cfg.PushPullInterval = lines, 0
						if change != nil {
							change(cfg)
						}
					}
				}
				seed := c.node("seed", use(test.seed))
				joiner := c.node("joiner", use(test.joiner))
				joined, err := joiner.Join([]string{seed.LocalNode().Address()})
				synctest.Wait()
				require.Zero(t, joined)
				require.ErrorIs(t, err, ErrRejected)
				require.ErrorContains(t, err, "only on Thursdays")
				var rejected *RejectedError
				require.ErrorAs(t, err, &rejected)
				var remote *RemoteError
				require.Equal(t, test.remote, errors.As(err, &remote))
				if test.remote {
					require.Equal(t, seed.LocalNode().Address(), rejected.By)
					require.Equal(t, seed.LocalNode().Address(), remote.Addr)
					require.ErrorContains(t, err, "remote error: ")
					require.NotEmpty(t, lines.with("[ERR] memberlist: ", "only on Thursdays", "from="))
				} else {
					require.Empty(t, rejected.By)
					require.ErrorIs(t, err, errVeto, "the delegate's own error comes through")
				}
				require.Equal(t, []string{"joiner"}, memberNames(joiner), "nothing was merged")
				if test.remote {
					require.Equal(t, []string{"seed"}, memberNames(seed))
				}
			})
		})
	}
}

// Every reason why a join fails can be told by errors.Is (P18, P151).
func TestCausesOfAFailedJoin(t *testing.T) {
	key, other := make([]byte, 16), []byte("another key, too")
	for name, test := range map[string]struct {
		seed, joiner func(*Config)
		want         error
		text         string
	}{
		"keys differ": {
			seed:   func(cfg *Config) { cfg.SecretKey = key },
			joiner: func(cfg *Config) { cfg.SecretKey = other },
			// The refusal is sealed with the key that the joiner does not have.
			want: ErrDecrypt, text: "no installed keys could decrypt the message",
		},
		"joiner has no keys": {
			seed: func(cfg *Config) { cfg.SecretKey = key },
			want: ErrEncrypted, text: "remote state is encrypted and encryption is not configured",
		},
		"seed has no keys": {
			joiner: func(cfg *Config) { cfg.SecretKey = key },
			// It says that it has none, in clear text.
			want: ErrNotEncrypted, text: "encryption is configured but remote state is not encrypted",
		},
		"seed has no keys, and clear text is taken": {
			joiner: func(cfg *Config) { cfg.SecretKey, cfg.GossipVerifyIncoming = key, false },
			want:   ErrEncrypted, text: "remote error: remote state is encrypted and encryption is not configured",
		},
		"labels differ": {
			seed: func(cfg *Config) { cfg.Label = "blue" }, joiner: func(cfg *Config) { cfg.Label = "red" },
			want: io.EOF, text: "the labels differ",
		},
		"versions": {
			seed: func(cfg *Config) {
				cfg.DelegateProtocolMin, cfg.DelegateProtocolMax, cfg.DelegateProtocolVersion = 2, 3, 2
			},
			joiner: func(cfg *Config) {
				cfg.DelegateProtocolMin, cfg.DelegateProtocolMax, cfg.DelegateProtocolVersion = 1, 3, 1
			},
			want: ErrVersion, text: "Node 'joiner' delegate protocol version (1) is incompatible: [2, 3]",
		},
		"names required": {
			joiner: func(cfg *Config) { cfg.RequireNodeNames = true },
			want:   ErrNodeNameRequired,
			text:   "memberlist: node names are required by configuration but one was not provided", // P3
		},
		"out of time": {
			seed: func(cfg *Config) {
				cfg.Delegate = &hooks{local: func(bool) []byte { time.Sleep(11 * time.Second); return nil }}
			},
			want: ErrTimeout, text: "i/o timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				use := func(change func(*Config)) func(*Config) {
					return func(cfg *Config) {
						cfg.PushPullInterval = 0
						if change != nil {
							change(cfg)
						}
					}
				}
				seed := c.node("seed", use(test.seed))
				joiner := c.node("joiner", use(test.joiner))
				joined, err := joiner.Join([]string{seed.LocalNode().Address()})
				require.Zero(t, joined)
				require.ErrorIs(t, err, test.want)
				require.ErrorContains(t, err, "failed to join "+seed.LocalNode().Address()+": ")
				require.ErrorContains(t, err, test.text)
				require.Equal(t, []string{"joiner"}, memberNames(joiner))
				time.Sleep(2 * time.Second) // for the callback that is slow
			})
		})
	}
}

// TestNamedSeedsPassWhereNamesAreRequired checks P3.
func TestNamedSeedsPassWhereNamesAreRequired(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		named := func(cfg *Config) { cfg.RequireNodeNames = true }
		a, b := c.node("n1", named), c.node("n2", named)
		joined, err := b.Join([]string{"n1/" + a.LocalNode().Address()})
		require.NoError(t, err)
		require.Equal(t, 1, joined)
		time.Sleep(10 * time.Second)
		require.Equal(t, 2, a.NumMembers(), "probes name their targets")
	})
}

// A node that left comes back with Join, with a higher incarnation than that of
// its departure. The reference stays away (P20, P25).
func TestNodeThatLeftJoinsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		events := new(trace)
		nodes := c.grow(4, func(cfg *Config) {
			if cfg.Name == "n1" {
				cfg.Events = events
			}
		})
		gone := nodes[3]
		require.NoError(t, gone.Leave(5*time.Second))
		within(t, 5*time.Second, "all know", func() bool {
			return holdsFor(nodes[0], "n4", StateLeft) && holdsFor(nodes[1], "n4", StateLeft) && holdsFor(nodes[2], "n4", StateLeft)
		})
		synctest.Wait()
		before := incarnationOf(nodes[0], "n4")
		require.NotContains(t, memberNames(gone), "n4")
		events.take()

		joinNode(t, gone, nodes[1])
		require.Contains(t, memberNames(gone), "n4")
		within(t, 5*time.Second, "all see it again", func() bool {
			for _, m := range nodes {
				if !holdsFor(m, "n4", StateAlive) {
					return false
				}
			}
			return true
		})
		require.Greater(t, incarnationOf(nodes[0], "n4"), before)
		require.Equal(t, []string{"join n4"}, events.take())
		require.NoError(t, gone.UpdateNode(5*time.Second), "it is a member as before")
		require.NoError(t, gone.Leave(5*time.Second), "and can leave again")
		within(t, 5*time.Second, "n1 knows", func() bool { return holdsFor(nodes[0], "n4", StateLeft) })
	})
}

// While a node is away somebody accuses it of worse; it comes back all the same.
func TestNodeThatLeftComesBackAboveWhatWasSaid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		nodes := c.grow(2)
		p := c.puppet("accuser", nil)
		require.NoError(t, nodes[1].Leave(5*time.Second))
		for _, m := range nodes {
			p.send(m, (&dead{Incarnation: 20, Node: borrow("n2"), From: borrow("n2")}).appendTo(nil))
		}
		synctest.Wait()
		require.Equal(t, StateLeft, statusOf(nodes[1], "n2").Node.State)
		joinNode(t, nodes[1], nodes[0])
		within(t, 5*time.Second, "back", func() bool { return holdsFor(nodes[0], "n2", StateAlive) })
		require.Greater(t, incarnationOf(nodes[0], "n2"), uint32(20))
	})
}

// The texts of a multierror are those of its parts (P17).
func TestErrorListsAllFailures(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1")
		_, err := m.Join([]string{"/a", "/b"})
		require.Equal(t, 2, strings.Count(err.Error(), "empty node name provided"))
	})
}

// Seeds are tried by a node that is alone, again and again; failures are logged.
func TestSeedsAreTriedWhileANodeIsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		lines := new(logLines)
		p := c.puppet("p", nil)
		received := p.acceptState(func(s remoteState) []byte { return p.state(s.join, nil, p.self()) })
		refusing := c.puppet("refusing", nil)
		require.NoError(t, refusing.tr.Shutdown())
		m := c.node("n1", func(cfg *Config) {
			cfg.LogOutput, cfg.ReconnectInterval, cfg.PushPullInterval = lines, 10*time.Second, 0
			cfg.Seeds = []string{"127.0.0.1:no port", refusing.tr.addr.String(), p.tr.addr.String()}
		})
		within(t, 30*time.Second, "joined", func() bool { return holdsFor(m, "p", StateAlive) })
		require.True(t, received()[0].join)
		require.NotEmpty(t, lines.with("[WARN] memberlist: Failed to resolve 127.0.0.1:no port: "))
		require.NotEmpty(t, lines.with("[DEBUG] memberlist: Failed to join "+refusing.tr.addr.String()+": "))

		p.answerPings(m)
		joins := func() (n int) {
			for _, state := range received() {
				if state.join {
					n++
				}
			}
			return n
		}
		tried := joins()
		time.Sleep(time.Minute)
		require.Equal(t, tried, joins(), "a node that is not alone does not look for others")
	})
}

// A node that cannot announce itself does not come back by Join (P20).
func TestNodeThatCannotComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		meta := new(metaBox)
		a := c.node("n1")
		m := c.node("n2", func(cfg *Config) { cfg.Delegate = meta })
		joinNode(t, m, a)
		require.NoError(t, m.Leave(time.Second))
		meta.set(string(make([]byte, MetaMaxSize+1)))
		_, err := m.Join([]string{a.LocalNode().Address()})
		require.ErrorIs(t, err, ErrTooLarge)
		require.Equal(t, StateLeft, m.LocalNode().State)
		meta.set("fits")
		joinNode(t, m, a)
		require.Equal(t, "fits", string(statusOf(a, "n2").Node.Meta))
	})
}
