package budget

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of what the ledger counts.
const (
	// MaxLimit is the largest limit, in tokens.
	MaxLimit = 1_000_000_000_000_000
	// MaxTokens is the most that one request may hold or be charged, so that no
	// sum of requests that a period can see overflows.
	MaxTokens = 1_000_000_000_000
)

// Window is what a limit counts over.
type Window string

// The windows. Days, weeks (from Monday) and months begin at midnight of the
// limit's time zone; a total never ends.
const (
	Total Window = "total"
	Hour  Window = "hour"
	Day   Window = "day"
	Week  Window = "week"
	Month Window = "month"
)

// Windows lists the windows.
func Windows() []Window { return []Window{Total, Hour, Day, Week, Month} }

// Limit is how many tokens a tenant, or one project of it, may use in a window.
// A scope has at most one open limit for each window.
type Limit struct {
	ID        string // UUID
	Tenant    string
	Project   string // "" for all projects of the tenant together
	Window    Window
	Zone      string // of the IANA database, such as Europe/Berlin
	Tokens    int64
	Version   int64 // grows with each change, not with usage; the strong ETag
	CreatedAt time.Time
	UpdatedAt time.Time
	ClosedAt  time.Time // zero while it is open; then its last holds are waited for
}

// Faults of a limit. They wrap ErrInvalid.
var (
	ErrWindow = fmt.Errorf("%w: no such window", ErrInvalid)
	ErrZone   = fmt.Errorf("%w: no such time zone", ErrInvalid)
	ErrTokens = fmt.Errorf("%w: the number of tokens is out of range", ErrInvalid)
)

// Check returns all faults of what a caller may say of a new limit: its scope,
// window, zone and tokens.
func (l Limit) Check() error {
	var faults []error
	switch l.Window {
	case Total, Hour, Day, Week, Month:
	default:
		faults = append(faults, ErrWindow)
	}
	if _, err := location(l.Zone); err != nil {
		faults = append(faults, err)
	}
	if !tenantName(l.Tenant) || (l.Project != "" && !tenantName(l.Project)) {
		faults = append(faults, fmt.Errorf("%w: no name of a tenant or project", ErrInvalid))
	}
	return errors.Join(append(faults, CheckTokens(l.Tokens))...)
}

// CheckTokens returns ErrTokens unless n can be a limit.
func CheckTokens(n int64) error {
	if n < 0 || n > MaxLimit {
		return ErrTokens
	}
	return nil
}

// maxZone is the length of the longest name that is looked up.
const maxZone = 64

// location loads a zone. "" and Local, which depend on the machine, are none.
func location(name string) (*time.Location, error) {
	if name == "" || name == "Local" || len(name) > maxZone {
		return nil, ErrZone
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrZone, err)
	}
	return loc, nil
}

// Usage is where a limit stands in its present window.
type Usage struct {
	Limit
	Period
	Ceiling   int64
	Used      int64
	Reserved  int64
	Available int64 // max(0, Tokens − Used − Reserved)
	Overrun   int64 // billed beyond the limit; no part of Used
}

// UsageOf says where a limit stands by the figures of its row.
func UsageOf(l Limit, p Period, r Row) Usage {
	return Usage{Limit: l, Period: p, Ceiling: r.Ceiling, Used: r.Used, Reserved: r.Reserved, Available: r.Available(), Overrun: r.Overrun}
}
