package breakers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// fake is a Store in memory that keeps one breaker.
type fake struct {
	mu       sync.Mutex // guards all below
	err      error
	troubled bool
	reports  []mesh.BreakerReport
	standing []Standing
	reviews  int
	asked    int
}

func (f *fake) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) Report(_ context.Context, reports map[string]mesh.BreakerReport) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = nil
	for _, r := range reports {
		f.reports = append(f.reports, r)
	}
	return f.err
}

func (f *fake) Orders(context.Context) (map[string][]mesh.BreakerOrder, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return map[string][]mesh.BreakerOrder{"p": {f.standing[0].Order()}}, f.err
}

func (f *fake) Troubled(context.Context, time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.troubled, f.err
}

func (f *fake) Review(_ context.Context, since time.Time, judge func([]mesh.BreakerReport, []Standing) Outcome) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reviews++
	if f.err != nil {
		return f.err
	}
	for _, s := range judge(f.reports, f.standing).Write {
		f.standing = []Standing{s}
	}
	return nil
}

func (f *fake) List(context.Context, string, mesh.BreakerFilter, string, int) (account.Page[mesh.Breaker], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return account.Page[mesh.Breaker]{}, f.err
}

func (f *fake) Reset(_ context.Context, _ request.Principal, filter mesh.BreakerFilter, step func(Standing) Standing) (out []mesh.Breaker, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, s := range f.standing {
		if filter.Name == "" || filter.Name == s.Name {
			f.standing[i] = step(s)
			out = append(out, f.standing[i].Breaker)
		}
	}
	return out, f.err
}

func newService(t *testing.T, f *fake, log *bytes.Buffer) *Service {
	t.Helper()
	s, err := New(Options{Store: f, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNewNeedsAStore(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("made without a store")
	}
}

// TestRun: a breaker opens within a second or two, is looked at each second
// until it is closed, and seldom while all is calm.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, log := &fake{}, &bytes.Buffer{}
		s := newService(t, f, log)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		<-time.After(60*time.Second + time.Millisecond)
		f.do(func() {
			if f.reviews != 6 {
				t.Errorf("%d reviews in a minute of calm, want 6", f.reviews)
			}
			now := time.Now()
			at := func(b *mesh.BreakerState) { b.CalledAt = now }
			f.troubled, f.reports, f.reviews = true, []mesh.BreakerReport{said(open, at), said(open, at)}, 0
		})
		<-time.After(time.Second)
		f.do(func() {
			if f.reviews != 1 || f.standing[0].Phase != open || f.standing[0].Opened != time.Now().Truncate(time.Millisecond).Add(-time.Millisecond).UnixMilli() {
				t.Errorf("after %d reviews: %+v, want it open by an order of now", f.reviews, f.standing)
			}
			f.reports = nil
		})
		<-time.After(time.Second)
		f.do(func() {
			if f.standing[0].Phase != closed {
				t.Errorf("got %+v, want it closed when nobody says otherwise", f.standing)
			}
		})
		cancel()
		<-done
		for _, want := range []string{"a breaker opens for the mesh", "a breaker of the mesh is closed again"} {
			if n := strings.Count(log.String(), want); n != 1 {
				t.Errorf("%q is logged %d times:\n%s", want, n, log)
			}
		}
	})
}

// TestRunWithoutTheStore tells it once, and when it is over.
func TestRunWithoutTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, log := &fake{err: ErrUnavailable}, &bytes.Buffer{}
		s := newService(t, f, log)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		<-time.After(20 * time.Second)
		f.do(func() { f.err = nil })
		<-time.After(2 * time.Second)
		f.do(func() { f.err = ErrUnavailable })
		cancel()
		<-done
		if text := log.String(); strings.Count(text, "can't be reviewed") != 1 || strings.Count(text, "are reviewed again") != 1 {
			t.Errorf("the log is\n%s", text)
		}
	})
}

func TestReset(t *testing.T) {
	t.Parallel()
	f := &fake{standing: []Standing{standing(open, 3, 7)}}
	s := newService(t, f, &bytes.Buffer{})
	s.o.Now = func() time.Time { return noon }
	b, err := s.ResetBreaker(t.Context(), request.Principal{}, "p", "app")
	if err != nil || b.Phase != closed || !b.OpenedAt.IsZero() || f.standing[0].Reset != noon.UnixMilli() {
		t.Errorf("got %+v and %v of %+v", b, err, f.standing)
	}
	orders, err := s.BreakerOrders(t.Context())
	if err != nil || orders["p"][0] != (mesh.BreakerOrder{Name: "app", Reset: noon.UnixMilli()}) {
		t.Errorf("ordered %v and %v", orders, err)
	}
	if n, err := s.ResetBreakers(t.Context(), request.Principal{}, ""); err != nil || n != 1 || f.standing[0].Reset != noon.UnixMilli()+1 {
		t.Errorf("all: %d and %v, %+v", n, err, f.standing)
	}
	_, err = s.ResetBreaker(t.Context(), request.Principal{}, "p", "other")
	wantCode(t, err, apierr.ResourceNotFound, 404)
}

func wantCode(t *testing.T, err error, code apierr.Code, status int) {
	t.Helper()
	if e := apierr.From(err); err == nil || e.Code() != code || e.HTTP() != status {
		t.Errorf("got %v, want %s with %d", err, code, status)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for err, status := range map[error]int{
		fmt.Errorf("x: %w", ErrUnavailable): 503, errors.New("a defect"): 500,
	} {
		s := newService(t, &fake{err: err, standing: []Standing{standing(open, 0, 1)}}, &bytes.Buffer{})
		_, list := s.Breakers(t.Context(), "*", mesh.BreakerFilter{}, "", 1)
		_, one := s.ResetBreaker(t.Context(), request.Principal{}, "p", "app")
		_, all := s.ResetBreakers(t.Context(), request.Principal{}, "")
		for _, got := range []error{list, one, all} {
			wantCode(t, got, apierr.Internal, status)
		}
		if got := s.ReportBreakers(t.Context(), nil); !errors.Is(got, err) {
			t.Errorf("reporting: %v, want %v as it is", got, err)
		}
	}
	own := apierr.Missing()
	if got := answer(own); got != own {
		t.Errorf("an error with a code is another: %v", got)
	}
}
