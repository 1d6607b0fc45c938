package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"github.com/seed-83836a96/memberlist"
)

const (
	clusterLabel = "show"
	clusterKey   = "0123456789abcdef"
	reclaimTime  = 500 * time.Millisecond
	stepLimit    = time.Minute
)

// show is the running cluster and what is true of it.
type show struct {
	out   io.Writer
	logs  io.Writer
	start time.Time
	count int
	names []string // of all nodes, in the order of the table

	nodes map[string]*node // those that run
	truth map[string]view  // what every running node has to see
	said  []string         // broadcasts that every running node has to have heard
}

func newShow(count int, out, logs io.Writer) *show {
	s := &show{
		out:   out,
		logs:  logs,
		start: time.Now(),
		count: count,
		nodes: map[string]*node{},
		truth: map[string]view{},
	}
	for i := range count {
		s.names = append(s.names, fmt.Sprintf("node-%d", i+1))
	}
	return s
}

// The parts that the nodes play. The first is the one that others join.
func (s *show) seed() *node    { return s.nodes[s.names[0]] }
func (s *show) updater() *node { return s.nodes[s.names[1]] }
func (s *show) victim() string { return s.names[2] }
func (s *show) leaver() string { return s.names[3] }

type step struct {
	title string
	do    func(context.Context) error
}

// run takes the cluster through its life. After each step every running node has
// to see the truth before the step's time is over.
func (s *show) run(ctx context.Context) error {
	steps := []step{
		{fmt.Sprintf("%d nodes start, each alone", s.count), s.startAll},
		{"all join " + s.names[0], s.joinAll},
		{"strangers with another key or label stay outside", s.keepStrangersOut},
		{s.names[0] + " broadcasts a message", s.sayHello},
		{s.names[1] + " changes its meta data to v2", s.updateMeta},
		{s.victim() + " dies without warning", s.kill},
		{s.leaver() + " leaves", s.leave},
		{s.victim() + " is back under its name at another port", s.comeBack},
	}
	for i, step := range steps {
		s.printf("\n%d. %s\n", i+1, step.title)
		if err := s.perform(ctx, step); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, step.title, err)
		}
	}
	s.printf("\nEverything happened as it should, in %.1f s.\n", time.Since(s.start).Seconds())
	return nil
}

func (s *show) perform(ctx context.Context, step step) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	began := time.Now()
	if err := step.do(ctx); err != nil {
		return err
	}
	if s.joined() {
		if err := waitUntil(ctx, s.allAgree); err != nil {
			return err
		}
	}
	s.printf("   done after %.2f s; what each node sees:\n", time.Since(began).Seconds())
	return printTable(s.out, s.names, s.rows())
}

// joined tells whether the nodes are one cluster yet.
func (s *show) joined() bool { return len(s.truth) > 0 }

func (s *show) startAll(context.Context) error {
	for _, name := range s.names {
		n, err := s.startMember(name)
		if err != nil {
			return err
		}
		s.nodes[name] = n
		s.printf("   %s listens on %s\n", name, n.address())
	}
	return nil
}

func (s *show) startMember(name string) (*node, error) {
	return startNode(options{
		name: name, meta: "v1", key: []byte(clusterKey), label: clusterLabel, nodes: s.count, logs: s.logs,
	})
}

func (s *show) joinAll(ctx context.Context) error {
	for _, name := range s.names[1:] {
		if _, err := s.nodes[name].list.JoinContext(ctx, []string{s.seed().address()}); err != nil {
			return err
		}
	}
	for name, n := range s.nodes {
		s.truth[name] = view{state: memberlist.StateAlive, meta: "v1", address: n.address()}
	}
	return nil
}

// keepStrangersOut proves that the cluster is closed. Who has another key is
// told that nothing could be decrypted, who has another label gets no answer.
func (s *show) keepStrangersOut(ctx context.Context) error {
	strangers := []options{
		{name: "other-key", key: []byte("another key 1234"), label: clusterLabel, logs: s.logs},
		{name: "other-label", key: []byte(clusterKey), label: "another", logs: s.logs},
	}
	for _, o := range strangers {
		refusal, err := s.tryToJoin(ctx, o)
		switch {
		case err != nil:
			return err
		case refusal == nil:
			return fmt.Errorf("%s could join", o.name)
		case o.name == "other-key" && !errors.Is(refusal, memberlist.ErrDecrypt):
			return fmt.Errorf("%s was refused for another reason: %w", o.name, refusal)
		}
		s.printf("   %s is refused\n", o.name)
	}
	return nil
}

// tryToJoin starts a stranger, lets it join and ends it.
func (s *show) tryToJoin(ctx context.Context, o options) (refusal, err error) {
	stranger, err := startNode(o)
	if err != nil {
		return nil, err
	}
	_, refusal = stranger.list.JoinContext(ctx, []string{s.seed().address()})
	return refusal, stranger.list.Shutdown()
}

func (s *show) sayHello(context.Context) error {
	s.seed().broadcast("hello")
	s.said = append(s.said, "hello")
	return nil
}

func (s *show) updateMeta(ctx context.Context) error {
	n := s.updater()
	n.setMeta("v2")
	s.expect(n.name(), func(v *view) { v.meta = "v2" })
	return n.list.UpdateNodeContext(ctx)
}

