package ratelimit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// bucket is the slow and obvious model: credit in nanoseconds that grows with
// time up to the burst.
type bucket struct {
	credit, last int64
}

func (b *bucket) at(now int64, a Ask) int64 {
	full := interval(a.Count, a.Per) * int64(a.Burst)
	return min(full, b.credit+now-b.last)
}

// model decides by buckets, each made full.
type model struct {
	now     int64
	buckets map[string]*bucket
}

func (m *model) bucket(a Ask) *bucket {
	id := Key(a.Rule, a.Key)
	if m.buckets[id] == nil {
		m.buckets[id] = &bucket{credit: interval(a.Count, a.Per) * int64(a.Burst), last: m.now}
	}
	return m.buckets[id]
}

func (m *model) take(now int64, asks []Ask) (allowed bool) {
	m.now = max(m.now, now)
	for _, a := range asks {
		if m.bucket(a).at(m.now, a) < interval(a.Count, a.Per)*int64(a.Cost) {
			return false
		}
	}
	for _, a := range asks {
		b := m.bucket(a)
		b.credit, b.last = b.at(m.now, a)-interval(a.Count, a.Per)*int64(a.Cost), m.now
	}
	return true
}

func (m *model) remaining(a Ask) int {
	return int(m.bucket(a).at(m.now, a) / interval(a.Count, a.Per))
}

// rules of the model tests, small enough to run out often.
func drawRules(t *rapid.T) []Ask {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Ask {
		return Ask{
			Count: rapid.IntRange(1, 7).Draw(t, "count"),
			Per:   time.Duration(rapid.IntRange(1, 1000).Draw(t, "per")),
			Burst: rapid.IntRange(1, 5).Draw(t, "burst"),
		}
	}), 1, 4).Draw(t, "rules")
}

// drawAsks asks each rule at most once.
func drawAsks(t *rapid.T, rules []Ask) []Ask {
	var asks []Ask
	for i, a := range rules {
		if !rapid.Bool().Draw(t, "asked") {
			continue
		}
		a.Rule = string(rune('a' + i))
		a.Key = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "key")
		a.Cost = rapid.IntRange(1, 3).Draw(t, "cost")
		asks = append(asks, a)
	}
	return asks
}

func TestLimiterAgreesWithModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		l, m := New(), &model{buckets: make(map[string]*bucket)}
		now := int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = max(0, now+rapid.Int64Range(-300, 600).Draw(t, "step"))
			asks := drawAsks(t, rules)
			r, want := l.Take(at(time.Duration(now)), asks), m.take(now, asks)
			if r.Allowed != want {
				t.Fatalf("at %d, %+v: allowed %v, want %v", now, asks, r.Allowed, want)
			}
			checkRemaining(t, m, asks, r)
		}
	})
}

// checkRemaining holds the reported state against the model's.
func checkRemaining(t *rapid.T, m *model, asks []Ask, r Result) {
	for _, a := range asks {
		left := m.remaining(a)
		if r.Limit == a.Rule && r.Remaining != left {
			t.Fatalf("%s: %d remaining, want %d", a.Rule, r.Remaining, left)
		}
		if r.Allowed && left < r.Remaining {
			t.Fatalf("%s has %d left, yet %s with %d was called binding", a.Rule, left, r.Limit, r.Remaining)
		}
	}
}

// TestWaitIsExact: whoever waits as told passes, and one nanosecond less fails.
func TestWaitIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		l := New()
		now := int64(1)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += rapid.Int64Range(0, 300).Draw(t, "step")
			asks := drawAsks(t, rules)
			r := l.Take(at(time.Duration(now)), asks)
			if r.Allowed || tooDear(asks) {
				continue
			}
			now += int64(r.RetryAfter)
			if l.Take(at(time.Duration(now-1)), asks).Allowed {
				t.Fatalf("passed 1ns before the wait of %v was over", r.RetryAfter)
			}
			if !l.Take(at(time.Duration(now)), asks).Allowed {
				t.Fatalf("denied after waiting %v as told", r.RetryAfter)
			}
		}
	})
}

func tooDear(asks []Ask) bool {
	for _, a := range asks {
		if a.Cost > a.Burst {
			return true
		}
	}
	return false
}

// TestAddingALimitAdmitsNoMore compares one limit with the same limit and
// another beside it, on the same arrivals.
func TestAddingALimitAdmitsNoMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		for i := range rules {
			rules[i].Rule, rules[i].Key = string(rune('a'+i)), "k"
		}
		alone, beside := New(), New()
		var fewer, more int
		now := int64(0)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += rapid.Int64Range(0, 400).Draw(t, "step")
			if alone.Take(at(time.Duration(now)), rules[:1]).Allowed {
				more++
			}
			if beside.Take(at(time.Duration(now)), rules).Allowed {
				fewer++
			}
			if fewer > more {
				t.Fatalf("at %d: %d admitted with %d limits, %d with one", now, fewer, len(rules), more)
			}
		}
	})
}

// TestRateHoldsOverAnyWindow: burst + elapsed × rate is never passed.
func TestRateHoldsOverAnyWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := drawRules(t)[0]
		a.Rule, a.Key = "r", "k"
		l := New()
		var admitted []int64
		now := int64(0)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now += rapid.Int64Range(0, 100).Draw(t, "step")
			if !l.Take(at(time.Duration(now)), []Ask{a}).Allowed {
				continue
			}
			admitted = append(admitted, now)
			for i, from := range admitted {
				n := int64(len(admitted) - i - a.Burst)
				if n > 0 && n*int64(a.Per) > (now-from)*int64(a.Count) {
					t.Fatalf("%d admitted in %d ns, burst %d, rate %d per %d ns", len(admitted)-i, now-from, a.Burst, a.Count, a.Per)
				}
			}
		}
	})
}
