package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/control/auth"
	"gatehouse/internal/postgres"
)

const (
	replaceHash = `UPDATE users SET password_hash = $2 WHERE id = $1`

	insertFamily = `
INSERT INTO refresh_tokens (tenant_id, user_id, family_id, token_hash, created_at, expires_at)
VALUES ($1, $2, gen_random_uuid(), $3, $4, $5)`

	selectOwner   = `SELECT user_id FROM refresh_tokens WHERE token_hash = $1`
	selectSession = `SELECT family_id, expires_at, used_at, revoked_at FROM refresh_tokens WHERE token_hash = $1`
	useToken      = `UPDATE refresh_tokens SET used_at = $2 WHERE token_hash = $1`
	revokeFamily  = `UPDATE refresh_tokens SET revoked_at = $2 WHERE family_id = $1 AND revoked_at IS NULL`
	insertToken   = `
INSERT INTO refresh_tokens (tenant_id, user_id, family_id, token_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`
)

// Open implements auth.Sessions. The user's row stays locked to the end: who
// changes the user comes before it, and is seen, or after it, and sees the
// session.
func (s *Store) Open(ctx context.Context, o auth.Opening, now time.Time) error {
	return s.tx(ctx, "opening a session", func(tx pgx.Tx) error {
		if err := lockAsSeen(ctx, tx, o.User, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, clearAttempts, o.Account, now); err != nil {
			return err
		}
		if o.NewHash != "" {
			if _, err := tx.Exec(ctx, replaceHash, o.User.ID, o.NewHash); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, insertFamily, o.User.Tenant, o.User.ID, o.Refresh, now, o.Expires); err != nil {
			return err
		}
		return audit(ctx, tx, o.User.Subject, "auth.login", "success", o.Origin)
	})
}

// lockAsSeen locks the user's row, or refuses if it is not as it was seen. Only
// what was revoked may differ: later tokens are all refused then.
func lockAsSeen(ctx context.Context, tx pgx.Tx, seen auth.User, now time.Time) error {
	u, err := lockUser(ctx, tx, seen.ID, now)
	if err != nil {
		return err
	}
	u.Revoked = seen.Revoked
	if u != seen {
		return auth.ErrRefused
	}
	return nil
}

func lockUser(ctx context.Context, tx pgx.Tx, id any, now time.Time) (u auth.User, err error) {
	err = scanSubject(tx.QueryRow(ctx, selectUserByID, id, now), &u.Subject, &u.Active, &u.Hash)
	return u, err
}

// session is one refresh token as it is stored, and its user.
type session struct {
	family        pgtype.UUID
	expires       time.Time
	used, revoked pgtype.Timestamptz
	user          auth.User
}

func (s session) over(now time.Time) bool { return s.revoked.Valid || !s.expires.After(now) }

// lockSession finds the token's session, with its user locked.
//
// INVARIANT: whoever changes a family holds its user's row, and looks at the
// family only then. So a family that is being revoked gets no new token.
func lockSession(ctx context.Context, tx pgx.Tx, hash []byte, now time.Time) (s session, err error) {
	var owner pgtype.UUID
	err = tx.QueryRow(ctx, selectOwner, hash).Scan(&owner)
	if err == nil {
		s.user, err = lockUser(ctx, tx, owner, now)
	}
	if err == nil {
		err = tx.QueryRow(ctx, selectSession, hash).Scan(&s.family, &s.expires, &s.used, &s.revoked)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return session{}, auth.ErrRefused
	}
	return s, err
}

// Rotate implements auth.Sessions. A refusal changes nothing, so that a tenant
// that is resumed finds its sessions; only reuse is committed.
func (s *Store) Rotate(ctx context.Context, used, next []byte, o auth.Origin, now time.Time) (auth.Subject, error) {
	var old session
	var reused bool
	err := s.tx(ctx, "rotating a session", func(tx pgx.Tx) (err error) {
		if old, err = lockSession(ctx, tx, used, now); err != nil {
			return err
		}
		reused = old.used.Valid && !old.over(now)
		switch {
		case reused:
			return revoke(ctx, tx, old, "auth.refresh_reuse", "denied", o, now)
		case old.over(now) || !old.user.Active:
			return auth.ErrRefused
		}
		return rotate(ctx, tx, old, used, next, o, now)
	})
	if err == nil && reused {
		err = auth.ErrReused
	}
	if err != nil {
		return auth.Subject{}, err
	}
	return old.user.Subject, nil
}

func rotate(ctx context.Context, tx pgx.Tx, old session, used, next []byte, o auth.Origin, now time.Time) error {
	if _, err := tx.Exec(ctx, useToken, used, now); err != nil {
		return err
	}
	u := old.user
	if _, err := tx.Exec(ctx, insertToken, u.Tenant, u.ID, old.family, next, now, old.expires); err != nil {
		return err
	}
	return audit(ctx, tx, u.Subject, "auth.refresh", "success", o)
}

func revoke(ctx context.Context, tx pgx.Tx, s session, action, outcome string, o auth.Origin, now time.Time) error {
	if _, err := tx.Exec(ctx, revokeFamily, s.family, now); err != nil {
		return err
	}
	return audit(ctx, tx, s.user.Subject, action, outcome, o)
}

// End implements auth.Sessions.
func (s *Store) End(ctx context.Context, hash []byte, o auth.Origin, now time.Time) error {
	err := s.tx(ctx, "ending a session", func(tx pgx.Tx) error {
		old, err := lockSession(ctx, tx, hash, now)
		if err != nil || old.over(now) {
			return err
		}
		return revoke(ctx, tx, old, "auth.logout", "success", o, now)
	})
	if errors.Is(err, auth.ErrRefused) {
		return nil // there is no such session, and so it has ended
	}
	return err
}

// audit tells what a user did to a session of its own.
func audit(ctx context.Context, tx pgx.Tx, u auth.Subject, action, outcome string, o auth.Origin) error {
	return postgres.Audit(ctx, tx, postgres.Event{
		Tenant: u.Tenant, ActorKind: "user", Actor: u.ID, Action: action, TargetKind: "user", Target: u.ID,
		Outcome: outcome, RequestID: o.RequestID, Details: map[string]any{"address": address(o)},
	})
}
