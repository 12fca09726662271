package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"gatehouse/budget"
)

func TestHoldAndSettle(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	s := c.sidecar(ada, t.TempDir(), 1)
	for _, id := range []string{"used", "not", "more"} {
		s.holds(id)
	}
	c.stands(0, 30)
	check(t, s.TopUp(t.Context(), "org1", hold("more").Key, 25))
	check(t, s.TopUp(t.Context(), "org1", hold("more").Key, 25)) // says nothing more
	c.stands(0, 45)
	s.Settle("org1", commit("used", 7))
	s.Settle("org1", release("not"))
	s.Settle("org1", commit("more", 20))
	c.stands(27, 0)
	if err := s.TopUp(t.Context(), "org1", hold("more").Key, 30); !errors.Is(err, ErrOver) {
		t.Errorf("a top-up of what is settled: %v", err)
	}
	if a, err := s.Reserve(t.Context(), "org1", hold("used")); err != nil || a.Verdict != budget.Settled || !a.Replayed {
		t.Errorf("again: %+v, %v", a, err)
	}
	other := hold("used")
	other.BodyHash = [32]byte{1}
	if a, err := s.Reserve(t.Context(), "org1", other); err != nil || a.Verdict != budget.KeyReused {
		t.Errorf("another of the same id: %+v, %v", a, err)
	}
	large := hold("large")
	large.Tokens = limit
	if a, err := s.Reserve(t.Context(), "org1", large); err != nil || a.Verdict != budget.Refused || a.Denial.Reason != budget.ReasonExhausted || a.Denial.Available != limit-27 {
		t.Errorf("too many: %+v, %v", a, err)
	}
	if err := s.TopUp(t.Context(), "org1", hold("large").Key, 30); !errors.Is(err, ErrOver) {
		t.Errorf("a top-up of what is denied: %v", err)
	}
	s.holds("small")
	if err := s.TopUp(t.Context(), "org1", hold("small").Key, limit); !errors.Is(err, ErrNoRoom) {
		t.Errorf("a top-up beyond the limit: %v", err)
	}
	if got := c.letters.kinds(); len(got) != 0 {
		t.Errorf("dead letters: %v", got)
	}
}

// TestAnswerLost: the hold was made, the line is lost before control can say so, and
// the same hold is asked for again. It is made once.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	s := c.sidecar(ada, t.TempDir(), 1)
	var once sync.Once
	c.store.hook(nil, func(string) { once.Do(c.net.cut) })
	a, err := s.Reserve(t.Context(), "org1", hold("a"))
	if err != nil { // the line was not back in time
		c.stands(0, 0)
		return
	}
	if a.Verdict != budget.Held || !a.Replayed {
		t.Errorf("%+v", a)
	}
	c.stands(0, 10)
	once = sync.Once{}
	s.Settle("org1", commit("a", 4))
	c.stands(4, 0)
	eventually(t, "the answer", func() bool { return s.Status().Waiting == 0 })
	if got := c.letters.kinds(); len(got) != 0 {
		t.Errorf("what is said twice is a dead letter: %v", got)
	}
}

