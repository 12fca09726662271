package account

import "time"

// AgentStatus is where an agent stands.
type AgentStatus string

// The states of agents.
const (
	AgentActive  AgentStatus = "active"
	AgentBlocked AgentStatus = "blocked" // all that it does is refused
	AgentRetired AgentStatus = "retired" // for good
)

// Agent is a program that acts for a tenant, as tokens and sidecars name it.
type Agent struct {
	ID            string // UUID
	Tenant        string
	Project       string // "" for all of the tenant's
	Name          string // unique in its tenant
	Role          string // what it does; no role of callers
	Status        AgentStatus
	BlockedAt     time.Time // zero unless Status is blocked
	BlockedReason string
	Metadata      map[string]any
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Version       int64
}

// GovernanceRule is what agents of a role may learn, and where they stand. It
// counts over all tenants.
type GovernanceRule struct {
	AgentRole        string
	DailyLimit       int64 // updates in any 24 hours
	Cooldown         time.Duration
	RequiresApproval bool
	Locked           bool
	LockedReason     string
	UpdatesToday     int64
	RemainingToday   int64
	LastUpdateAt     time.Time // zero before the first
	NextUpdateAt     time.Time // likewise
	Pending          int64
	Refusal          string // why an update is refused now, approval aside; "" for no reason
	CanAutoUpdate    bool
}

// Revocation refuses tokens before they expire: one, or those of a subject that
// were issued up to a moment.
type Revocation struct {
	Tenant       string // request.AnyTenant for those of no single one
	Subject      string // "" unless it is of a subject
	TokenID      string // "" unless it is of a token
	IssuedBefore time.Time
	Reason       string
	ExpiresAt    time.Time // when all that it refuses has expired
}
