package ratelimit

import (
	"math/bits"
	"time"
)

// maxSpan caps every span of time in a decision, about 73 years. The clock of
// a limiter stays below it too, so a sum of the two can't overflow.
const maxSpan = int64(1) << 61

// decision is the answer of one limit.
type decision struct {
	allowed    bool
	remaining  int64         // units that could be taken now, after this answer
	reset      time.Duration // until the whole burst is free again
	retryAfter time.Duration // until the cost fits; 0 when allowed, reset when it never will
}

// decide is the generic cell rate algorithm (ITU-T I.371, virtual scheduling):
// a counter is one instant, the theoretical arrival time tat. What lies between
// now and tat is debt, each unit costs interval nanoseconds, and the debt may
// not pass burst × interval. It returns the new tat, which is the old one when
// the request is denied, so a denial consumes nothing.
//
// now and tat lie in 0..2×maxSpan; interval, burst and cost are at least 1.
func decide(now, tat, interval, burst, cost int64) (decision, int64) {
	capacity, need := span(interval, burst), span(interval, cost)
	debt := max(tat-now, 0)
	if cost > burst {
		return decision{remaining: room(capacity, debt, interval), reset: time.Duration(debt), retryAfter: time.Duration(debt)}, tat
	}
	// INVARIANT: cost ≤ burst gives need ≤ capacity, also where both are capped.
	if over := debt - (capacity - need); over > 0 {
		return decision{remaining: room(capacity, debt, interval), reset: time.Duration(debt), retryAfter: time.Duration(over)}, tat
	}
	debt += need
	return decision{allowed: true, remaining: room(capacity, debt, interval), reset: time.Duration(debt)}, now + debt
}

// room is how many units fit beside debt.
func room(capacity, debt, interval int64) int64 {
	return max(capacity-debt, 0) / interval
}

// span is interval × units, capped at maxSpan.
func span(interval, units int64) int64 {
	hi, lo := bits.Mul64(uint64(interval), uint64(units))
	if hi != 0 || lo > uint64(maxSpan) {
		return maxSpan
	}
	return int64(lo)
}

// interval is the time that one unit costs. It is rounded up, so that the
// rate is never above count per per.
func interval(count int, per time.Duration) int64 {
	n := int64(per) / int64(count)
	if int64(per)%int64(count) != 0 {
		n++
	}
	return min(max(n, 1), maxSpan)
}

// rescale turns debt at one interval into debt of as many units at another,
// rounded up and capped at maxSpan.
func rescale(debt, from, to int64) int64 {
	hi, lo := bits.Mul64(uint64(debt), uint64(to))
	if hi >= uint64(from) {
		return maxSpan
	}
	q, r := bits.Div64(hi, lo, uint64(from))
	if r != 0 {
		q++
	}
	if q > uint64(maxSpan) {
		return maxSpan
	}
	return int64(q)
}
