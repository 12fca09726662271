package budgets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/apierr"
)

// scripted is a ledger that answers as it is told. What it is not told of
// panics: nothing may ask it.
type scripted struct {
	budget.Store
	answer budget.Answer
	result budget.Result
	hang   bool // Expire waits for the end of its time

	mu      sync.Mutex // guards all below
	err     error
	due     []int // what Expire returns, call by call; then 0
	expired int   // calls of Expire
}

func (s *scripted) Reserve(context.Context, string, []budget.Hold) ([]budget.Answer, error) {
	return []budget.Answer{s.answer}, s.err
}

func (s *scripted) Settle(context.Context, string, []budget.Settlement) ([]budget.Result, error) {
	return []budget.Result{s.result}, s.err
}

func (s *scripted) Expire(ctx context.Context) (int, error) {
	if s.count(); s.hang {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || len(s.due) == 0 {
		return 0, s.err
	}
	n := s.due[0]
	s.due = s.due[1:]
	return n, nil
}

func (s *scripted) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expired++
}

// sweeps is how often Expire was called.
func (s *scripted) sweeps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expired
}

// change tells it of other answers, while it may be asked.
func (s *scripted) change(err error, due ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.due = err, due
}

// told is a log that is read while it is written.
type told struct {
	mu   sync.Mutex
	text []byte
}

func (l *told) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

// take returns what was told since it was taken last.
func (l *told) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(l.text)
	l.text = nil
	return text
}

func newScripted(t *testing.T, s *scripted) (*Service, *told) {
	t.Helper()
	var log told
	service, err := New(Options{Ledger: s, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return service, &log
}

func TestNewNeedsALedger(t *testing.T) {
	t.Parallel()
	if s, err := New(Options{}); err == nil || s != nil {
		t.Errorf("got %v and %v", s, err)
	}
}

// TestErrorsOfTheLedger holds each to its code, for holds and settlements alike.
func TestErrorsOfTheLedger(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		code   apierr.Code
		status int
	}{
		{fmt.Errorf("reserve: %w", budget.ErrUnavailable), apierr.BudgetUnavailable, http.StatusServiceUnavailable},
		{fmt.Errorf("reserve: %w", context.DeadlineExceeded), apierr.BudgetUnavailable, http.StatusServiceUnavailable},
		{context.Canceled, apierr.BudgetUnavailable, http.StatusServiceUnavailable},
		{errors.Join(budget.ErrUnknown, budget.ErrUnavailable), apierr.BudgetUnavailable, http.StatusServiceUnavailable},
		{budget.ErrUnknown, apierr.ResourceNotFound, http.StatusNotFound},
		{budget.ErrInvalid, apierr.ValidationInvalid, http.StatusUnprocessableEntity},
		{errors.New("a defect"), apierr.Internal, http.StatusInternalServerError},
	} {
		s, _ := newScripted(t, &scripted{err: tt.err, answer: budget.Answer{Verdict: budget.Held}, result: budget.Result{Outcome: budget.Done}})
		_, held := s.HoldTokens(t.Context(), "org1", hold("a", 1))
		_, settled := s.SettleTokens(t.Context(), "org1", release("a"))
		for _, err := range []error{held, settled} {
			if e := apierr.From(err); err == nil || e.Code() != tt.code || e.HTTP() != tt.status || !errors.Is(err, tt.err) {
				t.Errorf("%v: got %v with status %d", tt.err, err, e.HTTP())
			}
		}
	}
}

// TestWhatTheLedgerMaySay: what is not known to mean yes is no.
func TestWhatTheLedgerMaySay(t *testing.T) {
	t.Parallel()
	refused := func(d *budget.Denial) budget.Answer {
		return budget.Answer{Verdict: budget.Refused, Request: budget.Request{Denial: d}}
	}
	for _, tt := range []struct {
		answer budget.Answer
		want   string
	}{
		{budget.Answer{}, "internal.error"},
		{budget.Answer{Verdict: "maybe"}, "internal.error"},
		{refused(nil), "internal.error"},
		{refused(&budget.Denial{Reason: budget.ReasonUnknownProject}), "resource.not_found"},
		{refused(&budget.Denial{Reason: budget.ReasonReleased}), "budget.insufficient released"},
	} {
		s, _ := newScripted(t, &scripted{answer: tt.answer})
		if _, err := s.HoldTokens(t.Context(), "org1", hold("a", 1)); err == nil || reason(t, err) != tt.want {
			t.Errorf("%+v: got %v, want %s", tt.answer, err, tt.want)
		}
	}
	for _, o := range []budget.Outcome{"", "maybe", budget.NoRoom} {
		s, _ := newScripted(t, &scripted{result: budget.Result{Outcome: o}})
		_, err := s.SettleTokens(t.Context(), "org1", release("a"))
		wantCode(t, string(o), err, apierr.Internal)
	}
}

// TestSweep goes on while there is more, and no further than its bound.
func TestSweep(t *testing.T) {
	t.Parallel()
	const full = budget.MaxSweep
	for _, tt := range []struct {
		due   []int
		want  int
		calls int
	}{
		{nil, 0, 1},
		{[]int{3}, 3, 1},
		{[]int{full, full, 1, 9}, 2*full + 1, 3},
		{slices.Repeat([]int{full}, maxSweeps+5), maxSweeps * full, maxSweeps},
	} {
		f := &scripted{due: tt.due}
		s, _ := newScripted(t, f)
		if n, err := s.sweep(t.Context()); n != tt.want || err != nil || f.sweeps() != tt.calls {
			t.Errorf("%d holds by %d calls and %v, want %d by %d", n, f.sweeps(), err, tt.want, tt.calls)
		}
	}
}

// TestRun sweeps every five seconds, tells a failure and its end once, and ends
// with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &scripted{err: budget.ErrUnavailable}
		s, log := newScripted(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		after := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		after(sweepEvery - time.Second)
		if f.sweeps() != 0 {
			t.Errorf("%d sweeps before the first is due", f.sweeps())
		}
		after(2*sweepEvery + time.Second)
		if f.sweeps() != 3 {
			t.Errorf("%d sweeps in three times, want 3", f.sweeps())
		}
		f.change(nil, 7)
		after(2 * sweepEvery)
		said := log.take()
		for text, want := range map[string]int{"can't be ended": 1, "ended again": 1, "holds=7": 1, "holds expired": 1} {
			if got := strings.Count(said, text); got != want {
				t.Errorf("%q is told %d times, want %d:\n%s", text, got, want, said)
			}
		}
		cancel()
		<-ended
	})
}

// TestRunIsNotHeldUp: a turn that hangs is given up before the next, and one
// that ends with the service tells nothing.
func TestRunIsNotHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &scripted{hang: true}
		s, log := newScripted(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		<-time.After(sweepEvery + sweepTimeout/2)
		synctest.Wait()
		if said := log.take(); said != "" || f.sweeps() != 1 {
			t.Errorf("%d sweeps, log %s", f.sweeps(), said)
		}
		<-time.After(sweepEvery)
		synctest.Wait()
		if said := log.take(); f.sweeps() != 2 || strings.Count(said, "can't be ended") != 1 {
			t.Errorf("%d sweeps, log %s", f.sweeps(), said)
		}
		cancel()
		<-ended
		if said := log.take(); said != "" {
			t.Errorf("told at the end: %s", said)
		}
	})
}
