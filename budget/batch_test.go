package budget

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// item is a number; negative ones are invalid.
type item int

func (i item) Check() error {
	if i < 0 {
		return ErrInvalid
	}
	return nil
}

// fakeStore answers with the numbers as texts, once it is let.
type fakeStore struct {
	gate  chan struct{} // each call takes one
	calls [][]item
	err   error
}

func (f *fakeStore) do(ctx context.Context, tenant string, items []item) ([]string, error) {
	f.calls = append(f.calls, items)
	select {
	case <-f.gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.err != nil {
		return nil, f.err
	}
	out := make([]string, len(items))
	for i, n := range items {
		out[i] = fmt.Sprint(tenant, n)
	}
	return out, nil
}

// TestWhatWaitsGoesTogether: while one call is with the store, those that come
// are gathered, in their order and no more than a batch.
func TestWhatWaitsGoesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{gate: make(chan struct{})}
		b := NewBatcher(f.do)
		const callers = MaxBatch + 5
		for i := range callers {
			go func() {
				got, err := b.Do(t.Context(), "org", item(i))
				if want := fmt.Sprint("org", i); got != want || err != nil {
					t.Errorf("got %q and %v, want %q", got, err, want)
				}
			}()
			synctest.Wait()
		}
		close(f.gate)
		synctest.Wait()
		b.Stop()
		if len(f.calls) != 3 || len(f.calls[0]) != 1 || len(f.calls[1]) != MaxBatch || len(f.calls[2]) != 4 {
			t.Fatalf("%d calls", len(f.calls))
		}
		if all := slices.Concat(f.calls...); !slices.IsSorted(all) {
			t.Errorf("out of order: %v", all)
		}
		if len(b.queues) != 0 {
			t.Errorf("%d queues are left", len(b.queues))
		}
	})
}

// TestLeavingTheQueue: nothing was done for who leaves before its turn, and
// nothing is known for who leaves when it is with the store. The others go on.
func TestLeavingTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{gate: make(chan struct{})}
		b := NewBatcher(f.do)
		defer b.Stop()
		errs := make([]error, 3)
		cancels := make([]context.CancelFunc, 3)
		for i := range errs {
			ctx, cancel := context.WithCancel(t.Context())
			cancels[i] = cancel
			go func() { _, errs[i] = b.Do(ctx, "org", item(i)) }()
			synctest.Wait()
		}
		cancels[0]() // with the store
		cancels[1]() // in the queue
		synctest.Wait()
		if !errors.Is(errs[0], ErrOutcomeUnknown) || !errors.Is(errs[0], context.Canceled) {
			t.Errorf("in the batch: got %v", errs[0])
		}
		if !errors.Is(errs[1], ErrNotSent) || !errors.Is(errs[1], context.Canceled) {
			t.Errorf("in the queue: got %v", errs[1])
		}
		close(f.gate)
		synctest.Wait()
		if errs[2] != nil || len(f.calls) != 2 || !slices.Equal(f.calls[1], []item{2}) {
			t.Errorf("the last: got %v, calls %v", errs[2], f.calls)
		}
		cancels[2]()
	})
}

func TestWhatIsNotSent(t *testing.T) {
	t.Parallel()
	f := &fakeStore{gate: make(chan struct{})}
	b := NewBatcher(f.do)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Do(ctx, "org", 1); !errors.Is(err, ErrNotSent) || !errors.Is(err, context.Canceled) {
		t.Errorf("left before: got %v", err)
	}
	if _, err := b.Do(t.Context(), "org", -1); !errors.Is(err, ErrInvalid) {
		t.Errorf("invalid: got %v", err)
	}
	b.Stop()
	b.Stop()
	if _, err := b.Do(t.Context(), "org", 1); !errors.Is(err, ErrNotSent) {
		t.Errorf("stopped: got %v", err)
	}
	if len(f.calls) != 0 {
		t.Errorf("%d calls", len(f.calls))
	}
}

func TestStopRefusesWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{gate: make(chan struct{})}
		b := NewBatcher(f.do)
		errs := make([]error, 2)
		for i := range errs {
			go func() { _, errs[i] = b.Do(t.Context(), "org", item(i)) }()
			synctest.Wait()
		}
		stopped := false
		go func() { b.Stop(); stopped = true }()
		synctest.Wait()
		if !errors.Is(errs[1], ErrNotSent) || stopped {
			t.Errorf("in the queue: got %v; stopped %v, want it to wait for the store", errs[1], stopped)
		}
		close(f.gate)
		synctest.Wait()
		if errs[0] != nil || !stopped {
			t.Errorf("in the batch: got %v; stopped %v", errs[0], stopped)
		}
	})
}

// TestAStoreThatHangs is given up before the callers give up.
func TestAStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBatcher((&fakeStore{gate: make(chan struct{})}).do)
		defer b.Stop()
		begin := time.Now()
		_, err := b.Do(t.Context(), "org", 1)
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took != batchTimeout {
			t.Errorf("got %v after %s", err, took)
		}
	})
}

func TestAStoresErrorIsEverybodys(t *testing.T) {
	t.Parallel()
	f := &fakeStore{gate: make(chan struct{}), err: ErrUnavailable}
	close(f.gate)
	b := NewBatcher(f.do)
	defer b.Stop()
	if _, err := b.Do(t.Context(), "org", 1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	short := NewBatcher(func(context.Context, string, []item) ([]string, error) { return nil, nil })
	defer short.Stop()
	if _, err := short.Do(t.Context(), "org", 1); err == nil {
		t.Error("no answer is no error")
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{gate: make(chan struct{})}
		b := NewBatcher(f.do)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = b.Do(ctx, "org", 0) }() // is with the store
		synctest.Wait()
		for range MaxWaiting {
			go func() { _, _ = b.Do(ctx, "org", 1) }()
		}
		synctest.Wait()
		if _, err := b.Do(ctx, "org", 2); !errors.Is(err, ErrBusy) {
			t.Errorf("one more: got %v", err)
		}
		cancel()
		close(f.gate)
		b.Stop()
	})
}

func TestTenantsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{gate: make(chan struct{})}
		b := NewBatcher(func(ctx context.Context, _ string, _ []item) ([]string, error) {
			<-f.gate
			return []string{""}, nil
		})
		for i := range MaxTenants {
			go func() { _, _ = b.Do(t.Context(), fmt.Sprint(i), 1) }()
		}
		synctest.Wait()
		if _, err := b.Do(t.Context(), "one more", 1); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
		close(f.gate)
		synctest.Wait()
		if _, err := b.Do(t.Context(), "one more", 1); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		b.Stop()
	})
}

func BenchmarkBatcher(b *testing.B) {
	batcher := NewBatcher(func(_ context.Context, _ string, items []item) ([]string, error) {
		return make([]string, len(items)), nil
	})
	defer batcher.Stop()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := batcher.Do(b.Context(), "org", 1); err != nil {
			b.Fatal(err)
		}
	}
}
