// Package pgtest gives tests a real Postgres: one server for each test
// process, a database of its own for each test. It is test-only.
//
// The server starts with the first test that asks for it, and ends with the
// process, however that ends; so does its folder. A test that asks fails
// where no Postgres can be had: a skipped test would prove nothing. All
// functions may be called from parallel tests.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/pgserver"
	"gatehouse/migrations"
)

const (
	// setupTimeout bounds what is done before or after a test.
	setupTimeout = time.Minute
	// maxPoolConns of each test's pool; the server takes 100 of all tests.
	maxPoolConns = 8
	template     = "gatehouse_template"
)

// New is a pool on an empty database with the shipped schema. The pool is
// closed and the database dropped when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = maxPoolConns
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// URL leads to an empty database with the shipped schema, dropped when the
// test ends. Its user is a superuser.
func URL(t testing.TB) string {
	t.Helper()
	if err := migrated(); err != nil {
		t.Fatal(err)
	}
	return create(t, template)
}

// Empty leads to a database without a schema, dropped when the test ends.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, "template1")
}

// create makes a database for one test.
func create(t testing.TB, from string) string {
	t.Helper()
	s := Server(t)
	name := "test_" + strings.ToLower(rand.Text())
	if err := admin(s, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, from)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin(s, fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", name)); err != nil {
			t.Error(err)
		}
	})
	return s.URLOf(name)
}

// admin runs one statement on the server's own database.
func admin(s *pgserver.Server, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// migrated makes the template of the tests' databases.
var migrated = sync.OnceValue(func() error {
	h, err := server()
	if err != nil {
		return err
	}
	s := h.server
	if err := admin(s, "CREATE DATABASE "+template); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	_, err = migrations.Up(ctx, s.URLOf(template), slog.New(slog.DiscardHandler))
	return err
})

// Server is the server of this test process. Who stops it stops it for all
// tests; for faults, start one with pgserver.
func Server(t testing.TB) *pgserver.Server {
	t.Helper()
	h, err := server()
	if err != nil {
		t.Fatalf("no Postgres to test with: %v", err)
	}
	return h.server
}

// Bin is the folder of the programs that tests use; they are installed when
// missing.
func Bin(t testing.TB) string {
	t.Helper()
	dir, err := bin()
	if err != nil {
		t.Fatalf("no Postgres to test with: %v", err)
	}
	return dir
}

// held is the server of this process, and what its folder lives by.
type held struct {
	server *pgserver.Server
	// INVARIANT: it stays open, and reachable, as long as this process is: the
	// collector would close it, and the folder would go.
	life io.Closer
}

var server = sync.OnceValues(func() (*held, error) {
	bin, err := bin()
	if err != nil {
		return nil, err
	}
	dir, life, err := folder()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	s, err := pgserver.Start(ctx, pgserver.Options{Dir: dir, Bin: bin, Cache: cache()})
	return &held{s, life}, err
})

var bin = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), "../../scripts/postgres.sh")
	out, err := exec.Command(script).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("%s: %s", script, exit.Stderr)
		}
		return "", err
	}
	return strings.TrimSpace(string(out)), nil
})

// cache keeps the template of new clusters between runs, where there is a
// place for it.
func cache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "gatehouse")
}

// remover waits until its input ends, which our end does, and then removes a
// folder; the server may take a moment to let it go.
const remover = `read -r _; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$0" 2>/dev/null && exit; sleep 0.2; done`

// folder makes the server's folder. It goes when this process has ended, or
// life is closed.
func folder() (dir string, life io.Closer, err error) {
	if dir, err = os.MkdirTemp("", "gatehouse-pgtest-"); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // others pass, to what is theirs within
		return "", nil, err
	}
	cmd := exec.Command("sh", "-c", remover, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C must not end it before us
	if life, err = cmd.StdinPipe(); err != nil {
		return "", nil, err
	}
	return dir, life, cmd.Start()
}
