package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/control/breakers"
	"gatehouse/internal/mesh"
	"gatehouse/internal/postgres"
)

// maxStatement bounds the sidecars of one statement.
const maxStatement = 2000

// silentAfter is how long a process must have been silent for an older one to
// speak for its sidecar again, as in control/mesh.
const silentAfter = 2 * time.Minute

const (
	// Rows are locked in the order of ids, so that two statements never wait for
	// each other.
	storeReports = `
INSERT INTO sidecar_breakers AS b (sidecar_id, policy_set, incarnation, reported_at, troubled, breakers)
SELECT r.* FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::boolean[], $6::jsonb[])
	AS r (id, policy_set, incarnation, at, troubled, breakers)
JOIN sidecars s ON s.id = r.id AND s.status = 'active' ORDER BY r.id
ON CONFLICT (sidecar_id) DO UPDATE SET policy_set = excluded.policy_set, incarnation = excluded.incarnation,
	reported_at = excluded.reported_at, troubled = excluded.troubled, breakers = excluded.breakers
WHERE excluded.incarnation > b.incarnation OR excluded.incarnation = b.incarnation AND excluded.reported_at >= b.reported_at
	OR b.reported_at < excluded.reported_at - $7::interval`

	// A sidecar that has moved to another policy set says nothing of it yet.
	selectReports = `
SELECT b.policy_set, b.incarnation, b.reported_at, b.breakers FROM sidecar_breakers b
JOIN sidecars s ON s.id = b.sidecar_id AND s.status = 'active' AND s.policy_set = b.policy_set
WHERE b.reported_at > $1 LIMIT $2`
)

// Report implements breakers.Store.
func (s *Store) Report(ctx context.Context, reports map[string]mesh.BreakerReport) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(reports)), maxStatement) {
		var c reportColumns
		for _, id := range ids {
			if err := c.add(id, reports[id]); err != nil {
				return err
			}
		}
		if _, err := s.pool.Exec(ctx, storeReports, c.ids, c.sets, c.incarnations, c.at, c.troubled, c.breakers, silentAfter); err != nil {
			return fault("reports of breakers", err)
		}
	}
	return nil
}

// reportColumns are reports as the statement takes them.
type reportColumns struct {
	ids, sets    []string
	incarnations []int64
	at           []time.Time
	troubled     []bool
	breakers     [][]byte
}

func (c *reportColumns) add(id string, r mesh.BreakerReport) error {
	if !postgres.IsUUID(id) {
		return nil
	}
	text, troubled, err := encode(r.Breakers)
	if err != nil {
		return fmt.Errorf("breakers of sidecar %s: %w", id, err)
	}
	c.ids, c.sets, c.incarnations = append(c.ids, id), append(c.sets, r.PolicySet), append(c.incarnations, max(r.Incarnation, 0))
	c.at, c.troubled, c.breakers = append(c.at, r.At), append(c.troubled, troubled), append(c.breakers, text)
	return nil
}

// kept is a breaker of a sidecar as it is kept. Times are Unix milliseconds, 0
// for none.
type kept struct {
	Name        string            `json:"name"`
	Phase       mesh.BreakerPhase `json:"phase"`
	Consecutive int64             `json:"consecutive,omitempty"`
	Failures    int64             `json:"failures,omitempty"`
	Calls       int64             `json:"calls,omitempty"`
	OpenedAt    int64             `json:"opened_at,omitempty"`
	NextProbe   int64             `json:"next_probe,omitempty"`
	CalledAt    int64             `json:"called_at,omitempty"`
	Ordered     bool              `json:"ordered,omitempty"`
	Order       int64             `json:"order,omitempty"`
	Threshold   int               `json:"threshold,omitempty"`
	RecoveryMS  int64             `json:"recovery_ms,omitempty"`
}

// encode returns breakers as they are kept, and whether one is not closed. What
// can't be the name of a breaker is left out.
func encode(states []mesh.BreakerState) (text []byte, troubled bool, err error) {
	out := make([]kept, 0, len(states))
	for _, b := range states[:min(len(states), mesh.MaxBreakers)] {
		if !mesh.BreakerName(b.Name) {
			continue
		}
		troubled = troubled || b.Phase != mesh.BreakerClosed
		out = append(out, kept{
			b.Name, b.Phase, b.Consecutive, b.Failures, b.Calls, millis(b.OpenedAt), millis(b.NextProbe), millis(b.CalledAt),
			b.Ordered, b.Order, b.Threshold, b.Recovery.Milliseconds(),
		})
	}
	text, err = json.Marshal(out)
	return text, troubled, err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func decode(text []byte) ([]mesh.BreakerState, error) {
	var all []kept
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	out := make([]mesh.BreakerState, len(all))
	for i, k := range all {
		out[i] = mesh.BreakerState{
			Name: k.Name, Phase: k.Phase, Consecutive: k.Consecutive, Failures: k.Failures, Calls: k.Calls,
			OpenedAt: fromMillis(k.OpenedAt), NextProbe: fromMillis(k.NextProbe), CalledAt: fromMillis(k.CalledAt),
			Ordered: k.Ordered, Order: k.Order, Threshold: k.Threshold, Recovery: time.Duration(k.RecoveryMS) * time.Millisecond,
		}
	}
	return out, nil
}

// Review implements breakers.Store.
func (s *Store) Review(
	ctx context.Context, since time.Time, judge func([]mesh.BreakerReport, []breakers.Standing) breakers.Outcome,
) error {
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, tryTurn).Scan(&mine); err != nil || !mine {
			return err
		}
		reports, err := reported(ctx, tx, since)
		if err != nil {
			return err
		}
		before, err := standing(ctx, tx, mesh.BreakerFilter{})
		if err != nil {
			return err
		}
		return apply(ctx, tx, before, judge(reports, before))
	})
	return fault("reviewing breakers", err)
}

func apply(ctx context.Context, tx pgx.Tx, before []breakers.Standing, o breakers.Outcome) error {
	if _, err := write(ctx, tx, before, o.Write); err != nil {
		return err
	}
	for _, b := range o.Drop {
		if _, err := tx.Exec(ctx, dropStanding, b.PolicySet, b.Name); err != nil {
			return err
		}
	}
	return nil
}

func reported(ctx context.Context, tx pgx.Tx, since time.Time) ([]mesh.BreakerReport, error) {
	rows, err := tx.Query(ctx, selectReports, since, maxReports+1)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (b mesh.BreakerReport, err error) {
		var text []byte
		if err = r.Scan(&b.PolicySet, &b.Incarnation, &b.At, &text); err == nil {
			b.Breakers, err = decode(text)
		}
		return b, err
	})
	if err != nil {
		return nil, err
	}
	return all, bounded(int64(len(all)), maxReports)
}
