package httpapi

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
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

// Agents keeps agents.
type Agents interface {
	CreateAgent(ctx context.Context, by request.Principal, a account.Agent) (account.Agent, error)
	Agent(ctx context.Context, tenant, id string) (account.Agent, error)
	Agents(ctx context.Context, tenant, after string, limit int) (account.Page[account.Agent], error)
	// BlockAgent sets Status to blocked, and BlockedReason to a's. UnblockAgent
	// makes the agent active again. Both go by the rules of an update; one that
	// is blocked stays as it is, and so does one that is not. A retired agent is
	// neither, and a tenant may have no room for one more that is blocked:
	// state.conflict. Both take any version where Version is 0.
	BlockAgent(ctx context.Context, by request.Principal, a account.Agent) (account.Agent, error)
	UnblockAgent(ctx context.Context, by request.Principal, a account.Agent) (account.Agent, error)
}

// Governance tells what agents may learn.
type Governance interface {
	// GovernanceStatus returns all rules, by agent role: at most 200.
	GovernanceStatus(ctx context.Context) ([]account.GovernanceRule, error)
}

// Revocations refuses tokens before they expire.
type Revocations interface {
	// RevokeToken refuses r.TokenID, under r.Tenant. What is refused already
	// stays so, and the revocation in force is returned. A tenant that has no
	// room for one more is rate_limit.exceeded.
	RevokeToken(ctx context.Context, by request.Principal, r account.Revocation) (account.Revocation, error)
	// RevokeSubject refuses the tokens of r.Subject that were issued up to now.
	// It must be a user or client within r.Tenant, else resource.not_found, and
	// the revocation is of its own tenant.
	RevokeSubject(ctx context.Context, by request.Principal, r account.Revocation) (account.Revocation, error)
}

// Sidecars keeps the registrations of sidecars and what they reported last.
// Only callers of all tenants reach it.
type Sidecars interface {
	// RegisterSidecar also returns the credential, whose secret is not kept in
	// clear. What s names must be there: validation.invalid.
	RegisterSidecar(ctx context.Context, by request.Principal, s mesh.Sidecar) (mesh.Sidecar, mesh.Credential, error)
	Sidecar(ctx context.Context, tenant, id string) (mesh.Sidecar, error)
	Sidecars(ctx context.Context, tenant, after string, limit int) (account.Page[mesh.Sidecar], error)
	UpdateSidecar(ctx context.Context, by request.Principal, s mesh.Sidecar) (mesh.Sidecar, error)
	// RotateSidecar and RevokeSidecar take any version where Version is 0.
	RotateSidecar(ctx context.Context, by request.Principal, s mesh.Sidecar) (mesh.Sidecar, mesh.Credential, error)
	RevokeSidecar(ctx context.Context, by request.Principal, s mesh.Sidecar) error
}

// Policies keeps policy sets, their revisions and which of them is in force.
// Only callers of all tenants reach it.
type Policies interface {
	PolicySets(ctx context.Context, after string, limit int) (account.Page[mesh.PolicySet], error)
	PolicySet(ctx context.Context, name string) (mesh.PolicySet, error)
	// PushRevision makes the set where there is none. It says whether the
	// revision is new: the same files are the same revision.
	PushRevision(ctx context.Context, by request.Principal, set string, files revision.Files, note string) (mesh.Revision, bool, error)
	// Revisions lists the newest first, without files.
	Revisions(ctx context.Context, set, after string, limit int) (account.Page[mesh.Revision], error)
	// Revision returns a revision with its files. id, here and below, may be the
	// beginning of one.
	Revision(ctx context.Context, set, id string) (mesh.Revision, error)
	// ActivateRevision and Rollback need version in force, or any where it is 0.
	ActivateRevision(ctx context.Context, by request.Principal, set, id string, version int64) (mesh.PolicySet, error)
	// Rollback goes back to id, or where that is "" to what was in force before.
	Rollback(ctx context.Context, by request.Principal, set, id string, version int64) (mesh.PolicySet, error)
}

