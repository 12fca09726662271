package budgets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/deadletter"
)

// hanging is a ledger that waits, and notes how many calls it had at once.
type hanging struct {
	budget.Store
	free chan struct{}
}

func (h *hanging) Reserve(ctx context.Context, _ string, holds []budget.Hold) ([]budget.Answer, error) {
	select {
	case <-h.free:
		return make([]budget.Answer, len(holds)), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", budget.ErrUnavailable, ctx.Err())
	}
}

// TestReserveIsBounded: also that of a tenant whose turn does not come, and who
// leaves meanwhile is told which it was.
func TestReserveIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := NewInline(InlineOptions{Ledger: &hanging{free: make(chan struct{})}, Letters: &pile{}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		got := make(chan error, 3)
		ask := func(ctx context.Context, id string) {
			go func() {
				_, err := l.Reserve(ctx, "org1", holdOf(id, 1, 1))
				got <- err
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		ask(ctx, "with the store")
		ask(ctx, "queued")
		cancel()
		if a, b := <-got, <-got; !isOneOf(a, b, budget.ErrOutcomeUnknown, budget.ErrNotSent) {
			t.Errorf("who left: %v and %v", a, b)
		}
		ask(t.Context(), "waits")
		if err := <-got; err == nil || time.Since(start) > reserveWithin {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		l.Stop()
	})
}

// isOneOf reports whether two errors are these two, in any order.
// nowhere is a place for letters that does not answer.
type nowhere struct{}

func (nowhere) Add(ctx context.Context, _ deadletter.Letter) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestSettleIsBounded: that of a letter nobody takes, too; then it is to be sent again.
func TestSettleIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newInline(t)
		l.o.Letters = nowhere{}
		start := time.Now()
		s := budget.Settlement{Key: key("new"), Action: budget.Commit, Tokens: 1, Sidecar: ada}
		if _, err := l.Settle(t.Context(), "org1", s); !errors.Is(err, budget.ErrUnavailable) || time.Since(start) != settleWithin {
			t.Errorf("settle: %v after %s", err, time.Since(start))
		}
		start = time.Now()
		if err := l.Bury(t.Context(), "org1", "org2", s, "forbidden"); !errors.Is(err, budget.ErrUnavailable) || time.Since(start) != settleWithin {
			t.Errorf("bury: %v after %s", err, time.Since(start))
		}
		l.Stop()
	})
}

func isOneOf(a, b, one, other error) bool {
	return errors.Is(a, one) && errors.Is(b, other) || errors.Is(a, other) && errors.Is(b, one)
}

// TestDefectsAreTold, now and then; what is expected is not.
func TestDefectsAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &scripted{err: budget.ErrUnavailable}
		var log told
		l, err := NewInline(InlineOptions{Ledger: f, Letters: &pile{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Stop()
		try := func(times, want int) {
			t.Helper()
			for range times {
				if _, err := l.Reserve(t.Context(), "org1", holdOf("a", 1, 1)); err == nil {
					t.Error("no error")
				}
			}
			if said := log.take(); strings.Count(said, "the ledger fails") != want {
				t.Errorf("the log says %s", said)
			}
		}
		try(2, 0)
		f.change(errors.New("a defect"))
		try(3, 1)
		<-time.After(defectEvery)
		try(3, 1)
	})
}
