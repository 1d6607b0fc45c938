package memberlist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pushState opens a stream to a node and writes a push/pull on it.
func (p *puppet) pushState(to *Memberlist, join bool, user []byte, nodes ...pushNodeState) net.Conn {
	p.t.Helper()
	conn := p.dial(to)
	_, err := p.wire.writeStream(conn, p.state(join, user, nodes...), true)
	require.NoError(p.t, err)
	return conn
}

// acceptOne answers the next stream that is opened to the puppet.
func (p *puppet) acceptOne(serve func(conn net.Conn, r *streamReader, kind messageType)) {
	go func() {
		conn := <-p.tr.StreamCh()
		if conn == nil {
			return
		}
		r, kind, err := p.wire.openInbound(conn)
		if err == nil {
			serve(conn, r, kind)
		}
	}()
}

// readPushed reads the push/pull that a node sent.
func readPushed(t *testing.T, r *streamReader) remoteState {
	t.Helper()
	var s remoteState
	header, user, err := readPushPull(r, func(n *pushNodeState) error {
		s.nodes = append(s.nodes, *n)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	s.join, s.user = header.Join, user
	return s
}

// ---- the accepting side

// Everything is read, then answered, then merged; the answer echoes the flag
// (W56, W57).
func TestP117P118AcceptorAnswersAndMerges(t *testing.T) {
	for _, join := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			var mu sync.Mutex
			var calls []string
			call := func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				calls = append(calls, fmt.Sprintf(format, args...))
			}
			var m *Memberlist
			m = c.node("n1", quiet, func(cfg *Config) {
				cfg.Merge = mergeFunc(func(nodes []*Node) error {
					call("merge? %d", len(nodes))
					return nil
				})
				cfg.Delegate = &hooks{
					local: func(join bool) []byte {
						call("local %t, %d members", join, m.NumMembers())
						return []byte("ours")
					},
					merge: func(state []byte, join bool) {
						call("merge %s %t, %d members", state, join, m.NumMembers())
					},
				}
			})
			p := c.puppet("p", nil)
			kind, state, _, err := p.readReply(p.pushState(m, join, []byte("theirs"), p.self()))
			require.NoError(t, err)
			require.Equal(t, pushPullMsg, kind)
			require.Equal(t, join, state.join)
			require.Equal(t, "ours", string(state.user))
			require.Len(t, state.nodes, 1, "the state before the merge")
			require.Equal(t, "n1", state.nodes[0].Name)
			synctest.Wait()
			require.Equal(t, []string{"n1", "p"}, memberNames(m))
			want := []string{
				fmt.Sprintf("local %t, 1 members", join), fmt.Sprintf("merge theirs %t, 2 members", join),
			}
			if join {
				want = append([]string{"merge? 1"}, want...)
			}
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, want, calls)
		})
	}
}

// Nil and empty both mean that there is no user state, and none is merged (W55).
func TestP118P119NoUserState(t *testing.T) {
	for _, local := range [][]byte{nil, {}} {
		inBubble(t, func(t *testing.T) {
			c := newMesh(t)
			m := c.node("n1", quiet, func(cfg *Config) {
				cfg.Delegate = &hooks{
					local: func(bool) []byte { return local },
					merge: func([]byte, bool) { t.Error("nothing was to be merged") },
				}
			})
			p := c.puppet("p", nil)
			_, state, _, err := p.readReply(p.pushState(m, true, nil, p.self()))
			require.NoError(t, err)
			require.Empty(t, state.user)
			synctest.Wait()
			require.Equal(t, 2, m.NumMembers())
		})
	}
}

// W54: the own state holds every record, in every state.
func TestP117StateHoldsEveryRecord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", quiet)
		p := c.puppet("p", nil)
		for _, name := range []string{"alive", "suspect", "dead", "left"} {
			p.send(m, aliveOf(name, 3, withMeta("meta of "+name)).appendTo(nil))
		}
		synctest.Wait()
		p.send(m, (&suspect{Incarnation: 4, Node: "suspect", From: "alive"}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 5, Node: "dead", From: "alive"}).appendTo(nil))
		p.send(m, (&dead{Incarnation: 6, Node: "left", From: "left"}).appendTo(nil))
		synctest.Wait()
		_, state, _, err := p.readReply(p.pushState(m, false, nil))
		require.NoError(t, err)
		got := map[string]string{}
		for _, n := range state.nodes {
			got[n.Name] = fmt.Sprintf("%s@%d %s %s", n.State, n.Incarnation, n.Meta, joinHostPort(n.Addr, n.Port))
			require.Equal(t, testVersions(), n.Vsn)
		}
		own := m.LocalNode()
		require.Equal(t, map[string]string{
			"n1":      "alive@1  " + own.Address(),
			"alive":   "alive@3 meta of alive " + joinHostPort(addrOfTestNode("alive"), 7946),
			"suspect": "suspect@4 meta of suspect " + joinHostPort(addrOfTestNode("suspect"), 7946),
			"dead":    "dead@5 meta of dead " + joinHostPort(addrOfTestNode("dead"), 7946),
			"left":    "left@6 meta of left " + joinHostPort(addrOfTestNode("left"), 7946),
		}, got)
	})
}

