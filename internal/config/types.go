package config

import "time"

// Mode says whether a refusal is carried out or only recorded.
type Mode string

// The modes of a policy set and of a route.
const (
	Enforce Mode = "enforce"
	Observe Mode = "observe"
)

// Names of the two listeners.
const (
	Inbound  = "inbound"
	Outbound = "outbound"
)

// ShippedEntry is the entry point of the shipped Rego.
const ShippedEntry = "data.gatehouse.authz"

// PolicySet is gatehouse.yaml, checked and with its defaults filled in.
// It is immutable once loaded.
type PolicySet struct {
	Policy    Policy
	Issuers   []Issuer
	Upstreams map[string]Upstream
	Limits    []Limit
	Routes    []Route

	places places // where things stand, for CheckPair; empty in a set built by hand
}

// Policy says how Rego is asked.
type Policy struct {
	Entry       string        // default ShippedEntry
	Mode        Mode          // default Enforce
	ExposeToken bool          // leaves the raw token in Rego's input
	ShowReasons bool          // puts rule id and reason into a denial's details
	Timeout     time.Duration // of one evaluation; default 50ms, 1ms to 400ms
}

// Issuer is one party whose tokens are accepted, and what it may assert.
type Issuer struct {
	Name       string
	Issuer     string // the exact value of the claim iss
	JWKS       JWKS
	Audience   string
	Algorithms []string // allow-list, never empty
	Symmetric  bool     // HS256 only; its keys stand in a file
	Tenants    []string // tenants it may assert; "any" is every tenant but "*"
	Roles      []string // roles it may assert; "any" is every role but admin
	Claims     Claims
}

// JWKS is where an issuer's keys are: exactly one of its members is set.
type JWKS struct {
	Control bool   // the sidecar's control service sends them
	File    string // absolute path; live data, read again on change
	URL     string // https, or http to a loopback address
}

// Claims names the claims that carry a principal's members.
type Claims struct {
	Role    string // default "role"
	Tenant  string // default "tenant_id"
	Project string // default "project_id"
	Agent   string // default "agent_id"
	Run     string // default "run_id"
}

// Upstream is where a route's requests go.
type Upstream struct {
	URL        string
	Scheme     string // "http" or "https", from URL
	Host       string // name or literal address, without brackets, lower case
	Port       int
	CAFile     string // absolute; "" means the system's bundle
	Credential string // name of a credential of the sidecar; "" means none
	Private    bool
	Format     string   // one of Formats: only LLM routes lead here; "" means none
	Breaker    *Breaker // nil means none
}

// Breaker says when an upstream is left alone, and for how long.
type Breaker struct {
	Failures int           // in a row; default 5, 1 to 1000
	Recovery time.Duration // until a probe; default 30s, 1s to 1h
}

// Scope says who counts a limit.
type Scope string

// The scopes.
const (
	ScopeSidecar Scope = "sidecar" // each sidecar counts for itself
	ScopeMesh    Scope = "mesh"    // control counts for all sidecars of the policy set
)

// OnError says what a limit of the mesh does while control can't be asked.
type OnError string

// What a limit of the mesh can do then. There is no open.
const (
	OnErrorLocal OnError = "local" // each sidecar enforces its share; anonymous callers are denied
	OnErrorDeny  OnError = "deny"
)

// Limit is one rate limit.
type Limit struct {
	Name  string
	Key   []string // of LimitKeys; never empty, without duplicates
	Rate  Rate
	Burst int // requests at once, at least 1; default Rate.Count
	Scope Scope
	// OnError is set where Scope is ScopeMesh; default OnErrorLocal.
	OnError OnError
}

// Rate is Count requests per Per, written "600/min".
type Rate struct {
	Count int
	Per   time.Duration
}

// PrincipalMode says who may call a route.
type PrincipalMode string

// The principal modes.
const (
	PrincipalToken           PrincipalMode = "token"
	PrincipalWorkload        PrincipalMode = "workload"
	PrincipalTokenOrWorkload PrincipalMode = "token_or_workload"
	PrincipalNone            PrincipalMode = "none"
)

// Route is one entry of routes, in file order.
type Route struct {
	Name           string
	Match          Match
	Upstream       string
	Exempt         bool
	Principal      PrincipalMode // default: token inbound, token_or_workload outbound
	Permission     Permission
	Limits         []string
	Mode           Mode          // the route's own, or the policy's
	Timeout        time.Duration // of the whole answer; default 15s; 0 on LLM routes, which have none
	IdleTimeout    time.Duration // default 60s
	ConnectTimeout time.Duration // default 2s
	Body           int64         // bytes that Check waits for; 0 means Check sees no body
	ForwardToken   bool          // inbound only

	// Of a route that leads to an upstream with a format, and of no other.
	LLM       *LLM          // nil on plain routes
	Budget    BudgetMode    // default BudgetRequired; BudgetNone where LLM.Kind is LLMFree
	MaxStream time.Duration // of one exchange; default 30m, 1s to 24h
}

