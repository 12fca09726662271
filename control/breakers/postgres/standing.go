package postgres

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/control/breakers"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

const (
	// The lock ends with the transaction.
	takeTurn = `SELECT pg_advisory_xact_lock(hashtextextended('gatehouse.breakers', 0))`
	tryTurn  = `SELECT pg_try_advisory_xact_lock(hashtextextended('gatehouse.breakers', 0))`

	selectStanding = `
SELECT ` + columns + ` FROM circuit_breaker_state WHERE policy_set <> '' AND ($1 = '' OR policy_set = $1) AND ($2 = '' OR name = $2)
ORDER BY policy_set COLLATE "C", name COLLATE "C" LIMIT $3`

	insertStanding = `INSERT INTO circuit_breaker_state (policy_set, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`

	// What is counted is apart from what is ordered: of that, all are told.
	updateCounts = `
UPDATE circuit_breaker_state SET failure_threshold = $3, recovery_timeout_ms = $4, consecutive_failures = $5, total_failures = $6, total_calls = $7,
	next_probe_at = CASE WHEN state = 'closed' THEN NULL ELSE $8::timestamptz END,
	called_sidecars = $9, open_sidecars = $10, half_open_sidecars = $11
WHERE policy_set = $1 AND name = $2 RETURNING ` + columns
	updateOrders = `
UPDATE circuit_breaker_state SET state = $3, opened_at = $4, reset_order = $5, open_order = $6,
	next_probe_at = CASE WHEN $3 = 'closed' THEN NULL ELSE next_probe_at END
WHERE policy_set = $1 AND name = $2`
	dropStanding = `DELETE FROM circuit_breaker_state WHERE policy_set = $1 AND name = $2`
	insertEvent  = `INSERT INTO outbox (tenant_id, kind, payload) VALUES ($1, 'breaker.changed', $2)`
)

func cut(position string) (set, name string) {
	set, name, _ = strings.Cut(position, separator)
	return set, name
}

// row is what scans: one row, or the present one of several.
type row interface{ Scan(dest ...any) error }

func scan(r row) (s breakers.Standing, err error) {
	var opened, probe *time.Time
	var recovery int64
	err = r.Scan(&s.PolicySet, &s.Name, &s.Phase, &s.Threshold, &recovery, &s.Consecutive, &s.Failures, &s.Calls,
		&opened, &probe, &s.Called, &s.Open, &s.HalfOpen, &s.Version, &s.UpdatedAt, &s.Reset, &s.Opened)
	s.Recovery = time.Duration(recovery) * time.Millisecond
	if opened != nil {
		s.OpenedAt = *opened
	}
	if probe != nil {
		s.NextProbe = *probe
	}
	return s, err
}

// known is t, or NULL for the zero time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// standing reads what f selects, within a turn.
func standing(ctx context.Context, tx pgx.Tx, f mesh.BreakerFilter) ([]breakers.Standing, error) {
	rows, err := tx.Query(ctx, selectStanding, f.PolicySet, f.Name, maxStanding+1)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (breakers.Standing, error) { return scan(r) })
	if err != nil {
		return nil, err
	}
	return all, bounded(int64(len(all)), maxStanding)
}

// write keeps what stands now, with an event for each breaker that turned, and
// returns the rows. before are those that were there.
func write(ctx context.Context, tx pgx.Tx, before, now []breakers.Standing) (written []breakers.Standing, err error) {
	was := make(map[string]breakers.Standing, len(before))
	for _, b := range before {
		was[b.PolicySet+separator+b.Name] = b
	}
	for _, b := range now {
		old, there := was[b.PolicySet+separator+b.Name]
		b, err := keep(ctx, tx, old, there, b)
		if err != nil {
			return nil, err
		}
		written = append(written, b)
	}
	return written, nil
}

// keep writes one row.
func keep(ctx context.Context, tx pgx.Tx, old breakers.Standing, there bool, b breakers.Standing) (breakers.Standing, error) {
	if !there {
		if _, err := tx.Exec(ctx, insertStanding, b.PolicySet, b.Name); err != nil {
			return b, err
		}
		old.Phase = mesh.BreakerClosed
	}
	if old.Phase != b.Phase || old.Reset != b.Reset || old.Opened != b.Opened {
		if _, err := tx.Exec(ctx, updateOrders, b.PolicySet, b.Name, string(b.Phase), known(b.OpenedAt), b.Reset, b.Opened); err != nil {
			return b, err
		}
	}
	if old.Phase != b.Phase {
		if err := tell(ctx, tx, b); err != nil {
			return b, err
		}
	}
	// The bounds of the table: a report says what it wants.
	threshold, recovery := min(max(b.Threshold, 1), 1000), min(max(b.Recovery.Milliseconds(), 1), 86_400_000)
	return scan(tx.QueryRow(ctx, updateCounts, b.PolicySet, b.Name, threshold, recovery, b.Consecutive, b.Failures, b.Calls,
		known(b.NextProbe), b.Called, b.Open, b.HalfOpen))
}

// event is what subscribers are told of a breaker that turned.
type event struct {
	PolicySet string `json:"policy_set"`
	Name      string `json:"name"`
	State     string `json:"state"`
	Called    int    `json:"sidecars_called"`
	Open      int    `json:"sidecars_open"`
}

func tell(ctx context.Context, tx pgx.Tx, b breakers.Standing) error {
	payload, err := json.Marshal(event{b.PolicySet, b.Name, string(b.Phase), b.Called, b.Open})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, insertEvent, request.AnyTenant, payload)
	return err
}
