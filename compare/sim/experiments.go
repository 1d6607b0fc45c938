package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-83836a96/memberlist/compare/simnet"
)

// killed measures how a healthy cluster notices the death of single nodes: one
// after the other, each replaced by a new one under another name.
func killed(r *Run) {
	count := r.Scenario.Spare
	for i, victim := range r.Pick(count) {
		time.Sleep(time.Duration(r.Rand.Int64N(int64(time.Second))))
		at := r.Net.Now()
		r.Kill(victim)
		others := r.Except(victim)
		r.sampleDetection(at, victim, others, time.Minute)
		replacement := r.Scenario.Size + i
		must(r.Start(replacement, r.NewAddr()))
		if _, err := r.Node(replacement).Join(r.Addr(r.anyLive())); err != nil {
			continue
		}
		r.AwaitWhole(20 * time.Second)
	}
}

// anyLive is the first node that runs.
func (r *Run) anyLive() int {
	for i := range r.slots {
		if r.Node(i) != nil {
			return i
		}
	}
	return 0
}

// sampleDetection waits until the victim is gone from the view of all
// observers that run, and records after how long the first and the last dropped it.
func (r *Run) sampleDetection(killedAt time.Duration, victim int, observers []int, limit time.Duration) {
	r.awaitGone(victim, observers, limit)
	r.noteDetection(killedAt, victim, observers)
}

// awaitGone waits until none of the observers that run has the victim in its view.
func (r *Run) awaitGone(victim int, observers []int, limit time.Duration) {
	for end := r.Net.Now() + limit; r.Net.Now() < end; time.Sleep(100 * time.Millisecond) {
		if !r.seenByAny(victim, observers) {
			return
		}
	}
}

func (c *Cluster) seenByAny(subject int, observers []int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range observers {
		if c.slots[i].live && c.slots[i].view[subject] != 0 {
			return true
		}
	}
	return false
}

// noteDetection records after how long the first and the last observer dropped
// the victim for the first time.
func (r *Run) noteDetection(killedAt time.Duration, victim int, observers []int) {
	dropped := map[int]time.Duration{}
	for _, c := range r.Changes(deathsSince(killedAt, set([]int{victim}), set(observers))) {
		if _, known := dropped[c.Observer]; !known {
			dropped[c.Observer] = c.At - killedAt
		}
	}
	first, last := time.Duration(-1), time.Duration(0)
	for _, i := range observers {
		if r.Node(i) == nil {
			continue
		}
		at, ok := dropped[i]
		if !ok {
			last = -1
			break
		}
		last = max(last, at)
	}
	for _, at := range dropped {
		if first < 0 || at < first {
			first = at
		}
	}
	if first < 0 {
		r.Sample("first", notReached)
	} else {
		r.Sample("first", first.Seconds())
	}
	if last < 0 {
		r.Sample("all", notReached)
	} else {
		r.Sample("all", last.Seconds())
	}
}

// stallCase is one cell of the Lifeguard paper's experiments: concurrent
// anomalies, each of a certain duration, with an interval of normal life between.
type stallCase struct {
	concurrent         int
	duration, interval time.Duration
	mode               simnet.StallMode
	kill               bool // also kill a healthy node, and see when that is noticed
}

// stallSpan is how long nodes stall again and again, as in the paper.
const stallSpan = 120 * time.Second

func (s stallCase) run(r *Run) {
	sick := r.Pick(s.concurrent)
	healthy := r.Except(sick...)
	start := r.Net.Now()
	span := r.stall(sick, s.duration, s.interval, s.mode)
	if s.kill {
		victim := healthy[r.Rand.IntN(len(healthy))]
		healthy = r.Except(append(sick, victim)...)
		wait := 10*time.Second + time.Duration(r.Rand.Int64N(int64(5*time.Second)))
		r.Net.After(wait, func() { go r.Kill(victim) })
		defer func() { r.noteDetection(start+wait, victim, healthy) }()
	}
	time.Sleep(span + 30*time.Second)
	r.Value("fp", float64(r.CountChanges(deathsSince(start, set(healthy), set(r.All())))))
	r.Value("fp-healthy", float64(r.CountChanges(deathsSince(start, set(healthy), set(healthy)))))
	r.Value("wrong-after", float64(r.Wrong()))
}

