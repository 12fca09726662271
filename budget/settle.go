package budget

import "fmt"

// Action is a second word about a hold.
type Action string

// The actions.
const (
	Commit  Action = "commit"  // Tokens were used
	Release Action = "release" // none were used
	TopUp   Action = "top_up"  // hold Tokens in all; never fewer than before
)

// Settlement is a second word, and whose it is.
type Settlement struct {
	Key
	Action
	Tokens  int64 // 0 to MaxTokens; 0 for a release
	Flagged bool  // reported far below what was visible

	Sidecar string // UUID; that of an inline hold
	Project string // an API caller's own; "" for one who may see all of the tenant's
}

// Check returns ErrInvalid if nothing can be done with a settlement.
func (s Settlement) Check() error {
	switch {
	case s.Key.Check() != nil:
		return s.Key.Check()
	case s.Action != Commit && s.Action != Release && s.Action != TopUp:
		return fmt.Errorf("%w: no such action", ErrInvalid)
	case s.Tokens < 0 || s.Tokens > MaxTokens || (s.Action == Release && s.Tokens != 0) || (s.Action == TopUp && s.Tokens == 0):
		return fmt.Errorf("%w: the tokens don't fit the action", ErrInvalid)
	case (s.Origin == Inline) != IsID(s.Sidecar) || (s.Origin == API && s.Sidecar != ""):
		return fmt.Errorf("%w: an inline hold, and no other, is settled by its sidecar", ErrInvalid)
	case !storable(s.Project, 63):
		return fmt.Errorf("%w: no name of a project", ErrInvalid)
	}
	return nil
}

// Outcome is what became of a settlement. Those of other names than Done and
// NoRoom will not change, however often it is sent.
type Outcome string

// The outcomes.
const (
	Done             Outcome = "done"
	NoRoom           Outcome = "no_room" // of a top-up: it holds what it held
	AlreadyCommitted Outcome = "already_committed"
	AlreadyReleased  Outcome = "already_released"
	AlreadyExpired   Outcome = "expired"
	NeverHeld        Outcome = "denied"
	NotFound         Outcome = "not_found" // or not the caller's
)

// Result is the ledger's answer to a Settlement. Request is as it is afterwards,
// empty if it was not found.
type Result struct {
	Outcome
	Replayed bool // the request was settled in this very way before
	Request
}

// Repeats reports whether a settlement says of a settled request what was said
// before, so that its sender need not worry.
func Repeats(s Settlement, o Outcome, r Request) bool {
	switch o {
	case AlreadyCommitted:
		return s.Action == Commit && s.Tokens == r.Actual
	case AlreadyReleased:
		return s.Action == Release
	}
	return false
}

// Kind is what a line of the journal is about.
type Kind string

// The kinds.
const (
	KindReserve Kind = "reserve"
	KindTopUp   Kind = "top_up"
	KindCommit  Kind = "commit"
	KindRelease Kind = "release"
	KindExpire  Kind = "expire"
	KindCorrect Kind = "correct" // of an expired_charged one, by its late settlement
	KindLimit   Kind = "limit"
	KindClose   Kind = "close"
)

// Step is what an action does to a request and to each row that it is held in.
// A Step with any Outcome but Done does nothing.
type Step struct {
	Outcome
	Kind
	To   State
	Late bool
	Grow int64 // of a top-up: to hold in each row, if all have the room
	Effect
}

// Resolve says what an action does to a request that is there and the sender's.
func Resolve(r Request, a Action, tokens int64) Step {
	switch a {
	case Commit:
		return commit(r, tokens)
	case Release:
		return release(r)
	case TopUp:
		return topUp(r, tokens)
	}
	return Step{Outcome: NotFound}
}

// ResolveExpiry says what happens to a request whose time is over, or whose
// sidecar is gone. Whoever holds for the API has not used anything that we know
// of; what a sidecar sent upstream may have been billed in full.
func ResolveExpiry(r Request) Step {
	switch {
	case r.State != Reserved:
		return closed(r.State)
	case r.Origin == API:
		return Step{Outcome: Done, Kind: KindExpire, To: Expired, Effect: Effect{Free: r.Reserved}}
	}
	return Step{Outcome: Done, Kind: KindExpire, To: ExpiredCharged, Effect: Effect{Free: r.Reserved, Charge: r.Reserved}}
}

func commit(r Request, actual int64) Step {
	excess := max(0, actual-r.Reserved)
	switch r.State {
	case Reserved:
		return Step{Outcome: Done, Kind: KindCommit, To: Committed,
			Effect: Effect{Free: r.Reserved, Charge: min(actual, r.Reserved), Excess: excess}}
	case Expired:
		return Step{Outcome: Done, Kind: KindCommit, To: Committed, Late: true, Effect: Effect{Excess: actual}}
	case ExpiredCharged:
		return Step{Outcome: Done, Kind: KindCorrect, To: Committed, Late: true,
			Effect: Effect{Refund: max(0, r.Reserved-actual), Excess: excess}}
	}
	return closed(r.State)
}

func release(r Request) Step {
	switch r.State {
	case Reserved:
		return Step{Outcome: Done, Kind: KindRelease, To: Released, Effect: Effect{Free: r.Reserved}}
	case ExpiredCharged:
		return Step{Outcome: Done, Kind: KindCorrect, To: Released, Late: true, Effect: Effect{Refund: r.Reserved}}
	}
	return closed(r.State)
}

// topUp names the new total, so that one that is repeated, or overtaken, does
// nothing more.
func topUp(r Request, total int64) Step {
	if r.State != Reserved {
		return closed(r.State)
	}
	return Step{Outcome: Done, Kind: KindTopUp, To: Reserved, Grow: max(0, total-r.Reserved)}
}

// closed is the answer to an action on a request that is past it.
func closed(s State) Step {
	switch s {
	case Committed:
		return Step{Outcome: AlreadyCommitted}
	case Released, Void:
		return Step{Outcome: AlreadyReleased}
	case Expired, ExpiredCharged:
		return Step{Outcome: AlreadyExpired}
	case Denied:
		return Step{Outcome: NeverHeld}
	}
	return Step{Outcome: NotFound}
}
