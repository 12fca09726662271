package auth

import (
	"testing"
	"time"
)

func TestAdmit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d ...time.Duration) (at []time.Time) {
		for _, d := range d {
			at = append(at, now.Add(-d))
		}
		return at
	}
	r := Rule{MaxFailures: 3, Window: 10 * time.Minute, Lockout: time.Hour}
	for _, tt := range []struct {
		name string
		a    Attempts
		wait time.Duration // 0: admitted
	}{
		{"nothing known", Attempts{}, 0},
		{"one left", Attempts{Failed: ago(0, time.Minute)}, 0},
		{"all used", Attempts{Failed: ago(time.Minute, 9*time.Minute, 2*time.Minute)}, time.Minute},
		{"one is over now", Attempts{Failed: ago(time.Minute, 10*time.Minute, 2*time.Minute)}, 0},
		{"one is over in a moment", Attempts{Failed: ago(time.Minute, 10*time.Minute-time.Microsecond, 2*time.Minute)}, time.Microsecond},
		{"open ones count", Attempts{Failed: ago(0), Pending: 2, PendingUntil: now.Add(time.Second)}, pendingWait},
		{"open ones leave one", Attempts{Failed: ago(0), Pending: 1, PendingUntil: now.Add(time.Second)}, 0},
		{"open ones of a dead process", Attempts{Failed: ago(0), Pending: 2, PendingUntil: now}, 0},
		{"locked", Attempts{LockedUntil: now.Add(time.Second)}, time.Second},
		{"locked until now", Attempts{LockedUntil: now}, 0},
		{"locked, with everything else free", Attempts{LockedUntil: now.Add(time.Hour)}, time.Hour},
	} {
		wait, ok := r.Admit(tt.a, now)
		if wait != tt.wait || ok != (tt.wait == 0) {
			t.Errorf("%s: got %v and %v, want a wait of %v", tt.name, wait, ok, tt.wait)
		}
	}
}

func TestRuleIsBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Rule)
		ok     bool
	}{
		"default":      {func(*Rule) {}, true},
		"no failures":  {func(r *Rule) { r.MaxFailures = 0 }, false},
		"too many":     {func(r *Rule) { r.MaxFailures = 101 }, false},
		"no window":    {func(r *Rule) { r.Window = 0 }, false},
		"long window":  {func(r *Rule) { r.Window = 25 * time.Hour }, false},
		"short lock":   {func(r *Rule) { r.Lockout = time.Millisecond }, false},
		"longest lock": {func(r *Rule) { r.Lockout = 24 * time.Hour }, true},
	} {
		r := DefaultRule()
		tt.change(&r)
		if err := r.validate(); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", name, err, tt.ok)
		}
	}
	if r := DefaultRule(); r != (Rule{5, 900 * time.Second, 900 * time.Second}) {
		t.Errorf("default is %+v", r)
	}
}