// stall has the nodes stall all at once for d, then live for the interval, and
// so on for stallSpan or the first whole period after it. It returns how long
// this takes and does not wait.
func (r *Run) stall(nodes []int, d, interval time.Duration, mode simnet.StallMode) time.Duration {
	at := time.Duration(0)
	for ; at < stallSpan; at += d + interval {
		r.Net.After(at, func() {
			for _, i := range nodes {
				r.Endpoint(i).Stall(d, mode)
			}
		})
	}
	return at
}

// split parts the cluster in two halves for a while.
func split(d, watch time.Duration) func(*Run) {
	return func(r *Run) {
		for i := range r.Scenario.Size {
			r.Endpoint(i).SetSide(r.side(i))
		}
		r.stayParted(d)
		for i := range r.Scenario.Size {
			r.Endpoint(i).SetSide(0)
		}
		healed := r.Net.Now()
		r.watchHealing(healed, watch)
		r.Value("own-side", float64(r.CountChanges(func(c Change) bool {
			return !c.Present && c.At >= healed && r.side(c.Observer) == r.side(c.Subject)
		})))
	}
}

// stayParted waits and records what is sent in the last minute, at most, of the
// time: a cluster could heal at once by never ceasing to knock.
func (r *Run) stayParted(d time.Duration) {
	last := min(d, time.Minute)
	time.Sleep(d - last)
	before := r.Traffic(r.All())
	time.Sleep(last)
	r.noteTraffic("parted-", before, last)
}

// side is 1 or 2; in a mixed cluster both sides have nodes of either library.
func (r *Run) side(i int) int { return 1 + i/2%2 }

// watchHealing watches the views for a while and records when they were whole
// for the first time, and when for good: not broken again within a minute.
func (r *Run) watchHealing(healed, watch time.Duration) {
	r.Point("wrong", healed, float64(r.Wrong()))
	took, whole := r.awaitWholeWatching(healed, watch)
	if !whole {
		r.Value("whole", notReached)
		r.Value("whole-for-good", notReached)
		return
	}
	r.Value("whole", took.Seconds())
	r.Watch("wrong", healed, time.Minute)
	if since, whole := r.WholeSince(); whole {
		r.Value("whole-for-good", max(0, since-healed).Seconds())
	} else {
		r.Value("whole-for-good", notReached)
	}
}

// awaitWholeWatching is AwaitWhole with a point of the wrong entries every half second.
func (r *Run) awaitWholeWatching(since, limit time.Duration) (time.Duration, bool) {
	for {
		left := limit - (r.Net.Now() - since)
		if _, whole := r.AwaitWhole(min(left, 500*time.Millisecond)); whole {
			at, _ := r.WholeSince()
			r.Point("wrong", since, 0)
			return max(0, at-since), true
		}
		r.Point("wrong", since, float64(r.Wrong()))
		if left <= 0 {
			return limit, false
		}
	}
}

// alone cuts one node off from all others for a while.
func alone(d, watch time.Duration) func(*Run) {
	return func(r *Run) {
		one := r.Pick(1)[0]
		rest := r.Except(one)
		r.Endpoint(one).SetSide(1)
		r.stayParted(d)
		r.Endpoint(one).SetSide(0)
		healed := r.Net.Now()
		r.watchHealing(healed, watch)
		r.Value("false-deaths", float64(r.CountChanges(deathsSince(healed, set(rest), set(rest)))))
	}
}

