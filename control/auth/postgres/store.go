// Package postgres keeps in Postgres what control/auth needs to last: attempts
// to log in, sessions, signing keys, and what is asked of users and clients.
//
// Each method is one statement or one transaction, with its audit row where it
// changes something that a person would ask about. A server that is away is
// auth.ErrUnavailable. It refuses to guess: an id that is no UUID is nobody's.
//
// A Store is safe for concurrent use.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/auth"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// Store implements auth.Store.
type Store struct{ pool *pgxpool.Pool }

// New returns a Store on a pool, which stays the caller's.
func New(pool *pgxpool.Pool) *Store { return &Store{pool} }

// fault says what was attempted, and tells a server that is away from a defect.
func fault(what string, err error) error {
	if err == nil {
		return nil
	}
	if postgres.Away(err) {
		return fmt.Errorf("%s: %w: %w", what, auth.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// tx runs f in a transaction. Errors of package auth pass as they are.
func (s *Store) tx(ctx context.Context, what string, f func(pgx.Tx) error) error {
	err := postgres.InTx(ctx, s.pool, f)
	if errors.Is(err, auth.ErrRefused) {
		return err
	}
	return fault(what, err)
}

// subject columns, of a user u or a client c, with $2 for now.
const (
	userColumns = `u.id::text, u.role, u.tenant_id, coalesce(u.project_id, ''), '',
		(SELECT max(issued_before) FROM revocations r WHERE r.kind = 'subject' AND r.subject = u.id::text AND r.expires_at > $2),
		u.status = 'active' AND coalesce(t.status, 'active') = 'active'`
	clientColumns = `c.id::text, c.role, c.tenant_id, coalesce(c.project_id, ''), coalesce(a.name, ''),
		(SELECT max(issued_before) FROM revocations r WHERE r.kind = 'subject' AND r.subject = c.id::text AND r.expires_at > $2),
		c.status = 'active' AND coalesce(t.status, 'active') = 'active' AND coalesce(a.status, 'active') = 'active'`

	users   = ` FROM users u LEFT JOIN tenants t ON t.id = u.home_tenant `
	clients = ` FROM clients c LEFT JOIN tenants t ON t.id = c.home_tenant LEFT JOIN agents a ON a.id = c.agent_id `

	selectUser     = `SELECT ` + userColumns + `, u.password_hash` + users + `WHERE u.username = $1`
	selectUserByID = `SELECT ` + userColumns + `, u.password_hash` + users + `WHERE u.id = $1 FOR NO KEY UPDATE OF u`
	selectClient   = `SELECT ` + clientColumns + `, c.secret_hash` + clients + `WHERE c.id = $1`

	// Who administers one tenant can't revoke another's token.
	tokenRevoked   = `EXISTS (SELECT FROM revocations r WHERE r.kind = 'token' AND r.token_id = $3 AND r.expires_at > $2 AND r.tenant_id IN ('*', `
	selectStanding = `SELECT ` + userColumns + `, ` + tokenRevoked + `u.tenant_id))` + users + `WHERE u.id = $1
		UNION ALL SELECT ` + clientColumns + `, ` + tokenRevoked + `c.tenant_id))` + clients + `WHERE c.id = $1`
)

// scanSubject reads the subject columns and what follows them. No row leaves all
// as it is.
func scanSubject(row pgx.Row, s *auth.Subject, active *bool, more any) error {
	var role string
	var revoked pgtype.Timestamptz
	err := row.Scan(&s.ID, &role, &s.Tenant, &s.Project, &s.Agent, &revoked, active, more)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	s.Role = request.Role(role)
	if revoked.Valid {
		s.Revoked = revoked.Time
	}
	return err
}

// User implements auth.Accounts.
func (s *Store) User(ctx context.Context, name string, now time.Time) (u auth.User, err error) {
	err = scanSubject(s.pool.QueryRow(ctx, selectUser, name, now), &u.Subject, &u.Active, &u.Hash)
	return u, fault("user", err)
}

// Client implements auth.Accounts.
func (s *Store) Client(ctx context.Context, id string, now time.Time) (c auth.Client, err error) {
	if !postgres.IsUUID(id) {
		return auth.Client{}, nil
	}
	err = scanSubject(s.pool.QueryRow(ctx, selectClient, id, now), &c.Subject, &c.Active, &c.SecretHash)
	return c, fault("client", err)
}

// Standing implements auth.Accounts.
func (s *Store) Standing(ctx context.Context, subject, tokenID string, now time.Time) (st auth.Standing, err error) {
	if !postgres.IsUUID(subject) {
		return auth.Standing{}, nil
	}
	err = scanSubject(s.pool.QueryRow(ctx, selectStanding, subject, now, tokenID), &st.Subject, &st.Active, &st.TokenRevoked)
	return st, fault("standing of a subject", err)
}

// What has no effect any more. Used refresh tokens stay until their family is
// over, so that their reuse is found out.
const (
	pruneAttempts    = `DELETE FROM login_attempts WHERE updated_at < $2 AND pending_until < $1 AND coalesce(locked_until, '-infinity') < $1`
	pruneSessions    = `DELETE FROM refresh_tokens WHERE expires_at < $1`
	pruneRevocations = `DELETE FROM revocations WHERE expires_at < $1`
)

// Prune implements auth.Store.
func (s *Store) Prune(ctx context.Context, r auth.Rule, now time.Time) error {
	_, err := s.pool.Exec(ctx, pruneAttempts, now, now.Add(-r.Window))
	if err == nil {
		_, err = s.pool.Exec(ctx, pruneSessions, now)
	}
	if err == nil {
		_, err = s.pool.Exec(ctx, pruneRevocations, now)
	}
	return fault("pruning", err)
}
