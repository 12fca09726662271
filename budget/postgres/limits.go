package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/budget"
	"gatehouse/internal/account"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

const (
	limitFields = `limit_id::text, tenant_id, coalesce(project_id, ''), window_kind, time_zone, limit_tokens, version, created_at, updated_at, closed_at`
	createLimit = `SELECT ` + limitFields + ` FROM budget_create_limit($1, $2, $3, $4, $5, $6)`
	setLimit    = `SELECT ` + limitFields + ` FROM budget_set_limit($1, $2, $3, $4, $5)`
	closeLimit  = `SELECT ` + limitFields + ` FROM budget_close_limit($1, $2, $3, $4)`

	// seen is the newest row of each limit that is open, or has open holds.
	seen = `SELECT DISTINCT ON (limit_id) ` + limitFields + ` FROM budget_limits l WHERE tenant_id = $1
		AND (closed_at IS NULL OR EXISTS (SELECT FROM budget_limits h WHERE h.tenant_id = $1 AND h.limit_id = l.limit_id AND h.reserved > 0)) `
	readLimit  = seen + `AND limit_id = $2 ORDER BY limit_id, period_start DESC`
	readLimits = seen + `AND ($2 = '' OR limit_id > nullif($2, '')::uuid) ORDER BY limit_id, period_start DESC LIMIT $3`
)

func scanLimit(r row) (l budget.Limit, err error) {
	var closed *time.Time
	err = r.Scan(&l.ID, &l.Tenant, &l.Project, &l.Window, &l.Zone, &l.Tokens, &l.Version, &l.CreatedAt, &l.UpdatedAt, &closed)
	if err != nil {
		return budget.Limit{}, err
	}
	l.CreatedAt, l.UpdatedAt, l.ClosedAt = l.CreatedAt.UTC(), l.UpdatedAt.UTC(), utc(closed)
	return l, nil
}

// CreateLimit implements budget.Limits.
func (s *Store) CreateLimit(ctx context.Context, by request.Principal, l budget.Limit) (budget.Limit, error) {
	if err := l.Check(); err != nil {
		return budget.Limit{}, err
	}
	return s.change(ctx, by, "create", createLimit, l.Tenant, s.at(), l.Project, l.Window, l.Zone, l.Tokens)
}

// SetLimit implements budget.Limits.
func (s *Store) SetLimit(ctx context.Context, by request.Principal, tenant, id string, version, tokens int64) (budget.Limit, error) {
	if err := budget.CheckTokens(tokens); err != nil {
		return budget.Limit{}, err
	}
	if !budget.IsID(id) {
		return budget.Limit{}, budget.ErrUnknown
	}
	return s.change(ctx, by, "update", setLimit, tenant, s.at(), id, version, tokens)
}

// DeleteLimit implements budget.Limits.
func (s *Store) DeleteLimit(ctx context.Context, by request.Principal, tenant, id string, version int64) error {
	if !budget.IsID(id) {
		return budget.ErrUnknown
	}
	_, err := s.change(ctx, by, "delete", closeLimit, tenant, s.at(), id, version)
	return err
}

// change makes a change of a limit and its audit row, in one transaction.
func (s *Store) change(ctx context.Context, by request.Principal, action, sql string, args ...any) (l budget.Limit, err error) {
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		l, err = scanLimit(tx.QueryRow(ctx, sql, args...))
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, by, action, l)
	})
	if err != nil {
		return budget.Limit{}, fault(action+" limit", err)
	}
	return l, nil
}

func (s *Store) audit(ctx context.Context, tx pgx.Tx, by request.Principal, action string, l budget.Limit) error {
	kind, actor, err := postgres.Actor(ctx, tx, by)
	if err != nil {
		return err
	}
	return postgres.Audit(ctx, tx, postgres.Event{
		Tenant: l.Tenant, ActorKind: kind, Actor: actor, Action: "budget_limit." + action, TargetKind: "budget_limit", Target: l.ID,
		RequestID: s.o.RequestID(ctx),
		Details:   map[string]any{"project": l.Project, "window": l.Window, "limit_tokens": l.Tokens, "version": l.Version},
	})
}

// Limit implements budget.Limits.
func (s *Store) Limit(ctx context.Context, tenant, id string) (budget.Limit, error) {
	if !budget.IsID(id) {
		return budget.Limit{}, budget.ErrUnknown
	}
	l, err := scanLimit(s.o.Pool.QueryRow(ctx, readLimit, tenant, id))
	return l, fault("read limit", err)
}

// Limits implements budget.Limits.
func (s *Store) Limits(ctx context.Context, tenant, after string, limit int) (account.Page[budget.Limit], error) {
	if after != "" && !budget.IsID(after) {
		return account.Page[budget.Limit]{}, budget.ErrPosition
	}
	next := func(l budget.Limit) string { return l.ID }
	p, err := page(ctx, s, scanLimit, next, limit, readLimits, tenant, after)
	return p, fault("list limits", err)
}

// page reads at most limit things and says where the following begin. The
// statement's last parameter is its limit: one more is asked for.
func page[T any](ctx context.Context, s *Store, scan func(row) (T, error), position func(T) string, limit int, sql string, args ...any) (account.Page[T], error) {
	limit = budget.PageSize(limit)
	rows, err := s.o.Pool.Query(ctx, sql, append(slices.Clone(args), limit+1)...)
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
