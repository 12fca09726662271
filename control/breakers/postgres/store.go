// Package postgres keeps what sidecars report of their breakers, and the breakers
// of the mesh, in Postgres, for control/breakers.
//
// Each method is one statement or one transaction. Whoever changes a breaker of
// the mesh holds one lock for all, so that reviews and resets take turns; a
// change and its event, and a reset's audit row, are one transaction. A server
// that is away is breakers.ErrUnavailable. It decides nothing.
//
// A Store is safe for concurrent use.
package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/breakers"
	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// Bounds of what is read at once. More is an error: a part of it would be a lie.
const (
	maxPage     = 200
	maxStanding = 20_000
	maxReports  = 40_000
)

// Rows of no policy set are of control itself, and not this package's. Names are
// in the order of their bytes, whatever the database's language.
const (
	columns = `policy_set, name, state, failure_threshold, recovery_timeout_ms, consecutive_failures, total_failures, total_calls,
	opened_at, next_probe_at, called_sidecars, open_sidecars, half_open_sidecars, version, updated_at, reset_order, open_order`

	selectOrders = `
SELECT policy_set, name, state, reset_order, open_order FROM circuit_breaker_state
WHERE policy_set <> '' AND (reset_order > 0 OR state <> 'closed') ORDER BY policy_set COLLATE "C", name COLLATE "C" LIMIT $1`

	selectTroubled = `
SELECT EXISTS (SELECT FROM sidecar_breakers WHERE troubled AND reported_at > $1)
	OR EXISTS (SELECT FROM circuit_breaker_state WHERE policy_set <> '' AND state <> 'closed')`

	selectPage = `
SELECT ` + columns + ` FROM circuit_breaker_state c
WHERE policy_set <> '' AND ($1 = '*' OR policy_set IN (SELECT policy_set FROM sidecars WHERE status = 'active' AND (tenant_id = $1 OR shared)))
	AND ($2 = '' OR policy_set = $2) AND ($3 = '' OR name = $3) AND ($4 = '' OR state = $4)
	AND (policy_set COLLATE "C", name COLLATE "C") > ($5, $6)
ORDER BY policy_set COLLATE "C", name COLLATE "C" LIMIT $7`
)

// Store implements breakers.Store.
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
func fault(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case postgres.Away(err):
		return fmt.Errorf("%s: %w: %w", what, breakers.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Orders implements breakers.Store.
func (s *Store) Orders(ctx context.Context) (map[string][]mesh.BreakerOrder, error) {
	rows, err := s.pool.Query(ctx, selectOrders, maxStanding+1)
	if err != nil {
		return nil, fault("orders of breakers", err)
	}
	orders := map[string][]mesh.BreakerOrder{}
	var b breakers.Standing
	read, err := pgx.ForEachRow(rows, []any{&b.PolicySet, &b.Name, &b.Phase, &b.Reset, &b.Opened}, func() error {
		if of := orders[b.PolicySet]; len(of) < mesh.MaxBreakers {
			orders[b.PolicySet] = append(of, b.Order())
		}
		return nil
	})
	if err == nil {
		err = bounded(read.RowsAffected(), maxStanding)
	}
	if err != nil {
		return nil, fault("orders of breakers", err)
	}
	return orders, nil
}

func bounded(rows int64, limit int) error {
	if rows > int64(limit) {
		return fmt.Errorf("more than %d rows", limit)
	}
	return nil
}

// Troubled implements breakers.Store.
func (s *Store) Troubled(ctx context.Context, since time.Time) (troubled bool, err error) {
	err = s.pool.QueryRow(ctx, selectTroubled, since).Scan(&troubled)
	return troubled, fault("breakers that are not closed", err)
}

// separator stands between the parts of a position, and in neither.
const separator = "/"

// List implements breakers.Store.
func (s *Store) List(ctx context.Context, tenant string, f mesh.BreakerFilter, after string, limit int) (account.Page[mesh.Breaker], error) {
	limit = min(max(limit, 1), maxPage)
	set, name := cut(after)
	rows, err := s.pool.Query(ctx, selectPage, tenant, f.PolicySet, f.Name, string(f.Phase), set, name, limit+1)
	if err != nil {
		return account.Page[mesh.Breaker]{}, fault("breakers", err)
	}
	items, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (mesh.Breaker, error) {
		b, err := scan(r)
		return b.Breaker, err
	})
	if err != nil {
		return account.Page[mesh.Breaker]{}, fault("breakers", err)
	}
	p := account.Page[mesh.Breaker]{Items: items}
	if len(items) > limit {
		p.Items = items[:limit]
		p.Next = items[limit-1].PolicySet + separator + items[limit-1].Name
	}
	return p, nil
}

// Reset implements breakers.Store.
func (s *Store) Reset(
	ctx context.Context, by request.Principal, f mesh.BreakerFilter, step func(breakers.Standing) breakers.Standing,
) ([]mesh.Breaker, error) {
	var now []mesh.Breaker
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		now = nil // each try has its own
		if _, err := tx.Exec(ctx, takeTurn); err != nil {
			return err
		}
		all, err := standing(ctx, tx, f)
		if err != nil || len(all) == 0 && f.Name != "" {
			return err
		}
		next := make([]breakers.Standing, len(all))
		for i, b := range all {
			next[i] = step(b)
		}
		written, err := write(ctx, tx, all, next)
		if err != nil {
			return err
		}
		for _, b := range written {
			now = append(now, b.Breaker)
		}
		return s.audit(ctx, tx, by, f, len(all))
	})
	if err != nil {
		return nil, fault("resetting breakers", err)
	}
	return slices.Clip(now), nil
}

// audit adds the row of a reset. Policy sets are of no one tenant.
func (s *Store) audit(ctx context.Context, tx pgx.Tx, by request.Principal, f mesh.BreakerFilter, n int) error {
	kind, actor, err := postgres.Actor(ctx, tx, by)
	if err != nil {
		return err
	}
	e := postgres.Event{
		Tenant: request.AnyTenant, ActorKind: kind, Actor: actor, Action: "circuit_breaker.reset",
		TargetKind: "circuit_breaker", Target: f.PolicySet + separator + f.Name, RequestID: s.requestID(ctx),
	}
	if f.Name == "" {
		e.Action, e.Target = "circuit_breaker.reset_all", f.PolicySet
		e.Details = map[string]any{"breakers": n}
	}
	return postgres.Audit(ctx, tx, e)
}
