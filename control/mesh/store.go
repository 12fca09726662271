// Package mesh keeps in Postgres what control knows of its sidecars, and reads
// there what they are told: registrations and what each sidecar reported, live
// data, and the activations of policy sets.
//
// A tenant's name bounds every statement of the API's side, in SQL: what is
// another tenant's is not found. request.AnyTenant stands for all; the caller
// decides who may say so. A registration's change names the version that it is
// of and writes its audit row in its own transaction. What a sidecar reports is
// no change: it leaves the version alone.
//
// It refuses to keep a credential in clear, to tell an unknown one from a
// revoked one, and to let one bad report or id keep others from being stored or
// read. Errors are *apierr.Error where the caller is to blame, internal.error
// with status 503 where the database is away, and mesh.ErrUnknown.
//
// A Store is safe for concurrent use, and so are several on one database.
package mesh

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// maxPage bounds a page, whatever is asked for.
const maxPage = 200

// statusAway is the HTTP status of an answer without a database.
const statusAway = 503

// Options are what New needs. Pool and Keys must be set.
type Options struct {
	Pool *pgxpool.Pool // stays the caller's

	// Keys returns the keys by which a sidecar knows its revisions, one at least.
	Keys func(ctx context.Context) ([]mesh.RevisionKey, error)

	// RequestID returns the id of a call for the audit log; nil means none.
	RequestID func(context.Context) string

	Log *slog.Logger // nil discards

	// Now is the clock that reports were dated by; nil means time.Now.
	Now func() time.Time
}

// Store keeps the mesh. See the package comment.
type Store struct{ o Options }

// New returns a Store.
func New(o Options) (*Store, error) {
	if o.Pool == nil || o.Keys == nil {
		return nil, errors.New("mesh: needs a pool and the keys of revisions")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.RequestID == nil {
		o.RequestID = func(context.Context) string { return "" }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{o}, nil
}

// row is what scans: one row, or the present one of several.
type row interface{ Scan(dest ...any) error }

// orNone is v, or nothing beside an error.
func orNone[T any](v T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

// page reads at most limit sidecars and says where the following begin. The
// statement's last parameter is its limit: one more is asked for.
func (s *Store) page(ctx context.Context, limit int, sql string, args ...any) (p account.Page[mesh.Sidecar], err error) {
	limit = min(max(limit, 1), maxPage)
	rows, err := s.o.Pool.Query(ctx, sql, append(slices.Clone(args), limit+1)...)
	if err != nil {
		return p, answer(err)
	}
	items, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (mesh.Sidecar, error) { return scanSidecar(r) })
	if err != nil {
		return p, answer(err)
	}
	p.Items = items
	if len(items) > limit {
		p.Items = items[:limit]
		p.Next = items[limit-1].ID
	}
	return p, nil
}

// change is one change to one registration, and what the audit log says of it.
type change struct {
	by     request.Principal // the zero value is control itself
	action string
	tenant string
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
		Tenant: c.tenant, ActorKind: kind, Actor: actor, Action: "sidecar." + c.action,
		TargetKind: "sidecar", Target: c.target, RequestID: s.o.RequestID(ctx), Details: c.detail,
	})
}

// faulty is the member of a registration that a constraint is about, and what
// is wrong with it.
type faulty struct{ pointer, code, message string }

func faults() map[string]faulty {
	unknown := func(pointer string) faulty { return faulty{pointer, "unknown", "does not exist"} }
	return map[string]faulty{
		"sidecars_tenant_id_fkey":            unknown("/tenant_id"),
		"sidecars_tenant_id_project_id_fkey": unknown("/project_id"),
		"sidecars_tenant_id_agent_id_fkey":   unknown("/agent_id"),
		"sidecars_policy_set_fkey":           unknown("/policy_set"),
		"sidecars_name_check":                {"/name", "name", "is no name of a sidecar"},
		"sidecars_role_check":                {"/role", "unknown", "is no role of a workload"},
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
	f, known := faults()[constraint]
	switch {
	case kind == postgres.Taken:
		return apierr.Conflict("already_exists", err)
	case known:
		return apierr.Unfit(err, apierr.Field{Pointer: f.pointer, Code: f.code, Message: f.message})
	case postgres.Away(err):
		return apierr.New(apierr.Internal, apierr.Options{Status: statusAway, Cause: err})
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: err})
}
