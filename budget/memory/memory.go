// Package memory keeps the ledger in the process, for trying things out and for
// tests of what is above it. What it kept is gone with the process.
//
// It takes every tenant, project and sidecar for registered, and is bounded: full,
// it takes no new requests or limits, and forgets the oldest lines of the journal.
//
// A Store is safe for concurrent use: one mutex stands before everything.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gatehouse/budget"
)

// Bounds of a Store.
const (
	maxRequests = 1 << 18
	maxLimits   = 1 << 12 // closed ones too
	maxLines    = 1 << 18
)

// errFull is an error of an open ledger: it is there, and can't take more.
var errFull = fmt.Errorf("%w: it is full", budget.ErrUnavailable)

// Store implements budget.Store.
type Store struct {
	now func() time.Time

	mu       sync.Mutex
	requests map[requestKey]*entry
	limits   []*limit // in the order they were made
	journal  []tenantLine
	lines    int64 // that were ever written
}

type requestKey struct {
	tenant string
	budget.Key
}

// entry is a request and where it is held.
type entry struct {
	budget.Request
	tenant      string
	rows        []*row
	hash        [32]byte
	sidecar     string
	incarnation int64
}

// limit is a limit and its rows, the newest last; there is one at least.
type limit struct {
	budget.Limit
	rows []*row
}

// row is a limit in one period.
type row struct {
	budget.Row
	budget.Period
	id    string
	limit *limit
}

func (l *limit) current() *row { return l.rows[len(l.rows)-1] }

// open reports whether a limit takes new holds.
func (l *limit) open() bool { return l.ClosedAt.IsZero() }

// seen reports whether a limit is there for its readers.
func (l *limit) seen() bool {
	for _, r := range l.rows {
		if l.open() || r.Reserved > 0 {
			return true
		}
	}
	return false
}

// tenantLine is a line of the journal and whose it is.
type tenantLine struct {
	tenant string
	budget.Line
}

// New returns an empty Store. now is its clock.
func New(now func() time.Time) *Store {
	return &Store{now: now, requests: map[requestKey]*entry{}}
}

var errBatch = fmt.Errorf("%w: more than %d in one call", budget.ErrInvalid, budget.MaxBatch)

// ready is what each call begins with: whoever has left wants nothing done.
func ready[I interface{ Check() error }](ctx context.Context, items []I) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(budget.ErrUnavailable, err)
	}
	if len(items) > budget.MaxBatch {
		return errBatch
	}
	for i, item := range items {
		if err := item.Check(); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return nil
}

// writeLocked adds a line to the journal.
func (s *Store) writeLocked(tenant string, l budget.Line) {
	if len(s.journal) == maxLines {
		s.journal = append(s.journal[:0], s.journal[maxLines/2:]...)
	}
	s.lines++
	l.ID = s.lines
	s.journal = append(s.journal, tenantLine{tenant, l})
}
