package extauthz

import (
	"crypto/rand"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/request"
	"gatehouse/policies"
)

// Event is what became of one check. It holds no header value, token or body.
type Event struct {
	Start      time.Time
	Duration   time.Duration
	DecisionID string
	RequestID  string
	Revision   string
	Route      string
	Listener   string
	Method     string
	Path       string // as decided on, without the query
	Mode       config.Mode
	Principal  request.Principal
	Permission string
	Limits     []config.Limit // of the route

	Allowed bool
	Refusal *Refusal   // why it was refused; nil when allowed
	Would   []*Refusal // what observe let pass
	Rule    string     // the policy rule that decided, "" where policy was not asked
	Reason  string
	Cached  bool   // the policy's decision came from its cache
	Token   string // outcome of the token's verification; "" where there was none
}

// Class says which check refused.
type Class string

// The classes of refusals.
const (
	ClassHygiene  Class = "hygiene"
	ClassIdentity Class = "identity"
	ClassMethod   Class = "method"
	ClassPolicy   Class = "policy"
	ClassLimit    Class = "limit"
	ClassConflict Class = "conflict" // the idempotency key is in flight
	ClassBreaker  Class = "breaker"  // the upstream is left alone
	ClassUnknown  Class = "unavailable"
	ClassFault    Class = "fault"
)

// Refusal is why a request may not pass.
type Refusal struct {
	Class  Class
	Rule   string // stable id
	Reason string // for people; shown only where the policy set says so
	Cause  error  // for the log only

	err      *apierr.Error
	headers  []policies.Header // of the answer
	body     string            // a policy's own answer instead of ours
	hygiene  bool              // refused in observe, too
	explains bool              // details carry the decision's id, and the reason where allowed
}

// Code is the error code that the caller sees.
func (r *Refusal) Code() string {
	if r.err == nil {
		return string(apierr.Internal)
	}
	return string(r.err.Code())
}

// malformed refuses what no policy should have to look at.
func malformed(rule, reason string) *Refusal {
	return &Refusal{Class: ClassHygiene, Rule: rule, Reason: reason, hygiene: true,
		err: apierr.New(apierr.ValidationMalformed, apierr.Options{Message: reason})}
}

// unavailable refuses because this process can't decide.
func unavailable(rule, reason string) *Refusal {
	return &Refusal{Class: ClassUnknown, Rule: rule, Reason: reason, hygiene: true,
		err: apierr.New(apierr.PolicyUnavailable, apierr.Options{Details: []apierr.Detail{apierr.Bool("retryable", true)}})}
}

func newDecisionID() string { return rand.Text() }
