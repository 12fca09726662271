package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"
)

// Bounds of one request.
const (
	defaultTimeout = 15 * time.Second
	minCursorKey   = 32
	maxOrigins     = 64
)

// Options are what New needs. All interfaces but Metrics must be set.
type Options struct {
	Auth     Auth
	Users    Users
	Clients  Clients
	Tenants  Tenants
	Projects Projects
	Counts   Counts
	Database Database
	Metrics  Metrics // nil counts nothing
	Log      *slog.Logger

	Agents      Agents
	Governance  Governance
	Revocations Revocations
	Sidecars    Sidecars
	Policies    Policies
	Decisions   Decisions
	Budgets     Budgets
	Answers     Answers
	Breakers    Breakers

	Now     func() time.Time // nil means time.Now
	Version string           // of the build, as shown to callers
	Limits  Limits           // the zero value means DefaultLimits
	Timeout time.Duration    // of one request; 0 means 15 s

	// CORSOrigins are the origins whose pages may call: scheme, host and port
	// exactly as browsers send them. None by default.
	CORSOrigins []string
	// CursorKey authenticates cursors: at least 32 random bytes, the same in
	// all replicas.
	CursorKey []byte
}

// withDefaults fills in what may be left out.
func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.Version = cmp.Or(o.Version, "unknown")
	return o
}

// check joins all that is wrong with the options.
func (o Options) check() error {
	var faults []error
	for _, part := range []struct {
		name string
		set  bool
	}{
		{"Auth", o.Auth != nil}, {"Users", o.Users != nil}, {"Clients", o.Clients != nil},
		{"Tenants", o.Tenants != nil}, {"Projects", o.Projects != nil}, {"Counts", o.Counts != nil},
		{"Database", o.Database != nil}, {"Log", o.Log != nil},
		{"Agents", o.Agents != nil}, {"Governance", o.Governance != nil}, {"Revocations", o.Revocations != nil},
		{"Sidecars", o.Sidecars != nil}, {"Policies", o.Policies != nil}, {"Decisions", o.Decisions != nil},
		{"Budgets", o.Budgets != nil}, {"Breakers", o.Breakers != nil}, {"Answers", o.Answers != nil},
	} {
		if !part.set {
			faults = append(faults, fmt.Errorf("%s is needed", part.name))
		}
	}
	if len(o.CursorKey) < minCursorKey {
		faults = append(faults, fmt.Errorf("CursorKey has %d bytes, want at least %d", len(o.CursorKey), minCursorKey))
	}
	if o.Timeout < 0 {
		faults = append(faults, fmt.Errorf("Timeout is %v, want more than 0", o.Timeout))
	}
	return errors.Join(append(faults, o.Limits.Validate(), checkOrigins(o.CORSOrigins))...)
}

// checkOrigins refuses what a browser never sends, so that a mistake does not
// pass for a rule: a wildcard, a path, a closing slash.
func checkOrigins(origins []string) error {
	if len(origins) > maxOrigins {
		return fmt.Errorf("%d CORS origins, want at most %d", len(origins), maxOrigins)
	}
	var faults []error
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.Scheme+"://"+u.Host != o {
			faults = append(faults, fmt.Errorf("CORS origin %q: want scheme://host[:port]", o))
		}
	}
	return errors.Join(faults...)
}
