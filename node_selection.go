package memberlist

import (
	"slices"
	"time"
)

// nodeSelection lets the NodeSelectionDelegate choose nodes.
type nodeSelection struct {
	config *Config
	engine *engine
}

// gossipTargets are the nodes to gossip to.
func (s *nodeSelection) gossipTargets() []*Node {
	return s.choose(s.config.GossipNodes, (*core).gossipTargets)
}

// syncTargets are the nodes to make a full exchange with.
func (s *nodeSelection) syncTargets() []*Node {
	return s.choose(s.config.PushPullNodes, (*core).syncTargets)
}

// choose picks up to k nodes from those that the NodeSelectionDelegate
// leaves, and the one that it prefers. What it returns is checked again:
// nodes that are no candidates, other than a preferred one, stay out (P156).
func (s *nodeSelection) choose(k int, targets func(*core, instant, time.Time) []*NodeState) []*Node {
	var candidates []*NodeState
	s.engine.read(func(c *core, now instant) { candidates = targets(c, now, s.engine.epoch) })
	if len(candidates) == 0 {
		return nil
	}
	selected, preferred := s.config.NodeSelection.SelectNodes(slices.Clone(candidates))
	pool := make([]*NodeState, 0, len(selected))
	for _, n := range selected {
		if n != nil && n != preferred && slices.Contains(candidates, n) {
			pool = append(pool, n)
		}
	}
	var chosen []*Node
	if preferred != nil && slices.Contains(candidates, preferred) {
		chosen = append(chosen, &preferred.Node)
	}
	for _, i := range s.permutation(len(pool)) {
		if len(chosen) >= k {
			break
		}
		chosen = append(chosen, &pool[i].Node)
	}
	return chosen
}

func (s *nodeSelection) permutation(n int) (order []int) {
	s.engine.read(func(c *core, _ instant) { order = c.permutation(n) })
	return order
}