// A merge is all or nothing; versions that do not go together are only logged
// here.
func TestP117P119RefusedMergeChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		log := new(logLines)
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.LogOutput = log
			cfg.Delegate = &hooks{merge: func([]byte, bool) { t.Error("merged") }}
		})
		p := c.puppet("p", nil)
		wrong := stateOf("wrong", 1, StateAlive)
		wrong.Vsn = []byte{1, 9, 9, 0, 0, 0}
		kind, state, _, err := p.readReply(p.pushState(m, true, []byte("theirs"), p.self(), wrong))
		require.NoError(t, err)
		require.Equal(t, pushPullMsg, kind, "it is answered all the same (W57)")
		require.Len(t, state.nodes, 1)
		synctest.Wait()
		require.Equal(t, []string{"n1"}, memberNames(m))
		require.Len(t, log.with("[ERR]", "Node 'wrong' protocol version (9) is incompatible: [1, 5]"), 1)
	})
}

// Whoever opens a stream and then says nothing, or not enough, is not waited for
// longer than TCPTimeout.
func TestP117SilentOpenersAreNotWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", quiet)
		p := c.puppet("p", nil)
		whole := p.state(true, []byte("state"), p.self())
		for _, said := range [][]byte{nil, whole[:1], whole[:20], whole[:len(whole)-1]} {
			conn := p.dial(m)
			if said != nil {
				_, err := conn.Write(said)
				require.NoError(t, err)
			}
			require.Equal(t, m.config.TCPTimeout, duration(func() { _, _ = io.Copy(io.Discard, conn) }), "%x", said)
		}
		require.Equal(t, []string{"n1"}, memberNames(m))
	})
}

// The answer has a deadline of its own: a slow writer can be a slow reader.
func TestP117AnswerHasAFreshDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = &hooks{local: func(bool) []byte { return bytes.Repeat([]byte("x"), 1<<20) }}
		})
		p := c.puppet("p", nil)
		msg := p.state(true, nil, p.self())
		conn := p.dial(m)
		_, err := conn.Write(msg[:10])
		require.NoError(t, err)
		time.Sleep(m.config.TCPTimeout - time.Second)
		_, err = conn.Write(msg[10:])
		require.NoError(t, err)
		time.Sleep(m.config.TCPTimeout - time.Second)
		kind, state, _, err := p.readReply(conn)
		require.NoError(t, err)
		require.Equal(t, pushPullMsg, kind)
		require.Len(t, state.user, 1<<20)
		synctest.Wait()
		require.Equal(t, 2, m.NumMembers())

		conn = p.pushState(m, true, nil, p.self())
		time.Sleep(m.config.TCPTimeout + time.Second)
		_, _, _, err = p.readReply(conn)
		require.Error(t, err, "but there is one")
	})
}

// Of the incoming exchanges 127 run at a time; the next is turned away without an
// answer (W62).
func TestP122ExchangesAtATimeAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		log := new(logLines)
		m := c.node("n1", quiet, func(cfg *Config) { cfg.LogOutput = log })
		p := c.puppet("p", nil)
		msg := p.state(false, nil, p.self())
		var open []net.Conn
		for range 127 {
			conn := p.dial(m)
			_, err := conn.Write(msg[:10])
			require.NoError(t, err)
			open = append(open, conn)
		}
		synctest.Wait()
		_, _, _, err := p.readReply(p.pushState(m, false, nil, p.self()))
		require.ErrorIs(t, err, io.EOF)
		require.Len(t, log.with("[ERR]", "Too many pending push/pull requests"), 1)
		other := p.dial(m)
		_, err = p.wire.writeStream(other, (&ping{SeqNo: 9}).appendTo(nil), true)
		require.NoError(t, err)
		kind, _, _, err := p.readReply(other)
		require.NoError(t, err)
		require.Equal(t, ackMsg, kind, "other streams are not turned away")

		_, err = open[0].Write(msg[10:])
		require.NoError(t, err)
		_, _, _, err = p.readReply(open[0])
		require.NoError(t, err)
		synctest.Wait()
		_, _, _, err = p.readReply(p.pushState(m, false, nil, p.self()))
		require.NoError(t, err, "there is room again")
		for _, conn := range open {
			_ = conn.Close()
		}
	})
}

