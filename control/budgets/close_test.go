package budgets

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/request"
)

// TestReplayed charges what earlier processes hold, all of it, and nothing else;
// what is said later corrects it.
func TestReplayed(t *testing.T) {
	t.Parallel()
	l := newInline(t)
	const many = budget.MaxSweep + 10
	if _, err := l.store.SetLimit(t.Context(), request.Principal{}, "org1", l.limit(), 0, 10*many); err != nil {
		t.Fatal(err)
	}
	for i := range many {
		l.hold(fmt.Sprint("old", i), 1, 1)
	}
	l.hold("own", 5, 2)
	for range 2 {
		if err := l.Replayed(t.Context(), ada, 2); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		if got := l.state(fmt.Sprint("old", i)); got != budget.ExpiredCharged {
			t.Fatalf("old%d is %s", i, got)
		}
	}
	if got := l.state("own"); got != budget.Reserved {
		t.Errorf("its own is %s", got)
	}
	if got := l.say("old0", budget.Release, 0, ada); got != budget.Done || l.state("old0") != budget.Released {
		t.Errorf("a later word: %s", got)
	}
	if said := l.log.take(); strings.Count(said, fmt.Sprint("holds=", many)) != 1 {
		t.Errorf("the log says %s", said)
	}
}

func (l *inline) limit() string {
	p, err := l.store.Limits(l.t.Context(), "org1", "", 1)
	if err != nil {
		l.t.Fatal(err)
	}
	return p.Items[0].ID
}

// closing is a ledger whose holds never end.
type closing struct {
	budget.Store
	err   error
	below []int64
}

func (c *closing) CloseSidecar(_ context.Context, _ string, below int64) (int, error) {
	c.below = append(c.below, below)
	return 1, c.err
}

func TestReplayedGivesUp(t *testing.T) {
	t.Parallel()
	c := &closing{}
	l := inlineOf(t, InlineOptions{Ledger: c, Letters: &pile{}})
	if err := l.Replayed(t.Context(), ada, 2); err == nil || len(c.below) != maxCloses {
		t.Errorf("%d calls, %v", len(c.below), err)
	}
	c.err = budget.ErrUnavailable
	if err := l.Replayed(t.Context(), ada, 2); !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// raced is a ledger in which others end the same holds at the same time.
type raced struct {
	budget.Store
	ended []int // by each call
}

func (r *raced) CloseSidecar(context.Context, string, int64) (n int, err error) {
	if len(r.ended) > 0 {
		n, r.ended = r.ended[0], r.ended[1:]
	}
	return n, nil
}

// TestReplayedIsRaced: a call whose holds somebody else has ended meanwhile does not
// say that there are no others.
func TestReplayedIsRaced(t *testing.T) {
	t.Parallel()
	r := &raced{ended: []int{budget.MaxSweep, 0, budget.MaxSweep, 3, 0, 1}}
	l := inlineOf(t, InlineOptions{Ledger: r, Letters: &pile{}})
	if err := l.Replayed(t.Context(), ada, 2); err != nil || len(r.ended) != 0 {
		t.Errorf("%v, and %v are left", err, r.ended)
	}
}

// silence says who is silent, and notes when it was asked.
type silence struct {
	mu    sync.Mutex // guards all below
	ids   []string
	err   error
	asked int
}

func (s *silence) Unseen(_ context.Context, since time.Duration) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked++; since != unseenFor {
		return nil, fmt.Errorf("since %s", since)
	}
	return s.ids, s.err
}

func (s *silence) become(err error, ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.ids = err, ids
}

// TestSilentSidecars: their holds are charged, but not by the first turn that goes
// well, nor by one after a failure.
func TestSilentSidecars(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &silence{ids: []string{ada}}
		l := newInline(t)
		l.o.Silence = s
		l.hold("a", 5, math.MaxInt64-1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx); close(ended) }()
		want := func(state budget.State) {
			t.Helper()
			<-time.After(unseenEvery)
			synctest.Wait()
			if got := l.state("a"); got != state {
				t.Errorf("after %d turns the hold is %s, want %s", s.asked, got, state)
			}
		}
		<-time.After(time.Second)
		want(budget.Reserved)
		s.become(budget.ErrUnavailable)
		want(budget.Reserved)
		want(budget.Reserved)
		s.become(nil, bert, ada)
		want(budget.Reserved)
		want(budget.ExpiredCharged)
		if said := l.log.take(); strings.Count(said, "can't be ended") != 1 || strings.Count(said, "nothing was heard") != 1 {
			t.Errorf("the log says %s", said)
		}
		cancel()
		<-ended
		l.Stop()
	})
}

// picky is a ledger that can't end the holds of some sidecars.
type picky struct {
	budget.Store
	bad    string
	closed []string
}

func (p *picky) CloseSidecar(_ context.Context, sidecar string, _ int64) (int, error) {
	if sidecar == p.bad {
		return 0, errors.New("a defect")
	}
	p.closed = append(p.closed, sidecar)
	return 0, nil
}

// TestOneSilentSidecarKeepsNoOther: what can't be ended of one does not hold up the
// next, and is told.
func TestOneSilentSidecarKeepsNoOther(t *testing.T) {
	t.Parallel()
	p := &picky{bad: ada}
	l := inlineOf(t, InlineOptions{Ledger: p, Letters: &pile{}, Silence: &silence{ids: []string{ada, bert}}})
	if err := l.endUnseen(t.Context(), true); err == nil || !slices.Contains(p.closed, bert) {
		t.Errorf("%v, ended those of %v", err, p.closed)
	}
}

func TestWithoutSilenceNothingRuns(t *testing.T) {
	t.Parallel()
	newInline(t).Run(t.Context()) // returns
}
