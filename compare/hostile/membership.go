package hostile

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/seed-83836a96/memberlist/compare/bench/wire"
)

// Membership: what is said about nodes.
var membershipCases = []*Case{{
	Name:  "unrefutable-accusation",
	Title: "An accusation that cannot be refuted",
	Input: "One packet: a member is dead, with incarnation 2³² − 1",
	Unit:  Seconds, What: "time until everybody lists it again", Limit: 60,
	Bound: "Only an accusation that can be refuted counts: none above 2³² − 2, and none further than 2²⁰ from the record.",
	Why:   "A node refutes an accusation with a higher incarnation, and there is none above the highest. In v0.7.0 it goes on with the lowest, which nobody believes.",
	run:   func(s *stage) Outcome { return unrefutable(s, false) },
}, {
	Name:  "unrefutable-restart",
	Title: "An accusation that cannot be refuted, and a restart",
	Input: "The same packet, and the member is restarted a minute later",
	Unit:  Seconds, What: "time until everybody lists it again", Limit: 60,
	Bound: "As above. A node that comes back far below what is said of it begins a new life.",
	Why:   "A restarted node counts from 1 again, below what is held against its name.",
	run:   func(s *stage) Outcome { return unrefutable(s, true) }, harmless: true,
}, {
	Name:  "chain-of-accusations",
	Title: "A chain of accusations",
	Input: "4,099 accusations of a member, each at most 2²⁰ − 1 above the one before, up to the highest",
	Unit:  Seconds, What: "time from the last one until everybody lists it", Limit: 60,
	Bound: "A node goes on from the lowest incarnation after the highest, and what is far above a record does not count.",
	Why:   "Each step is one that could be refuted; together they use up the range.",
	run:   chainOfAccusations,
}, {
	Name:  "made-up-dead",
	Title: "Made-up dead nodes",
	Input: "8192 made-up nodes that came and died; then two real ones are apart for five minutes",
	Unit:  Seconds, What: "time from the end of the split until both list each other", Limit: 60,
	Bound: "4096 lost nodes are looked for; those that never answered are replaced first. `ReconnectInterval`, `ReconnectTimeout`.",
	Why:   "A node that looks for those it lost has a memory of them, which fills. v0.7.0 looks for nobody.",
	run:   madeUpDead,
}, {
	Name:  "long-names-accused",
	Title: "Long names, accused",
	Input: "Accusations of strangers with names of 0.9 and 16 MiB, compressed",
	Unit:  Bytes, What: "heap held a minute later", Limit: 2 << 20,
	Bound: "Names have 512 bytes at most, and 1024 accusations of strangers are kept. What the last packet was unpacked into, 1 MiB at most, stays until the next one.",
	Why:   "An accusation of a stranger is kept, since the stranger's own news may come after it. v0.7.0 drops it.",
	run: func(s *stage) Outcome {
		return heldBy(s, each(s.count(12, 6), func(i int) []byte {
			return wire.Compress(wire.Suspect(run(i/2, sizeOf(i)), 1, "x"))
		}))
	},
	harmless: true,
}, {
	Name:  "large-members",
	Title: "Large members",
	Input: "Members with meta data of 0.9 and 16 MiB, compressed",
	Unit:  Bytes, What: "heap held a minute later", Limit: 2 << 20,
	Bound: "What a node says of itself: 512 bytes of name and of meta data (`MetaMaxSize`), 16 of versions, an IP address. The buffer as above.",
	Why:   "A member is kept, and so is the broadcast about it, which fits no packet and stays in the queue.",
	run: func(s *stage) Outcome {
		return heldBy(s, each(s.count(12, 6), func(i int) []byte {
			m := member(name(i), 1)
			m.Meta = bytes.Repeat([]byte{byte(i)}, sizeOf(i))
			return wire.Compress(wire.Alive(m))
		}))
	},
}, {
	Name:  "absurd-addresses",
	Title: "Absurd addresses",
	Input: "Members with addresses of 0, 3, 5, 1000 and 65,536 bytes",
	Unit:  Number, What: "such members that are listed, and ten minutes later", Limit: 0,
	Bound: "An address has 4 or 16 bytes.",
	Why:   "What cannot be sent to is told to the program as a member, and to all other nodes.",
	run:   absurdAddresses,
}, {
	Name:  "suspicions",
	Title: "Suspicions without end",
	Input: "A member that is accused and alive again, 100,000 times, while the program is busy",
	Unit:  Bytes, What: "heap held when it is over", Limit: 4 << 20,
	Bound: "Timers that no longer matter are swept out when they are more than those that do.",
	Why:   "Each suspicion sets a timer.",
	run:   suspicions, harmless: true,
}}

