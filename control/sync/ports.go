package sync

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/mesh"
	"gatehouse/internal/ratelimit"
)

// Registry knows the registered sidecars and keeps what they report. Its
// methods are safe for concurrent use.
type Registry interface {
	// Authenticate returns the active sidecar of a credential. mesh.ErrUnknown
	// says that there is none; any other error, that nobody knows.
	Authenticate(ctx context.Context, secret string) (mesh.Sidecar, error)

	// Versions returns the registration's version of each of ids that is active.
	Versions(ctx context.Context, ids []string) (map[string]int64, error)

	// Report keeps the newest reports, by sidecar.
	Report(ctx context.Context, reports map[string]mesh.Report) error

	// Connected counts the sidecars of each policy set that reported within the
	// duration, to whichever replica.
	Connected(ctx context.Context, within time.Duration) (map[string]int, error)
}

// Source is what is in force. Its methods are safe for concurrent use.
type Source interface {
	// Epoch is that of the live data: another one means that they changed.
	Epoch(ctx context.Context) (int64, error)

	// Live returns the live data of one instant.
	Live(ctx context.Context) (mesh.Live, error)

	// Generations is the newest generation of each policy set that has one.
	Generations(ctx context.Context) (map[string]int64, error)

	// Active returns the newest activation of a policy set.
	Active(ctx context.Context, set string) (mesh.Activated, error)

	// Listen blocks, and calls changed when something may have changed: once at
	// its start, with ChangedAll, since what was before may have been missed. It
	// returns when ctx ends, or with an error when it lost the line.
	Listen(ctx context.Context, changed func(what string)) error
}

// What Source.Listen says has changed. All else concerns no registration.
const (
	ChangedAll      = ""
	ChangedSidecars = "sidecars"
)

// Records keeps decision records.
type Records interface {
	// Store keeps those records of a sidecar that it may write, and counts the
	// others. An error says that none was kept; storing again changes nothing.
	Store(ctx context.Context, s mesh.Sidecar, records [][]byte) (refused int, err error)
}

// Rates decides by limits that the whole mesh counts.
type Rates interface {
	// Take takes all asks or none, and says which of them binds.
	Take(ctx context.Context, policySet string, asks []ratelimit.Ask) (ratelimit.Result, int, error)
}

// Ledger decides holds and settlements of sidecars. Whose they are is set before.
// Its methods are safe for concurrent use, return when ctx ends, and bound the
// time that they take by themselves.
type Ledger interface {
	// Reserve decides a hold. budget.ErrInvalid, ErrUnknown, ErrBusy and ErrNotSent
	// say that nothing was done; after any other error it may have been.
	Reserve(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error)

	// Settle does a settlement, and keeps as a dead letter what is refused for good.
	// After any error but budget.ErrInvalid and ErrUnknown it is to be sent again.
	Settle(ctx context.Context, tenant string, s budget.Settlement) (budget.Result, error)

	// Bury keeps as a dead letter of home a settlement that may not be tried, and
	// why. Again changes nothing.
	Bury(ctx context.Context, home, tenant string, s budget.Settlement, why string) error

	// Replayed ends what earlier processes of a sidecar hold: those below the
	// incarnation.
	Replayed(ctx context.Context, sidecar string, incarnation int64) error
}

// Breakers keeps what sidecars say of their circuit breakers, and says what they
// are to do with them.
type Breakers interface {
	// ReportBreakers keeps the newest reports, by sidecar.
	ReportBreakers(ctx context.Context, reports map[string]mesh.BreakerReport) error

	// BreakerOrders returns what sidecars are ordered, by policy set, each time in
	// the same order. It is called each second.
	BreakerOrders(ctx context.Context) (map[string][]mesh.BreakerOrder, error)
}

// Options are what New needs. All must be set unless they say otherwise.
type Options struct {
	Registry Registry
	Source   Source
	Records  Records
	Rates    Rates    // nil: no rate of the whole mesh can be decided
	Breakers Breakers // nil: sidecars' breakers are not heard of, and nothing is ordered
	Ledger   Ledger   // nil: no sidecar can hold tokens
	Log      *slog.Logger

	// KeySet returns the document of control's signing keys (RFC 7517). It is
	// called each second.
	KeySet func(ctx context.Context) ([]byte, error)

	// Acknowledged is told that a sidecar enforces what was sent to it, and how
	// long that took from when it was sent first. It must not block. Nil tells
	// nobody.
	Acknowledged func(policySet string, generation int64, after time.Duration)

	Address  string // host:port; port 0 picks one
	CertFile string // PEM, read at Start
	KeyFile  string // PEM, read at Start
}

// check joins all that is wrong with the options.
func (o Options) check() error {
	var faults []error
	need := func(ok bool, what string) {
		if !ok {
			faults = append(faults, errors.New("sync: "+what+" is needed"))
		}
	}
	need(o.Registry != nil, "a registry")
	need(o.Source != nil, "a source")
	need(o.Records != nil, "a keeper of records")
	need(o.KeySet != nil, "a key set")
	need(o.Log != nil, "a logger")
	need(o.CertFile != "" && o.KeyFile != "", "a certificate and its key")
	return errors.Join(faults...)
}
