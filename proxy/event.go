package proxy

import (
	"time"

	"gatehouse/internal/request"
	"gatehouse/proxy/llm"
	"gatehouse/proxy/sanitize"
)

// Class says which step refused an exchange. It is a closed set.
type Class string

// The classes of refusals.
const (
	ClassFault    Class = "fault"    // of Envoy's configuration, or of ours
	ClassRequest  Class = "request"  // what the request says is not acceptable; where it can't be read, in observe too
	ClassModel    Class = "model"    // the model is not allowed
	ClassPolicy   Class = "policy"   // the policy's second answer
	ClassBudget   Class = "budget"   // no budget, or none that can be asked
	ClassConflict Class = "conflict" // the idempotency key is in flight
	ClassBreaker  Class = "breaker"  // the upstream is left alone
	ClassAnswer   Class = "answer"   // the answer can't be read, or is blocked
	ClassSchema   Class = "schema"   // the answer is not of the structure that the route names
	ClassCut      Class = "cut"      // the principal was revoked, the time is over, the budget ran out
)

// Refusal is what an exchange was refused or cut for.
type Refusal struct {
	Class  Class
	Rule   string
	Reason string // for people
	Code   string // error code
	Cause  error  // for the log; may be nil
}

// Outcome is how an exchange ended. It is a closed set.
type Outcome string

// The outcomes.
const (
	Complete  Outcome = "complete"  // the answer was passed on to its end
	Broken    Outcome = "broken"    // client or upstream left before
	Refused   Outcome = "refused"   // before anything went upstream
	Cut       Outcome = "cut"       // the answer was ended, or replaced, by us
	ErrorSent Outcome = "error"     // the provider's own error
	Local     Outcome = "local"     // Envoy answered itself
	Unreached Outcome = "unreached" // nothing went upstream
	Free      Outcome = "free"      // nothing to pay
	Foreign   Outcome = "foreign"   // no exchange at all: Envoy's or Check's own reply passed through
)

// Event is what became of one exchange.
type Event struct {
	Start      time.Time
	Duration   time.Duration
	FirstEvent time.Duration // until the answer's first byte was passed on; 0 where none was
	RequestID  string
	DecisionID string // of this exchange
	CheckID    string // of Check's decision before it
	Revision   string
	Route      string
	Listener   string
	Mode       string
	Principal  request.Principal
	Model      string
	Streamed   bool

	Outcome Outcome
	Refusal *Refusal   // nil without
	Would   []*Refusal // what mode observe let pass

	Held     int64 // tokens
	Charged  int64 // tokens; 0 where the hold was released
	Settled  string
	Flagged  bool
	Usage    llm.Usage
	Findings []sanitize.Finding // at most maxFindings
	Found    int                // of them all
}

// maxFindings is how many findings of an exchange are kept.
const maxFindings = 32

func (e *Event) found(fs []sanitize.Finding) {
	e.Found += len(fs)
	if room := maxFindings - len(e.Findings); room > 0 {
		e.Findings = append(e.Findings, fs[:min(room, len(fs))]...)
	}
}
