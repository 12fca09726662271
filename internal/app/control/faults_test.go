package control

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/pgserver"
	"gatehouse/internal/pgtest"
)

const (
	// loginWithin is what a login may take, whatever the database does.
	loginWithin = 15 * time.Second
	// backWithin is how long a server that is back may stay unnoticed.
	backWithin = 30 * time.Second
)

// patch changes a thing as it was seen.
func (r *replica) patch(path, bearer, etag string, body any) (int, map[string]any) {
	r.t.Helper()
	payload, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), "PATCH", r.base+path, bytes.NewReader(payload))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("authorization", "Bearer "+bearer)
	req.Header.Set("content-type", "application/json")
	req.Header.Set("if-match", etag)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]any{}
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out
}

// ready waits until the replica is.
func (r *replica) ready() {
	r.t.Helper()
	for end := time.Now().Add(backWithin); ; {
		status, body, _ := r.call("GET", "/readyz", "", nil)
		if status == 200 {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("not ready again: %d %v", status, body)
		}
		<-time.After(10 * time.Millisecond) // the server is under way
	}
}

// wantUnavailable checks an answer of a replica that can't ask its database: our
// format, and no word of credentials.
func (r *replica) wantUnavailable(what string, status int, body map[string]any) {
	r.t.Helper()
	code, _ := body["error_code"].(string)
	if status != 503 || code == "" || body["message"] == nil || body["request_id"] == nil {
		r.t.Errorf("%s: %d %v, want 503 in our format", what, status, body)
	}
}

// ownServer is a Postgres for this test alone, and what it was started with.
func ownServer(t *testing.T) (*pgserver.Server, pgserver.Options) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	o := pgserver.Options{Dir: dir, Bin: pgtest.Bin(t), Durable: true}
	server, err := pgserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server, o
}

// A database that is killed under a running replica is 503, never 401. The keys
// are still published, and once it is back all works without a restart.
func TestDatabaseKilledAndBack(t *testing.T) {
	t.Parallel()
	server, o := ownServer(t)
	r := start(t, server.URL())
	admin := r.token("admin", "admin123")
	_, keys, _ := r.call("GET", "/.well-known/jwks.json", "", nil)

	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	for range 2 { // the first may find a connection that looks alive
		for _, password := range []string{"admin123", "wrong"} {
			status, body, _ := r.login("admin", password)
			r.wantUnavailable("login with "+password, status, body)
		}
		status, body, _ := r.call("GET", "/api/v1/tenants", admin, nil)
		r.wantUnavailable("tenants", status, body)
		status, body, _ = r.call("POST", "/api/v1/tenants", admin, map[string]string{"id": "org9"})
		r.wantUnavailable("new tenant", status, body)
	}
	status, body, _ := r.call("GET", "/.well-known/jwks.json", "", nil)
	if list, ok := body["keys"].([]any); status != 200 || !ok || len(list) == 0 || len(list) != len(keys["keys"].([]any)) {
		t.Errorf("key set: %d %v, before it was %v", status, body, keys)
	}
	if status, _, _ := r.call("GET", "/readyz", "", nil); status != 503 {
		t.Errorf("readyz: %d", status)
	}

	server.Stop() // lets go of the folder
	o.Port = server.Port()
	again, err := pgserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	r.ready()
	if status, body, _ := r.call("GET", "/api/v1/tenants", admin, nil); status != 200 {
		t.Errorf("tenants with the server back: %d %v", status, body)
	}
	r.token("admin", "admin123")
}

// A database that does not answer, at whichever step, ends a login in time and
// without a no.
func TestSlowDatabase(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"login_attempts", "users", "refresh_tokens"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Empty(t)
			r := start(t, database)
			unlock := lockTable(t, database, table)
			for _, password := range []string{"operator123", "wrong"} {
				if password == "wrong" && table == "refresh_tokens" {
					continue // a failure needs no session
				}
				began := time.Now()
				status, body, _ := r.login("operator", password)
				r.wantUnavailable("login with "+password, status, body)
				if took := time.Since(began); took > loginWithin {
					t.Errorf("took %v", took)
				}
			}
			unlock()
			r.token("operator", "operator123")
		})
	}
}

// lockTable keeps everybody else from a table until it is unlocked.
func lockTable(t *testing.T, database, table string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
	}
}
