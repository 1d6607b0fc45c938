package memberlist

import (
	"context"
	"errors"
	"sync"
	"time"
)

// userPings are the pings that a program asks for. They change nothing in the view of the
// cluster (P40).
type userPings struct {
	life     *lifetime
	engine   *engine
	outbound *outbound
	calls    sync.Pool // *pingCall
}

func newUserPings(life *lifetime, e *engine, o *outbound) *userPings {
	p := &userPings{life: life, engine: e, outbound: o}
	p.calls.New = func() any { return newPingCall() }
	return p
}

// ping sends a ping and waits for the answer. It returns the round trip time.
func (p *userPings) ping(ctx context.Context, to destination, timeout time.Duration) (time.Duration, error) {
	call := p.calls.Get().(*pingCall)
	packet := p.register(call, to)
	at, err := p.outbound.transmit(&packet)
	if err == nil {
		var rtt time.Duration
		if rtt, err = p.await(ctx, call, at, timeout); err == nil {
			return rtt, nil
		}
	}
	p.forget(call)
	return 0, err
}

// pingCall is the memory of a call of Ping.
type pingCall struct {
	waiter pingWaiter
	timer  *time.Timer
}

func newPingCall() *pingCall {
	call := &pingCall{timer: time.NewTimer(time.Hour)}
	call.timer.Stop()
	call.waiter.done = make(chan struct{}, 1)
	return call
}

func (p *userPings) register(call *pingCall, to destination) (packet outPacket) {
	p.engine.read(func(c *core, now instant) { packet = c.pingFor(now, to, &call.waiter) })
	return packet
}

// forget drops a ping without an answer. Its memory is not used again: the
// answer may be on its way to it.
func (p *userPings) forget(call *pingCall) {
	p.engine.read(func(c *core, _ instant) { c.forgetPing(&call.waiter) })
}

// errNoAnswer is how await reports that time is over.
var errNoAnswer = errors.New("no answer")

// await waits for the answer to a ping that was sent at the given time.
func (p *userPings) await(ctx context.Context, call *pingCall, sent time.Time, timeout time.Duration) (time.Duration, error) {
	out := p.engine.instantOf(p.engine.now(), sent)
	call.timer.Reset(timeout)
	select {
	case <-call.waiter.done:
		rtt := call.waiter.rtt(out)
		if call.timer.Stop() {
			p.calls.Put(call)
		}
		return rtt, nil
	case <-call.timer.C:
		return 0, errNoAnswer
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-p.life.ctx.Done():
		return 0, ErrShutdown
	}
}
