package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/buildinfo"
)

const (
	// connectTimeout bounds one attempt to connect, and closeTimeout the good-bye.
	connectTimeout = 10 * time.Second
	closeTimeout   = 2 * time.Second
	// lockTimeout bounds the wait for a table that others use. While a
	// migration waits for one, all who come after it wait too.
	lockTimeout = "30s"
	// statementTimeout bounds one statement of a file.
	statementTimeout = "30min"
)

// errURL says nothing of the URL: where it is malformed, any part of it may be
// the password.
var errURL = errors.New("the database URL can't be read; want postgres://USER:PASSWORD@HOST:PORT/NAME")

// connect opens one connection of its own. url is a URL or a keyword string
// (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING).
// No error of it holds the password.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	if strings.TrimSpace(url) == "" {
		return nil, errURL
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errURL
	}
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams["application_name"] = "gatehouse migrate"
	config.RuntimeParams["search_path"] = "public"
	config.RuntimeParams["lock_timeout"] = lockTimeout
	config.RuntimeParams["statement_timeout"] = statementTimeout
	config.RuntimeParams["client_min_messages"] = "warning"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	return conn, nil
}

// hangUp closes a connection also when ctx has ended, so that its locks go.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // what was to be kept is committed
}

// createHistory makes the table of applied files. The first four columns are
// what others read; the statements do nothing where it is as it should be.
const createHistory = `
CREATE TABLE IF NOT EXISTS schema_migrations (
    version     TEXT PRIMARY KEY,
    checksum    TEXT NOT NULL,
    applied_at  TIMESTAMPTZ DEFAULT NOW(),
    duration_ms INTEGER
);
ALTER TABLE schema_migrations
    ADD COLUMN IF NOT EXISTS name TEXT,
    ADD COLUMN IF NOT EXISTS applied_by TEXT DEFAULT session_user,
    ADD COLUMN IF NOT EXISTS build TEXT;
`

const (
	historyExists = `SELECT to_regclass('public.schema_migrations') IS NOT NULL`
	readHistory   = `SELECT version, checksum, coalesce(applied_at, 'epoch'), coalesce(duration_ms, 0) FROM public.schema_migrations ORDER BY version LIMIT 1000`
	writeHistory  = `INSERT INTO schema_migrations (version, checksum, duration_ms, name, build) VALUES ($1, $2, $3, $4, $5)`
	// holdHistory lets one transaction at a time change it, and all read it.
	holdHistory = `LOCK TABLE schema_migrations IN SHARE ROW EXCLUSIVE MODE`
)

// history reads the applied files, none where there is no table yet.
func history(ctx context.Context, db querier) ([]applied, error) {
	var exists bool
	if err := db.QueryRow(ctx, historyExists).Scan(&exists); err != nil || !exists {
		return nil, err
	}
	rows, err := db.Query(ctx, readHistory)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a applied, err error) {
		var ms int64
		err = row.Scan(&a.version, &a.checksum, &a.at, &ms)
		a.duration = time.Duration(ms) * time.Millisecond
		return a, err
	})
}

// querier is what reads: a connection, or a transaction on one.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// record writes the row of an applied file.
func record(ctx context.Context, tx pgx.Tx, m Migration, took time.Duration) error {
	_, err := tx.Exec(ctx, writeHistory, m.Version, m.Checksum, took.Milliseconds(), m.Name, buildinfo.Version())
	return err
}
