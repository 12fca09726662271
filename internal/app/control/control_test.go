package control

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/token"
)

// environment is what a replica needs, for a database.
func environment(database string, more ...string) func(string) string {
	values := map[string]string{
		"DATABASE_URL": database, "REDIS_URL": "redis://127.0.0.1:1", "JWT_SECRET": strings.Repeat("s", 32), "HOST": "127.0.0.1", "PORT": "0",
	}
	for i := 0; i+1 < len(more); i += 2 {
		values[more[i]] = more[i+1]
	}
	return func(name string) string { return values[name] }
}

func TestFromEnvironmentSaysAllFaults(t *testing.T) {
	t.Parallel()
	_, err := FromEnvironment(environment("", "JWT_SECRET", "hunter2", "PORT", "http", "LOGIN_MAX_ATTEMPTS", "0"))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"DATABASE_URL", "JWT_SECRET", "PORT", "LOGIN_MAX_ATTEMPTS"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("the secret is repeated")
	}
}

// replica is a running control and a way to call it.
type replica struct {
	t    *testing.T
	app  *App
	base string
}

func start(t *testing.T, database string, more ...string) *replica {
	t.Helper()
	c, err := FromEnvironment(environment(database, more...))
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(t.Context(), Options{Config: c, Dev: true, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	return &replica{t, a, "http://" + a.Addr()}
}

// call returns the status and the JSON body.
func (r *replica) call(method, path, bearer string, body any) (int, map[string]any, http.Header) {
	r.t.Helper()
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("content-type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]any{}
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out, resp.Header
}

func (r *replica) login(name, password string) (int, map[string]any, http.Header) {
	r.t.Helper()
	return r.call("POST", "/api/v1/auth/login", "", map[string]string{"username": name, "password": password})
}

func (r *replica) token(name, password string) string {
	r.t.Helper()
	status, body, _ := r.login(name, password)
	access, _ := body["access_token"].(string)
	if status != 200 || access == "" {
		r.t.Fatalf("login of %s: %d %v", name, status, body)
	}
	return access
}

// A person logs in, and a sidecar that knows nothing but the key set's URL
// accepts the token.
func TestLoginAndVerifyElsewhere(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.Empty(t))
	access := r.token("developer", "developer123")
	keys := token.NewKeys(token.KeysOptions{})
	keys.Start()
	t.Cleanup(keys.Stop)
	v, err := token.NewVerifier([]config.Issuer{{
		Name: "control", Issuer: "https://gatehouse.internal", Audience: "gatehouse", Algorithms: []string{"EdDSA"},
		JWKS: config.JWKS{URL: r.base + "/.well-known/jwks.json"}, Tenants: []string{"any", "*"}, Roles: []string{"any", "admin"},
		Claims: config.Claims{Role: "role", Tenant: "tenant_id", Project: "project_id", Agent: "agent_id", Run: "run_id"},
	}}, keys, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	deadline := time.Now().Add(20 * time.Second)
	for {
		p, err := v.Verify(t.Context(), time.Now(), access)
		if err == nil && p.Role == "developer" && p.Tenant == "org1" && p.Project == "proj1" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", p, err)
		}
		<-time.After(10 * time.Millisecond) // the first fetch is under way
	}
}

// Five failures lock an account, whatever the password is then, and nobody
// can tell a name that exists from one that does not.
func TestLockOut(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.Empty(t))
	for i := range 5 {
		known, body, _ := r.login("Observer ", "wrong")
		unknown, other, _ := r.login("nobody", "wrong")
		if known != 401 || unknown != 401 || body["error_code"] != other["error_code"] || body["message"] != other["message"] {
			t.Fatalf("failure %d: %d %v, unknown name %d %v", i, known, body, unknown, other)
		}
	}
	for _, name := range []string{"observer", "nobody"} {
		status, body, header := r.login(name, "observer123")
		if status != 429 || body["error_code"] != "rate_limit.exceeded" || header.Get("retry-after") == "" {
			t.Errorf("%s after five failures: %d %v", name, status, body)
		}
	}
	r.token("operator", "operator123")
}

func TestAdministration(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.Empty(t))
	admin, dev := r.token("admin", "admin123"), r.token("developer", "developer123")
	user := map[string]string{"username": "carol", "password": "correct horse battery", "role": "operator", "tenant_id": "org1", "project_id": "proj1"}
	if status, body, _ := r.call("POST", "/api/v1/users", dev, user); status != 403 {
		t.Errorf("a developer makes users: %d %v", status, body)
	}
	status, body, header := r.call("POST", "/api/v1/users", admin, user)
	if status != 201 || header.Get("location") == "" || header.Get("etag") == "" {
		t.Fatalf("create: %d %v %v", status, body, header)
	}
	if status, body, _ := r.call("POST", "/api/v1/users", admin, user); status != 409 {
		t.Errorf("the same name again: %d %v", status, body)
	}
	r.token("Carol", "correct horse battery")
}

// A database that is away is 503 in our format, never "wrong password".
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	c, err := FromEnvironment(environment("postgres://gatehouse:x@127.0.0.1:1/none"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(t.Context(), Options{Config: c, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	r := &replica{t, a, "http://" + a.Addr()}
	if status, body, _ := r.login("admin", "admin123"); status != 503 || body["error_code"] != "auth.unavailable" {
		t.Errorf("login: %d %v", status, body)
	}
	if status, _, _ := r.call("GET", "/health", "", nil); status != 200 {
		t.Errorf("health: %d", status)
	}
	if status, _, _ := r.call("GET", "/readyz", "", nil); status != 503 {
		t.Errorf("readyz: %d", status)
	}
}

// Redis that can't be used is told at the start, and without its URL.
func TestRedisAwayIsTold(t *testing.T) {
	t.Parallel()
	c, err := FromEnvironment(environment("postgres://gatehouse:x@127.0.0.1:1/none", "REDIS_URL", "redis://user:hidden@127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // the logger locks it
	a, err := New(t.Context(), Options{Config: c, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.Stop()
	if got := log.String(); strings.Count(got, "Redis can't be used") != 1 || strings.Contains(got, "hidden") {
		t.Errorf("the log is\n%s\nwant one word of Redis, without its URL", got)
	}
}

// A replica whose API is gone ends, so that it is started again.
func TestEndsWithTheAPI(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.Empty(t))
	if err := r.app.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.app.wait(t.Context()); err == nil {
		t.Error("the end passes for a wish")
	}
}

// Every variable that is read is in .env.example, and no other.
func TestEnvironmentIsDocumented(t *testing.T) {
	t.Parallel()
	read := map[string]bool{}
	_, _ = FromEnvironment(func(name string) string { read[name] = true; return "" })
	read[breakGlassSwitch] = true // by the command alone
	text, err := os.ReadFile(filepath.Join("..", "..", "..", ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "#"), "=")
		if !ok || strings.Contains(name, " ") {
			continue
		}
		if !read[name] {
			t.Errorf("%s is in .env.example and not read", name)
		}
		delete(read, name)
	}
	for name := range read {
		t.Errorf("%s is read and not in .env.example", name)
	}
}
