package ratelimit

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// ask is ten a second with a burst.
func ask(rule, key string, burst int) Ask {
	return Ask{Rule: rule, Key: Key(rule, key), Count: 10, Per: time.Second, Burst: burst}
}

func take(t *testing.T, l *Limiter, d time.Duration, want bool, asks ...Ask) Result {
	t.Helper()
	r := l.Take(at(d), asks)
	if r.Allowed != want {
		t.Fatalf("at %v: allowed %v, want %v (%+v)", d, r.Allowed, want, r)
	}
	return r
}

func TestBurstThenRate(t *testing.T) {
	t.Parallel()
	l := New()
	a := ask("r", "k", 3)
	for want := 2; want >= 0; want-- {
		r := take(t, l, 0, true, a)
		if r.Remaining != want || r.Reset <= 0 || r.RetryAfter != 0 {
			t.Errorf("%+v, want %d remaining, a reset above 0 and no wait", r, want)
		}
	}
	if r := take(t, l, 0, false, a); r.RetryAfter != 100*time.Millisecond || r.Remaining != 0 {
		t.Errorf("%+v, want a wait of 100ms", r)
	}
	take(t, l, 99*time.Millisecond, false, a)
	take(t, l, 100*time.Millisecond, true, a)
	take(t, l, 100*time.Millisecond, false, a)
	for range 3 {
		take(t, l, time.Second, true, a)
	}
	take(t, l, time.Second, false, a)
}

func TestNoAsksAreAllowed(t *testing.T) {
	t.Parallel()
	if r := take(t, New(), 0, true); r.Limit != "" || Headers(r) != nil {
		t.Errorf("%+v, want no limit and no headers", r)
	}
}

func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	l := New()
	wide, tight := ask("wide", "k", 10), ask("tight", "k", 1)
	take(t, l, 0, true, wide, tight)
	for range 20 {
		if r := take(t, l, 0, false, wide, tight); r.Limit != "tight" {
			t.Fatalf("limit %q denies, want tight", r.Limit)
		}
		take(t, l, 0, false, tight, wide)
	}
	if r := take(t, l, 0, true, wide); r.Remaining != 8 {
		t.Errorf("%d remaining of wide, want 8: denials consumed", r.Remaining)
	}
}

func TestBindingLimit(t *testing.T) {
	t.Parallel()
	l := New()
	big, small := ask("big", "k", 10), ask("small", "k", 3)
	if r := take(t, l, 0, true, big, small); r.Limit != "small" || r.Remaining != 2 || r.Burst != 3 {
		t.Errorf("%+v, want small, which has least remaining", r)
	}
	slow := Ask{Rule: "slow", Key: "k", Count: 1, Per: time.Minute, Burst: 1}
	quick := ask("quick", "k", 1)
	take(t, l, 0, true, slow, quick)
	if r := take(t, l, 0, false, slow, quick, big); r.Limit != "slow" || r.RetryAfter != time.Minute {
		t.Errorf("%+v, want slow, which takes longest", r)
	}
}

func TestSameKeyOfAnotherRule(t *testing.T) {
	t.Parallel()
	l := New()
	a := Ask{Rule: "a", Key: "same", Count: 1, Per: time.Hour, Burst: 1}
	b := a
	b.Rule = "b"
	take(t, l, 0, true, a)
	take(t, l, 0, true, b)
	take(t, l, 0, false, a)
	take(t, l, 0, false, b)
}

func TestSameCounterAskedTwicePaysTwice(t *testing.T) {
	t.Parallel()
	l := New()
	a := ask("r", "k", 3)
	if r := take(t, l, 0, true, a, a); r.Remaining != 1 {
		t.Errorf("%d remaining, want 1", r.Remaining)
	}
	take(t, l, 0, false, a, a)
	if r := take(t, l, 0, true, a); r.Remaining != 0 {
		t.Errorf("%d remaining, want 0: the denial must give back its first half", r.Remaining)
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	l := New()
	a := ask("r", "k", 5)
	a.Cost = 4
	take(t, l, 0, true, a)
	take(t, l, 0, false, a)
	a.Cost = 1
	take(t, l, 0, true, a)
	a.Cost = 6
	take(t, l, time.Hour, false, a)
}

func TestAskOutOfRangeDenies(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Ask){
		"count": func(a *Ask) { a.Count = 0 },
		"per":   func(a *Ask) { a.Per = 0 },
		"burst": func(a *Ask) { a.Burst = 0 },
		"cost":  func(a *Ask) { a.Cost = -1 },
	} {
		l := New()
		good, bad := ask("good", "k", 2), ask("bad", "k", 2)
		change(&bad)
		if r := take(t, l, 0, false, good, bad); r.Limit != "bad" || r.Full || r.RetryAfter <= 0 {
			t.Errorf("%s: %+v, want a denial by bad", name, r)
		}
		if r := take(t, l, 0, true, good); r.Remaining != 1 {
			t.Errorf("%s: %d remaining, want 1", name, r.Remaining)
		}
	}
}

