// Package account holds the nouns of who may call: users, clients, tenants,
// projects and sessions. It decides nothing: control/auth proves identities,
// control/accounts keeps them, control/httpapi shows them.
package account

import (
	"time"

	"gatehouse/internal/request"
)

// Session is what a successful login, refresh or client's request gives.
type Session struct {
	AccessToken  string
	ExpiresIn    time.Duration
	RefreshToken string // "" for clients
	Role         request.Role
	Tenant       string
}

// User is a person who logs in by name and password. Names are canonical.
type User struct {
	ID        string // UUID
	Username  string
	Role      request.Role
	Tenant    string // request.AnyTenant crosses tenants
	Project   string // "" for all of the tenant's
	Disabled  bool
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int64 // grows with each change; the strong ETag
}

// Client is a program that gets tokens by its id and secret.
type Client struct {
	ID        string // UUID
	Name      string
	Role      request.Role
	Tenant    string
	Project   string
	Agent     string
	Disabled  bool
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int64
}

// Tenant is whose things are kept apart from everybody else's.
type Tenant struct {
	ID        string // the name in tokens: lower-case letters, digits, - and _
	Name      string
	Suspended bool
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int64
}

// Project is a part of a tenant.
type Project struct {
	ID        string // unique in its tenant
	Tenant    string
	Name      string
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int64
}

// Page is one part of a list in a stable order. Next is the cursor of the
// part behind it, "" for the last.
type Page[T any] struct {
	Items []T
	Next  string
}
