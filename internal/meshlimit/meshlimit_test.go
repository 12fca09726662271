package meshlimit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/ratelimit"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// mesh is ten a second with a burst, and this sidecar's share on error.
func mesh(rule, key string, burst int) Ask {
	return Ask{ratelimit.Ask{Rule: rule, Key: ratelimit.Key(rule, key), Count: 10, Per: time.Second, Burst: burst}, config.OnErrorLocal}
}

// control is the other side: what answers, and what was asked.
type control struct {
	answer func(context.Context, []ratelimit.Ask) (ratelimit.Result, int, error)
	calls  atomic.Int64
	now    atomic.Int64
	most   atomic.Int64
}

func (c *control) TakeRate(ctx context.Context, tenant string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	c.calls.Add(1)
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	if tenant != "org1" {
		return ratelimit.Result{}, 0, errors.New("not the sidecar's tenant")
	}
	return c.answer(ctx, asks)
}

// seen is what was observed.
type seen struct {
	source  Source
	allowed bool
	err     error
}

// harness are limits between a control and an observer.
type harness struct {
	*Limits
	control   control
	connected int
	mu        sync.Mutex // guards seen
	seen      []seen
}

func newHarness(answer func(context.Context, []ratelimit.Ask) (ratelimit.Result, int, error)) *harness {
	h := &harness{connected: 1}
	h.control.answer = answer
	h.Limits = New(Options{Ask: &h.control, Connected: func() int { return h.connected }, Observe: func(s Source, allowed bool, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.seen = append(h.seen, seen{s, allowed, err})
	}})
	return h
}

func (h *harness) take(after time.Duration, asks ...Ask) ratelimit.Result {
	return h.Take(context.Background(), epoch.Add(after), "org1", false, asks)
}

func (h *harness) last() seen { return h.seen[len(h.seen)-1] }

var errDown = errors.New("control is down")

func down(context.Context, []ratelimit.Ask) (ratelimit.Result, int, error) {
	return ratelimit.Result{}, 0, errDown
}

func hang(ctx context.Context, _ []ratelimit.Ask) (ratelimit.Result, int, error) {
	<-ctx.Done()
	return ratelimit.Result{}, 0, ctx.Err()
}

func TestControlDecides(t *testing.T) {
	t.Parallel()
	h := newHarness(func(_ context.Context, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
		if d := cmp.Diff([]ratelimit.Ask{mesh("a", "k", 5).Ask, mesh("b", "k", 7).Ask}, asks); d != "" {
			t.Errorf("asked (-want +got):\n%s", d)
		}
		return ratelimit.Result{Allowed: true, Remaining: 3, Reset: time.Second}, 1, nil
	})
	want := ratelimit.Result{Allowed: true, Limit: "b", Count: 10, Per: time.Second, Burst: 7, Remaining: 3, Reset: time.Second}
	for n := range int64(3) { // an allowance is not remembered
		if d := cmp.Diff(want, h.take(0, mesh("a", "k", 5), mesh("b", "k", 7))); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if h.control.calls.Load() != n+1 || h.last() != (seen{SourceControl, true, nil}) {
			t.Errorf("asked %d times, saw %+v", h.control.calls.Load(), h.last())
		}
	}
}

func TestRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	h := newHarness(func(context.Context, []ratelimit.Ask) (ratelimit.Result, int, error) {
		return ratelimit.Result{RetryAfter: time.Second, Reset: 2 * time.Second}, 1, nil
	})
	a, b := mesh("a", "k", 5), mesh("b", "k", 5)
	if r := h.take(0, a, b); r.Allowed || r.Limit != "b" || h.last().source != SourceControl {
		t.Fatalf("%+v from %+v", r, h.last())
	}
	r := h.take(300*time.Millisecond, b, a)
	if r.Allowed || r.Limit != "b" || r.RetryAfter != 700*time.Millisecond || r.Reset != 1700*time.Millisecond {
		t.Errorf("%+v, want the rest of the wait", r)
	}
	if h.control.calls.Load() != 1 || h.last() != (seen{SourceMemory, false, nil}) {
		t.Errorf("asked %d times, saw %+v", h.control.calls.Load(), h.last())
	}
	h.take(0, a, mesh("b", "other", 5)) // what did not refuse is not refused
	h.take(time.Second, b)
	if h.control.calls.Load() != 3 {
		t.Errorf("asked %d times, want 3", h.control.calls.Load())
	}
}

