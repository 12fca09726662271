// Package decisions keeps decision records in Postgres: what sidecars send in
// batches, what the API lists and follows, and for how long.
//
// A tenant's name bounds every statement that reads, in SQL: what is another
// tenant's is not found. request.AnyTenant stands for all; the caller decides
// who may say so. A sidecar that is bound to its tenant can't write into
// another, whatever its records say.
//
// It refuses records that are none, each alone: a batch is sent until it is
// stored, so that one bad record must not keep the others from it. Errors are
// *apierr.Error where the caller is to blame, and internal.error with status 503
// where the database is away.
//
// A Store is safe for concurrent use, and so are several on one database.
package decisions

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/apierr"
	"gatehouse/internal/postgres"
)

// Bounds of what is kept and read.
const (
	Retention = 7 * 24 * time.Hour
	MaxRows   = 1_000_000
	maxPage   = 200  // whatever is asked for
	maxDelete = 5000 // rows of one statement
)

// statusAway is the HTTP status of an answer without a database.
const statusAway = 503

// Options are what New needs. Pool must be set.
type Options struct {
	Pool    *pgxpool.Pool    // stays the caller's
	Now     func() time.Time // dates what is stored; nil means time.Now
	MaxRows int64            // that Prune leaves, above 0; 0 means the constant
}

// Store keeps decision records. See the package comment.
type Store struct{ o Options }

// New returns a Store.
func New(o Options) (*Store, error) {
	if o.Pool == nil || o.MaxRows < 0 {
		return nil, errors.New("decisions: needs a pool, and room for records")
	}
	if o.MaxRows == 0 {
		o.MaxRows = MaxRows
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{o}, nil
}

// answer gives an error of a statement its code.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return apierr.New(apierr.ResourceNotFound, apierr.Options{})
	}
	if postgres.Away(err) {
		return apierr.New(apierr.Internal, apierr.Options{Status: statusAway, Cause: err})
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: err})
}

// clean makes a text one that Postgres takes. Records and what is looked for in
// them are cleaned alike.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

const (
	// The moment when what is kept besides the newest rows was stored.
	selectOldest = `SELECT stored_at FROM decisions ORDER BY stored_at DESC OFFSET $1 LIMIT 1`
	// What another control is deleting is not waited for.
	deleteOldest = `
DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE stored_at <= $1 ORDER BY stored_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// Prune deletes what is older than Retention, and the oldest of what is more
// than there is room for; it returns how many rows. It goes in short statements,
// and says how far it came when one fails. Several at once do no harm.
func (s *Store) Prune(ctx context.Context, now time.Time) (deleted int64, err error) {
	last := now.Add(-Retention)
	var full time.Time
	switch err := s.o.Pool.QueryRow(ctx, selectOldest, s.o.MaxRows).Scan(&full); {
	case err == nil && full.After(last):
		last = full
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return 0, answer(err)
	}
	for {
		tag, err := s.o.Pool.Exec(ctx, deleteOldest, last, maxDelete)
		deleted += tag.RowsAffected()
		if err != nil || tag.RowsAffected() < maxDelete {
			return deleted, answer(err)
		}
	}
}