// ---- the opening side

func TestP116OpenerSendsItsStateAndMergesTheAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		var asked []bool
		merged := new(metaBox)
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = &hooks{
				local: func(join bool) []byte {
					asked = append(asked, join)
					return []byte("ours")
				},
				merge: func(state []byte, join bool) { merged.set(fmt.Sprintf("%s %t", state, join)) },
			}
		})
		p := c.puppet("p", nil)
		var got remoteState
		p.acceptOne(func(conn net.Conn, r *streamReader, _ messageType) {
			got = readPushed(t, r)
			_, err := p.wire.writeStream(conn, p.state(false, []byte("theirs"), p.self()), false)
			if err != nil {
				t.Error(err)
			}
		})
		joined, err := m.Join([]string{"p/127.0.0.1:2"})
		require.NoError(t, err)
		require.Equal(t, 1, joined)
		synctest.Wait()
		require.Equal(t, []bool{true}, asked)
		require.True(t, got.join)
		require.Equal(t, "ours", string(got.user))
		require.Len(t, got.nodes, 1)
		require.Equal(t, "theirs true", string(merged.NodeMeta(0)), "the flag of the answer is not looked at (W56)")
		require.Equal(t, []string{"n1", "p"}, memberNames(m))
	})
}

// An acceptor that takes everything and answers nothing is given up after
// TCPTimeout, which runs anew once the own state is written.
func TestP116OpenerDoesNotWaitForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", quiet)
		p := c.puppet("p", nil)
		var conn net.Conn
		p.acceptOne(func(opened net.Conn, r *streamReader, _ messageType) {
			conn = opened
			readPushed(t, r)
		})
		var err error
		took := duration(func() { _, err = m.Join([]string{"127.0.0.1:2"}) })
		require.Error(t, err)
		require.Equal(t, m.config.TCPTimeout, took)
		synctest.Wait()
		_ = conn.Close()
	})
}

func TestP116AnswerHasAFreshDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.Delegate = &hooks{local: func(bool) []byte { return bytes.Repeat([]byte("x"), 1<<20) }}
		})
		p := c.puppet("p", nil)
		almost := m.config.TCPTimeout - time.Second
		go func() {
			conn := <-p.tr.StreamCh()
			time.Sleep(almost)
			r, _, err := p.wire.openInbound(conn)
			if err != nil {
				t.Error(err)
				return
			}
			readPushed(t, r)
			time.Sleep(almost)
			if _, err := p.wire.writeStream(conn, p.state(false, nil, p.self()), false); err != nil {
				t.Error(err)
			}
		}()
		joined, err := m.Join([]string{"127.0.0.1:2"})
		require.NoError(t, err)
		require.Equal(t, 1, joined)
	})
}

// Periodic exchanges come each interval, with a node that is alive, without the
// join flag; failures are logged and do not end them.
func TestP115P116PeriodicExchange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		log := new(logLines)
		m := c.node("n1", quiet, func(cfg *Config) {
			cfg.PushPullInterval = 30 * time.Second
			cfg.LogOutput = log
			cfg.Merge = mergeFunc(func([]*Node) error { return errors.New("this is no join") })
		})
		p := c.puppet("p", nil)
		p.introduce(m)
		var flags []bool
		for range 3 {
			answered := make(chan struct{})
			p.acceptOne(func(conn net.Conn, r *streamReader, _ messageType) {
				flags = append(flags, readPushed(t, r).join)
				_, _ = p.wire.writeStream(conn, p.state(false, nil, p.self()), false)
				close(answered)
			})
			require.LessOrEqual(t, duration(func() { <-answered }), 61*time.Second)
		}
		synctest.Wait()
		require.Equal(t, []bool{false, false, false}, flags)
		require.Empty(t, log.with("[ERR]"))
		p.acceptOne(func(conn net.Conn, _ *streamReader, _ messageType) { _ = conn.Close() })
		time.Sleep(40 * time.Second)
		synctest.Wait()
		require.Len(t, log.with("[ERR] memberlist: Push/Pull with p failed: "), 1)
		p.acceptOne(func(conn net.Conn, r *streamReader, _ messageType) {
			flags = append(flags, readPushed(t, r).join)
			_ = conn.Close()
		})
		time.Sleep(40 * time.Second)
		synctest.Wait()
		require.Len(t, flags, 4, "it goes on")
	})
}
