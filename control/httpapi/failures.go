package httpapi

import (
	"sync"
	"time"
)

// Bounds of what failed logins can make the service keep.
const (
	maxAddresses  = 100_000
	failureWindow = time.Minute
	sweepStep     = 64 // addresses looked at when there is no room
)

// failures counts refused credentials by address. Only failures count, and an
// attempt whose end is not known yet counts as one: parallel guesses can't
// pass the limit together.
//
// It is safe for concurrent use: one mutex, no I/O inside.
type failures struct {
	limit int
	max   int // addresses; maxAddresses but in tests

	mu sync.Mutex // guards the map and what it holds
	by map[string]*attempts
}

// attempts are those of one address in one window.
type attempts struct {
	since  time.Time
	failed int
	open   int // begun, not ended
}

func newFailures(limit int) *failures {
	return &failures{limit: limit, max: maxAddresses, by: make(map[string]*attempts)}
}

// begin reports whether one more attempt may be made, and if not, how long to
// wait. Where it may, end must follow.
func (f *failures) begin(now time.Time, from string) (bool, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.attemptsLocked(now, from)
	if t == nil {
		return false, time.Second
	}
	if t.failed+t.open >= f.limit {
		return false, max(t.since.Add(failureWindow).Sub(now), time.Second)
	}
	t.open++
	return true, 0
}

// end tells what became of an attempt.
func (f *failures) end(from string, failed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.by[from]
	t.open--
	if failed {
		t.failed++
	}
}

// attemptsLocked finds or makes those of an address; nil means no room.
func (f *failures) attemptsLocked(now time.Time, from string) *attempts {
	t := f.by[from]
	if t == nil {
		if len(f.by) >= f.max {
			f.sweepLocked(now)
		}
		if len(f.by) >= f.max {
			return nil
		}
		t = &attempts{since: now}
		f.by[from] = t
	}
	if t.over(now) {
		t.since, t.failed = now, 0
	}
	return t
}

// sweepLocked drops some addresses that have nothing to say any more.
// INVARIANT: one with an open attempt stays, because end will look for it.
func (f *failures) sweepLocked(now time.Time) {
	looked := 0
	for from, t := range f.by {
		if t.open == 0 && t.over(now) {
			delete(f.by, from)
		}
		if looked++; looked >= sweepStep {
			return
		}
	}
}

// over reports whether the window is past; a clock that went back by more than
// a window begins a new one, too.
func (t *attempts) over(now time.Time) bool {
	age := now.Sub(t.since)
	return age >= failureWindow || age <= -failureWindow
}
