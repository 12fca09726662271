package auth

import (
	"errors"
	"time"
)

// Bounds of a Rule.
const (
	maxMaxFailures = 100
	maxLockout     = 24 * time.Hour
)

// PendingLife is how long a reserved attempt can be open: longer than a login
// lasts. After it the process that reserved it is taken for dead.
const PendingLife = time.Minute

// pendingWait is what a caller is told to wait whose account has as many
// attempts open as it has left.
const pendingWait = time.Second

// Rule says when failures lock an account: MaxFailures of them within Window
// lock it for Lockout. Attempts whose outcome is open count as failures, so that
// no number of parallel guesses evaluates more than MaxFailures passwords.
type Rule struct {
	MaxFailures int           // 1 to 100; LOGIN_MAX_ATTEMPTS
	Window      time.Duration // 1 s to 24 h
	Lockout     time.Duration // 1 s to 24 h; LOGIN_LOCKOUT_TTL_SECONDS
}

// DefaultRule is 5 failures within 900 s, which lock for 900 s.
func DefaultRule() Rule {
	return Rule{MaxFailures: 5, Window: 900 * time.Second, Lockout: 900 * time.Second}
}

func (r Rule) validate() error {
	ok := func(d time.Duration) bool { return d >= time.Second && d <= maxLockout }
	if r.MaxFailures < 1 || r.MaxFailures > maxMaxFailures || !ok(r.Window) || !ok(r.Lockout) {
		return errors.New("lock-out: 1 to 100 failures, window and lock of 1 s to 24 h")
	}
	return nil
}

// Attempts is what is known of an account's logins. The zero value is that of an
// account without any.
type Attempts struct {
	Failed       []time.Time // at most MaxFailures, those that may still count
	Pending      int         // attempts whose outcome is open
	PendingUntil time.Time   // after it Pending counts for nothing
	LockedUntil  time.Time
}

// Admit says whether one more attempt may be made, and if not, how long to wait:
// always more than zero then. It is the rule; the store's statement that
// reserves an attempt says the same in SQL.
func (r Rule) Admit(a Attempts, now time.Time) (wait time.Duration, ok bool) {
	if now.Before(a.LockedUntil) {
		return a.LockedUntil.Sub(now), false
	}
	pending := 0
	if now.Before(a.PendingUntil) {
		pending = a.Pending
	}
	oldest, counted := r.counted(a.Failed, now)
	switch {
	case counted+pending < r.MaxFailures:
		return 0, true
	case pending > 0:
		return pendingWait, false
	}
	return oldest.Add(r.Window).Sub(now), false
}

// counted returns how many failures lie within the window, and the oldest.
func (r Rule) counted(failed []time.Time, now time.Time) (oldest time.Time, n int) {
	for _, at := range failed {
		if !at.After(now.Add(-r.Window)) {
			continue
		}
		if n == 0 || at.Before(oldest) {
			oldest = at
		}
		n++
	}
	return oldest, n
}
