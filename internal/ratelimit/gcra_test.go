package ratelimit

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	allow := func(remaining int64, reset time.Duration) decision {
		return decision{allowed: true, remaining: remaining, reset: reset}
	}
	deny := func(remaining int64, reset, retry time.Duration) decision {
		return decision{remaining: remaining, reset: reset, retryAfter: retry}
	}
	for _, tc := range []struct {
		name                            string
		now, tat, interval, burst, cost int64
		want                            decision
		wantTAT                         int64
	}{
		{"fresh", 1000, 0, 10, 5, 1, allow(4, 10), 1010},
		{"some debt", 1000, 1020, 10, 5, 1, allow(2, 30), 1030},
		{"last unit", 1000, 1040, 10, 5, 1, allow(0, 50), 1050},
		{"spent", 1000, 1050, 10, 5, 1, deny(0, 50, 10), 1050},
		{"one nanosecond early", 1000, 1041, 10, 5, 1, deny(0, 41, 1), 1041},
		{"cost of the burst", 1000, 0, 10, 5, 5, allow(0, 50), 1050},
		{"cost that does not fit yet", 1000, 1030, 10, 5, 3, deny(2, 30, 10), 1030},
		{"cost above the burst", 1000, 1030, 10, 5, 6, deny(2, 30, 30), 1030},
		{"debt above the capacity", 1000, 1200, 10, 5, 1, deny(0, 200, 160), 1200},
		{"capped capacity", 0, 0, maxSpan, 2, 1, allow(0, time.Duration(maxSpan)), maxSpan},
		{"capped and spent", 0, maxSpan, maxSpan, 2, 1, deny(0, time.Duration(maxSpan), time.Duration(maxSpan)), maxSpan},
		{"largest numbers", maxSpan, 2 * maxSpan, maxSpan, math.MaxInt64, math.MaxInt64,
			deny(0, time.Duration(maxSpan), time.Duration(maxSpan)), 2 * maxSpan},
	} {
		got, tat := decide(tc.now, tc.tat, tc.interval, tc.burst, tc.cost)
		if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(decision{})); d != "" {
			t.Errorf("%s: decision (-want +got):\n%s", tc.name, d)
		}
		if tat != tc.wantTAT {
			t.Errorf("%s: tat %d, want %d", tc.name, tat, tc.wantTAT)
		}
	}
}

func TestInterval(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		count int
		per   time.Duration
		want  int64
	}{
		{600, time.Minute, int64(100 * time.Millisecond)},
		{3, 10, 4}, // rounded up: never above the rate
		{math.MaxInt, 1, 1},
		{1, math.MaxInt64, maxSpan},
	} {
		if got := interval(tc.count, tc.per); got != tc.want {
			t.Errorf("%d per %v: %d, want %d", tc.count, tc.per, got, tc.want)
		}
	}
}

func TestDecideNeverOverflows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.Int64Range(0, maxSpan).Draw(t, "now")
		tat := rapid.Int64Range(0, 2*maxSpan).Draw(t, "tat")
		interval := rapid.Int64Range(1, maxSpan).Draw(t, "interval")
		burst := rapid.Int64Range(1, math.MaxInt64).Draw(t, "burst")
		cost := rapid.Int64Range(1, math.MaxInt64).Draw(t, "cost")
		d, next := decide(now, tat, interval, burst, cost)
		if d.remaining < 0 || d.remaining > burst || d.reset < 0 || d.retryAfter < 0 {
			t.Fatalf("%+v has a member out of range", d)
		}
		if !d.allowed && next != tat {
			t.Fatalf("denied, but tat moved from %d to %d", tat, next)
		}
		if d.allowed && (next <= max(now, tat) || next > now+maxSpan) {
			t.Fatalf("allowed with tat %d → %d at %d, want it later and at most maxSpan ahead", tat, next, now)
		}
	})
}

func TestRescaleIsExactAndRoundsUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		debt := rapid.Int64Range(0, 2*maxSpan).Draw(t, "debt")
		from := rapid.Int64Range(1, maxSpan).Draw(t, "from")
		to := rapid.Int64Range(1, maxSpan).Draw(t, "to")
		want := new(big.Int).Mul(big.NewInt(debt), big.NewInt(to))
		want.Add(want, big.NewInt(from-1)).Div(want, big.NewInt(from))
		if limit := big.NewInt(maxSpan); want.Cmp(limit) > 0 {
			want = limit
		}
		if got := rescale(debt, from, to); got != want.Int64() {
			t.Fatalf("rescale(%d, %d, %d) = %d, want %d", debt, from, to, got, want)
		}
	})
}
