// Package postgres owns what all stores over Postgres share: a bounded pool,
// transactions, the audit row that each change brings with it, and what an
// error of the server means. It holds no statement of any store's own.
//
// It refuses URLs that it can't read without quoting them, and lets no error of
// the driver pass for a "no": Away tells a server that is gone, slow or full
// from one that said something.
//
// Its functions are safe for concurrent use.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Bounds of a pool and of what runs on it.
const (
	MaxConns         = 16               // per process; 20 replicas stay below a server's 400
	connectTimeout   = 3 * time.Second  // of one attempt
	statementTimeout = "5s"             // of one statement, by the server
	idleInTx         = "10s"            // a transaction whose process hangs lets go of its locks
	lockTimeout      = "3s"             // a wait for a row or table that others hold
	rollbackTimeout  = 2 * time.Second  // after ctx has ended
	maxConnIdle      = 5 * time.Minute  // then the pool closes it
	maxConnLife      = 30 * time.Minute // so that a failed-over server is found again
)

// errURL says nothing of the URL: any part of it may be the password.
var errURL = errors.New("the database URL can't be read; want postgres://USER:PASSWORD@HOST:PORT/NAME")

// Open returns a pool for a URL or a keyword string. It connects when it is
// first used, so that a server which is not there yet is no error here.
func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil || url == "" {
		return nil, errURL
	}
	config.MaxConns = MaxConns
	config.MaxConnIdleTime, config.MaxConnLifetime = maxConnIdle, maxConnLife
	config.ConnConfig.ConnectTimeout = connectTimeout
	maps.Copy(config.ConnConfig.RuntimeParams, map[string]string{
		"application_name": "gatehouse", "search_path": "public", "timezone": "UTC",
		"statement_timeout": statementTimeout, "lock_timeout": lockTimeout, "idle_in_transaction_session_timeout": idleInTx,
	})
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	return pool, nil
}

// maxTries is how often a transaction runs that others made impossible.
const maxTries = 4

// InTx runs f in one transaction, read committed, and commits it if f returns
// nil. It runs f again, maxTries times at most, where the server ended the
// transaction on account of others (a deadlock, a serialization failure):
// nothing of it was done then. f must not keep results of an earlier run.
//
// A lost answer to the commit is an error that is Away: whether it was done is
// then unknown.
func InTx(ctx context.Context, pool *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := inTx(ctx, pool, f)
		if err == nil || try == maxTries || !raced(err) {
			return err
		}
	}
}

func inTx(ctx context.Context, pool *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(tx); err != nil {
		rollback(ctx, tx)
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		rollback(ctx, tx)
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// rollback works also when ctx has ended. If it fails, the pool drops the
// connection, and the server rolls back.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}
