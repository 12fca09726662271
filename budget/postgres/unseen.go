package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/budget"
)

// A sidecar that asked for a hold lately was heard of, whatever its reports say:
// those are written by and by.
const unseen = `
SELECT s.id::text FROM sidecars s
WHERE coalesce(s.last_seen_at, s.created_at) < coalesce($1, now()) - $2::interval
	AND EXISTS (SELECT FROM budget_requests r WHERE r.sidecar_id = s.id AND r.state = 'reserved')
	AND NOT EXISTS (SELECT FROM budget_requests r WHERE r.sidecar_id = s.id AND r.state = 'reserved' AND r.created_at >= coalesce($1, now()) - $2::interval)
ORDER BY s.id LIMIT $3`

// Unseen returns the ids of sidecars that have open holds, and of which nothing
// was heard for a time: no report, and none of these holds. At most
// budget.MaxSweep; more come when these have none left.
func (s *Store) Unseen(ctx context.Context, since time.Duration) ([]string, error) {
	rows, err := s.o.Pool.Query(ctx, unseen, s.at(), since, budget.MaxSweep)
	if err != nil {
		return nil, fault("silent sidecars", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return ids, fault("silent sidecars", err)
}
