package accounts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// maxRevoked bounds the tokens of a tenant that are refused one by one at the
// same time: all of them go to every sidecar.
const maxRevoked = 10_000

// Revocations of single tokens of one tenant wait for each other, so that there
// is one row, whoever is first, and that they can be counted.
const (
	revocationColumns = `r.tenant_id, coalesce(r.subject, ''), coalesce(r.token_id, ''), r.issued_before, r.reason, r.expires_at`

	lockRevoked   = `SELECT pg_advisory_xact_lock(hashtextextended('gatehouse revoked tokens of ' || $1, 0))`
	selectRevoked = `
SELECT ` + revocationColumns + ` FROM revocations r
WHERE r.kind = 'token' AND r.token_id = $1 AND r.tenant_id = $2 AND r.expires_at > clock_timestamp() ORDER BY r.expires_at DESC LIMIT 1`
	countRevoked = `
SELECT count(*), (extract(epoch FROM coalesce(min(expires_at) - clock_timestamp(), '0')) * 1000)::bigint FROM revocations
WHERE kind = 'token' AND tenant_id = $1 AND expires_at > clock_timestamp()`
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
// refused already, only the audit log changes. A tenant that has refused
// maxRevoked tokens has to wait: rate_limit.exceeded.
func (s *Store) RevokeToken(ctx context.Context, by request.Principal, r account.Revocation) (now account.Revocation, err error) {
	c := change{by: by, action: "revoke", kind: "token", tenant: r.Tenant, target: r.TokenID, detail: map[string]any{"reason": r.Reason}}
	err = s.apply(ctx, c, func(tx pgx.Tx, _ *change) error {
		if _, err := tx.Exec(ctx, lockRevoked, r.Tenant); err != nil {
			return err
		}
		now, err = scanRevocation(tx.QueryRow(ctx, selectRevoked, r.TokenID, r.Tenant))
		if errors.Is(err, pgx.ErrNoRows) {
			now, err = addRevoked(ctx, tx, by, r)
		}
		return err
	})
	return orNone(now, err)
}

// addRevoked adds a revocation where there is room. The tenant is locked.
func addRevoked(ctx context.Context, tx pgx.Tx, by request.Principal, r account.Revocation) (account.Revocation, error) {
	var n, wait int64
	if err := tx.QueryRow(ctx, countRevoked, r.Tenant).Scan(&n, &wait); err != nil {
		return account.Revocation{}, err
	}
	if n >= maxRevoked {
		return account.Revocation{}, full("revoked_tokens", time.Duration(wait)*time.Millisecond)
	}
	return scanRevocation(tx.QueryRow(ctx, insertRevoked, r.Tenant, r.TokenID, r.Reason, creator(by), revocationLife))
}

// full refuses what a bound of a tenant has no room for, until something that
// is counted has expired.
func full(limit string, wait time.Duration) error {
	return apierr.New(apierr.RateLimitExceeded, apierr.Options{
		Details: []apierr.Detail{apierr.Text("limit", limit), apierr.Number("retry_after_ms", wait.Milliseconds())},
		Cause:   fullFor{limit, wait},
	})
}

// fullFor is the cause of an error that ends by itself. The API takes the
// header Retry-After from it.
type fullFor struct {
	limit string
	wait  time.Duration
}

func (f fullFor) Error() string             { return fmt.Sprintf("%s: no room for %v", f.limit, f.wait) }
func (f fullFor) RetryAfter() time.Duration { return f.wait }

// RevokeSubject refuses the tokens of a subject that were issued up to now. The
// subject must be a user or client within r's tenant, and the revocation is of
// its own: sidecars ask for no others' subjects.
func (s *Store) RevokeSubject(ctx context.Context, by request.Principal, r account.Revocation) (now account.Revocation, err error) {
	if !postgres.IsUUID(r.Subject) {
		return account.Revocation{}, apierr.Missing()
	}
	c := change{by: by, action: "revoke", kind: "subject", tenant: r.Tenant, target: r.Subject, detail: map[string]any{"reason": r.Reason}}
	err = s.apply(ctx, c, func(tx pgx.Tx, c *change) error {
		if c.tenant, err = lockSubject(ctx, tx, r.Subject, r.Tenant); err != nil {
			return err
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