// unrefutable has a member of three condemned with the highest incarnation, and
// observes when it is back for a minute.
func unrefutable(s *stage, restart bool) Outcome {
	a, b, x := s.node(Setup{}), s.node(Setup{}), s.node(Setup{})
	attacker := s.source(1)
	time.Sleep(10 * time.Second)
	attacker.send(wire.Dead("n3", math.MaxUint32, "n2"), a)
	start := time.Now()
	if restart {
		time.Sleep(time.Minute)
		x.endpoint.Close()
		x.Shutdown()
		time.Sleep(time.Second)
		start = time.Now()
		x = s.loner(Setup{}, 3)
		_ = x.Join(a.addr) // may fail as often as it likes
	}
	limit := 24 * time.Hour
	if s.quick {
		limit = 10 * time.Minute
	}
	return whole(start, limit, func() bool { return a.lists("n3") && b.lists("n3") && x.lists("n1") && x.lists("n2") })
}

func chainOfAccusations(s *stage) Outcome {
	a, b, x := s.node(Setup{}), s.node(Setup{}), s.node(Setup{})
	attacker := s.source(1)
	time.Sleep(10 * time.Second)
	s.spend(func() {
		for _, incarnation := range chain() {
			for _, v := range []*victim{a, b, x} {
				attacker.send(wire.Suspect("n3", incarnation, "n2"), v)
			}
			time.Sleep(200 * time.Millisecond) // so that the refutation is heard
		}
	})
	limit := time.Hour
	if s.quick {
		limit = 10 * time.Minute
	}
	return whole(time.Now(), limit, func() bool { return a.lists("n3") && b.lists("n3") && x.lists("n1") && x.lists("n2") })
}

// chain is the incarnations up to the highest, none too far from the one before.
func chain() []uint32 {
	const step = 1<<20 - 1
	var incarnations []uint32
	for i := uint32(0); i < math.MaxUint32-2*step; {
		i += step
		incarnations = append(incarnations, i)
	}
	return append(incarnations, math.MaxUint32-step, math.MaxUint32-2, math.MaxUint32-1, math.MaxUint32)
}

// whole is the time until it is good, and stays so for a minute.
func whole(start time.Time, limit time.Duration, good func() bool) Outcome {
	since := time.Now()
	for time.Since(start) < limit {
		time.Sleep(100 * time.Millisecond)
		if !good() {
			since = time.Now()
		}
		if time.Since(since) > time.Minute {
			return Outcome{Amount: since.Sub(start).Seconds()}
		}
	}
	return Outcome{Amount: limit.Seconds(), Stopped: true}
}

func madeUpDead(s *stage) Outcome {
	a, b := s.node(Setup{}), s.node(Setup{})
	attacker := s.source(1)
	time.Sleep(10 * time.Second)
	n := s.count(8192, 5000)
	var news [][]byte
	for i := range n {
		news = append(news, wire.Alive(member(name(i), 1)), wire.Dead(name(i), 1, "n2"))
	}
	packets, _ := wire.Fill(news, 1400)
	s.spend(func() { attacker.sendAll(packets, a) })
	b.endpoint.SetSide(1)
	time.Sleep(5 * time.Minute)
	b.endpoint.SetSide(0)
	return whole(time.Now(), time.Hour, func() bool { return a.lists("n2") && b.lists("n1") })
}

// heldBy is what packets make a node hold a minute later.
func heldBy(s *stage, packets [][]byte) Outcome {
	v, attacker := s.node(Setup{}), s.source(1)
	var o Outcome
	o.Amount = s.held(packets, func() {
		o.Stopped = attacker.sendAll(packets, v)
		time.Sleep(time.Minute)
	})
	return o
}

func absurdAddresses(s *stage) Outcome {
	v, attacker := s.node(Setup{}), s.source(1)
	s.spend(func() {
		for i, length := range []int{0, 3, 5, 1000, 65536} {
			m := member(name(i), 1)
			m.Addr = make([]byte, length)
			attacker.send(wire.Compress(wire.Alive(m)), v)
		}
	})
	listed := len(v.Members()) - 1
	time.Sleep(10 * time.Minute)
	return Outcome{Amount: float64(listed), Note: fmt.Sprintf("then %d", len(v.Members())-1)}
}

func suspicions(s *stage) Outcome {
	v, attacker := s.node(Setup{}), s.source(1)
	attacker.send(wire.Alive(member("b", 1)), v)
	attacker.send(wire.Alive(member("c", 1)), v)
	time.Sleep(100 * time.Millisecond)
	var news [][]byte
	for i := range uint32(s.count(100_000, 10_000)) {
		news = append(news, wire.Suspect("b", i+1, "c"), wire.Alive(member("b", i+2)))
	}
	packets, _ := wire.Fill(news, 60_000)
	return Outcome{Amount: s.held(packets, func() { attacker.sendAll(packets, v) })}
}