func TestClockThatJumpsBackRefillsNothing(t *testing.T) {
	t.Parallel()
	l := New()
	a := ask("r", "k", 2)
	take(t, l, time.Hour, true, a)
	take(t, l, time.Hour, true, a)
	if r := take(t, l, 0, false, a); r.RetryAfter != 100*time.Millisecond {
		t.Errorf("wait %v, want 100ms: the jump must not stretch it", r.RetryAfter)
	}
	take(t, l, -time.Hour, false, a)
	take(t, l, time.Hour+99*time.Millisecond, false, a)
	take(t, l, time.Hour+100*time.Millisecond, true, a)
}

func TestFarFutureOnlyDenies(t *testing.T) {
	t.Parallel()
	l := New()
	a := ask("r", "k", 1)
	take(t, l, 0, true, a)
	far := time.Unix(1<<40, 0)
	l.Take(far, []Ask{a})
	if r := l.Take(far.Add(time.Hour), []Ask{a}); r.Allowed {
		t.Errorf("%+v, want a denial: the limiter's time has ended", r)
	}
}

func TestChangedRateKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	l := New()
	quick := Ask{Rule: "r", Key: "k", Count: 10, Per: time.Second, Burst: 60}
	slow := Ask{Rule: "r", Key: "k", Count: 1, Per: time.Second, Burst: 60}
	for range 40 {
		take(t, l, 0, true, quick)
	}
	if r := take(t, l, 0, true, slow); r.Remaining != 19 {
		t.Errorf("%d remaining at the slow rate, want 19", r.Remaining)
	}
	if r := take(t, l, 0, true, quick); r.Remaining != 18 {
		t.Errorf("%d remaining back at the quick rate, want 18", r.Remaining)
	}
}

func TestLoweredBurstDeniesUntilItFits(t *testing.T) {
	t.Parallel()
	l := New()
	wide, tight := ask("r", "k", 50), ask("r", "k", 5)
	for range 50 {
		take(t, l, 0, true, wide)
	}
	if r := take(t, l, 0, false, Ask{Rule: "r", Key: tight.Key, Count: 1, Per: time.Second, Burst: 5}); r.RetryAfter != time.Second || r.Reset != 5*time.Second {
		t.Errorf("%+v, want a wait within the new limit's own 5s", r)
	}
	take(t, l, 0, false, tight)
	take(t, l, 4500*time.Millisecond, false, tight)
	take(t, l, 4600*time.Millisecond, true, tight)
}

func TestFullTableOfLiveKeysRefuses(t *testing.T) {
	t.Parallel()
	l := New()
	l.maxKeys = 300
	for i := range l.maxKeys {
		take(t, l, 0, true, ask("r", strconv.Itoa(i), 1))
	}
	other := ask("other", "k", 5)
	r := take(t, l, 0, false, other, ask("r", "new", 1))
	if !r.Full || r.Limit != "r" || r.RetryAfter <= 0 {
		t.Errorf("%+v, want r to be full", r)
	}
	if r := take(t, l, 0, true, other); r.Remaining != 4 {
		t.Errorf("%d of other remaining, want 4: the refusal consumed", r.Remaining)
	}
	take(t, l, 0, false, ask("r", "7", 1)) // a known key is still counted, not forgotten
	take(t, l, time.Second, true, ask("r", "new", 1))
	if n := l.Keys(); n > l.maxKeys+1 {
		t.Errorf("%d keys, want at most %d", n, l.maxKeys+1)
	}
}

