package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lockKey is the advisory lock of all runners; Postgres keeps it apart for
	// each database.
	lockKey = 0x67617465686f7573 // "gatehous"
	// lockWait bounds the wait for another runner, lockPoll is its step.
	lockWait = 10 * time.Minute
	lockPoll = 100 * time.Millisecond
)

// ErrLocked is another runner that did not end in time.
var ErrLocked = errors.New("another runner holds the migration lock")

// lock is the right to migrate one database, on a connection of its own. It
// ends with the connection, so a killed runner leaves none behind.
type lock struct{ conn *pgx.Conn }

// takeLock waits for its turn. It polls: a blocking wait would hold a snapshot,
// and CREATE INDEX CONCURRENTLY waits for all of those.
func takeLock(ctx context.Context, url string) (*lock, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if err := waitLock(ctx, conn, lockWait); err != nil {
		hangUp(ctx, conn)
		return nil, err
	}
	return &lock{conn}, nil
}

func waitLock(ctx context.Context, conn *pgx.Conn, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w for %s", ErrLocked, wait))
	defer cancel()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		var got bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(lockKey)).Scan(&got); err != nil {
			if ctx.Err() != nil { // which the driver tells as an error of its own
				err = context.Cause(ctx)
			}
			return fmt.Errorf("taking the migration lock: %w", err)
		}
		if got {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the migration lock: %w", context.Cause(ctx))
		}
	}
}

// held says whether the lock is still ours; the connection may have died.
func (l *lock) held(ctx context.Context) error {
	if err := l.conn.Ping(ctx); err != nil {
		return fmt.Errorf("the migration lock is lost: %w", err)
	}
	return nil
}

func (l *lock) release(ctx context.Context) { hangUp(ctx, l.conn) }