// Decisions keeps decision records.
type Decisions interface {
	// Decisions lists the newest first.
	Decisions(ctx context.Context, tenant string, f mesh.DecisionFilter, after string, limit int) (account.Page[mesh.Decision], error)
	Decision(ctx context.Context, tenant, id string) (mesh.Decision, error)
	// DecisionsSince returns what was stored behind a cursor, in that order, and
	// the cursor behind it. "" stands for now: it returns nothing but a cursor.
	DecisionsSince(ctx context.Context, tenant string, f mesh.DecisionFilter, cursor string, limit int) ([]mesh.Decision, string, error)
}

// Budgets keeps the ledger of tokens. tenant is the name of one, here. While the
// ledger is away all is budget.unavailable, and what was asked for may have been
// done: it can be asked for again.
type Budgets interface {
	// HoldTokens asks for the tokens of a hold, of which it fills in the origin,
	// the attempt and the hash. The answer is what was held, now or once; Replayed
	// counts beside an error as well. Errors: budget.insufficient, and
	// state.conflict where the id is another request's.
	HoldTokens(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error)
	// SettleTokens commits or releases, of which it fills in the origin and the
	// attempt. Errors: resource.not_found also of what is not the project's or not
	// of this API; state.conflict for what ended otherwise.
	SettleTokens(ctx context.Context, tenant string, s budget.Settlement) (budget.Result, error)
	// BudgetUsage returns the open limits that apply to a project, or with "" the
	// tenant's own: at most 10.
	BudgetUsage(ctx context.Context, tenant, project string) ([]budget.Usage, error)
	// BudgetLines lists the newest first.
	BudgetLines(ctx context.Context, tenant string, q budget.Query) (account.Page[budget.Line], error)

	CreateBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) (budget.Limit, error)
	BudgetLimit(ctx context.Context, tenant, id string) (budget.Limit, error)
	BudgetLimits(ctx context.Context, tenant, after string, limit int) (account.Page[budget.Limit], error)
	// UpdateBudgetLimit sets the tokens.
	UpdateBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) (budget.Limit, error)
	DeleteBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) error
}

// Breakers keeps the circuit breakers of upstreams.
type Breakers interface {
	// Breakers lists those of the policy sets that sidecars of the tenant follow, or
	// shared ones, by policy set and name.
	Breakers(ctx context.Context, tenant string, f mesh.BreakerFilter, after string, limit int) (account.Page[mesh.Breaker], error)
	// ResetBreaker closes a breaker in the mesh and at all sidecars of its policy
	// set. Only callers of all tenants reach it, and the next.
	ResetBreaker(ctx context.Context, by request.Principal, set, name string) (mesh.Breaker, error)
	// ResetBreakers closes those of a policy set, or with "" of all, and returns how
	// many there are.
	ResetBreakers(ctx context.Context, by request.Principal, set string) (int, error)
}

// Answers does with one text what sidecars do with the answers of models. It keeps
// nothing of it and waits for nothing.
type Answers interface {
	// SanitizeText makes a text safe. Errors: validation.invalid, of origins.
	SanitizeText(s Suspect) (Sanitized, error)
	// ParseAnswer returns the JSON value in a text that is an answer of a kind.
	// Errors: validation.invalid, with pointers into the value.
	ParseAnswer(kind, text string, lenient bool) (json.RawMessage, error)
}

// Suspect is a text, and the rules for it by the names of the document.
type Suspect struct {
	Text    string
	Context string
	Actions map[string]string // by class; those that differ from the context's
	Origins []string
}

// Sanitized is what became of a text.
type Sanitized struct {
	Text     string
	Findings []Finding
	Blocked  bool // it ended before a match
}

// Finding is one match, by the names of the document.
type Finding struct {
	Class, Rule, Action string
	Offset, Length      int // bytes of the text that was given
	Fenced              bool
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

// Metrics counts requests and tails. operation is an operationId of the document, or ""
// where a request matches none; status is what was sent.
type Metrics interface {
	APIRequest(operation string, status int, took time.Duration)
	// DecisionTails is told how many tails are open whenever that changes.
	DecisionTails(open int)
}