// lossySender has one node lose most of what it sends.
func lossySender(r *Run) {
	one := r.Pick(1)[0]
	rest := r.Except(one)
	start := r.Net.Now()
	r.Endpoint(one).SetLoss(0, 0.8)
	time.Sleep(180 * time.Second)
	r.Value("fp", float64(r.CountChanges(deathsSince(start, set(rest), set(r.All())))))
	r.Value("fp-healthy", float64(r.CountChanges(deathsSince(start, set(rest), set(rest)))))
	observers := set(rest)
	views := r.CountChanges(func(c Change) bool { return c.At >= start && observers[c.Observer] })
	r.Value("views-changed", float64(views)/float64(len(rest)))
}

// flipFlop cuts one node off and lets it back, again and again.
func flipFlop(r *Run) {
	one := r.Pick(1)[0]
	rest := r.Except(one)
	start := r.Net.Now()
	for at := start; at < start+180*time.Second; at += 40 * time.Second {
		r.Endpoint(one).SetSide(1)
		time.Sleep(20 * time.Second)
		r.Endpoint(one).SetSide(0)
		time.Sleep(20 * time.Second)
	}
	r.Value("fp", float64(r.CountChanges(deathsSince(start, set(rest), set(r.All())))))
	r.Value("fp-healthy", float64(r.CountChanges(deathsSince(start, set(rest), set(rest)))))
}

// deaf has one node hear nothing for a minute, while what it sends arrives.
func deaf(r *Run) {
	one := r.Pick(1)[0]
	rest := r.Except(one)
	start := r.Net.Now()
	r.Endpoint(one).CutIn(true)
	time.Sleep(60 * time.Second)
	r.Endpoint(one).CutIn(false)
	r.watchHealing(r.Net.Now(), 120*time.Second)
	r.Value("false-deaths", float64(r.CountChanges(deathsSince(start, set(rest), set(rest)))))
}

// heavyLossSpan is long enough for every suspicion that begins with the loss to
// run out, also one that nobody confirms.
const heavyLossSpan = 90 * time.Second

// heavyLoss has the whole network lose a quarter of everything.
func heavyLoss(r *Run) {
	all := r.All()
	start := r.Net.Now()
	quiet := r.Traffic(all)
	time.Sleep(30 * time.Second)
	r.noteTraffic("quiet-", quiet, 30*time.Second)
	r.Net.SetLoss(0.25)
	before := r.Traffic(all)
	time.Sleep(heavyLossSpan)
	r.noteTraffic("", before, heavyLossSpan)
	r.Value("fp", float64(r.CountChanges(deathsSince(start, set(all), set(all)))))
}

// noteTraffic records what was sent per node and second since a former count.
func (r *Run) noteTraffic(prefix string, before simnet.Traffic, span time.Duration) {
	after := r.Traffic(r.All())
	nodeSeconds := float64(r.Scenario.Size) * span.Seconds()
	r.Value(prefix+"packets", float64(after.Packets-before.Packets)/nodeSeconds)
	r.Value(prefix+"bytes", float64(after.PacketBytes-before.PacketBytes)/nodeSeconds)
	r.Value(prefix+"stream-bytes", float64(after.StreamBytes-before.StreamBytes)/nodeSeconds)
}

// healthyCost measures what a cluster costs in which nothing happens.
func healthyCost(r *Run) {
	const span = 180 * time.Second
	before, cpu := r.Traffic(r.All()), processTime()
	start := r.Net.Now()
	time.Sleep(span)
	r.Value("cpu", float64((processTime()-cpu).Microseconds())/float64(r.Scenario.Size)/span.Seconds())
	r.noteTraffic("", before, span)
	r.Value("fp", float64(r.CountChanges(deathsSince(start, set(r.All()), set(r.All())))))
}

// healthyCostWhenOld measures the same when the reference, whose sequence numbers
// count from 1, has come to such as take five bytes like ours, which are random.
func healthyCostWhenOld(r *Run) {
	time.Sleep(19 * time.Hour)
	healthyCost(r)
}

