package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of a Batcher.
const (
	// MaxWaiting calls may wait for one tenant's turn.
	MaxWaiting = 4096
	// MaxTenants may have calls waiting at once.
	MaxTenants = 10_000
	// batchTimeout ends a call of the store: less than the 1.5 s that a
	// reserve's caller waits, so that it hears what is known.
	batchTimeout = 1200 * time.Millisecond
)

// Errors of a Batcher.
var (
	// ErrBusy says that too many wait already. Nothing was done.
	ErrBusy = errors.New("the ledger is busy")

	// ErrNotSent says that the caller left, or the Batcher stopped, while the
	// call waited. Nothing was done.
	ErrNotSent = errors.New("not sent to the ledger")

	// ErrOutcomeUnknown says that the caller left while the call was with the
	// store: whether it was done is unknown.
	ErrOutcomeUnknown = errors.New("the ledger's answer was not waited for")
)

// Batcher gathers the calls that wait for one tenant into one call of a store:
// one tenant's rows are changed by one transaction at a time, so that more at
// once would only wait for each other. Each tenant has one call under way, and
// the calls keep their order.
type Batcher[I interface{ Check() error }, O any] struct {
	do func(ctx context.Context, tenant string, items []I) ([]O, error)

	mu      sync.Mutex
	queues  map[string][]*waiting[I, O] // a tenant with a key here has a flusher
	stopped bool

	flushers sync.WaitGroup
}

// waiting is one call. Who takes it out of its queue owns it.
type waiting[I, O any] struct {
	item I
	done chan result[O] // has room for the one result
}

type result[O any] struct {
	out O
	err error
}

// NewBatcher returns a Batcher for a method of a Store, such as its Reserve.
func NewBatcher[I interface{ Check() error }, O any](do func(ctx context.Context, tenant string, items []I) ([]O, error)) *Batcher[I, O] {
	return &Batcher[I, O]{do: do, queues: map[string][]*waiting[I, O]{}}
}

// Do has one item done, with those of others. It returns the item's own fault
// (ErrInvalid), the store's error, ErrBusy, or, when ctx ends first, ErrNotSent
// or ErrOutcomeUnknown with ctx's error.
func (b *Batcher[I, O]) Do(ctx context.Context, tenant string, item I) (O, error) {
	var none O
	if err := item.Check(); err != nil { // it would fail those of others
		return none, err
	}
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	w := &waiting[I, O]{item, make(chan result[O], 1)}
	if err := b.enqueue(tenant, w); err != nil {
		return none, err
	}
	select {
	case r := <-w.done:
		return r.out, r.err
	case <-ctx.Done():
		return none, b.leave(ctx, tenant, w)
	}
}

func (b *Batcher[I, O]) enqueue(tenant string, w *waiting[I, O]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, running := b.queues[tenant]
	switch {
	case b.stopped:
		return ErrNotSent
	case len(q) >= MaxWaiting, !running && len(b.queues) >= MaxTenants:
		return ErrBusy
	}
	b.queues[tenant] = append(q, w)
	if !running {
		b.flushers.Go(func() { b.flush(tenant) })
	}
	return nil
}

// leave takes a call back, if it is not with the store yet.
func (b *Batcher[I, O]) leave(ctx context.Context, tenant string, w *waiting[I, O]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[tenant]
	for i := range q {
		if q[i] == w {
			b.queues[tenant] = append(q[:i:i], q[i+1:]...)
			return fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
		}
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
}

// flush runs while the tenant has calls waiting.
func (b *Batcher[I, O]) flush(tenant string) {
	for batch := b.take(tenant); len(batch) > 0; batch = b.take(tenant) {
		b.send(tenant, batch)
	}
}

// take returns the calls of the next batch. After none, the flusher is over: the
// next call starts another.
func (b *Batcher[I, O]) take(tenant string) []*waiting[I, O] {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[tenant]
	if len(q) == 0 {
		delete(b.queues, tenant)
		return nil
	}
	n := min(len(q), MaxBatch)
	b.queues[tenant] = q[n:]
	return q[:n]
}

// send makes one call of the store. It is no caller's: that one of them leaves
// must not undo what the others get.
func (b *Batcher[I, O]) send(tenant string, batch []*waiting[I, O]) {
	items := make([]I, len(batch))
	for i, w := range batch {
		items[i] = w.item
	}
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	outs, err := b.do(ctx, tenant, items)
	if err == nil && len(outs) != len(items) {
		err = fmt.Errorf("budget: %d answers to %d items", len(outs), len(items))
	}
	for i, w := range batch {
		r := result[O]{err: err}
		if err == nil {
			r.out = outs[i]
		}
		w.done <- r
	}
}

// Stop refuses what waits and waits itself for what is with the store. It may be
// called more than once.
func (b *Batcher[I, O]) Stop() {
	b.mu.Lock()
	b.stopped = true
	for tenant, q := range b.queues {
		for _, w := range q {
			w.done <- result[O]{err: ErrNotSent}
		}
		b.queues[tenant] = nil
	}
	b.mu.Unlock()
	b.flushers.Wait()
}