// TestReserveAfterItsRelease: the hold is still with the store when its asker, on
// another stream, gives it back. Then it is denied.
func TestReserveAfterItsRelease(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	s := c.sidecar(ada, t.TempDir(), 1)
	reached, free := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	c.store.hook(func(what string) {
		if what == "reserve" && calls.Add(1) == 1 {
			close(reached)
			<-free
		}
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := s.Reserve(ctx, "org1", hold("a"))
		failed <- err
	}()
	<-reached
	c.net.cut()
	cancel()
	if err := <-failed; !errors.Is(err, budget.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("the asker got %v", err)
	}
	eventually(t, "its release", func() bool { return c.state("a") == budget.Void })
	close(free)
	eventually(t, "the end of the hold's call", func() bool { return s.Status().Waiting == 0 })
	s.holds("b") // the tenant's turn has come to an end
	c.stands(0, 10)
	if got := c.state("a"); got != budget.Void {
		t.Errorf("the hold is %s", got)
	}
}

// TestAskersLeave: one whose hold is with the store, and one whose hold waits for its
// turn. In the end nothing is held.
func TestAskersLeave(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	s := c.sidecar(ada, t.TempDir(), 1)
	reached, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c.store.hook(func(what string) {
		if what == "reserve" {
			once.Do(func() { close(reached); <-free })
		}
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	ask := func(id string) {
		wg.Go(func() {
			if a, err := s.Reserve(ctx, "org1", hold(id)); !errors.Is(err, budget.ErrUnavailable) {
				t.Errorf("%s: %+v, %v", id, a, err)
			}
		})
	}
	ask("with the store")
	<-reached
	ask("queued")
	eventually(t, "both ask", func() bool { return s.Status().Asking == 2 })
	cancel()
	wg.Wait()
	close(free)
	eventually(t, "all is said", func() bool { return s.Status().Waiting == 0 })
	c.stands(0, 0)
	if got := c.letters.kinds(); len(got) != 0 {
		t.Errorf("dead letters: %v", got)
	}
}

// TestWrongTenant, and another sidecar's hold: nothing is touched, and what was said is
// one dead letter.
func TestWrongTenant(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	s, other := c.sidecar(ada, t.TempDir(), 1), c.sidecar(bert, t.TempDir(), 1)
	if _, err := s.Reserve(t.Context(), "org2", hold("a")); !errors.Is(err, ErrForbidden) {
		t.Errorf("got %v", err)
	}
	if err := s.TopUp(t.Context(), "org2", hold("a").Key, 5); !errors.Is(err, ErrForbidden) {
		t.Errorf("got %v", err)
	}
	s.holds("a")
	for range 2 {
		s.Settle("org2", commit("a", 1))
		other.Settle("org1", commit("a", 1))
		other.Settle("org1", release("a"))
	}
	eventually(t, "all is said", func() bool { return s.Status().Refused == 2 && other.Status().Refused == 4 })
	c.stands(0, 10)
	got := c.letters.kinds()
	slices.Sort(got)
	if !slices.Equal(got, []string{"org1 forbidden", "org1 not_found"}) {
		t.Errorf("dead letters: %v", got)
	}
	s.Settle("org1", commit("a", 3))
	c.stands(3, 0)
}

// TestCommitThenCrash: what the disk has counts, the hold of which nothing was said is
// charged when the next process has replayed, and a later word corrects it.
func TestCommitThenCrash(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	dir := t.TempDir()
	first := c.sidecar(ada, dir, 1)
	for _, id := range []string{"said", "open", "lost"} {
		first.holds(id)
	}
	away := make(chan struct{})
	c.store.hook(func(what string) {
		if what == "settle" {
			<-away
		}
	}, nil)
	first.Settle("org1", commit("said", 4))
	first.spoolNow()
	first.Settle("org1", commit("lost", 4)) // in memory alone
	first.kill()
	c.store.hook(nil, nil)
	close(away)

	second := c.sidecar(ada, dir, 2)
	second.holds("own")
	eventually(t, "all that was left is handed over", func() bool { return second.Status().HandedOver })
	if c.state("open") != budget.ExpiredCharged || c.state("said") != budget.Committed || c.state("own") != budget.Reserved {
		t.Errorf("open is %s, said is %s, own is %s", c.state("open"), c.state("said"), c.state("own"))
	}
	second.Settle("org1", commit("open", 6))
	eventually(t, "a later word", func() bool { return c.state("open") == budget.Committed })
	second.stop()
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// spoolNow has the disk take what waits, as when the line has been silent for long.
func (s *sidecar) spoolNow() {
	s.t.Helper()
	s.mu.Lock()
	for _, e := range s.queue.flight {
		e.since, e.sent = e.since.Add(-silentFor), e.sent.Add(-silentFor)
	}
	for _, e := range s.queue.fresh {
		e.since = e.since.Add(-silentFor)
	}
	s.mu.Unlock()
	poke(s.stir)
	eventually(s.t, "it is spooled", func() bool { return s.Status().Waiting == 0 })
}

// TestCutInTheMiddle: of a thousand holds each is settled once, with the line cut again
// and again.
func TestCutInTheMiddle(t *testing.T) {
	t.Parallel()
	const all, each, cuts = 1000, 3, 5
	c := newControl(t)
	dir := t.TempDir()
	s := c.sidecar(ada, dir, 1)
	for i := range all {
		h := hold(fmt.Sprint(i))
		h.Sidecar, h.Incarnation = ada, 1
		if _, err := c.store.Store.Reserve(t.Context(), "org1", []budget.Hold{h}); err != nil {
			t.Fatal(err)
		}
	}
	var settled atomic.Int32
	c.store.hook(nil, func(what string) {
		if n := settled.Add(1); n%2 == 0 && n/2 <= cuts {
			c.net.cut()
		}
	})
	for i := range all {
		s.Settle("org1", commit(fmt.Sprint(i), each))
		if i%(all/20) == 0 { // a stretch at a time
			eventually(t, "some is said", func() bool { return s.Status().Waiting < all/20 })
		}
	}
	c.stands(all*each, 0)
	eventually(t, "all is answered", func() bool {
		st := s.Status()
		return st.Waiting == 0 && st.SpoolBytes == int64(len(magic))
	})
	for i := range all {
		if got := c.state(fmt.Sprint(i)); got != budget.Committed {
			t.Errorf("%d is %s", i, got)
		}
	}
	if st := s.Status(); st.Lost != 0 || st.Refused != 0 || len(c.letters.kinds()) != 0 {
		t.Errorf("%+v, dead letters %v", st, c.letters.kinds())
	}
	if n := settled.Load(); n < 2*cuts {
		t.Errorf("%d calls are too few for all cuts", n)
	}
}