// churn has a node leave or die every six seconds. Two of three return after a
// while, with the same name at another address; the third stays away.
func churn(r *Run) {
	const span, pause, longest = 120 * time.Second, 6 * time.Second, 30 * time.Second
	numbers := r.Pick(int(span / pause))
	for i, number := range numbers {
		leaves, returns := i%2 == 0, i%3 != 0
		away := 5*time.Second + time.Duration(r.Rand.Int64N(int64(longest-5*time.Second)))
		go func() {
			if leaves {
				r.Leave(number, 5*time.Second)
			} else {
				r.Kill(number)
			}
			if returns {
				time.Sleep(away)
				r.comeBack(number)
			}
		}()
		time.Sleep(pause)
	}
	end := r.Net.Now() + longest
	time.Sleep(longest)
	for _, after := range []time.Duration{30, 60, 120} {
		r.Watch("wrong", end, end+after*time.Second-r.Net.Now())
		r.Value(fmt.Sprintf("wrong-%d", after), float64(r.Wrong()))
	}
}

// comeBack starts a node at a new address and has it join until it succeeds.
func (r *Run) comeBack(number int) {
	must(r.Start(number, r.NewAddr()))
	r.joinSomebody(number)
}

// ghost has a node die while another one is cut off that never hears of it, until
// the others have forgotten the dead one.
func ghost(r *Run) {
	picked := r.Pick(2)
	away, victim := picked[0], picked[1]
	rest := r.Except(away, victim)
	r.Endpoint(away).SetSide(1)
	r.Kill(victim)
	time.Sleep(90 * time.Second)
	r.Endpoint(away).SetSide(0)
	back := r.Net.Now()
	time.Sleep(60 * time.Second)
	observers := set(rest)
	r.Value("ghosts", float64(r.CountChanges(func(c Change) bool {
		return c.Present && c.At >= back && c.Subject == victim && observers[c.Observer]
	})))
}

// joinSomebody has a node join the next one that runs, once a second until it succeeds.
func (r *Run) joinSomebody(number int) {
	node := r.Node(number)
	for ; node == r.Node(number); time.Sleep(time.Second) {
		seed := (number + 1) % r.Scenario.Size
		for r.Node(seed) == nil {
			seed = (seed + 1) % r.Scenario.Size
		}
		if joined, _ := node.Join(r.Addr(seed)); joined > 0 {
			return
		}
	}
}

// restart has every process die within two seconds and come back, at its own
// address, one to three seconds after its death, joining through three seeds.
func restart(r *Run) {
	// Some nodes have had a longer life, and so higher incarnations.
	for i := 0; i < r.Scenario.Size; i += 3 {
		go func() {
			for range 3 {
				r.Node(i).Update(10 * time.Second)
			}
		}()
	}
	time.Sleep(40 * time.Second)
	seeds := []string{r.Addr(0), r.Addr(1), r.Addr(2)}
	start := r.Net.Now()
	var latest time.Duration
	for _, i := range r.All() {
		down := time.Duration(r.Rand.Int64N(int64(2 * time.Second)))
		up := down + time.Second + time.Duration(r.Rand.Int64N(int64(2*time.Second)))
		latest = max(latest, up)
		go func() {
			time.Sleep(down)
			addr := r.Endpoint(i).Addr()
			r.Kill(i)
			time.Sleep(up - down)
			must(r.Start(i, addr))
			for joined := 0; joined == 0; time.Sleep(time.Second) {
				joined, _ = r.Node(i).Join(seeds...)
			}
		}()
	}
	time.Sleep(latest + time.Millisecond)
	r.watchHealing(start+latest, 120*time.Second)
}

// notReached stands in a result for what did not happen as long as one watched.
const notReached = -1

// formatSeconds writes a duration as the table does: 16.4s, 64ms.
func formatSeconds(d time.Duration) string {
	return strings.ReplaceAll(d.String(), "m0s", "m")
}
