package memberlist

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// lifetime is the time from Create to Shutdown.
type lifetime struct {
	ctx  context.Context // ends with Shutdown; the cause is ErrShutdown
	end  func()
	down atomic.Bool // Shutdown was called

	endOnce sync.Once // for the transport
}

func newLifetime() *lifetime {
	ctx, end := context.WithCancelCause(context.Background())
	return &lifetime{ctx: ctx, end: func() { end(ErrShutdown) }}
}

// limit is ctx, ended by Shutdown as well.
func (l *lifetime) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == context.Background() {
		return l.ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(ErrShutdown) })
	return ctx, func() { stop(); cancel(nil) }
}

// explain adds to the error of an exchange that Shutdown or the end of ctx cut it
// off, or that it took too long, if so.
func (l *lifetime) explain(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, context.Cause(ctx)):
		return err
	case l.down.Load():
		return fmt.Errorf("%w: %w", ErrShutdown, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", cause(ctx), err)
	case isTimeout(err) && !errors.Is(err, ErrTimeout):
		return newKindError(ErrTimeout, "%w", err)
	}
	return err
}

// cause is why ctx ended; running out of time is an ErrTimeout.
func cause(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}
