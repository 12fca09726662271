package meshlimit

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/ratelimit"
)

func newRefusals() *refusals { return &refusals{held: make(map[ratelimit.Ask]refusal)} }

func refused(rule string, wait time.Duration) ratelimit.Result {
	return ratelimit.Result{Limit: rule, Count: 10, Per: time.Second, Burst: 5, Reset: wait + time.Second, RetryAfter: wait}
}

func TestRefusalHoldsUntilItIsOver(t *testing.T) {
	t.Parallel()
	r, a := newRefusals(), mesh("r", "k", 5)
	r.add(epoch, a.Ask, refused("r", time.Second))
	for after, wait := range map[time.Duration]time.Duration{0: time.Second, 400 * time.Millisecond: 600 * time.Millisecond, time.Second - 1: 1} {
		r.last = time.Time{}
		got, ok := r.find(epoch.Add(after), []Ask{a})
		want := refused("r", wait)
		if d := cmp.Diff(want, got); d != "" || !ok {
			t.Errorf("after %v (-want +got):\n%s", after, d)
		}
	}
	for name, change := range map[string]func(*Ask){
		"key": func(a *Ask) { a.Key = "other" }, "rate": func(a *Ask) { a.Count++ }, "cost": func(a *Ask) { a.Cost++ }, "burst": func(a *Ask) { a.Burst++ },
	} {
		other := a
		change(&other)
		if _, ok := r.find(epoch, []Ask{other}); ok {
			t.Errorf("another %s is refused", name)
		}
	}
	if _, ok := r.find(epoch.Add(time.Second), []Ask{a}); ok || len(r.held) != 0 {
		t.Errorf("%d refusals are held when it is over", len(r.held))
	}
}

func TestLongestRefusalBinds(t *testing.T) {
	t.Parallel()
	r := newRefusals()
	a, b, c := mesh("a", "k", 5), mesh("b", "k", 5), mesh("c", "k", 5)
	r.add(epoch, a.Ask, refused("a", time.Second))
	r.add(epoch, b.Ask, refused("b", time.Minute))
	for _, asks := range [][]Ask{{a, b, c}, {c, b, a}} {
		if got, ok := r.find(epoch, asks); !ok || got.Limit != "b" {
			t.Errorf("%+v binds, want b", got)
		}
	}
}

// TestClockThatJumpsBack stretches no refusal.
func TestClockThatJumpsBack(t *testing.T) {
	t.Parallel()
	r, a := newRefusals(), mesh("r", "k", 5)
	r.add(epoch, a.Ask, refused("r", time.Second))
	r.find(epoch.Add(900*time.Millisecond), []Ask{a})
	if got, ok := r.find(epoch.Add(-time.Hour), []Ask{a}); !ok || got.RetryAfter != 100*time.Millisecond {
		t.Errorf("%+v, want a wait of 100ms", got)
	}
	r.add(epoch.Add(-time.Hour), mesh("late", "k", 5).Ask, refused("late", time.Second))
	if _, ok := r.find(epoch.Add(901*time.Millisecond), []Ask{mesh("late", "k", 5)}); ok {
		t.Error("a refusal of an hour ago holds")
	}
}

func TestWhatIsNotRemembered(t *testing.T) {
	t.Parallel()
	r, a := newRefusals(), mesh("r", "k", 5)
	r.add(epoch, a.Ask, refused("r", 0))
	if len(r.held) != 0 {
		t.Error("a refusal without a wait is held")
	}
	r.add(epoch, a.Ask, refused("r", time.Minute))
	r.add(epoch, a.Ask, refused("r", time.Second)) // an older answer that comes late
	if got, _ := r.find(epoch, []Ask{a}); got.RetryAfter != time.Minute {
		t.Errorf("wait %v, want the longer one", got.RetryAfter)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRefusals()
	fill := func(prefix string, now time.Time, wait time.Duration) {
		for i := range maxRefusals + 100 {
			r.add(now, mesh("r", prefix+strconv.Itoa(i), 5).Ask, refused("r", wait))
		}
	}
	fill("a", epoch, time.Second)
	if len(r.held) != maxRefusals {
		t.Fatalf("%d are held, want %d", len(r.held), maxRefusals)
	}
	known := mesh("r", "a7", 5)
	r.add(epoch, known.Ask, refused("r", time.Hour))
	if got, ok := r.find(epoch, []Ask{known}); !ok || got.RetryAfter != time.Hour {
		t.Errorf("%+v, want a known one to be kept up to date", got)
	}
	fill("b", epoch.Add(time.Minute), time.Second)
	r.add(epoch.Add(time.Minute), mesh("r", "new", 5).Ask, refused("r", time.Second))
	if _, ok := r.find(epoch.Add(time.Minute), []Ask{known, mesh("r", "b7", 5)}); !ok || len(r.held) > maxRefusals {
		t.Errorf("%d are held, want at most %d", len(r.held), maxRefusals)
	}
}

// TestOldRefusalsMakeWay: what is over does not keep the new out.
func TestOldRefusalsMakeWay(t *testing.T) {
	t.Parallel()
	r := newRefusals()
	for i := range maxRefusals {
		r.add(epoch, mesh("r", strconv.Itoa(i), 5).Ask, refused("r", time.Second))
	}
	for i := range maxRefusals {
		r.add(epoch.Add(time.Minute), mesh("late", strconv.Itoa(i), 5).Ask, refused("late", time.Second))
	}
	late := 0
	for a := range r.held {
		if a.Rule == "late" {
			late++
		}
	}
	if late < maxRefusals*9/10 { // the sweep looks at some, not at all
		t.Errorf("%d of %d new refusals are held", late, maxRefusals)
	}
}
