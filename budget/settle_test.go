package budget

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestResolve is the table of two-phase transfers, of a hold of 50.
func TestResolve(t *testing.T) {
	t.Parallel()
	done := func(k Kind, to State, late bool, e Effect) Step {
		return Step{Outcome: Done, Kind: k, To: to, Late: late, Effect: e}
	}
	no := func(o Outcome) Step { return Step{Outcome: o} }
	for _, tt := range []struct {
		state  State
		action Action
		tokens int64
		want   Step
	}{
		{Reserved, Commit, 0, done(KindCommit, Committed, false, Effect{Free: 50})},
		{Reserved, Commit, 30, done(KindCommit, Committed, false, Effect{Free: 50, Charge: 30})},
		{Reserved, Commit, 50, done(KindCommit, Committed, false, Effect{Free: 50, Charge: 50})},
		{Reserved, Commit, 70, done(KindCommit, Committed, false, Effect{Free: 50, Charge: 50, Excess: 20})},
		{Reserved, Release, 0, done(KindRelease, Released, false, Effect{Free: 50})},
		{Reserved, TopUp, 49, Step{Outcome: Done, Kind: KindTopUp, To: Reserved}},
		{Reserved, TopUp, 70, Step{Outcome: Done, Kind: KindTopUp, To: Reserved, Grow: 20}},
		{Expired, Commit, 30, done(KindCommit, Committed, true, Effect{Excess: 30})},
		{Expired, Release, 0, no(AlreadyExpired)},
		{Expired, TopUp, 70, no(AlreadyExpired)},
		{ExpiredCharged, Commit, 30, done(KindCorrect, Committed, true, Effect{Refund: 20})},
		{ExpiredCharged, Commit, 50, done(KindCorrect, Committed, true, Effect{})},
		{ExpiredCharged, Commit, 70, done(KindCorrect, Committed, true, Effect{Excess: 20})},
		{ExpiredCharged, Release, 0, done(KindCorrect, Released, true, Effect{Refund: 50})},
		{ExpiredCharged, TopUp, 70, no(AlreadyExpired)},
		{Committed, Commit, 30, no(AlreadyCommitted)},
		{Committed, Release, 0, no(AlreadyCommitted)},
		{Committed, TopUp, 70, no(AlreadyCommitted)},
		{Released, Commit, 30, no(AlreadyReleased)},
		{Released, Release, 0, no(AlreadyReleased)},
		{Released, TopUp, 70, no(AlreadyReleased)},
		{Void, Commit, 30, no(AlreadyReleased)},
		{Void, Release, 0, no(AlreadyReleased)},
		{Denied, Commit, 30, no(NeverHeld)},
		{Denied, Release, 0, no(NeverHeld)},
		{Denied, TopUp, 70, no(NeverHeld)},
		{Reserved, "expire", 0, no(NotFound)},
		{"", Commit, 1, no(NotFound)},
	} {
		got := Resolve(Request{State: tt.state, Reserved: 50}, tt.action, tt.tokens)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s of %d when %s (-want +got):\n%s", tt.action, tt.tokens, tt.state, diff)
		}
	}
}

func TestResolveExpiry(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		origin Origin
		state  State
		want   Step
	}{
		{API, Reserved, Step{Outcome: Done, Kind: KindExpire, To: Expired, Effect: Effect{Free: 50}}},
		{Inline, Reserved, Step{Outcome: Done, Kind: KindExpire, To: ExpiredCharged, Effect: Effect{Free: 50, Charge: 50}}},
		{API, Committed, Step{Outcome: AlreadyCommitted}},
		{Inline, Released, Step{Outcome: AlreadyReleased}},
		{Inline, ExpiredCharged, Step{Outcome: AlreadyExpired}},
	} {
		got := ResolveExpiry(Request{Key: Key{Origin: tt.origin}, State: tt.state, Reserved: 50})
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.origin, tt.state, diff)
		}
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		s    Settlement
		o    Outcome
		want bool
	}{
		{Settlement{Action: Commit, Tokens: 5}, AlreadyCommitted, true},
		{Settlement{Action: Commit, Tokens: 6}, AlreadyCommitted, false},
		{Settlement{Action: Release}, AlreadyCommitted, false},
		{Settlement{Action: TopUp, Tokens: 5}, AlreadyCommitted, false},
		{Settlement{Action: Release}, AlreadyReleased, true},
		{Settlement{Action: Commit, Tokens: 5}, AlreadyReleased, false},
		{Settlement{Action: Commit, Tokens: 5}, Done, false},
	} {
		if got := Repeats(tt.s, tt.o, Request{Actual: 5}); got != tt.want {
			t.Errorf("%+v, %s: got %v", tt.s, tt.o, got)
		}
	}
}

func TestFound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state  State
		same   bool
		want   Verdict
		again  bool
		reason Reason
	}{
		{Reserved, true, Held, true, ""},
		{Reserved, false, KeyReused, false, ""},
		{Denied, true, Refused, true, ReasonExhausted},
		{Denied, false, KeyReused, false, ""},
		{Void, false, Refused, false, ReasonReleased},
		{Void, true, Refused, false, ReasonReleased},
		{Committed, true, Settled, true, ""},
		{Released, true, Settled, true, ""},
		{Expired, true, Settled, true, ""},
		{ExpiredCharged, true, Settled, true, ""},
		{Committed, false, KeyReused, false, ""},
	} {
		r := Request{State: tt.state}
		if tt.state == Denied {
			r.Denial = &Denial{Reason: ReasonExhausted}
		}
		a := Found(r, tt.same)
		var reason Reason
		if a.Denial != nil {
			reason = a.Denial.Reason
		}
		if a.Verdict != tt.want || a.Replayed != tt.again || reason != tt.reason {
			t.Errorf("%s, same %v: got %+v", tt.state, tt.same, a)
		}
	}
}
