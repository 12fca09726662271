package ratelimit

import "time"

// Refund gives back at now what a Take of asks, allowed at taken, took: for a
// request that was refused after all.
//
// Nothing is created by it: what may have drained between the two instants
// stays used, and so does a cost whose rate has changed since. A refund at
// taken is exact. Only a Take that was allowed may be given back, once.
func (l *Limiter) Refund(taken, now time.Time, asks []Ask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.clockLocked(now)
	elapsed := at - min(max(int64(taken.Sub(l.start)), 0), at)
	for i := range asks {
		l.refundLocked(at, elapsed, &asks[i])
	}
}

// refundLocked takes one cost off the debt of its counter, if that is left.
//
// INVARIANT: without the Take, the counter would have idled, and so drained
// less, for at most elapsed. So the debt stays at or above what it would be.
func (l *Limiter) refundLocked(at, elapsed int64, a *Ask) {
	if a.invalid() {
		return
	}
	t, found := l.tables[a.Rule]
	if !found {
		return
	}
	c, found := t.counters[a.Key]
	step := interval(a.Count, a.Per)
	if !found || c.tat <= at || c.interval != step {
		return
	}
	give := max(span(step, int64(max(a.Cost, 1)))-elapsed, 0)
	c.tat = max(c.tat-give, at)
}
