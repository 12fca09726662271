// Package postgres keeps dead letters in dlq_messages.
//
// A payload is sealed before it leaves the process. It refuses letters that the
// table has no room for, and to keep one twice: who keeps a letter may do it
// again until he hears that it was done.
//
// A Store is safe for concurrent use, and so are several on one database.
package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/deadletter"
	"gatehouse/internal/postgres"
	"gatehouse/internal/seal"
)

// Options are what New needs.
type Options struct {
	Pool *pgxpool.Pool // stays the caller's
	Box  *seal.Box
}

// Store keeps dead letters.
type Store struct{ o Options }

// New returns a Store.
func New(o Options) (*Store, error) {
	if o.Pool == nil || o.Box == nil {
		return nil, errors.New("dlq: needs a pool and a box to seal with")
	}
	return &Store{o}, nil
}

const add = `
INSERT INTO dlq_messages (tenant_id, project_id, source, message_id, kind, payload, error_class, error_message)
VALUES ($1, nullif($2, ''), $3, $4, $5, $6, $7, $8)
ON CONFLICT (source, message_id) DO NOTHING`

// Add keeps a letter, unless there is one of its place. deadletter.ErrInvalid
// says that it never will be; after any other error, try again.
func (s *Store) Add(ctx context.Context, l deadletter.Letter) error {
	if err := l.Check(); err != nil {
		return err
	}
	_, err := s.o.Pool.Exec(ctx, add, l.Tenant, l.Project, l.Source, l.MessageID, l.Kind, l.Seal(s.o.Box), l.Class, l.Message)
	if err == nil {
		return nil
	}
	if constraint, kind := postgres.Violated(err); constraint == "dlq_messages_tenant" && kind == postgres.Dangling {
		return fmt.Errorf("%w: there is no such tenant", deadletter.ErrInvalid)
	}
	return fmt.Errorf("keep a dead letter: %w", err)
}
