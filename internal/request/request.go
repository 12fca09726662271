// Package request holds the nouns that both phases of a request share: who
// calls (Principal), with which role and permissions, and how a request is
// named. It decides nothing and imports nothing of the project.
package request

import "time"

// Kind says how a principal was established.
type Kind string

// The ways a caller can be known.
const (
	KindToken     Kind = "token"     // a verified token of a configured issuer
	KindWorkload  Kind = "workload"  // the sidecar's own registered workload
	KindAnonymous Kind = "anonymous" // nobody, where the route allows it
)

// AnyTenant is the tenant of principals that may cross tenants, together with
// the permission system.admin. It is a name, never a pattern.
const AnyTenant = "*"

// Principal is the caller of one request. It is a value: copy it freely.
type Principal struct {
	Kind    Kind
	Issuer  string // the issuer's configured name; "" unless Kind is token
	Subject string
	Tenant  string
	Project string
	Agent   string
	Run     string
	Role    Role
	TokenID string    // jti, "" when the token has none
	Issued  time.Time // iat, zero when the token has none or Kind is not token
	Expires time.Time // zero unless Kind is token
}

// Anonymous is the principal of a request without one.
func Anonymous() Principal {
	return Principal{Kind: KindAnonymous, Role: RoleAnonymous}
}
