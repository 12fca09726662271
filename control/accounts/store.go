// Package accounts keeps users, clients, tenants, projects and agents in
// Postgres, the revocations of their tokens, and tells what agents may learn.
//
// A tenant's name bounds every statement, in SQL: what is another tenant's is
// not found. request.AnyTenant stands for all; the caller decides who may say
// so. A change names the version that it is of, writes its audit row in its own
// transaction, and where it takes something away from a subject it revokes the
// subject's tokens in it too, so that nobody keeps by an old token what is gone.
//
// It refuses to see passwords in clear for longer than it takes to hand them to
// the hasher, and to return anything made of one. Errors are *apierr.Error where
// the caller is to blame, and internal.error with status 503 where the database
// is away.
//
// A Store is safe for concurrent use.
package accounts

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// maxPage bounds a page, whatever is asked for.
const maxPage = 200

// statusAway is the HTTP status of an answer without a database.
const statusAway = 503

// revocationLife is how long a revocation is kept: longer than any access token
// that it refuses lives, leeway included.
const revocationLife = 15 * time.Minute

// Options are what New needs. All but RequestID must be set.
type Options struct {
	Pool *pgxpool.Pool // stays the caller's

	// HashPassword hashes a new password of a user, or says with an
	// *apierr.Error why it is none.
	HashPassword func(ctx context.Context, username, password string) (string, error)

	// NewSecret makes a client's secret, and the 32 bytes that are kept of it.
	NewSecret func() (secret string, hash []byte)

	// RequestID returns the id of a call for the audit log; nil means none.
	RequestID func(context.Context) string
}

// Store keeps accounts. See the package comment.
type Store struct{ o Options }

// New returns a Store.
func New(o Options) (*Store, error) {
	if o.Pool == nil || o.HashPassword == nil || o.NewSecret == nil {
		return nil, errors.New("accounts: needs a pool, a hash of passwords and a source of secrets")
	}
	if o.RequestID == nil {
		o.RequestID = func(context.Context) string { return "" }
	}
	return &Store{o}, nil
}

// row is what scans: one row, or the present one of several.
type row interface{ Scan(dest ...any) error }

// one reads one thing. None is resource.not_found.
func one[T any](r pgx.Row, scan func(row) (T, error)) (T, error) {
	v, err := scan(r)
	if err != nil {
		var none T
		return none, answer(err)
	}
	return v, nil
}

// page reads at most limit things and says where the following begin. The
// statement's last parameter is its limit: one more is asked for.
func page[T any](ctx context.Context, s *Store, scan func(row) (T, error), position func(T) string, limit int, sql string, args ...any) (account.Page[T], error) {
	limit = min(max(limit, 1), maxPage)
	rows, err := s.o.Pool.Query(ctx, sql, append(slices.Clone(args), limit+1)...)
	if err != nil {
		return account.Page[T]{}, answer(err)
	}
	items, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (T, error) { return scan(r) })
	if err != nil {
		return account.Page[T]{}, answer(err)
	}
	p := account.Page[T]{Items: items}
	if len(items) > limit {
		p.Items = items[:limit]
		p.Next = position(items[limit-1])
	}
	return p, nil
}

// change is one change to one thing, and what the audit log says of it.
type change struct {
	by     request.Principal // the zero value is control itself
	action string
	kind   string // of the thing
	tenant string // that it belongs to, "*" for all
	target string // known at the end at the latest
	detail map[string]any
}

// apply runs f in a transaction and adds the audit row. f may fill in what only
// it knows.
func (s *Store) apply(ctx context.Context, c change, f func(tx pgx.Tx, c *change) error) error {
	err := postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		c := c // each try has its own
		if err := f(tx, &c); err != nil {
			return err
		}
		return s.audit(ctx, tx, c)
	})
	return answer(err)
}

func (s *Store) audit(ctx context.Context, tx pgx.Tx, c change) error {
	kind, actor, err := postgres.Actor(ctx, tx, c.by)
	if err != nil {
		return err
	}
	return postgres.Audit(ctx, tx, postgres.Event{
		Tenant: c.tenant, ActorKind: kind, Actor: actor, Action: c.kind + "." + c.action,
		TargetKind: c.kind, Target: c.target, RequestID: s.o.RequestID(ctx), Details: c.detail,
	})
}

const (
	revokeTokens = `
INSERT INTO revocations (tenant_id, kind, subject, issued_before, epoch, reason, created_by, expires_at)
VALUES ($1, 'subject', $2, clock_timestamp(), next_live_epoch(), $3, $4, clock_timestamp() + $5::interval)`
	revokeSessions = `UPDATE refresh_tokens SET revoked_at = clock_timestamp() WHERE user_id = $1 AND revoked_at IS NULL`
)

// revoke refuses all tokens of a subject that were issued up to now. The
// subject's row must be locked: the moment lies after every login before it.
func revoke(ctx context.Context, tx pgx.Tx, c change, subject, reason string) error {
	_, err := tx.Exec(ctx, revokeTokens, c.tenant, subject, reason, creator(c.by), revocationLife)
	return err
}

// current checks the version that a change is of; 0 is any.
func current(want, is int64) error {
	if want != 0 && want != is {
		return apierr.New(apierr.StatePreconditionFailed, apierr.Options{})
	}
	return nil
}

// references are the members that name other things, by the constraint that
// says that those are there.
func references() map[string]string {
	return map[string]string{
		"users_home_tenant_fkey": "/tenant_id", "users_project": "/project_id",
		"clients_home_tenant_fkey": "/tenant_id", "clients_home_tenant_project_id_fkey": "/project_id",
		"projects_tenant_id_fkey": "/tenant_id",
		"agents_tenant":           "/tenant_id", "agents_project": "/project_id",
	}
}

// answer gives an error of a statement its code.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return apierr.Missing()
	}
	constraint, kind := postgres.Violated(err)
	switch {
	case kind == postgres.Taken:
		return apierr.Conflict("already_exists", err)
	case kind == postgres.Dangling && references()[constraint] != "":
		return apierr.Unfit(err, apierr.Field{Pointer: references()[constraint], Code: "unknown", Message: "does not exist"})
	case kind == postgres.OutOfBounds:
		return apierr.Unfit(err, apierr.Field{Pointer: "", Code: "inconsistent", Message: "the members don't go together"})
	case postgres.Away(err):
		return apierr.New(apierr.Internal, apierr.Options{Status: statusAway, Cause: err})
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: err})
}

// removal gives an error of a deletion its code: what others name is in use.
func removal(err error) error {
	if _, kind := postgres.Violated(err); kind == postgres.Dangling {
		return apierr.Conflict("in_use", err)
	}
	return err
}
