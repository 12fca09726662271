package budget

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

// Errors of a Store. Any other is a fault of the program or the schema, or the
// caller's context.
var (
	// ErrUnavailable is wrapped by an error that says nothing but that the
	// ledger can't be asked now. Whether what was asked for was done is unknown:
	// ask again with the same id, or release it.
	ErrUnavailable = errors.New("the ledger is not available")

	// ErrInvalid is wrapped by what says that an argument can't be kept. Nothing
	// was done.
	ErrInvalid = errors.New("not valid in the ledger")

	// ErrUnknown says that there is no such limit, tenant or project.
	ErrUnknown = errors.New("no such limit, tenant or project")

	// ErrExists says that the scope has an open limit for the window.
	ErrExists = errors.New("the scope has a limit for this window")

	// ErrVersion says that a limit was changed since its version.
	ErrVersion = errors.New("the limit was changed meanwhile")
)

// ErrPosition says that a list has no such position. It wraps ErrInvalid.
var ErrPosition = fmt.Errorf("%w: no position of this list", ErrInvalid)

// Bounds of a call.
const (
	MaxBatch = 256 // holds or settlements
	MaxSweep = 256 // requests that are expired
	MaxPage  = 200 // lines of the journal, or limits
)

// Store keeps the ledger, shared by all processes. Each call is done whole or
// not at all; one that names a request twice, up to where it fails. Calls that concern one tenant take effect one after the other, in
// the order of the journal. A Store is safe for concurrent use.
type Store interface {
	Holds
	Limits
	Reports
}

// Holds is the ledger's two phases.
type Holds interface {
	// Reserve decides holds of one tenant, one after the other, each by what the
	// ones before it left; all limits that apply are held, or none. A key that is
	// known is answered by Found. At most MaxBatch. An invalid one is ErrInvalid
	// and fails all; ErrUnknown without the tenant.
	Reserve(ctx context.Context, tenant string, holds []Hold) ([]Answer, error)

	// Settle does settlements of one tenant, one after the other, by Resolve. A
	// request is its maker's: an inline one its sidecar's, one of the API that of
	// its project. A release of an inline id that was never seen leaves a
	// tombstone. At most MaxBatch. An invalid one is ErrInvalid and fails all;
	// ErrUnknown without the tenant.
	Settle(ctx context.Context, tenant string, settlements []Settlement) ([]Result, error)

	// Expire ends holds whose time is over, of all tenants, the oldest first and
	// at most MaxSweep, and returns how many. See ResolveExpiry.
	Expire(ctx context.Context) (int, error)

	// CloseSidecar ends the holds of a sidecar's processes with an incarnation
	// below the one named, as Expire does.
	CloseSidecar(ctx context.Context, sidecar string, below int64) (int, error)
}

// Limits configures. A version of 0 stands for any. by is who changes it.
type Limits interface {
	// CreateLimit makes a limit of its scope, window, zone and tokens. It counts
	// from now. ErrInvalid, ErrExists, ErrUnknown.
	CreateLimit(ctx context.Context, by request.Principal, l Limit) (Limit, error)

	// SetLimit changes how many tokens a limit allows, at once: the present
	// window has them, the ones before keep what they had. ErrInvalid,
	// ErrUnknown also of a closed one, ErrVersion.
	SetLimit(ctx context.Context, by request.Principal, tenant, id string, version, tokens int64) (Limit, error)

	// DeleteLimit closes a limit for new holds. It is there until the last of its
	// holds is settled. ErrUnknown also of a closed one, ErrVersion.
	DeleteLimit(ctx context.Context, by request.Principal, tenant, id string, version int64) error

	// Limit returns a limit that is open, or has open holds. ErrUnknown.
	Limit(ctx context.Context, tenant, id string) (Limit, error)

	// Limits returns a page of those of a tenant by id, at most MaxPage.
	// ErrPosition.
	Limits(ctx context.Context, tenant, after string, limit int) (account.Page[Limit], error)
}

// Reports tells.
type Reports interface {
	// Usage returns where the open limits stand that apply to a project, or with
	// "" those of the tenant alone: the tenant's first, then by window.
	Usage(ctx context.Context, tenant, project string) ([]Usage, error)

	// Request returns a request. ErrUnknown.
	Request(ctx context.Context, tenant string, key Key) (Request, error)

	// Journal returns a page of lines of a tenant, the newest first, at most
	// MaxPage. ErrPosition.
	Journal(ctx context.Context, tenant string, q Query) (account.Page[Line], error)
}

// Query selects lines of the journal.
type Query struct {
	Project string // of the request or the limit; "" for all
	Request string // id; "" for all
	Before  string // Page.Next, "" for the newest
	Limit   int
}

// Position is what the lines of a page have smaller ids than. ErrPosition.
func (q Query) Position() (int64, error) {
	if q.Before == "" {
		return math.MaxInt64, nil
	}
	n, err := strconv.ParseInt(q.Before, 10, 64)
	if err != nil || n < 1 {
		return 0, ErrPosition
	}
	return n, nil
}

// PageSize is how long a page is for which n is asked.
func PageSize(n int) int { return min(max(n, 1), MaxPage) }

// Line is a line of the journal: what happened to one row.
type Line struct {
	ID      int64 // grows
	Project string
	Row     string // UUID of the limit's period
	LimitID string
	Key     // its origin is admin, and its id "", for what was done to a limit
	Kind
	Delta
	Limit int64 // the new one, of KindLimit
	Late  bool
	At    time.Time
}

// Admin is the origin of lines about limits.
const Admin Origin = "admin"
