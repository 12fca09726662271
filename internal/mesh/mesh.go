// Package mesh holds the nouns of the mesh that the parts of control share:
// registered sidecars, what they report, live data, policy sets with their
// revisions and activations, and decision records. It decides nothing.
package mesh

import (
	"errors"
	"time"

	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

// Bounds that more than one part keeps to.
const (
	MaxRecords     = 512      // of one batch
	MaxRecordBytes = 64 << 10 // of one decision record
	MaxReason      = 2000     // bytes of why a revision was refused
	MaxRateAsks    = 16       // of one request
)

// ErrUnknown says that a credential is no active sidecar's.
var ErrUnknown = errors.New("the credential is unknown or revoked")

// Sidecar is a registered sidecar. Its workload is the principal of requests
// that carry no token, and Tenant the only one whose tokens it takes, unless
// Shared.
type Sidecar struct {
	ID        string
	Tenant    string
	Project   string // "" for none
	Agent     string // id of a registered agent; "" for none
	Name      string
	Role      request.Role
	Shared    bool
	PolicySet string
	Revoked   bool
	Version   int64 // of the registration; what is reported does not raise it
	CreatedAt time.Time
	UpdatedAt time.Time
	Last      Report // the zero value before the first
}

// Report is what a sidecar said of itself last.
type Report struct {
	At          time.Time // by control's clock
	Incarnation int64     // Unix nanoseconds of its process's start, by its own clock
	Generation  int64     // of the activation in force there, 0 for none
	Revision    string
	LiveEpoch   int64
	Skew        time.Duration // how far its clock is ahead
	Build       string
	Refused     Refusal // the zero value where nothing is refused
}

// Refusal is an activation that a sidecar, or its Envoy, did not take.
type Refusal struct {
	Generation int64
	Revision   string
	Reason     string // at most MaxReason bytes
	At         time.Time
}

// Live is what holds for all revisions at once, as of Epoch.
type Live struct {
	Epoch     int64
	Subjects  []RevokedSubject
	Tokens    []RevokedToken
	Suspended []string // tenants
	Blocked   []BlockedAgent
}

// RevokedSubject refuses a subject's tokens that were issued up to a second.
type RevokedSubject struct {
	Tenant       string
	Subject      string
	IssuedBefore int64 // Unix seconds; a token of this second is refused
}

// RevokedToken refuses one token.
type RevokedToken struct {
	Tenant  string
	TokenID string
}

// BlockedAgent refuses all that an agent does.
type BlockedAgent struct{ Tenant, ID, Name string }

// PolicySet is a named policy set and what is in force of it.
type PolicySet struct {
	Name      string
	Active    *revision.Activation // nil before the first
	ActiveAt  time.Time
	CreatedAt time.Time
	Version   int64
	Sidecars  int64 // registered and not revoked
	InForce   int64 // of these, how many reported the active generation
}

// Revision is one pushed revision of a policy set.
type Revision struct {
	PolicySet string
	ID        string
	Note      string
	PushedBy  string
	PushedAt  time.Time
	Active    bool
	Files     revision.Files // nil in lists
}

// Activated is an activation, its signature and the bundle it puts in force.
type Activated struct {
	revision.Signed
	Bundle []byte
}

// Decision is a stored decision record.
type Decision struct {
	ID        string
	Tenant    string
	SidecarID string
	At        time.Time // by the sidecar's clock; not much later than it was stored
	Record    []byte    // the JSON object that the sidecar sent
	Cursor    string    // its place in the order in which records were stored
}

// DecisionFilter selects decision records; "" and nil select all.
type DecisionFilter struct {
	Allowed *bool
	Subject string
	Route   string
	RuleID  string
	Sidecar string // id
}
