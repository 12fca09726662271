package migrations_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/pgtest"
	"gatehouse/migrations"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("got error %v, want one that says %q", err, p)
		}
	}
}

// set makes files 001, 002, ... of texts.
func set(t *testing.T, texts ...string) migrations.Set {
	t.Helper()
	fsys := fstest.MapFS{}
	for i, text := range texts {
		fsys[fmt.Sprintf("%03d_file.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	s, err := migrations.Load(fsys)
	noError(t, err)
	return s
}

func shipped(t *testing.T) migrations.Set {
	t.Helper()
	s, err := migrations.Shipped()
	noError(t, err)
	return s
}

func up(t *testing.T, s migrations.Set, url string) migrations.Report {
	t.Helper()
	r, err := s.Up(t.Context(), url, quiet())
	noError(t, err)
	return r
}

func connected(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	noError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// value is the one value of a query.
func value[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	noError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// eventually asks the database until a query is true; of its other sessions it
// sends no notice.
func eventually(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !value[bool](t, conn, sql, args...) {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", sql)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestUp(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	var log bytes.Buffer
	r, err := migrations.Up(t.Context(), url, slog.New(slog.NewTextHandler(&log, nil)))
	noError(t, err)
	if len(r.Applied) != 7 || r.Version != "007" || r.Applied[6].Name != "007_breakers.sql" || r.Applied[0].Duration <= 0 {
		t.Errorf("report: %+v", r)
	}
	if n := strings.Count(log.String(), "migration applied"); n != 7 {
		t.Errorf("%d lines were logged, want 7:\n%s", n, log.String())
	}
	conn := connected(t, url)
	rows, err := conn.Query(t.Context(), `SELECT version, applied_at, duration_ms FROM schema_migrations ORDER BY version`)
	noError(t, err)
	type row struct {
		Version  string
		At       time.Time
		Duration int32
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	noError(t, err)
	for i, row := range got {
		if want := fmt.Sprintf("%03d", i+1); row.Version != want || time.Since(row.At) > time.Hour || row.Duration < 0 {
			t.Errorf("row %d: %+v", i, row)
		}
	}
	if len(got) != 7 {
		t.Errorf("%d rows, want 7", len(got))
	}
	if r, err := migrations.Up(t.Context(), url, quiet()); err != nil || len(r.Applied) != 0 || r.Version != "007" {
		t.Errorf("the second time: %+v, %v", r, err)
	}
	noError(t, migrations.Verify(t.Context(), url))
	entries, err := migrations.Status(t.Context(), url)
	noError(t, err)
	for _, e := range entries {
		if e.State != migrations.StateApplied || e.Checksum != e.AppliedChecksum || e.AppliedAt.IsZero() {
			t.Errorf("status: %+v", e)
		}
	}
}

func TestStatusChangesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	entries, err := migrations.Status(t.Context(), url)
	noError(t, err)
	if len(entries) != 7 || entries[0].State != migrations.StatePending {
		t.Errorf("status: %+v", entries)
	}
	err = migrations.Verify(t.Context(), url)
	if wantError(t, err, "001_core_schema.sql", "004_control.sql", "gatehouse migrate up"); !errors.Is(err, migrations.ErrPending) {
		t.Errorf("got %v, want ErrPending", err)
	}
	if value[bool](t, connected(t, url), `SELECT to_regclass('schema_migrations') IS NOT NULL`) {
		t.Error("schema_migrations was made")
	}
}

// TestManyRunnersAtOnce: each file is applied once, and all runners end well.
func TestManyRunnersAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	const runners = 5
	reports, errs := make([]migrations.Report, runners), make([]error, runners)
	var wg sync.WaitGroup
	for i := range runners {
		wg.Go(func() { reports[i], errs[i] = migrations.Up(t.Context(), url, quiet()) })
	}
	wg.Wait()
	noError(t, errors.Join(errs...))
	steps := 0
	for _, r := range reports {
		if steps += len(r.Applied); r.Version != "007" {
			t.Errorf("a runner ended at version %q", r.Version)
		}
	}
	if steps != 7 {
		t.Errorf("%d files were applied, want 7", steps)
	}
}

func TestRefusedHistories(t *testing.T) {
	t.Parallel()
	a, b, c := "CREATE TABLE a ()", "CREATE TABLE b ()", "CREATE TABLE c ()"
	for _, tt := range []struct {
		name     string
		old, new []string
		row      string // added to schema_migrations
		want     error
	}{
		{"changed", []string{a, b}, []string{a, b + ";", c}, "", migrations.ErrChanged},
		{"newer build", []string{a, b}, []string{a}, "", migrations.ErrUnknown},
		{"out of order", []string{a}, []string{a, b, c}, "003", migrations.ErrOutOfOrder},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Empty(t)
			up(t, set(t, tt.old...), url)
			conn := connected(t, url)
			if tt.row != "" {
				_, err := conn.Exec(t.Context(), `INSERT INTO schema_migrations (version, checksum) VALUES ($1, $2)`, tt.row, set(t, a, b, c)[2].Checksum)
				noError(t, err)
			}
			r, err := set(t, tt.new...).Up(t.Context(), url, quiet())
			if !errors.Is(err, tt.want) || len(r.Applied) > 0 {
				t.Errorf("got %+v, %v, want %v", r, err, tt.want)
			}
			if err := set(t, tt.new...).Verify(t.Context(), url); !errors.Is(err, tt.want) {
				t.Errorf("Verify: got %v, want %v", err, tt.want)
			}
			if value[bool](t, conn, `SELECT to_regclass('c') IS NOT NULL`) {
				t.Error("a later file was applied all the same")
			}
		})
	}
}

func TestFailedFileLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, bad string
		want      []string
	}{
		{"syntax", "CREATE TABLE b ();\n-- ü\n  CREATE TABEL x ();\n", []string{"002_file.sql:3:10: ", `"TABEL"`, "42601"}},
		{"meaning", "CREATE TABLE b ();\nSELECT nothing FROM b;", []string{"002_file.sql:2:8: ", "nothing"}},
		{"data", "CREATE TABLE b (x INT PRIMARY KEY);\nINSERT INTO b VALUES (1);\nINSERT INTO b VALUES (1);", []string{"002_file.sql: statement 3: ", "(x)=(1)"}},
		{"end of the transaction", "SELECT 1;\nEND;", []string{"002_file.sql: statement 3: ", "ended its transaction"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Empty(t)
			r, err := set(t, "CREATE TABLE a ()", tt.bad, "CREATE TABLE c ()").Up(t.Context(), url, quiet())
			wantError(t, err, tt.want...)
			if _, ok := errors.AsType[*migrations.FileError](err); !ok {
				t.Errorf("got %T, want a FileError", err)
			}
			if len(r.Applied) != 1 || r.Version != "001" {
				t.Errorf("report: %+v, want 001 applied", r)
			}
			conn := connected(t, url)
			if got := value[string](t, conn, `SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'`); got != "a schema_migrations" {
				t.Errorf("tables: %s", got)
			}
			up(t, set(t, "CREATE TABLE a ()", "CREATE TABLE b ()"), url) // repaired
		})
	}
}

// blocking is a file that stands still until the test lets go of lock 42.
const blocking = "CREATE TABLE b ();\nSELECT pg_advisory_xact_lock(42);\n"

// isBlocked says that the runner stands in it.
const isBlocked = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gatehouse migrate' AND wait_event = 'advisory')`

// background runs Up, and says how it ended.
func background(t *testing.T, ctx context.Context, s migrations.Set, url string) (ended func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := s.Up(ctx, url, quiet())
		done <- err
	}()
	return func() error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			t.Fatal("the runner does not end")
			return nil
		}
	}
}

func TestRunnerIsKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, who string }{
		{"its work", `wait_event = 'advisory'`},
		{"both connections", `true`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Empty(t)
			s, conn := set(t, "CREATE TABLE a ()", blocking), connected(t, url)
			value[any](t, conn, `SELECT pg_advisory_lock(42)::text`)
			ended := background(t, t.Context(), s, url)
			eventually(t, conn, isBlocked)
			_, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gatehouse migrate' AND `+tt.who)
			noError(t, err)
			wantError(t, ended(), "002_file.sql", "57P01")
			if value[bool](t, conn, `SELECT to_regclass('b') IS NOT NULL`) {
				t.Error("half a file is in force")
			}
			value[any](t, conn, `SELECT pg_advisory_unlock(42)`)
			if r := up(t, s, url); len(r.Applied) != 1 || r.Version != "002" {
				t.Errorf("the next run: %+v, want 002 applied", r)
			}
		})
	}
}

// TestLostLock: a runner whose lock is gone ends before the next file, and
// nobody applies a file twice.
func TestLostLock(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	s, conn := set(t, "CREATE TABLE a ()", blocking, "CREATE TABLE c ()"), connected(t, url)
	value[any](t, conn, `SELECT pg_advisory_lock(42)::text`)
	first := background(t, t.Context(), s, url)
	eventually(t, conn, isBlocked)
	value[any](t, conn, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	second := background(t, t.Context(), s, url)
	eventually(t, conn, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'relation')`)
	value[any](t, conn, `SELECT pg_advisory_unlock(42)`)
	wantError(t, first(), "the migration lock is lost")
	noError(t, second())
	if n := value[int64](t, conn, `SELECT count(*) FROM schema_migrations`); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestWaitForTheLockIsBounded(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	holder, waiter := connected(t, url), connected(t, url)
	value[any](t, holder, `SELECT pg_advisory_lock($1)::text`, int64(migrations.LockKey))
	err := migrations.WaitLock(t.Context(), waiter, time.Millisecond)
	if wantError(t, err, "1ms"); !errors.Is(err, migrations.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := background(t, ctx, shipped(t), url)
	eventually(t, holder, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%' AND state = 'idle')`)
	cancel()
	if err := ended(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cancellation", err)
	}
	eventually(t, holder, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gatehouse migrate')`)
	value[any](t, holder, `SELECT pg_advisory_unlock_all()::text`)
	up(t, shipped(t), url)
}

// TestHistoryOfOthers: a table with the four columns that all know is used.
func TestHistoryOfOthers(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	s, conn := set(t, "CREATE TABLE a ()", "CREATE TABLE b ()"), connected(t, url)
	for _, sql := range []string{
		`CREATE TABLE a ()`,
		`CREATE TABLE schema_migrations (version TEXT PRIMARY KEY, checksum TEXT NOT NULL, applied_at TIMESTAMPTZ DEFAULT NOW(), duration_ms INTEGER)`,
		`INSERT INTO schema_migrations (version, checksum) VALUES ('001', '` + s[0].Checksum + `')`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		noError(t, err)
	}
	noError(t, func() error { _, err := s.Status(t.Context(), url); return err }())
	if r := up(t, s, url); len(r.Applied) != 1 || r.Version != "002" {
		t.Errorf("report: %+v, want 002 applied", r)
	}
	noError(t, s.Verify(t.Context(), url))
}

// TestSearchPathOfTheRole: the tables stand in public all the same.
func TestSearchPathOfTheRole(t *testing.T) {
	t.Parallel()
	address := pgtest.Empty(t)
	_, err := connected(t, address).Exec(t.Context(), `CREATE SCHEMA other`)
	noError(t, err)
	up(t, set(t, "CREATE TABLE a ()"), address+"&search_path=other")
	if !value[bool](t, connected(t, address), `SELECT to_regclass('public.a') IS NOT NULL AND to_regclass('public.schema_migrations') IS NOT NULL`) {
		t.Error("a table is elsewhere")
	}
}

func TestPasswordIsInNoError(t *testing.T) {
	t.Parallel()
	good, err := url.Parse(pgtest.Server(t).URL())
	noError(t, err)
	const secret = "se%cret"
	for _, bad := range []string{
		"", "  ", "postgres://u:" + secret + "@h/d", "postgres://u:se%zz" + secret + "@h:x/d", "u:" + secret + "@h", "host=h password='" + secret,
		"postgres://u:secret@127.0.0.1:1/d", "postgres://" + good.User.Username() + ":secret@" + good.Host + "/" + good.Path,
		"postgres://u:secret@" + good.Host + "/d?sslmode=nonsense",
	} {
		_, err := migrations.Up(t.Context(), bad, quiet())
		_, err2 := migrations.Status(t.Context(), bad)
		for _, err := range []error{err, err2} {
			if err == nil || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: got %v, want an error without the password", bad, err)
			}
		}
	}
}

// BenchmarkUp is the whole of it on an empty database, connections included.
func BenchmarkUp(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		url := pgtest.Empty(b)
		b.StartTimer()
		if r, err := migrations.Up(b.Context(), url, quiet()); err != nil || len(r.Applied) != 7 {
			b.Fatal(r, err)
		}
	}
}
