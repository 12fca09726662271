package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/control/rollout"
	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

// maxLead is how far the generations that sidecars report may be ahead of the
// set's own to count: a database restored from a backup has lost fewer. Without
// it, one sidecar's word could use up all the numbers there are.
const maxLead = 1_000_000

// Names are in the order of their bytes, whatever the database's language.
const (
	newest = `SELECT generation, revision_id, kind, activated_at FROM policy_activations WHERE policy_set = p.name ORDER BY generation DESC LIMIT 1`

	setColumns = `p.name, p.version, p.created_at, a.generation, a.revision_id, a.kind, a.activated_at, c.registered, c.in_force`
	fromSets   = ` FROM policy_sets p LEFT JOIN LATERAL (` + newest + `) a ON true CROSS JOIN LATERAL (
	SELECT count(*) AS registered, count(*) FILTER (WHERE s.generation = a.generation AND s.revision_id = a.revision_id) AS in_force
	FROM sidecars s WHERE s.policy_set = p.name AND s.status = 'active') c `
	selectSet  = `SELECT ` + setColumns + fromSets + `WHERE p.name = $1`
	selectSets = `SELECT ` + setColumns + fromSets + `WHERE p.name COLLATE "C" > $1 ORDER BY p.name COLLATE "C" LIMIT $2`

	lockSet        = `SELECT version FROM policy_sets WHERE name = $1 FOR NO KEY UPDATE`
	selectStanding = `
SELECT a.generation, a.revision_id, a.kind, greatest(a.generation, 0, (
	SELECT max(s.generation) FROM sidecars s WHERE s.policy_set = p.name AND s.status = 'active' AND s.generation <= coalesce(a.generation, 0) + $2))
FROM policy_sets p LEFT JOIN LATERAL (` + newest + `) a ON true WHERE p.name = $1`
	// One revision is never activated twice in a row, so that this reads two rows.
	selectPrevious = `
SELECT revision_id FROM policy_activations WHERE policy_set = $1 AND revision_id <> $2 ORDER BY generation DESC LIMIT 1`
	wasInForce = `SELECT EXISTS (SELECT FROM policy_activations WHERE policy_set = $1 AND revision_id = $2)`

	insertActivation = `
INSERT INTO policy_activations (policy_set, generation, revision_id, kind, activated_by, signature, kid) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	raiseVersion = `UPDATE policy_sets SET updated_at = now() WHERE name = $1` // the trigger does
)

// activation is the newest one of a set, or none.
type activation struct {
	generation     *int64
	revision, kind *string
	at             *time.Time
}

func (a activation) of(set string) *revision.Activation {
	if a.generation == nil {
		return nil
	}
	return &revision.Activation{PolicySet: set, Generation: *a.generation, Revision: *a.revision, Kind: revision.Kind(*a.kind)}
}

func scanSet(r row) (p mesh.PolicySet, err error) {
	var a activation
	if err = r.Scan(&p.Name, &p.Version, &p.CreatedAt, &a.generation, &a.revision, &a.kind, &a.at, &p.Sidecars, &p.InForce); err != nil {
		return mesh.PolicySet{}, err
	}
	if p.Active = a.of(p.Name); p.Active != nil {
		p.ActiveAt = *a.at
	}
	return p, nil
}

// PolicySets implements rollout.Sets.
func (s *Store) PolicySets(ctx context.Context, after string, limit int) (account.Page[mesh.PolicySet], error) {
	p, err := page(ctx, s, scanSet, func(p mesh.PolicySet) string { return p.Name }, limit, selectSets, after)
	return p, fault("policy sets", err)
}

// PolicySet implements rollout.Sets.
func (s *Store) PolicySet(ctx context.Context, name string) (mesh.PolicySet, error) {
	p, err := scanSet(s.pool.QueryRow(ctx, selectSet, name))
	return p, fault("policy set", err)
}

// Activate implements rollout.Sets.
func (s *Store) Activate(ctx context.Context, by request.Principal, set, target string, step func(rollout.Standing) (*revision.Signed, error)) (now mesh.PolicySet, err error) {
	err = s.tx(ctx, "activating", func(tx pgx.Tx) error {
		st, err := standing(ctx, tx, set, target)
		if err != nil {
			return err
		}
		next, err := step(st)
		if err != nil {
			return own{err}
		}
		if next != nil {
			if err := s.activate(ctx, tx, by, st, *next); err != nil {
				return err
			}
		}
		now, err = scanSet(tx.QueryRow(ctx, selectSet, set))
		return err
	})
	if err != nil {
		return mesh.PolicySet{}, err
	}
	return now, nil
}

// standing locks a set and reads what is in force of it.
//
// INVARIANT: the lock is a statement of its own. What the next ones see begins
// after it was had, so that no two transactions go on from one generation.
func standing(ctx context.Context, tx pgx.Tx, set, target string) (st rollout.Standing, err error) {
	if err = tx.QueryRow(ctx, lockSet, set).Scan(&st.Version); err != nil {
		return st, err
	}
	var a activation
	if err = tx.QueryRow(ctx, selectStanding, set, maxLead).Scan(&a.generation, &a.revision, &a.kind, &st.Highest); err != nil {
		return st, err
	}
	st.Active = a.of(set)
	if target == "" && st.Active != nil {
		err = optional(tx.QueryRow(ctx, selectPrevious, set, st.Active.Revision).Scan(&target))
	}
	if err != nil || target == "" {
		return st, err
	}
	return aim(ctx, tx, st, set, target)
}

// aim adds the revision that somebody wants.
func aim(ctx context.Context, tx pgx.Tx, st rollout.Standing, set, target string) (rollout.Standing, error) {
	r, err := scanStored(tx.QueryRow(ctx, selectStored, set, target))
	if errors.Is(err, pgx.ErrNoRows) {
		return st, nil
	}
	st.Target = &r
	if err == nil {
		err = tx.QueryRow(ctx, wasInForce, set, target).Scan(&st.Before)
	}
	return st, err
}

// optional takes no row for an answer.
func optional(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// activate writes what comes into force. All replicas are told at commit.
func (s *Store) activate(ctx context.Context, tx pgx.Tx, by request.Principal, st rollout.Standing, next revision.Signed) error {
	_, err := tx.Exec(ctx, insertActivation, next.PolicySet, next.Generation, next.Revision, string(next.Kind), subject(by), next.Signature, next.KeyID)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, raiseVersion, next.PolicySet); err != nil {
		return err
	}
	detail := map[string]any{"revision": next.Revision, "generation": next.Generation}
	if st.Active != nil {
		detail["instead_of"] = st.Active.Revision
	}
	return s.audit(ctx, tx, change{by: by, action: string(next.Kind), kind: "policy_set", target: next.PolicySet, detail: detail})
}