// kill ends a node without a word and waits until everybody has found out.
func (s *show) kill(ctx context.Context) error {
	died := time.Now()
	if err := s.stop(s.victim()); err != nil {
		return err
	}
	s.expect(s.victim(), func(v *view) { v.state = memberlist.StateDead })
	if err := waitUntil(ctx, s.allAgree); err != nil {
		return err
	}
	return s.reportVerdicts(died)
}

// reportVerdicts prints who suspected the victim and who declared it dead, in
// the order of time. A verdict without a suspicion before it is an error.
func (s *show) reportVerdicts(died time.Time) error {
	type report struct {
		observer string
		changeAtATime
	}
	var reports []report
	for name, n := range s.nodes {
		for _, c := range n.changesOf(s.victim(), died) {
			reports = append(reports, report{name, c})
		}
	}
	sort.Slice(reports, func(i, j int) bool { return reports[i].at.Before(reports[j].at) })
	suspected := false
	for _, r := range reports {
		after := r.at.Sub(died).Seconds()
		switch r.To {
		case memberlist.StateSuspect:
			suspected = true
			s.printf("   after %5.2f s %s suspects it%s\n", after, r.observer, onTheWordOf(r.By, r.observer))
		case memberlist.StateDead:
			if !suspected {
				return fmt.Errorf("%s declared %s dead that nobody suspected", r.observer, s.victim())
			}
			s.printf("   after %5.2f s %s sees it dead%s, suspect for %.2f s, confirmed by %d\n",
				after, r.observer, onTheWordOf(r.By, r.observer), r.SuspectFor.Seconds(), r.Confirmations)
		}
	}
	if !suspected {
		return fmt.Errorf("nobody suspected %s", s.victim())
	}
	return nil
}

func onTheWordOf(by, observer string) string {
	if by == observer {
		return ""
	}
	return " on the word of " + by
}

func (s *show) leave(ctx context.Context) error {
	n := s.nodes[s.leaver()]
	if err := n.list.LeaveContext(ctx); err != nil {
		return err
	}
	s.expect(s.leaver(), func(v *view) { v.state = memberlist.StateLeft })
	return s.stop(s.leaver())
}

// comeBack starts the dead node anew. Its name is free once it has been dead for
// the reclaim time everywhere.
func (s *show) comeBack(ctx context.Context) error {
	old := s.truth[s.victim()].address
	if err := pause(ctx, reclaimTime); err != nil {
		return err
	}
	n, err := s.startElsewhere(s.victim(), old)
	if err != nil {
		return err
	}
	s.nodes[s.victim()] = n
	s.expect(s.victim(), func(v *view) { v.state, v.address = memberlist.StateAlive, n.address() })
	s.printf("   it was at %s and is at %s now\n", old, n.address())
	if _, err := n.list.JoinContext(ctx, []string{s.seed().address()}); err != nil {
		return err
	}
	s.seed().broadcast("welcome back")
	s.said = []string{"welcome back"}
	return nil
}

// startElsewhere starts a node at any address but one.
func (s *show) startElsewhere(name, not string) (*node, error) {
	for {
		n, err := s.startMember(name)
		if err != nil || n.address() != not {
			return n, err
		}
		if err := n.list.Shutdown(); err != nil {
			return nil, err
		}
	}
}

func (s *show) expect(name string, change func(*view)) {
	v := s.truth[name]
	change(&v)
	s.truth[name] = v
}

func (s *show) stop(name string) error {
	n := s.nodes[name]
	delete(s.nodes, name)
	return n.list.Shutdown()
}

func (s *show) shutdown() {
	for name := range s.nodes {
		if err := s.stop(name); err != nil {
			s.printf("   %s does not end well: %v\n", name, err)
		}
	}
}

// allAgree says who does not see the truth, or has not heard what was said.
func (s *show) allAgree() error {
	for observer, n := range s.nodes {
		if err := s.agrees(n.sees(), n.messages()); err != nil {
			return fmt.Errorf("%s %w", observer, err)
		}
	}
	return nil
}

// agrees compares what one node sees with the truth. Who is gone need not be
// known: a node that joins is not told of the dead and the departed.
func (s *show) agrees(views map[string]view, heard []string) error {
	for name, want := range s.truth {
		have, known := views[name]
		if !known && want.gone() {
			continue
		}
		if have != want {
			return fmt.Errorf("sees %s as %v, not as %v", name, have, want)
		}
	}
	for name := range views {
		if _, exists := s.truth[name]; !exists {
			return fmt.Errorf("sees %s, which is no member", name)
		}
	}
	for _, text := range s.said {
		if !slices.Contains(heard, text) {
			return fmt.Errorf("has not heard %q", text)
		}
	}
	return nil
}

func (s *show) rows() []row {
	var rows []row
	for _, name := range s.names {
		if n := s.nodes[name]; n != nil {
			rows = append(rows, row{observer: name, views: n.sees(), messages: len(n.messages())})
		}
	}
	return rows
}

func (s *show) printf(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// waitUntil calls condition until it returns nil. When the time is over it
// returns what condition said last.
func waitUntil(ctx context.Context, condition func() error) error {
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
