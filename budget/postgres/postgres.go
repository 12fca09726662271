// Package postgres keeps the ledger in Postgres.
//
// Each operation on holds is one call of one function of the schema (migration
// 006), which is one transaction and one round trip: the tenant's turn, the rows
// of all requests in the order of their ids, the changes, the journal. What the
// functions decide is what package budget says; one suite holds them to it. A
// change of a limit writes its audit row in its own transaction.
//
// It refuses to decide by any clock but the database's, and to let a violated
// constraint pass for a denial: the functions keep to the rules by themselves,
// and what the wall behind them stops is a defect.
//
// A Store is safe for concurrent use, and so are several on one database.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/budget"
	"gatehouse/internal/postgres"
)

// The SQL states that the functions raise.
const (
	noData       = "P0002"
	otherVersion = "GH003"
	badParameter = "22023" // a zone that this database does not know
)

// Options are what New needs. Pool must be set.
type Options struct {
	Pool *pgxpool.Pool // stays the caller's

	// RequestID returns the id of a call for the audit log; nil means none.
	RequestID func(context.Context) string

	// Now replaces the database's clock, for tests of what takes days. Replicas
	// must share one clock, so that nothing else may set it.
	Now func() time.Time
}

// Store implements budget.Store.
type Store struct{ o Options }

// New returns a Store.
func New(o Options) (*Store, error) {
	if o.Pool == nil {
		return nil, errors.New("budget: needs a pool")
	}
	if o.RequestID == nil {
		o.RequestID = func(context.Context) string { return "" }
	}
	return &Store{o}, nil
}

// at is the functions' p_at.
func (s *Store) at() *time.Time {
	if s.o.Now == nil {
		return nil
	}
	return new(s.o.Now())
}

// fault says what was attempted, and tells a server that is away, and what the
// caller is to blame for, from a defect.
func fault(what string, err error) error {
	if err == nil {
		return nil
	}
	if known := meaning(err); known != nil {
		return fmt.Errorf("%s: %w", what, known)
	}
	if postgres.Away(err) {
		return fmt.Errorf("%s: %w: %w", what, budget.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// meaning is the ledger's error that a statement's stands for, or nil.
func meaning(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return budget.ErrUnknown
	}
	switch constraint, kind := postgres.Violated(err); {
	case constraint == "budget_limits_open" && kind == postgres.Taken:
		return budget.ErrExists
	case constraint == "budget_limits_project" && kind == postgres.Dangling:
		return budget.ErrUnknown
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case noData:
			return budget.ErrUnknown
		case otherVersion:
			return budget.ErrVersion
		case badParameter:
			return fmt.Errorf("%w: %w", budget.ErrZone, err)
		}
	}
	return nil
}

// check returns the first fault of a call's items.
func check[I interface{ Check() error }](items []I) error {
	if len(items) > budget.MaxBatch {
		return fmt.Errorf("%w: more than %d in one call", budget.ErrInvalid, budget.MaxBatch)
	}
	for i, item := range items {
		if err := item.Check(); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return nil
}

// row is what scans: one row, or the present one of several.
type row interface{ Scan(dest ...any) error }
