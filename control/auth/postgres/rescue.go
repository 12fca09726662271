package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/control/auth"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// maxNamed is how many administrators a refusal names.
const maxNamed = 10

const (
	// lockUsers keeps everybody from becoming, or ceasing to be, an
	// administrator while it is decided whether there is one. Who only reads
	// doesn't wait.
	lockUsers = `LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE`

	selectAdmins = `SELECT username FROM users WHERE tenant_id = '*' AND role = 'admin' AND status = 'active' ORDER BY username LIMIT $1`

	insertAdmin = `INSERT INTO users (tenant_id, username, password_hash, role) VALUES ('*', $1, $2, 'admin') RETURNING id::text`
	enableUser  = `UPDATE users SET status = 'active' WHERE id = $1 AND status <> 'active'`

	// unlockAccount leaves the open attempts, whose outcomes are still to come.
	unlockAccount = `
UPDATE login_attempts SET failed_at = '{}', locked_until = NULL, updated_at = $2
WHERE account_hash = $1 AND (cardinality(failed_at) > 0 OR locked_until > $2)`

	insertBroken = `INSERT INTO outbox (tenant_id, kind, payload) VALUES ('*', 'auth.break_glass', $1)`
)

// Rescue implements auth.Emergencies. A refusal is committed: the row that
// tells of it is all that it writes.
func (s *Store) Rescue(ctx context.Context, r auth.Rescue, now time.Time) (done auth.Rescued, err error) {
	var no string // why not
	err = s.tx(ctx, "breaking the glass", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockUsers); err != nil {
			return err
		}
		var u auth.User
		err := scanSubject(tx.QueryRow(ctx, selectUser, r.User, now), &u.Subject, &u.Active, &u.Hash)
		if err != nil {
			return err
		}
		done = auth.Rescued{User: u.Subject, Name: r.User, Made: u.ID == ""}
		if no, err = objection(ctx, tx, r.User, u); err != nil {
			return err
		}
		if no == "" {
			err = rescue(ctx, tx, r, &done, now)
		}
		if err != nil {
			return err
		}
		return tellOfRescue(ctx, tx, r, done, no)
	})
	switch {
	case err != nil:
		return auth.Rescued{}, err
	case no != "":
		return auth.Rescued{}, fmt.Errorf("%w: %s", auth.ErrRefused, no)
	}
	return done, nil
}

// objection says why a user may not be rescued, "" if it may.
func objection(ctx context.Context, tx pgx.Tx, name string, u auth.User) (string, error) {
	if u.ID != "" {
		if u.Tenant == request.AnyTenant && u.Role == request.RoleAdmin {
			return "", nil
		}
		return fmt.Sprintf("%q is no administrator of all tenants, and this makes nobody one", name), nil
	}
	rows, err := tx.Query(ctx, selectAdmins, maxNamed+1)
	if err != nil {
		return "", err
	}
	admins, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(admins) == 0 {
		return "", err
	}
	return fmt.Sprintf("there is no user %q, but there are administrators of all tenants; name one of them: %s", name, named(admins)), nil
}

func named(admins []string) string {
	if len(admins) > maxNamed {
		admins[maxNamed] = "and more"
	}
	return strings.Join(admins, ", ")
}

// rescue makes the user of done usable, and notes in done what that took.
func rescue(ctx context.Context, tx pgx.Tx, r auth.Rescue, done *auth.Rescued, now time.Time) error {
	if done.Made {
		done.User = auth.Subject{Role: request.RoleAdmin, Tenant: request.AnyTenant}
		if err := tx.QueryRow(ctx, insertAdmin, r.User, r.Hash).Scan(&done.User.ID); err != nil {
			return err
		}
	}
	enabled, err := tx.Exec(ctx, enableUser, done.User.ID)
	if err != nil {
		return err
	}
	unlocked, err := tx.Exec(ctx, unlockAccount, r.Account, now)
	if err != nil {
		return err
	}
	done.Enabled, done.Unlocked = enabled.RowsAffected() > 0, unlocked.RowsAffected() > 0
	return nil
}

// tellOfRescue writes the audit row, and the event of what was done.
func tellOfRescue(ctx context.Context, tx pgx.Tx, r auth.Rescue, done auth.Rescued, no string) error {
	details := map[string]any{"reason": r.Reason, "host": r.Host, "os_user": r.OSUser, "username": r.User}
	e := postgres.Event{
		Tenant: request.AnyTenant, ActorKind: "break_glass", Actor: r.OSUser + "@" + r.Host, Action: "auth.break_glass",
		TargetKind: "user", Target: done.User.ID, Details: details,
	}
	if no != "" {
		e.Outcome, details["refused"] = "denied", no
		return postgres.Audit(ctx, tx, e)
	}
	details["made"], details["enabled"], details["unlocked"] = done.Made, done.Enabled, done.Unlocked
	if err := postgres.Audit(ctx, tx, e); err != nil {
		return err
	}
	details["subject"] = done.User.ID
	_, err := tx.Exec(ctx, insertBroken, details)
	return err
}