func TestShareWhileControlIsDown(t *testing.T) {
	t.Parallel()
	h := newHarness(down)
	h.connected = 3
	a := Ask{ratelimit.Ask{Rule: "a", Key: "k", Count: 60, Per: time.Minute, Burst: 7}, config.OnErrorLocal}
	for want := 1; want >= 0; want-- {
		r := h.take(0, a)
		if !r.Allowed || r.Remaining != want || r.Count != 20 || r.Burst != 2 {
			t.Errorf("%+v, want %d remaining of a third", r, want)
		}
		if s := h.last(); s.source != SourceFallback || !s.allowed || !errors.Is(s.err, errDown) {
			t.Errorf("saw %+v", s)
		}
	}
	if r := h.take(0, a); r.Allowed || r.RetryAfter != 3*time.Second {
		t.Errorf("%+v, want a wait of 3s", r)
	}
	if h.control.calls.Load() != 3 {
		t.Error("a refusal of our own must not be remembered as control's")
	}
	if r := h.take(3*time.Second, a); !r.Allowed {
		t.Errorf("%+v, want allowed after the wait", r)
	}
}

// TestShareIsAtLeastOne, however many share, and whoever is counted.
func TestShareIsAtLeastOne(t *testing.T) {
	t.Parallel()
	for _, connected := range []int{-1, 0, 1, 5, 6, 1000} {
		h := newHarness(down)
		h.connected = connected
		r := h.take(0, mesh("a", "k", 5))
		want := max(10/max(connected, 1), 1)
		if !r.Allowed || r.Count != want || r.Remaining != max(5/max(connected, 1), 1)-1 {
			t.Errorf("%d connected: %+v", connected, r)
		}
	}
}

func TestDenialWhileControlIsDown(t *testing.T) {
	t.Parallel()
	local, deny, unknown := mesh("local", "k", 2), mesh("deny", "k", 2), mesh("unknown", "k", 2)
	deny.OnError, unknown.OnError = config.OnErrorDeny, ""
	for name, c := range map[string]struct {
		anonymous bool
		asks      []Ask
		limit     string
	}{
		"deny":      {false, []Ask{local, deny}, "deny"},
		"unknown":   {false, []Ask{unknown, local}, "unknown"},
		"anonymous": {true, []Ask{local}, "local"},
	} {
		h := newHarness(down)
		for range 5 {
			r := h.Take(t.Context(), epoch, "org1", c.anonymous, c.asks)
			want := ratelimit.Result{Limit: c.limit, Count: 10, Per: time.Second, Burst: 2, Reset: denyRetry, RetryAfter: denyRetry}
			if d := cmp.Diff(want, r); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		}
		if s := h.last(); s.source != SourceFallback || s.allowed || !errors.Is(s.err, errDown) {
			t.Errorf("%s: saw %+v", name, s)
		}
		if r := h.take(0, local); r.Remaining != 1 {
			t.Errorf("%s: %d remaining, want 1: denials took", name, r.Remaining)
		}
	}
}

func TestShareTakesAllOrNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(down)
	wide, tight := mesh("wide", "k", 10), mesh("tight", "k", 1)
	h.take(0, wide, tight)
	for range 5 {
		if r := h.take(0, wide, tight); r.Allowed || r.Limit != "tight" {
			t.Fatalf("%+v, want a denial by tight", r)
		}
	}
	if r := h.take(0, wide); r.Remaining != 8 {
		t.Errorf("%d remaining, want 8", r.Remaining)
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		which int
		r     ratelimit.Result
	}{
		"ask below 0": {-1, ratelimit.Result{Allowed: true}}, "ask beyond": {1, ratelimit.Result{Allowed: true}},
		"remaining": {0, ratelimit.Result{Allowed: true, Remaining: -1}}, "reset": {0, ratelimit.Result{Reset: -1}}, "wait": {0, ratelimit.Result{RetryAfter: -1}},
	} {
		h := newHarness(func(context.Context, []ratelimit.Ask) (ratelimit.Result, int, error) { return c.r, c.which, nil })
		deny := mesh("a", "k", 5)
		deny.OnError = config.OnErrorDeny
		if r := h.take(0, deny); r.Allowed || !errors.Is(h.last().err, ErrAnswer) {
			t.Errorf("%s: %+v, saw %+v", name, r, h.last())
		}
	}
}

