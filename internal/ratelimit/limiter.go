// Package ratelimit owns limits that one sidecar counts for itself: a pure
// decision (GCRA) and the Limiter, which keeps the counters in memory. Of the
// limits that the mesh counts it owns the bounds.
//
// It refuses to guess: a rate or burst below one, a full table and a cost above
// the burst deny. A request passes all of its limits or consumes nothing, so
// adding a limit never admits a request that would have been denied. Memory is
// bounded by MaxKeys and MaxRules; live counters are never evicted, because an
// evicted counter would be a fresh burst for whoever can fill the table.
//
// A Limiter is safe for concurrent use: one mutex guards it, held for well
// under a microsecond, with no I/O inside.
package ratelimit

import (
	"slices"
	"strconv"
	"sync"
	"time"
)

// Ask is one limit that a request has to pass.
type Ask struct {
	Rule  string        // name of the limit
	Key   string        // whose counter, made by Key
	Count int           // units per Per, at least 1
	Per   time.Duration // above 0
	Burst int           // units at once, at least 1
	Cost  int           // units of this request; 0 means 1
}

// invalid reports whether the ask is out of range, which denies.
func (a *Ask) invalid() bool { return a.Count < 1 || a.Per <= 0 || a.Burst < 1 || a.Cost < 0 }

// Result is the answer to one request, and the state of the limit that binds
// it: of those that deny the one that takes longest, else the one with the
// least remaining.
type Result struct {
	Allowed    bool
	Full       bool   // denied because there is no room for a new counter
	Limit      string // name of the binding limit; "" when none was asked
	Count      int    // its rate
	Per        time.Duration
	Burst      int
	Remaining  int           // units that could be taken at once now
	Reset      time.Duration // until the whole burst is free again
	RetryAfter time.Duration // until the request could pass; 0 when allowed
}

// unknownRetry is the advice where the wait can't be known: no room for a
// counter, or an ask that is out of range.
const unknownRetry = time.Second

// Limiter keeps counters in memory. Make it with New.
type Limiter struct {
	maxKeys int // per rule; MaxKeys but in tests

	mu     sync.Mutex // guards all below
	start  time.Time  // the first now; time counts from there
	now    int64      // nanoseconds since start, never falling
	tables map[string]*table
}

// New returns a limiter without counters.
func New() *Limiter {
	return &Limiter{maxKeys: MaxKeys, tables: make(map[string]*table)}
}

// Take decides a request at now by all of asks and consumes their costs if it
// passes every one. A now before an earlier one counts as that one. No asks
// means allowed.
func (l *Limiter) Take(now time.Time, asks []Ask) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.clockLocked(now)
	var few [8]undo
	done := few[:0]
	res := Result{Allowed: true}
	for i := range asks {
		r, u := l.takeLocked(at, &asks[i])
		if u.counter != nil {
			done = append(done, u)
		}
		if i == 0 || binds(&r, &res) {
			res = r
		}
	}
	if !res.Allowed {
		rollback(done)
	}
	return res
}

// Keys returns the number of counters held.
func (l *Limiter) Keys() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, t := range l.tables {
		n += len(t.ring)
	}
	return n
}

// clockLocked moves the limiter's time to now, never back: a clock that jumps
// back would else stretch debts, and one that jumps to and fro refill them.
func (l *Limiter) clockLocked(now time.Time) int64 {
	if l.start.IsZero() {
		l.start = now
	}
	l.now = min(max(l.now, int64(now.Sub(l.start))), maxSpan)
	return l.now
}

// undo is what a counter held before a cost was taken from it; its counter is
// nil when nothing was.
type undo struct {
	counter  *counter
	tat      int64
	interval int64
}

// rollback gives back what the limits before and after a denial have taken,
// the last first, so that a counter asked twice ends where it began.
func rollback(done []undo) {
	for _, u := range slices.Backward(done) {
		u.counter.tat, u.counter.interval = u.tat, u.interval
	}
}

// takeLocked decides one limit and takes its cost at once, so that a second
// ask of the same counter sees it.
func (l *Limiter) takeLocked(at int64, a *Ask) (Result, undo) {
	r := Result{Limit: a.Rule, Count: a.Count, Per: a.Per, Burst: a.Burst, RetryAfter: unknownRetry, Reset: unknownRetry}
	if a.invalid() {
		return r, undo{}
	}
	t, c := l.counterLocked(at, a)
	if c == nil {
		r.Full = true
		return r, undo{}
	}
	step := interval(a.Count, a.Per)
	tat := c.tatFor(at, step, span(step, int64(a.Burst)))
	d, next := decide(at, tat, step, int64(a.Burst), int64(max(a.Cost, 1)))
	r.Allowed, r.Remaining, r.Reset, r.RetryAfter = d.allowed, int(d.remaining), d.reset, d.retryAfter
	if !d.allowed {
		return r, undo{}
	}
	before := undo{counter: c, tat: c.tat, interval: c.interval}
	t.store(c, next, step)
	return r, before
}

// counterLocked finds or makes the counter of a; nil means no room.
func (l *Limiter) counterLocked(at int64, a *Ask) (*table, *counter) {
	t := l.tableLocked(at, a.Rule)
	if t == nil {
		return nil, nil
	}
	return t, t.counter(at, a.Key, l.maxKeys)
}

// tableLocked finds or makes the table of rule; nil means no room. A new rule
// is rare, so that is when tables of rules without debt are let go.
func (l *Limiter) tableLocked(at int64, rule string) *table {
	if t, ok := l.tables[rule]; ok {
		return t
	}
	for name, t := range l.tables {
		if t.latest < at {
			delete(l.tables, name)
		}
	}
	if len(l.tables) >= MaxRules {
		return nil
	}
	t := newTable()
	t.latest = at
	l.tables[rule] = t
	return t
}

// binds reports whether a binds a request more than b: any denial before any
// allowance, then the longer wait, then the smaller remainder.
func binds(a, b *Result) bool {
	if a.Allowed != b.Allowed {
		return b.Allowed
	}
	if a.RetryAfter != b.RetryAfter {
		return a.RetryAfter > b.RetryAfter
	}
	return a.Remaining < b.Remaining
}

// Binding is the one of two results on the same request that binds it, by the
// rule that Result names. One that asked no limit never binds.
func Binding(a, b Result) Result {
	if a.Limit == "" || (b.Limit != "" && binds(&b, &a)) {
		return b
	}
	return a
}

// Key joins the parts of a counter's key, the limit's name first. Each part is
// preceded by its length, so that no part can pose as two.
func Key(parts ...string) string {
	n := 0
	for _, p := range parts {
		n += len(p) + 4
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = strconv.AppendInt(b, int64(len(p)), 10)
		b = append(b, ':')
		b = append(b, p...)
	}
	return string(b)
}
