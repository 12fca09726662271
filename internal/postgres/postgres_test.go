package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/pgtest"
)

func open(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := Open(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func text(t *testing.T, pool *pgxpool.Pool, sql string) string {
	t.Helper()
	var s string
	if err := pool.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenBoundsTheSession(t *testing.T) {
	t.Parallel()
	pool := open(t)
	for setting, want := range map[string]string{
		"statement_timeout": "5s", "lock_timeout": "3s", "idle_in_transaction_session_timeout": "10s",
		"search_path": "public", "TimeZone": "UTC", "application_name": "gatehouse",
	} {
		if got := text(t, pool, "SHOW "+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if got := pool.Config().MaxConns; got != MaxConns {
		t.Errorf("the pool takes %d connections, want %d", got, MaxConns)
	}
}

func TestOpenNeverQuotesTheURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "postgres://u:hunter2@h:port/x", "hunter2"} {
		if _, err := Open(t.Context(), url); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v", url, err)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	pool, err := Open(t.Context(), "postgres://u:p@"+address+"/x")
	if err != nil {
		t.Fatalf("a server that is not there yet is an error: %v", err)
	}
	defer pool.Close()
	if err := pool.Ping(t.Context()); err == nil || !Away(err) {
		t.Errorf("got %v, want an error that is Away", err)
	}
}

func TestAway(t *testing.T) {
	t.Parallel()
	state := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Code: code}) }
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"nothing", nil, false},
		{"no rows", pgx.ErrNoRows, false},
		{"some error", errors.New("x"), false},
		{"unique", state("23505"), false},
		{"check", state("23514"), false},
		{"no table", state("42P01"), false},
		{"raised", state("P0001"), false},
		{"no connection", state("08006"), true},
		{"too many", state("53300"), true},
		{"disk full", state("53100"), true},
		{"shut down", state("57P01"), true},
		{"starting", state("57P03"), true},
		{"statement timeout", state("57014"), true},
		{"lock timeout", state("55P03"), true},
		{"standby", state("25006"), true},
		{"deadlock", state("40P01"), true},
		{"corrupt", state("XX001"), true},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), true},
		{"left", context.Canceled, true},
		{"cut", fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true},
		{"network", &net.OpError{Op: "read", Err: errors.New("reset")}, true},
	} {
		if got := Away(tt.err); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestClosedPoolIsAway(t *testing.T) {
	t.Parallel()
	pool := open(t)
	pool.Close()
	if err := pool.Ping(t.Context()); !Away(err) {
		t.Errorf("got %v, want an error that is Away", err)
	}
}

// TestServerErrors provokes each kind of error that is told apart.
func TestServerErrors(t *testing.T) {
	t.Parallel()
	pool := open(t)
	exec(t, pool, `CREATE TABLE a (id INT PRIMARY KEY, n INT CONSTRAINT small CHECK (n < 10)); CREATE TABLE b (a INT CONSTRAINT known REFERENCES a); INSERT INTO a VALUES (1, 1)`)
	for _, tt := range []struct {
		sql        string
		constraint string
		kind       Violation
		away       bool
	}{
		{`INSERT INTO a VALUES (1, 1)`, "a_pkey", Taken, false},
		{`INSERT INTO b VALUES (2)`, "known", Dangling, false},
		{`INSERT INTO a VALUES (2, 10)`, "small", OutOfBounds, false},
		{`SELECT * FROM nothing`, "", NoViolation, false},
		{`SET statement_timeout = '20ms'; SELECT pg_sleep(5)`, "", NoViolation, true},
		{`SELECT pg_terminate_backend(pg_backend_pid())`, "", NoViolation, true},
	} {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Conn().PgConn().Exec(t.Context(), tt.sql).ReadAll()
		constraint, kind := Violated(err)
		if err == nil || constraint != tt.constraint || kind != tt.kind || Away(err) != tt.away {
			t.Errorf("%s: got %q, %v, away %v of %v", tt.sql, constraint, kind, Away(err), err)
		}
		if err := conn.Conn().Close(t.Context()); err != nil && !Away(err) {
			t.Error(err)
		}
		conn.Release()
	}
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

func TestInTxIsAllOrNothing(t *testing.T) {
	t.Parallel()
	pool := open(t)
	exec(t, pool, `CREATE TABLE a (n INT)`)
	refuse := errors.New("no")
	for _, want := range []error{nil, refuse} {
		err := InTx(t.Context(), pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `INSERT INTO a VALUES (1)`); err != nil {
				return err
			}
			return want
		})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if got := text(t, pool, `SELECT count(*)::text FROM a`); got != "1" {
		t.Errorf("%s rows, want that of the run that was committed", got)
	}
}

// TestInTxLetsGo cancels in the middle: the locks go, and the connection serves
// again.
func TestInTxLetsGo(t *testing.T) {
	t.Parallel()
	pool := open(t)
	exec(t, pool, `CREATE TABLE a (n INT); INSERT INTO a VALUES (0)`)
	ctx, cancel := context.WithCancel(t.Context())
	err := InTx(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE a SET n = 1`); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if !Away(err) {
		t.Errorf("got %v, want an error that is Away", err)
	}
	exec(t, pool, `UPDATE a SET n = n + 10`)
	if got := text(t, pool, `SELECT n::text FROM a`); got != "10" {
		t.Errorf("n is %s, want what was committed", got)
	}
}

// TestInTxRetriesWhatOthersMadeImpossible lets two transactions wait for each
// other: the server ends one, which runs again.
func TestInTxRetriesWhatOthersMadeImpossible(t *testing.T) {
	t.Parallel()
	pool := open(t)
	exec(t, pool, `CREATE TABLE a (id INT PRIMARY KEY, n INT); INSERT INTO a VALUES (1, 0), (2, 0)`)
	var first sync.WaitGroup // of each, until both hold one row
	first.Add(2)
	runs := make([]int, 2)
	var wait sync.WaitGroup
	for i := range 2 {
		wait.Go(func() {
			err := InTx(t.Context(), pool, func(tx pgx.Tx) error {
				runs[i]++
				if _, err := tx.Exec(t.Context(), `UPDATE a SET n = n + 1 WHERE id = $1`, i+1); err != nil {
					return err
				}
				if runs[i] == 1 {
					first.Done()
					first.Wait()
				}
				_, err := tx.Exec(t.Context(), `UPDATE a SET n = n + 1 WHERE id = $1`, 2-i)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	// One that runs again may meet the other once more before that one commits.
	if n := runs[0] + runs[1]; n < 3 || n > 2*maxTries {
		t.Errorf("ran %v times, want three or a few more in all", runs)
	}
	if got := text(t, pool, `SELECT string_agg(n::text, ' ') FROM a`); got != "2 2" {
		t.Errorf("rows are %s, want both counted twice", got)
	}
}

func TestInTxGivesUp(t *testing.T) {
	t.Parallel()
	pool := open(t)
	runs := 0
	err := InTx(t.Context(), pool, func(tx pgx.Tx) error {
		runs++
		_, err := tx.Exec(t.Context(), `DO $$ BEGIN RAISE serialization_failure; END $$`)
		return err
	})
	if runs != maxTries || !Away(err) {
		t.Errorf("ran %d times and got %v, want %d and an error that is Away", runs, err, maxTries)
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	pool := open(t)
	long := strings.Repeat("\u00e9", 300)
	for _, e := range []Event{
		{Tenant: "org1", ActorKind: "user", Actor: "u", Action: "user.create", TargetKind: "user", Target: "t", RequestID: "r", Details: map[string]any{"a": 1}},
		{Tenant: "*", ActorKind: "system", Actor: long, Action: "x.y", TargetKind: "x", Target: long, Outcome: "denied", RequestID: long},
	} {
		if err := InTx(t.Context(), pool, func(tx pgx.Tx) error { return Audit(t.Context(), tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
	const rows = `SELECT string_agg(concat_ws(' ', tenant_id, outcome, details, char_length(actor), char_length(target), char_length(request_id)), E'\n' ORDER BY seq) FROM audit_log`
	if got, want := text(t, pool, rows), "org1 success {\"a\": 1} 1 1 1\n* denied {} 128 128 127"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for name, e := range map[string]Event{
		"no such kind": {Tenant: "*", ActorKind: "god", Actor: "a", Action: "x.y", TargetKind: "x", Target: "t"},
		"no JSON":      {Tenant: "*", ActorKind: "user", Actor: "a", Action: "x.y", TargetKind: "x", Target: "t", Details: map[string]any{"f": func() {}}},
	} {
		if err := InTx(t.Context(), pool, func(tx pgx.Tx) error { return Audit(t.Context(), tx, e) }); err == nil || !strings.Contains(err.Error(), "audit x.y") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		s    string
		max  int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"a\u00e9", 2, "a"}, {"\u00e9", 1, ""}, {"", 0, ""}} {
		if got := cut(tt.s, tt.max); got != tt.want {
			t.Errorf("%q to %d: got %q, want %q", tt.s, tt.max, got, tt.want)
		}
	}
}

// TestTimesFit keeps a lock's wait below a statement's, and both below what a
// caller waits.
func TestTimesFit(t *testing.T) {
	t.Parallel()
	lock, err1 := time.ParseDuration(lockTimeout)
	statement, err2 := time.ParseDuration(statementTimeout)
	idle, err3 := time.ParseDuration(idleInTx)
	if err := errors.Join(err1, err2, err3); err != nil || lock >= statement || statement >= idle {
		t.Errorf("lock %v, statement %v, idle %v: %v", lock, statement, idle, err)
	}
}