func TestNoAsksAreAllowed(t *testing.T) {
	t.Parallel()
	h := newHarness(down)
	if r := h.take(0); !r.Allowed || r.Limit != "" || h.control.calls.Load() != 0 {
		t.Errorf("%+v after %d calls", r, h.control.calls.Load())
	}
}

// TestControlOfAnotherTenant answers with an error, and that is not open.
func TestControlOfAnotherTenant(t *testing.T) {
	t.Parallel()
	h := newHarness(down)
	deny := mesh("a", "k", 5)
	deny.OnError = config.OnErrorDeny
	if r := h.Take(t.Context(), epoch, "org2", false, []Ask{deny}); r.Allowed || h.last().err == nil {
		t.Errorf("%+v, saw %+v", r, h.last())
	}
}

func TestSlowControlHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(hang)
		begin := time.Now()
		r := h.take(0, mesh("a", "k", 5))
		if took := time.Since(begin); took != askTimeout || !r.Allowed || !errors.Is(h.last().err, context.DeadlineExceeded) {
			t.Errorf("%+v after %v, saw %+v", r, took, h.last())
		}
	})
}

func TestNothingPilesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(hang)
		begin := time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { h.take(0, mesh("a", "k", 5)) })
		}
		wg.Wait()
		if took := time.Since(begin); took != askTimeout {
			t.Errorf("1000 requests took %v, want %v", took, askTimeout)
		}
		if most := h.control.most.Load(); most != maxInFlight || h.control.calls.Load() != maxInFlight {
			t.Errorf("%d asked at a time and %d in all, want %d", most, h.control.calls.Load(), maxInFlight)
		}
		busy := 0
		for _, s := range h.seen {
			if errors.Is(s.err, ErrBusy) {
				busy++
			}
		}
		if busy != 1000-maxInFlight {
			t.Errorf("%d were busy, want %d", busy, 1000-maxInFlight)
		}
		h.take(0, mesh("a", "k", 5)) // the room is given back
		if !errors.Is(h.last().err, context.DeadlineExceeded) {
			t.Errorf("saw %+v", h.last())
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for name, answer := range map[string]ratelimit.Result{"allowed": {Allowed: true}, "remembered": {RetryAfter: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			h := newHarness(func(context.Context, []ratelimit.Ask) (ratelimit.Result, int, error) { return answer, 0, nil })
			h.o.Observe = func(Source, bool, error) {}
			asks := []Ask{mesh("per-principal", "issuer/subject", 60)}
			b.ReportAllocs()
			for b.Loop() {
				h.Take(b.Context(), epoch, "org1", false, asks)
			}
		})
	}
}

// At a shared sidecar one tenant's use, asked of control or counted here, is
// never another's.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	asked := map[string]int{}
	l := New(Options{Connected: func() int { return 1 }, Observe: func(Source, bool, error) {}, Ask: askerFunc(
		func(_ context.Context, tenant string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
			if asked[tenant]++; tenant == "away" || tenant == "also" {
				return ratelimit.Result{}, 0, errDown
			}
			if asks[0].Key != mesh("r", "k", 1).Key {
				t.Errorf("control is asked for %q, want the key as it is", asks[0].Key)
			}
			return ratelimit.Result{Allowed: tenant != "org1", RetryAfter: time.Minute}, 0, nil
		})})
	take := func(tenant string) bool {
		return l.Take(t.Context(), epoch, tenant, false, []Ask{mesh("r", "k", 1)}).Allowed
	}
	first := take("org1")
	if again := take("org1"); first || again || asked["org1"] != 1 {
		t.Errorf("org1 is not refused from memory: asked %d times", asked["org1"])
	}
	if !take("org2") || asked["org2"] != 1 {
		t.Error("org1's refusal refuses org2")
	}
	share := take("away")
	if more := take("away"); !share || more {
		t.Error("the share is not one")
	}
	if !take("also") {
		t.Error("one tenant's share is used up by another")
	}
}

type askerFunc func(context.Context, string, []ratelimit.Ask) (ratelimit.Result, int, error)

func (f askerFunc) TakeRate(ctx context.Context, tenant string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	return f(ctx, tenant, asks)
}
