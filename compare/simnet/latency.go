package simnet

import (
	"math"
	"math/rand/v2"
	"time"
)

// Latency is a distribution of one-way delays.
type Latency interface {
	draw(rng *rand.Rand, from, to *Endpoint) time.Duration
}

// Fixed is the same delay for every packet.
type Fixed time.Duration

func (f Fixed) draw(*rand.Rand, *Endpoint, *Endpoint) time.Duration { return time.Duration(f) }

// ExponentialTail is Base plus an exponentially distributed rest, at most Max in all.
type ExponentialTail struct {
	Base, Mean, Max time.Duration
}

func (l ExponentialTail) draw(rng *rand.Rand, _, _ *Endpoint) time.Duration {
	return min(l.Base+time.Duration(rng.ExpFloat64()*float64(l.Mean)), l.Max)
}

// Plane puts each endpoint at a random place in a square, which follows from
// its address alone. The delay is Base plus what the distance takes, varied by
// a log-normal factor with the deviation Jitter.
type Plane struct {
	Base, Diagonal time.Duration
	Jitter         float64
}

func (p Plane) draw(rng *rand.Rand, from, to *Endpoint) time.Duration {
	distance := math.Hypot(from.place[0]-to.place[0], from.place[1]-to.place[1]) / math.Sqrt2
	mean := float64(p.Base) + distance*float64(p.Diagonal)
	return time.Duration(mean * math.Exp(p.Jitter*rng.NormFloat64()))
}
