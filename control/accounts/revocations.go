package accounts

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

// Revocations of one token at the same time wait for each other, so that there
// is one row, whoever is first.
const (
	revocationColumns = `r.tenant_id, coalesce(r.subject, ''), coalesce(r.token_id, ''), r.issued_before, r.reason, r.expires_at`

	lockToken     = `SELECT pg_advisory_xact_lock(hashtextextended('gatehouse revoked token ' || $1, 0))`
	selectRevoked = `
SELECT ` + revocationColumns + ` FROM revocations r
WHERE r.kind = 'token' AND r.token_id = $1 AND r.tenant_id = $2 AND r.expires_at > clock_timestamp() ORDER BY r.expires_at DESC LIMIT 1`
	insertRevoked = `
INSERT INTO revocations AS r (tenant_id, kind, token_id, epoch, reason, created_by, expires_at)
VALUES ($1, 'token', $2, next_live_epoch(), $3, $4, clock_timestamp() + $5::interval) RETURNING ` + revocationColumns
	insertCut = `
INSERT INTO revocations AS r (tenant_id, kind, subject, issued_before, epoch, reason, created_by, expires_at)
VALUES ($1, 'subject', $2, clock_timestamp(), next_live_epoch(), $3, $4, clock_timestamp() + $5::interval) RETURNING ` + revocationColumns

	lockSubjectUser   = `SELECT tenant_id FROM users WHERE id = $1 AND ($2 = '*' OR tenant_id = $2) FOR NO KEY UPDATE`
	lockSubjectClient = `SELECT tenant_id FROM clients WHERE id = $1 AND ($2 = '*' OR tenant_id = $2) FOR NO KEY UPDATE`
)

func scanRevocation(row row) (r account.Revocation, err error) {
	var before pgtype.Timestamptz
	err = row.Scan(&r.Tenant, &r.Subject, &r.TokenID, &before, &r.Reason, &r.ExpiresAt)
	r.IssuedBefore = before.Time
	return r, err
}

// RevokeToken refuses one token, for as long as it can live. Where it is
// refused already, only the audit log changes.
func (s *Store) RevokeToken(ctx context.Context, by request.Principal, r account.Revocation) (now account.Revocation, err error) {
	c := change{by: by, action: "revoke", kind: "token", tenant: r.Tenant, target: r.TokenID, detail: map[string]any{"reason": r.Reason}}
	err = s.apply(ctx, c, func(tx pgx.Tx, _ *change) error {
		if _, err := tx.Exec(ctx, lockToken, r.TokenID); err != nil {
			return err
		}
		now, err = scanRevocation(tx.QueryRow(ctx, selectRevoked, r.TokenID, r.Tenant))
		if errors.Is(err, pgx.ErrNoRows) {
			now, err = scanRevocation(tx.QueryRow(ctx, insertRevoked, r.Tenant, r.TokenID, r.Reason, creator(by), revocationLife))
		}
		return err
	})
	return orNone(now, err)
}

// RevokeSubject refuses the tokens of a subject that were issued up to now.
// Where known, the subject must be a user or client within r's tenant, and the
// revocation is of its own; else it may be anybody.
func (s *Store) RevokeSubject(ctx context.Context, by request.Principal, r account.Revocation, known bool) (now account.Revocation, err error) {
	if known && !isUUID(r.Subject) {
		return account.Revocation{}, notFound()
	}
	c := change{by: by, action: "revoke", kind: "subject", tenant: r.Tenant, target: r.Subject, detail: map[string]any{"reason": r.Reason}}
	err = s.apply(ctx, c, func(tx pgx.Tx, c *change) error {
		if known {
			if c.tenant, err = lockSubject(ctx, tx, r.Subject, r.Tenant); err != nil {
				return err
			}
		}
		now, err = scanRevocation(tx.QueryRow(ctx, insertCut, c.tenant, r.Subject, r.Reason, creator(by), revocationLife))
		return err
	})
	return orNone(now, err)
}

// lockSubject locks a user or client within a tenant, so that the moment up to
// which its tokens are refused lies after every login before it.
func lockSubject(ctx context.Context, tx pgx.Tx, id, within string) (tenant string, err error) {
	err = tx.QueryRow(ctx, lockSubjectUser, id, within).Scan(&tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, lockSubjectClient, id, within).Scan(&tenant)
	}
	return tenant, err
}

// creator names who revokes.
func creator(by request.Principal) string {
	if by.Subject == "" {
		return "control"
	}
	return by.Subject
}
