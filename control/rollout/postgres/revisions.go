package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/control/rollout"
	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

const (
	revisionColumns = `r.policy_set, r.id, r.note, r.pushed_by, r.pushed_at, coalesce(r.id = (
	SELECT revision_id FROM policy_activations a WHERE a.policy_set = r.policy_set ORDER BY a.generation DESC LIMIT 1), false)`
	fromRevisions = ` FROM policy_revisions r WHERE r.policy_set = $1 `

	selectRevision  = `SELECT ` + revisionColumns + fromRevisions + `AND r.id = $2`
	selectStored    = `SELECT ` + revisionColumns + `, r.bundle, r.kid, r.signature` + fromRevisions + `AND r.id = $2`
	selectRevisions = `SELECT ` + revisionColumns + fromRevisions + `AND (r.pushed_at, r.id) < ($2, $3) ORDER BY r.pushed_at DESC, r.id DESC LIMIT $4`
	resolve         = `SELECT r.id` + fromRevisions + `AND starts_with(r.id, $2) LIMIT 2`

	insertSet      = `INSERT INTO policy_sets (name) VALUES ($1) ON CONFLICT DO NOTHING`
	insertRevision = `
INSERT INTO policy_revisions (policy_set, id, bundle, signature, kid, note, pushed_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (policy_set, id) DO NOTHING`
)

func scanRevision(r row) (v mesh.Revision, err error) {
	err = r.Scan(&v.PolicySet, &v.ID, &v.Note, &v.PushedBy, &v.PushedAt, &v.Active)
	return v, err
}

func scanStored(r row) (v rollout.Stored, err error) {
	err = r.Scan(&v.PolicySet, &v.ID, &v.Note, &v.PushedBy, &v.PushedAt, &v.Active, &v.Bundle, &v.KeyID, &v.Signature)
	return v, err
}

// Push implements rollout.Revisions.
func (s *Store) Push(ctx context.Context, by request.Principal, p rollout.Pushed) (r mesh.Revision, created bool, err error) {
	err = s.tx(ctx, "pushing", func(tx pgx.Tx) error {
		set, err := tx.Exec(ctx, insertSet, p.PolicySet)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, insertRevision, p.PolicySet, p.ID, p.Bundle, p.Signature, p.KeyID, p.Note, subject(by))
		if err != nil {
			return err
		}
		if r, err = scanRevision(tx.QueryRow(ctx, selectRevision, p.PolicySet, p.ID)); err != nil {
			return err
		}
		if created = tag.RowsAffected() > 0; !created {
			return nil // nothing has changed
		}
		return s.audit(ctx, tx, pushed(by, p, set.RowsAffected() > 0))
	})
	if err != nil {
		return mesh.Revision{}, false, err
	}
	return r, created, nil
}

func pushed(by request.Principal, p rollout.Pushed, newSet bool) change {
	return change{by: by, action: "push", kind: "policy_revision", target: p.PolicySet + "/" + p.ID,
		detail: map[string]any{"policy_set": p.PolicySet, "revision": p.ID, "note": p.Note, "new_set": newSet}}
}

// Revisions implements rollout.Revisions.
func (s *Store) Revisions(ctx context.Context, set, after string, limit int) (account.Page[mesh.Revision], error) {
	at, id, err := openPosition(after)
	if err != nil {
		return account.Page[mesh.Revision]{}, err
	}
	p, err := page(ctx, s, scanRevision, position, limit, selectRevisions, set, at, id)
	if err == nil && len(p.Items) == 0 { // a set without revisions, or none
		_, err = scanSet(s.pool.QueryRow(ctx, selectSet, set))
	}
	return p, fault("revisions", err)
}

// position is a revision's place in a list: when it was pushed, in microseconds,
// which is as fine as the database tells, and its id.
func position(r mesh.Revision) string { return fmt.Sprintf("%d.%s", r.PushedAt.UnixMicro(), r.ID) }

func openPosition(after string) (at pgtype.Timestamptz, id string, err error) {
	if after == "" {
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}, "", nil
	}
	text, id, _ := strings.Cut(after, ".")
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil || len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return at, "", rollout.ErrPosition
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(us), Valid: true}, id, nil
}

// Revision implements rollout.Revisions.
func (s *Store) Revision(ctx context.Context, set, id string) (rollout.Stored, error) {
	r, err := scanStored(s.pool.QueryRow(ctx, selectStored, set, id))
	if err != nil {
		return rollout.Stored{}, fault("revision", err)
	}
	return r, nil
}

// Resolve implements rollout.Revisions.
func (s *Store) Resolve(ctx context.Context, set, prefix string) (string, error) {
	rows, err := s.pool.Query(ctx, resolve, set, prefix)
	if err != nil {
		return "", fault("revision", err)
	}
	id, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if errors.Is(err, pgx.ErrTooManyRows) {
		return "", rollout.ErrAmbiguous
	}
	return id, fault("revision", err)
}