func TestFullTableFindsItsOneExpiredKey(t *testing.T) {
	t.Parallel()
	for expired := range sweepFull {
		l := New()
		l.maxKeys = sweepFull
		for i := range l.maxKeys {
			a := Ask{Rule: "r", Key: strconv.Itoa(i), Count: 1, Per: time.Hour, Burst: 1}
			if i == expired {
				a.Per = time.Second
			}
			take(t, l, 0, true, a)
		}
		take(t, l, time.Minute, true, ask("r", "new", 1))
	}
}

func TestExpiredKeysAreSwept(t *testing.T) {
	t.Parallel()
	l := New()
	for i := range 1000 {
		take(t, l, 0, true, ask("r", strconv.Itoa(i), 1))
	}
	for i := range 1000 {
		take(t, l, time.Minute+time.Duration(i)*200*time.Millisecond, true, ask("r", "late"+strconv.Itoa(i), 1))
	}
	if n := l.Keys(); n > 10 {
		t.Errorf("%d keys are left, want at most 10", n)
	}
}

func TestSweepKeepsLiveKeys(t *testing.T) {
	t.Parallel()
	l := New()
	long := Ask{Rule: "r", Key: "long", Count: 1, Per: time.Hour, Burst: 1}
	take(t, l, 0, true, long)
	for i := range 5000 {
		take(t, l, time.Duration(i)*time.Second/2, true, ask("r", strconv.Itoa(i), 1))
	}
	take(t, l, 2500*time.Second, false, long)
}

func TestRulesAreBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	l := New()
	for i := range MaxRules {
		take(t, l, 0, true, ask(strconv.Itoa(i), "k", 1))
	}
	if r := take(t, l, 0, false, ask("one more", "k", 1)); !r.Full {
		t.Errorf("%+v, want full", r)
	}
	take(t, l, time.Second, true, ask("one more", "k", 1))
	if n := l.Keys(); n != 1 {
		t.Errorf("%d keys, want 1: rules without debt are forgotten", n)
	}
}

func TestConcurrentTakesShareOneBurst(t *testing.T) {
	t.Parallel()
	l := New()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				if l.Take(epoch, []Ask{ask("r", "k", 100), ask("s", strconv.Itoa(i), 50)}).Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := allowed.Load(); n != 100 {
		t.Errorf("%d allowed, want 100", n)
	}
}

func TestKeyIsInjective(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, parts := range [][]string{
		{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a1:b"}, {"a", "1:b"}, {"1:a1:b"},
	} {
		k := Key(parts...)
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %s share the key %q", parts, other, k)
		}
		seen[k] = fmt.Sprintf("%q", parts)
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a", "b", "ab", "")
	f.Add("1:a", "", "", "1:a")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		same := a == c && b == d
		if (Key(a, b) == Key(c, d)) != same {
			t.Errorf("Key(%q, %q) and Key(%q, %q): equal keys must mean equal parts", a, b, c, d)
		}
	})
}

func TestKnownKeyAllocatesNothing(t *testing.T) {
	l := New()
	asks := []Ask{ask("a", "k", 1_000_000), ask("b", "k", 1_000_000)}
	l.Take(epoch, asks)
	if n := testing.AllocsPerRun(100, func() { l.Take(epoch, asks) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(strconv.Itoa(n)+"limits", func(b *testing.B) {
			b.ReportAllocs()
			l := New()
			var asks []Ask
			for i := range n {
				asks = append(asks, ask("per-principal-"+strconv.Itoa(i), "issuer/subject", 60))
			}
			now := epoch
			for b.Loop() {
				now = now.Add(time.Millisecond)
				l.Take(now, asks)
			}
		})
	}
}

func BenchmarkTakeParallel(b *testing.B) {
	b.ReportAllocs()
	l := New()
	b.RunParallel(func(pb *testing.PB) {
		asks := []Ask{ask("per-principal", "issuer/subject", 60)}
		for pb.Next() {
			l.Take(epoch, asks)
		}
	})
}

func BenchmarkTakeNewKeys(b *testing.B) {
	b.ReportAllocs()
	l := New()
	now := epoch
	asks := []Ask{ask("r", "", 1)}
	for i := 0; b.Loop(); i++ {
		now = now.Add(10 * time.Microsecond)
		asks[0].Key = Key("r", strconv.Itoa(i))
		if !l.Take(now, asks).Allowed {
			b.Fatal("a fresh key was denied")
		}
	}
}
