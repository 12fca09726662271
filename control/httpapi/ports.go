package httpapi

import (
	"context"
	"net/netip"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

// What the API needs of others. All are safe for concurrent use, end with
// their context and are given values that the document's schemas accept.
//
// Their errors are *apierr.Error where the caller is to blame or a dependency
// is away: internal.error with status 503 for a store that is away,
// auth.unavailable for keys. Anything else is answered as internal.error. An
// error that has a method RetryAfter() time.Duration sets the header.

// Auth proves who calls.
type Auth interface {
	// Verify returns the principal of an access token. Errors:
	// auth.invalid_token, auth.expired_token, auth.unavailable.
	Verify(ctx context.Context, token string) (request.Principal, error)
	// Login proves a user. Errors: auth.invalid_credentials, whatever is
	// wrong; rate_limit.exceeded while the account is locked out, known or not.
	Login(ctx context.Context, username, password string, from netip.Addr) (account.Session, error)
	// Refresh changes a refresh token, which is used up by it.
	// Errors: auth.invalid_credentials.
	Refresh(ctx context.Context, refreshToken string) (account.Session, error)
	// Logout ends the session of a refresh token. An unknown one is no error.
	Logout(ctx context.Context, refreshToken string) error
	// ClientToken proves a client. Errors as of Login.
	ClientToken(ctx context.Context, id, secret string, from netip.Addr) (account.Session, error)
	// KeySet is the JWKS document (RFC 7517) of the keys that tokens are
	// signed with, from memory.
	KeySet(ctx context.Context) ([]byte, error)
}

// In the interfaces below tenant bounds what is seen: its name, or
// request.AnyTenant for all. Lists are ordered by id; after is a Page's Next,
// "" for the beginning. Create ignores ID where the store gives it, the times
// and the version. Update sets the whole of its argument where Version is the
// one in force, else state.precondition_failed. Delete does likewise, or takes
// any version where Version is 0. What is not there is resource.not_found; a
// name that is taken, or something still in use, is state.conflict. Each
// change is audited in by's name in its own transaction.

// Users keeps users.
type Users interface {
	CreateUser(ctx context.Context, by request.Principal, u account.User, password string) (account.User, error)
	User(ctx context.Context, tenant, id string) (account.User, error)
	Users(ctx context.Context, tenant, after string, limit int) (account.Page[account.User], error)
	// UpdateUser keeps the password where password is "".
	UpdateUser(ctx context.Context, by request.Principal, u account.User, password string) (account.User, error)
	DeleteUser(ctx context.Context, by request.Principal, u account.User) error
}

// Clients keeps clients.
type Clients interface {
	// CreateClient also returns the secret, which is not kept in clear.
	CreateClient(ctx context.Context, by request.Principal, c account.Client) (account.Client, string, error)
	Client(ctx context.Context, tenant, id string) (account.Client, error)
	Clients(ctx context.Context, tenant, after string, limit int) (account.Page[account.Client], error)
	UpdateClient(ctx context.Context, by request.Principal, c account.Client) (account.Client, error)
	DeleteClient(ctx context.Context, by request.Principal, c account.Client) error
}

// Tenants keeps tenants. Only callers of all tenants reach it.
type Tenants interface {
	CreateTenant(ctx context.Context, by request.Principal, t account.Tenant) (account.Tenant, error)
	Tenant(ctx context.Context, id string) (account.Tenant, error)
	Tenants(ctx context.Context, after string, limit int) (account.Page[account.Tenant], error)
	// UpdateTenant sets the name; Suspended stays as it is.
	UpdateTenant(ctx context.Context, by request.Principal, t account.Tenant) (account.Tenant, error)
	DeleteTenant(ctx context.Context, by request.Principal, t account.Tenant) error
	// SuspendTenant sets Suspended to t's, by the rules of an update.
	SuspendTenant(ctx context.Context, by request.Principal, t account.Tenant) (account.Tenant, error)
}

// Projects keeps projects.
type Projects interface {
	CreateProject(ctx context.Context, by request.Principal, p account.Project) (account.Project, error)
	Project(ctx context.Context, tenant, id string) (account.Project, error)
	Projects(ctx context.Context, tenant, after string, limit int) (account.Page[account.Project], error)
	UpdateProject(ctx context.Context, by request.Principal, p account.Project) (account.Project, error)
	DeleteProject(ctx context.Context, by request.Principal, p account.Project) error
}

// Counts counts what is kept within a tenant.
type Counts interface {
	CountUsers(ctx context.Context, tenant string) (int64, error)
	CountClients(ctx context.Context, tenant string) (int64, error)
	CountTenants(ctx context.Context, tenant string) (int64, error)
	CountProjects(ctx context.Context, tenant string) (int64, error)
}

// Database is asked whether it answers.
type Database interface {
	Ping(ctx context.Context) error
}

// Metrics counts requests. operation is an operationId of the document, or ""
// where a request matches none; status is what was sent.
type Metrics interface {
	APIRequest(operation string, status int, took time.Duration)
}