// BudgetMode says whether an exchange needs a budget.
type BudgetMode string

// The budget modes.
const (
	BudgetRequired BudgetMode = "required"
	BudgetNone     BudgetMode = "none" // recorded, held in no limit
)

// LLMKind says what a route's requests cost.
type LLMKind string

// The kinds of LLM routes.
const (
	LLMCall LLMKind = "call" // has a body and is held for
	LLMFree LLMKind = "free" // has none, and nothing to pay
)

// HoldMode says how much an exchange holds.
type HoldMode string

// The hold modes.
const (
	HoldFull     HoldMode = "full"     // all that the request can use
	HoldAdaptive HoldMode = "adaptive" // less, and more as the answer grows
)

// LLM says what an LLM route asks of requests and answers.
type LLM struct {
	Kind            LLMKind  // default LLMCall
	Models          []string // allowed; * stands for any run of characters; empty means all
	MaxOutputTokens int64    // per choice; default 4096, 1 to 1,000,000
	Hold            HoldMode // default HoldFull
	Unbounded       []string // members whose cost nothing bounds and that pass nevertheless: of UnboundedMembers
	Sanitize        Sanitize
	Parser          string // of Parsers; "" means none
	UnaryCap        int64  // bytes of a JSON answer; default 4MiB, 1KiB to 16MiB
}

// Sanitize says how an answer's texts are read. A context of "" means that a
// field is not.
type Sanitize struct {
	Content, Reasoning, ToolCall string            // contexts, of Contexts
	Actions                      map[string]string // by class; of Actions
	ImageOrigins                 []string          // of images and links: scheme://host[:port]; at most 64
}

// On reports whether any field is sanitized.
func (s *Sanitize) On() bool { return s.Content != "" || s.Reasoning != "" || s.ToolCall != "" }

// Match says which requests are a route's. Exactly one of Path and Prefix is set.
type Match struct {
	Listener string // Inbound or Outbound
	Host     string // of captured traffic; lower case; "" means any
	Base     string // of base-URL traffic; removed before the upstream; "" means none
	Path     string // exact
	Prefix   string // whole segments
	Methods  []string
}

// Permission is the name that a request needs, one for all methods or by method.
type Permission struct {
	Name     string
	ByMethod map[string]string
}

// Sidecar is sidecar.yaml, checked and with its defaults filled in.
type Sidecar struct {
	Name        string
	Socket      string // absolute, at most 100 bytes
	StateDir    string // absolute
	EnvoyUID    int    // -1 means the sidecar's own effective uid
	Listeners   Listeners
	Control     *Control  // nil means that there is none
	Principal   *Workload // nil means no workload principal, or the one that control registered
	Shared      bool      // bound to no tenant; without control true exactly when Principal is nil
	Credentials map[string]Credential
	Debug       string // loopback address of the debug listener; default 127.0.0.1:9464
	Limits      SidecarLimits
}

// Listeners are the sidecar's listeners; nil means absent, at least one is set.
type Listeners struct {
	Inbound  *Listener
	Outbound *Listener
}

// Listener is one address that Envoy serves.
type Listener struct {
	Address string // literal address and port
	TLS     *TLS
}

// TLS names files in PEM; ClientCAFile makes client certificates mandatory.
type TLS struct {
	CertFile     string
	KeyFile      string
	ClientCAFile string
}

// Workload is the principal of the sidecar's own workload.
type Workload struct {
	Subject string
	Tenant  string
	Project string
	Agent   string
	Role    string // developer or observer; default observer
}

// Credential says where an upstream's credential comes from.
type Credential struct {
	Env string // name of an environment variable
}

// Control is the control service that a sidecar belongs to.
type Control struct {
	Address        string // host:port
	CAFile         string // absolute; whose certificates are trusted; "" means the system's bundle
	CredentialFile string // absolute; what registering the sidecar returned
}

// SidecarLimits bound what one Envoy holds.
type SidecarLimits struct {
	EnvoyHeap   int64 // bytes; default 512MiB
	Connections int   // downstream connections; default 2000
	Streams     int   // HTTP/2 streams of one connection; default 128
}
