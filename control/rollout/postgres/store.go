// Package postgres keeps policy sets, their revisions and activations, and the
// keys of revisions in Postgres, for control/rollout.
//
// Each method is one statement or one transaction, with its audit row where it
// changes something. A server that is away is rollout.ErrUnavailable. It proves
// nothing of what it reads: that is the caller's, who has the keys.
//
// A Store is safe for concurrent use.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/rollout"
	"gatehouse/internal/account"
	"gatehouse/internal/postgres"
)

// maxPage bounds a page, whatever is asked for.
const maxPage = 200

// Store implements rollout.Store.
type Store struct {
	pool      *pgxpool.Pool
	requestID func(context.Context) string
}

// New returns a Store on a pool, which stays the caller's. requestID returns the
// id of a call for the audit log; nil means none.
func New(pool *pgxpool.Pool, requestID func(context.Context) string) *Store {
	if requestID == nil {
		requestID = func(context.Context) string { return "" }
	}
	return &Store{pool, requestID}
}

// fault says what was attempted, and tells a server that is away from a defect.
// No row is not found.
func fault(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return rollout.ErrNotFound
	case postgres.Away(err):
		return fmt.Errorf("%s: %w: %w", what, rollout.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// own is an error of the caller's own step, which passes a transaction as it is.
type own struct{ err error }

func (o own) Error() string { return o.err.Error() }

// tx runs f in a transaction.
func (s *Store) tx(ctx context.Context, what string, f func(pgx.Tx) error) error {
	err := postgres.InTx(ctx, s.pool, f)
	if o, ok := errors.AsType[own](err); ok {
		return o.err
	}
	return fault(what, err)
}

// row is what scans: one row, or the present one of several.
type row interface{ Scan(dest ...any) error }

// page reads at most limit things and says where the following begin. The
// statement's last parameter is its limit: one more is asked for.
func page[T any](ctx context.Context, s *Store, scan func(row) (T, error), position func(T) string, limit int, sql string, args ...any) (account.Page[T], error) {
	limit = min(max(limit, 1), maxPage)
	rows, err := s.pool.Query(ctx, sql, append(slices.Clone(args), limit+1)...)
	if err != nil {
		return account.Page[T]{}, err
	}
	items, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (T, error) { return scan(r) })
	if err != nil {
		return account.Page[T]{}, err
	}
	p := account.Page[T]{Items: items}
	if len(items) > limit {
		p.Items = items[:limit]
		p.Next = position(items[limit-1])
	}
	return p, nil
}
