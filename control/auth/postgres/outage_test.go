package postgres_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gatehouse/control/auth"
	store "gatehouse/control/auth/postgres"
	"gatehouse/internal/apierr"
	"gatehouse/internal/pgserver"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/postgres"
	"gatehouse/migrations"
)

// backWithin is how long a server that is back may stay unnoticed.
const backWithin = 30 * time.Second

// TestPostgresKilledAndBack kills the server under a running service: each way
// in says that it can't tell, and none says no.
func TestPostgresKilledAndBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	opts := pgserver.Options{Dir: dir, Bin: pgtest.Bin(t), Durable: true}
	server, err := pgserver.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	f := over(t, server)
	s, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(t.Context(), s.AccessToken); err != nil {
		t.Fatal(err)
	}

	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	for f.pool.Ping(t.Context()) == nil { // what serves a connection outlives the server by a moment
		if t.Context().Err() != nil {
			t.Fatal("the server lives on")
		}
	}
	_, err = f.Verify(t.Context(), s.AccessToken)
	wantAnswer(t, "verify, just known", err, "")
	f.now = f.now.Add(auth.StandingAge)
	for range 2 { // the first may find a connection that looks alive
		for name, call := range map[string]func() error{
			"login":    func() error { _, err := f.Login(t.Context(), "ada", password, from); return err },
			"no user":  func() error { _, err := f.Login(t.Context(), "nobody", password, from); return err },
			"refresh":  func() error { _, err := f.Refresh(t.Context(), s.RefreshToken); return err },
			"logout":   func() error { return f.Logout(t.Context(), s.RefreshToken) },
			"client":   func() error { _, err := f.ClientToken(t.Context(), uuid, "x", from); return err },
			"verify":   func() error { _, err := f.Verify(t.Context(), s.AccessToken); return err },
			"no token": func() error { _, err := f.Refresh(t.Context(), "ghr_x"); return err },
		} {
			wantAnswer(t, name+" with the server dead", call(), apierr.AuthUnavailable)
		}
	}
	if _, err := f.KeySet(t.Context()); err != nil {
		t.Errorf("key set with the server dead: %v", err)
	}

	server.Stop() // lets go of the folder
	opts.Port = server.Port()
	again, err := pgserver.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	if err := comesBack(func() error { _, err := f.Login(t.Context(), "ada", password, from); return err }); err != nil {
		t.Errorf("login with the server back: %v", err)
	}
	_, err = f.Refresh(t.Context(), s.RefreshToken)
	wantAnswer(t, "refresh with the server back", err, "")
}

const uuid = "00000000-0000-0000-0000-000000000000"

// comesBack calls until it works, and returns the last error if it does not
// within backWithin.
func comesBack(call func() error) (err error) {
	for end := time.Now().Add(backWithin); time.Now().Before(end); {
		if err = call(); err == nil {
			return nil
		}
	}
	return err
}

// over makes a fixture over a server of the test's own, with the product's pool.
func over(t *testing.T, server *pgserver.Server) *fixture {
	t.Helper()
	if _, err := migrations.Up(t.Context(), server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	pool, err := postgres.Open(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	f := &fixture{pool: pool, store: store.New(pool), hasher: auth.NewHasher(), now: time.Now().Truncate(time.Second)}
	f.fill(t)
	f.Service = f.service(t)
	return f
}
