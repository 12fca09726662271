// Package live owns what holds for all policy revisions at once at one sidecar:
// who it is bound to, which tokens are revoked, which agents and tenants are
// blocked, and how long ago control confirmed all that.
//
// What it has been told stays in force until it is told something else: without
// control nothing is forgotten, and after a while nothing is let pass.
//
// Data is safe for concurrent use. A check loads each part once.
package live

import (
	"sync/atomic"
	"time"

	"gatehouse/internal/request"
)

// Bounds of how old control's word may be.
const (
	GuardAfter = 5 * time.Minute  // then calls that administer or resolve are refused
	LostAfter  = 60 * time.Minute // then all are
)

// Binding says whom a sidecar serves. It is immutable.
type Binding struct {
	Workload *request.Principal // of requests without a token; nil for none
	Tenant   string             // the only one whose tokens are taken; "" for any
}

// State is one version of the live data. It is immutable; the zero value
// refuses nobody.
type State struct {
	Epoch     int64
	Subjects  map[string]int64 // by subject: tokens issued up to this second are refused
	Tokens    map[Token]struct{}
	Suspended map[string]struct{} // tenants
	Blocked   map[Agent]struct{}  // by id and by name
}

// Token names a token by its id, within a tenant or, with request.AnyTenant,
// whosever it is: who administers one tenant can't revoke another's.
type Token struct{ Tenant, ID string }

// Agent names an agent, by its id or its name.
type Agent struct{ Tenant, Name string }

// Refusal is why a principal is refused, as a rule and a reason for people.
type Refusal struct{ Rule, Reason string }

// The rules of this package.
const (
	RuleTokenRevoked    = "token_revoked"
	RuleTenantSuspended = "tenant_suspended"
	RuleAgentBlocked    = "agent_blocked"
	RuleStale           = "control_unheard"
)

// Refuse says whether p is refused. fromControl tells that its token is
// control's: only those can be revoked. A token that does not say when it was
// issued counts as issued before all.
func (s *State) Refuse(p *request.Principal, fromControl bool) (Refusal, bool) {
	if fromControl && s.revoked(p) {
		return Refusal{RuleTokenRevoked, "the token is revoked"}, true
	}
	if _, ok := s.Suspended[p.Tenant]; ok {
		return Refusal{RuleTenantSuspended, "the tenant is suspended"}, true
	}
	if p.Agent == "" {
		return Refusal{}, false
	}
	if _, ok := s.Blocked[Agent{p.Tenant, p.Agent}]; ok {
		return Refusal{RuleAgentBlocked, "the agent is blocked"}, true
	}
	return Refusal{}, false
}

func (s *State) revoked(p *request.Principal) bool {
	if before, ok := s.Subjects[p.Subject]; ok && (p.Issued.IsZero() || p.Issued.Unix() <= before) {
		return true
	}
	if p.TokenID == "" || len(s.Tokens) == 0 {
		return false
	}
	_, own := s.Tokens[Token{p.Tenant, p.TokenID}]
	_, everywhere := s.Tokens[Token{request.AnyTenant, p.TokenID}]
	return own || everywhere
}

// Data is the live data of one sidecar. Make it with New.
type Data struct {
	managed bool             // by control
	clock   func() time.Time // with monotonic readings; never set right by others
	state   atomic.Pointer[State]
	binding atomic.Pointer[Binding]
	contact atomic.Pointer[time.Time]
}

// New makes the data of a sidecar that is bound as b says. One that is managed
// by control grows stale without it, by clock; any other never does.
func New(b Binding, managed bool, clock func() time.Time) *Data {
	d := &Data{managed: managed, clock: clock}
	d.state.Store(&State{})
	d.binding.Store(&b)
	return d
}

// State returns the version in force.
func (d *Data) State() *State { return d.state.Load() }

// Binding returns the binding in force.
func (d *Data) Binding() *Binding { return d.binding.Load() }

// SetState puts another version in force.
func (d *Data) SetState(s *State) { d.state.Store(s) }

// Bind puts another binding in force.
func (d *Data) Bind(b Binding) { d.binding.Store(&b) }

// Confirm notes that at t control said that all of this is so. With a monotonic
// reading in t the wall clock has no part in what follows.
func (d *Data) Confirm(t time.Time) { d.contact.Store(&t) }

// Confirmed is when control last did; the zero time for never.
func (d *Data) Confirmed() time.Time {
	if t := d.contact.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// Guarded reports whether calls that administer or resolve are refused now, and
// Lost whether all are. A confirmation that lies in the future is none: the
// clock went back while nobody looked.
func (d *Data) Guarded() bool { return d.olderThan(GuardAfter) }

// Lost reports whether all calls are refused now. See Guarded.
func (d *Data) Lost() bool { return d.olderThan(LostAfter) }

// future is how far ahead a confirmation may lie: a reading of the clock just
// before it was taken.
const future = time.Minute

func (d *Data) olderThan(limit time.Duration) bool {
	if !d.managed {
		return false
	}
	t := d.contact.Load()
	if t == nil {
		return true
	}
	age := d.clock().Sub(*t)
	return age > limit || age < -future
}
