package memberlist

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Six nodes that join one after the other know each other before the first periodic
// exchange, with the few sends of the Local preset too.
func TestNodesThatJoinInTurnMissNobody(t *testing.T) {
	skipManyClusters(t)
	for name, preset := range map[string]func() *Config{"Local": DefaultLocalConfig, "LAN": DefaultLANConfig} {
		missed := 0
		for seed := range uint64(200) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				c.network.SetLatency(50*time.Microsecond, 50*time.Microsecond)
				rng := rand.New(rand.NewPCG(seed, 1))
				for i := range 6 {
					cfg := preset()
					cfg.Name = fmt.Sprint("n", i+1)
					cfg.Transport, cfg.LogOutput = c.network.NewTransport(cfg.Name), io.Discard
					if m := c.start(cfg); i > 0 {
						joinNode(t, m, c.nodes[0])
					}
					time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
				}
				time.Sleep(5 * time.Second)
				if !whole(c.nodes) {
					missed++
				}
			})
		}
		require.Zero(t, missed, "of 200 with the %s preset", name)
	}
}
