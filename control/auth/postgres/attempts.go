package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/control/auth"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// The failures and open attempts that count, of a row a. $2 is now, $3 the
// beginning of the window.
//
// INVARIANT: they name columns of the row that is updated and nothing else, so
// that after waiting for another's lock they are read from the row as it is then.
const (
	counted = `array(SELECT f FROM unnest(a.failed_at) f WHERE f > $3)`
	open    = `CASE WHEN a.pending_until > $2 THEN a.pending ELSE 0 END`
)

// The rule of auth.Rule.Admit as one statement each. The row's lock makes
// parallel attempts wait for one another here, not at the hash.
const (
	reserveAttempt = `
INSERT INTO login_attempts AS a (account_hash, pending, pending_until, updated_at) VALUES ($1, 1, $4, $2)
ON CONFLICT (account_hash) DO UPDATE SET pending = ` + open + ` + 1, pending_until = $4, updated_at = $2
WHERE coalesce(a.locked_until, '-infinity') <= $2 AND cardinality(` + counted + `) + ` + open + ` < $5
RETURNING true`

	selectAttempts = `SELECT failed_at, pending, pending_until, locked_until FROM login_attempts WHERE account_hash = $1`

	giveBackAttempt = `UPDATE login_attempts SET pending = greatest(pending - 1, 0), updated_at = $2 WHERE account_hash = $1`

	// failAttempt forgets the failures when they lock: they begin anew after.
	failAttempt = `
UPDATE login_attempts a SET pending = greatest(a.pending - 1, 0), updated_at = $2,
	locked_until = CASE WHEN cardinality(` + counted + `) + 1 >= $4 THEN $5 ELSE a.locked_until END,
	failed_at = CASE WHEN cardinality(` + counted + `) + 1 >= $4 THEN '{}' ELSE ` + counted + ` || $2::timestamptz END
WHERE account_hash = $1
RETURNING cardinality(a.failed_at) = 0`

	clearAttempts = `
UPDATE login_attempts SET pending = greatest(pending - 1, 0), failed_at = '{}', locked_until = NULL, updated_at = $2 WHERE account_hash = $1`
)

// Reserve implements auth.Guesses.
func (s *Store) Reserve(ctx context.Context, account []byte, r auth.Rule, now time.Time) (bool, auth.Attempts, error) {
	var ok bool
	err := s.pool.QueryRow(ctx, reserveAttempt, account, now, now.Add(-r.Window), now.Add(auth.PendingLife), r.MaxFailures).Scan(&ok)
	if err == nil {
		return true, auth.Attempts{}, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return false, auth.Attempts{}, fault("reserving an attempt", err)
	}
	a, err := s.attempts(ctx, account)
	return false, a, fault("reading attempts", err)
}

// attempts reads what is known of an account, for how long to wait: it may have
// changed since the reservation was refused.
func (s *Store) attempts(ctx context.Context, account []byte) (a auth.Attempts, err error) {
	var locked pgtype.Timestamptz
	err = s.pool.QueryRow(ctx, selectAttempts, account).Scan(&a.Failed, &a.Pending, &a.PendingUntil, &locked)
	if errors.Is(err, pgx.ErrNoRows) {
		return auth.Attempts{}, nil
	}
	a.LockedUntil = locked.Time
	return a, err
}

// GiveBack implements auth.Guesses.
func (s *Store) GiveBack(ctx context.Context, account []byte, now time.Time) error {
	_, err := s.pool.Exec(ctx, giveBackAttempt, account, now)
	return fault("giving an attempt back", err)
}

// Fail implements auth.Guesses.
func (s *Store) Fail(ctx context.Context, f auth.Failure, r auth.Rule, now time.Time) (locked bool, err error) {
	err = s.tx(ctx, "counting a failure", func(tx pgx.Tx) error {
		locked = false
		row := tx.QueryRow(ctx, failAttempt, f.Account, now, now.Add(-r.Window), r.MaxFailures, now.Add(r.Lockout))
		if err := row.Scan(&locked); err != nil || !locked {
			return err
		}
		return tellOfLock(ctx, tx, f)
	})
	return locked, err
}

const insertLocked = `INSERT INTO outbox (tenant_id, kind, payload) VALUES ($1, 'auth.locked', $2)`

// tellOfLock writes the audit row and the event. The account is named by its
// hash: a name that doesn't exist may be anything that somebody typed.
func tellOfLock(ctx context.Context, tx pgx.Tx, f auth.Failure) error {
	tenant := f.User.Tenant
	if tenant == "" {
		tenant = request.AnyTenant
	}
	details := map[string]any{"subject": f.User.ID, "address": address(f.Origin)}
	err := postgres.Audit(ctx, tx, postgres.Event{
		Tenant: tenant, ActorKind: "anonymous", Actor: "anonymous", Action: "auth.lock",
		TargetKind: "account", Target: hex.EncodeToString(f.Account), Outcome: "denied", RequestID: f.Origin.RequestID, Details: details,
	})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, insertLocked, tenant, details)
	return err
}

func address(o auth.Origin) string {
	if !o.Address.IsValid() {
		return ""
	}
	return o.Address.String()
}
