package ratelimit

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRefundAtOnceLeavesNoTrace(t *testing.T) {
	t.Parallel()
	l := New()
	a, b := ask("a", "k", 5), ask("b", "k", 3)
	a.Cost = 2
	take(t, l, 0, true, a)
	take(t, l, time.Millisecond, true, a, b)
	l.Refund(at(time.Millisecond), at(time.Millisecond), []Ask{a, b})
	if r := take(t, l, time.Millisecond, true, b); r.Remaining != 2 {
		t.Errorf("%d of b remaining, want 2", r.Remaining)
	}
	a.Cost = 3
	if r := take(t, l, time.Millisecond, true, a); r.Remaining != 0 {
		t.Errorf("%d of a remaining, want 0", r.Remaining)
	}
}

func TestRefundOfOneCounterAskedTwice(t *testing.T) {
	t.Parallel()
	l := New()
	a := ask("a", "k", 5)
	take(t, l, 0, true, a, a)
	l.Refund(at(0), at(0), []Ask{a, a})
	if r := take(t, l, 0, true, a); r.Remaining != 4 {
		t.Errorf("%d remaining, want 4", r.Remaining)
	}
}

// TestRefundOfNothing: no refund lifts a counter above its full burst, makes
// one, or touches another.
func TestRefundOfNothing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Ask){
		"another key":  func(a *Ask) { a.Key = "other" },
		"another rule": func(a *Ask) { a.Rule = "other" },
		"another rate": func(a *Ask) { a.Count = 20 },
		"bad count":    func(a *Ask) { a.Count = 0 },
		"bad cost":     func(a *Ask) { a.Cost = -1 },
	} {
		l := New()
		a := ask("r", "k", 2)
		take(t, l, 0, true, a)
		other := a
		change(&other)
		l.Refund(at(0), at(0), []Ask{other})
		if r := take(t, l, 0, true, a); r.Remaining != 0 || l.Keys() != 1 {
			t.Errorf("%s: %d remaining and %d keys, want 0 and 1", name, r.Remaining, l.Keys())
		}
	}
	l := New()
	a := ask("r", "k", 2)
	for range 10 {
		l.Refund(at(0), at(time.Hour), []Ask{a})
	}
	take(t, l, time.Hour, true, a)
	for range 10 {
		l.Refund(at(time.Hour), at(time.Hour), []Ask{a})
	}
	take(t, l, time.Hour, true, a)
	take(t, l, time.Hour, true, a)
	take(t, l, time.Hour, false, a)
}

// TestLateRefundKeepsWhatHasDrained: the second request is paid for whole,
// though the debt of the first was gone when it came.
func TestLateRefundKeepsWhatHasDrained(t *testing.T) {
	t.Parallel()
	l := New()
	a := ask("r", "k", 1)
	take(t, l, 0, true, a)
	take(t, l, 100*time.Millisecond, true, a)
	l.Refund(at(0), at(150*time.Millisecond), []Ask{a})
	if r := take(t, l, 150*time.Millisecond, false, a); r.RetryAfter != 50*time.Millisecond {
		t.Errorf("wait %v, want 50ms", r.RetryAfter)
	}
}

// TestRefundCreatesNothing gives requests back at random, and holds each
// counter against one that never saw them: a refund at once makes them equal,
// and a later one leaves no more than there would be without.
func TestRefundCreatesNothing(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]int64{"at once": 0, "later": 400} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { refunds(t, wait) })
		})
	}
}

// held is a request that may yet be given back.
type held struct {
	taken int64
	asks  []Ask
}

func refunds(t *rapid.T, wait int64) {
	rules := drawRules(t)
	l, without := New(), &model{buckets: make(map[string]*bucket)}
	var open []held
	now := int64(0)
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		now += rapid.Int64Range(0, 300).Draw(t, "step")
		asks := drawAsks(t, rules)
		if !l.Take(at(time.Duration(now)), asks).Allowed {
			continue
		}
		if rapid.Bool().Draw(t, "kept") {
			if !without.take(now, asks) {
				t.Fatalf("at %d: allowed %+v, which the given back requests have left no room for", now, asks)
			}
			continue
		}
		open = append(open, held{now, asks})
		now += rapid.Int64Range(0, wait).Draw(t, "wait")
		if wait == 0 || rapid.Bool().Draw(t, "all now") {
			open = giveBack(l, now, open)
		}
		compare(t, l, without, now, rules, wait == 0)
	}
}

func giveBack(l *Limiter, now int64, open []held) []held {
	for _, h := range open {
		l.Refund(at(time.Duration(h.taken)), at(time.Duration(now)), h.asks)
	}
	return nil
}

// compare looks at all counters without taking: an ask above the burst is
// denied, and tells what remains.
func compare(t *rapid.T, l *Limiter, without *model, now int64, rules []Ask, equal bool) {
	without.now = now
	for i, a := range rules {
		for _, key := range []string{"x", "y"} {
			a.Rule, a.Key, a.Cost = string(rune('a'+i)), key, a.Burst+1
			got, most := l.Take(at(time.Duration(now)), []Ask{a}).Remaining, without.remaining(a)
			if got > most || (equal && got != most) {
				t.Fatalf("at %d: %d of %s remain, want %d (exactly: %v)", now, got, a.Rule, most, equal)
			}
		}
	}
}

func TestBinding(t *testing.T) {
	t.Parallel()
	none := Result{Allowed: true}
	wide, tight := Result{Allowed: true, Limit: "wide", Remaining: 9}, Result{Allowed: true, Limit: "tight", Remaining: 1}
	denied := Result{Limit: "denied", RetryAfter: time.Second}
	for name, c := range map[string]struct{ a, b, want Result }{
		"none and one": {none, wide, wide}, "one and none": {wide, none, wide}, "none": {none, none, none},
		"smaller first": {tight, wide, tight}, "smaller last": {wide, tight, tight}, "denial": {tight, denied, denied}, "denial first": {denied, tight, denied},
	} {
		if d := cmp.Diff(c.want, Binding(c.a, c.b)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestRefundAllocatesNothing(t *testing.T) {
	l := New()
	asks := []Ask{ask("a", "k", 10), ask("b", "k", 10)}
	l.Take(epoch, asks)
	n := testing.AllocsPerRun(100, func() {
		l.Take(epoch, asks)
		l.Refund(epoch, epoch, asks)
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkTakeAndRefund(b *testing.B) {
	b.ReportAllocs()
	l := New()
	asks := []Ask{ask("a", "k", 10), ask("b", "k", 10)}
	for b.Loop() {
		l.Take(epoch, asks)
		l.Refund(epoch, epoch, asks)
	}
}
