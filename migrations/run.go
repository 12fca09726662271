package migrations

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Step is one file that was applied.
type Step struct {
	Version, Name string
	Duration      time.Duration // of its SQL, without the commit
}

// Report is what Up did.
type Report struct {
	Applied []Step // in order; those that are committed, also beside an error
	Version string // the newest one in force afterwards; "" where there is none
}

// Up applies the shipped files that the database lacks; see Set.Up.
func Up(ctx context.Context, url string, log *slog.Logger) (Report, error) {
	set, err := Shipped()
	if err != nil {
		return Report{}, err
	}
	return set.Up(ctx, url, log)
}

// Up applies the files that the database lacks, in order. It waits at most ten
// minutes for another runner. The report is good also beside an error: what it
// names is committed, and nothing else was changed. Errors are FileError where
// Postgres refused a file, and those of compare: ErrChanged, ErrOutOfOrder,
// ErrUnknown; any of them comes before the first file is applied.
//
// url must lead to Postgres itself, not to a pooler of transactions: the lock
// is that of a session.
func (s Set) Up(ctx context.Context, url string, log *slog.Logger) (Report, error) {
	l, err := takeLock(ctx, url)
	if err != nil {
		return Report{}, err
	}
	defer l.release(ctx)
	conn, err := connect(ctx, url)
	if err != nil {
		return Report{}, err
	}
	defer hangUp(ctx, conn)
	if _, err := conn.PgConn().Exec(ctx, createHistory).ReadAll(); err != nil {
		return Report{}, fmt.Errorf("making schema_migrations: %w", err)
	}
	return s.apply(ctx, l, conn, log)
}

func (s Set) apply(ctx context.Context, l *lock, conn *pgx.Conn, log *slog.Logger) (Report, error) {
	rows, err := history(ctx, conn)
	if err != nil {
		return Report{}, fmt.Errorf("reading schema_migrations: %w", err)
	}
	entries := compare(s, rows)
	if err := faults(entries); err != nil {
		return Report{}, err
	}
	todo := pending(s, entries)
	r := Report{}
	if n := len(s) - len(todo); n > 0 {
		r.Version = s[n-1].Version
	}
	for _, m := range todo {
		if err := l.held(ctx); err != nil {
			return r, err
		}
		took, err := applyFile(ctx, conn, m)
		if err != nil {
			return r, err
		}
		log.InfoContext(ctx, "migration applied", "file", m.Name, "duration_ms", took.Milliseconds())
		r.Applied, r.Version = append(r.Applied, Step{m.Version, m.Name, took}), m.Version
	}
	return r, nil
}

// applyFile applies one file and records it, in one transaction.
func applyFile(ctx context.Context, conn *pgx.Conn, m Migration) (time.Duration, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", m.Name, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing after a commit
	if err := claim(ctx, tx, m); err != nil {
		return 0, fmt.Errorf("%s: %w", m.Name, err)
	}
	begin := time.Now()
	if err := execute(ctx, conn.PgConn(), m); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	if err := record(ctx, tx, m, took); err != nil {
		return 0, fmt.Errorf("%s: recording it: %w", m.Name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, fmt.Errorf("%s: committing it: %w", m.Name, err)
	}
	return took, nil
}

// claim makes sure that nobody else applies the file. The advisory lock says
// so already, but ends when its connection does, which we may not have noticed.
func claim(ctx context.Context, tx pgx.Tx, m Migration) error {
	if _, err := tx.Exec(ctx, holdHistory); err != nil {
		return err
	}
	rows, err := history(ctx, tx)
	if err != nil {
		return err
	}
	for _, a := range rows {
		if a.version >= m.Version {
			return fmt.Errorf("version %s was applied meanwhile: %w", a.version, ErrLocked)
		}
	}
	return nil
}

var errEnded = errors.New("the file ended its transaction; what it did before that is in force, and it is not recorded")

// execute runs a file's statements in the open transaction.
func execute(ctx context.Context, conn *pgconn.PgConn, m Migration) error {
	results := conn.Exec(ctx, m.SQL)
	done := 0
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err != nil {
			break // Close says it too
		}
		done++
	}
	if err := results.Close(); err != nil {
		return fileError(m, done, err)
	}
	if conn.TxStatus() != 'T' {
		return fileError(m, done, errEnded)
	}
	return nil
}
