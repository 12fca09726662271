package postgres

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/budget"
	"gatehouse/internal/account"
)

const (
	usage = `SELECT ` + limitFields + `, period_start, period_end, ceiling, used, reserved, overrun
		FROM budget_usage($1, $2, $3)
		ORDER BY coalesce(project_id, ''), array_position(ARRAY['total', 'hour', 'day', 'week', 'month'], window_kind)`
	readRequest = `SELECT ` + requestFields + ` FROM budget_requests WHERE tenant_id = $1 AND origin = $2 AND request_id = $3 AND attempt = $4`
	journal     = `SELECT id, coalesce(project_id, ''), budget_id::text, limit_id::text, origin, coalesce(request_id, ''), attempt, kind,
			used_delta, reserved_delta, overrun_delta, coalesce(limit_tokens, 0), late, at
		FROM budget_transactions WHERE tenant_id = $1 AND id < $2 AND ($3 = '' OR project_id = $3) AND ($4 = '' OR request_id = $4)
		ORDER BY id DESC LIMIT $5`
)

// Usage implements budget.Reports.
func (s *Store) Usage(ctx context.Context, tenant, project string) ([]budget.Usage, error) {
	scopes := []string{""}
	if project != "" {
		scopes = append(scopes, project)
	}
	rows, err := s.o.Pool.Query(ctx, usage, tenant, scopes, s.at())
	if err != nil {
		return nil, fault("usage", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (budget.Usage, error) { return scanUsage(r) })
	return all, fault("usage", err)
}

func scanUsage(r row) (budget.Usage, error) {
	var (
		l           budget.Limit
		closed, end *time.Time
		start       time.Time
		f           budget.Row
	)
	err := r.Scan(&l.ID, &l.Tenant, &l.Project, &l.Window, &l.Zone, &l.Tokens, &l.Version, &l.CreatedAt, &l.UpdatedAt, &closed,
		&start, &end, &f.Ceiling, &f.Used, &f.Reserved, &f.Overrun)
	l.CreatedAt, l.UpdatedAt, l.ClosedAt, f.Limit = l.CreatedAt.UTC(), l.UpdatedAt.UTC(), utc(closed), l.Tokens
	return budget.UsageOf(l, budget.Period{Start: start.UTC(), End: utc(end)}, f), err
}

// Request implements budget.Reports.
func (s *Store) Request(ctx context.Context, tenant string, key budget.Key) (budget.Request, error) {
	if err := key.Check(); err != nil {
		return budget.Request{}, err
	}
	var c requestColumns
	if err := s.o.Pool.QueryRow(ctx, readRequest, tenant, key.Origin, key.ID, key.Attempt).Scan(c.dest()...); err != nil {
		return budget.Request{}, fault("read request", err)
	}
	r, err := c.request()
	r.Key = key
	return r, err
}

// Journal implements budget.Reports.
func (s *Store) Journal(ctx context.Context, tenant string, q budget.Query) (account.Page[budget.Line], error) {
	before, err := q.Position()
	if err != nil {
		return account.Page[budget.Line]{}, err
	}
	next := func(l budget.Line) string { return strconv.FormatInt(l.ID, 10) }
	p, err := page(ctx, s, scanLine, next, q.Limit, journal, tenant, before, q.Project, q.Request)
	return p, fault("journal", err)
}

func scanLine(r row) (l budget.Line, err error) {
	err = r.Scan(&l.ID, &l.Project, &l.Row, &l.LimitID, &l.Origin, &l.Key.ID, &l.Attempt, &l.Kind,
		&l.Used, &l.Reserved, &l.Overrun, &l.Limit, &l.Late, &l.At)
	l.At = l.At.UTC()
	return l, err
}
