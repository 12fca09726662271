package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/app/control"
	"gatehouse/internal/certtest"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/operator"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/revision"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
)

const (
	meshSet = "agents" // the policy set of all sidecars here
	// promise is how long a revocation, block or suspension may take to be in
	// force at every sidecar that is connected.
	promise = 5 * time.Second
)

// mesh is replicas of control over one database, and the upstream that all
// sidecars lead to.
type mesh struct {
	t        testing.TB
	dir      string
	database string
	redis    string
	app      *witness
	outside  *tokentest.Issuer // an issuer whose tokens the test writes
	replicas []*replica
}

// replica is one control, and its API for the admin of all tenants.
type replica struct {
	app   *control.App
	log   *logBuffer
	admin *operator.Client
}

// meshOptions are what a test may choose.
type meshOptions struct {
	Replicas int    // in this process; none where 0
	Database string // a URL; a database of the test's own where ""
	Redis    string // a URL; one that nobody answers where ""
}

func newMesh(t testing.TB, o meshOptions) *mesh {
	t.Helper()
	m := &mesh{t: t, dir: t.TempDir(), database: o.Database, redis: cmpOr(o.Redis, "redis://127.0.0.1:1"), app: newWitness(t)}
	if m.database == "" {
		m.database = pgtest.URL(t)
	}
	m.outside = tokentest.NewIssuer(t, "outside", "https://outside.test", "gatehouse")
	m.write("jwks.json", m.outside.JWKS())
	m.write("limits.yaml", []byte("admin: 100000\noperator: 100000\ndeveloper: 100000\nobserver: 100000\nanonymous: 100000\nprobe: 100000\nsessions: 100000\nfailed_logins: 100000\n"))
	m.certify()
	for range o.Replicas {
		m.startReplica()
	}
	return m
}

func (m *mesh) path(name string) string { return filepath.Join(m.dir, name) }

func (m *mesh) write(name string, text []byte) {
	m.t.Helper()
	must(m.t, os.WriteFile(m.path(name), text, 0o600))
}

// certify makes the certificate of control's service, which is its own authority.
func (m *mesh) certify() {
	m.t.Helper()
	pair := certtest.New(m.t)
	for name, text := range map[string][]byte{"ca.pem": pair.CertPEM, "cert.pem": pair.CertPEM, "key.pem": pair.KeyPEM} {
		m.write(name, text)
	}
}

// environment is what a control is told; more is pairs of a name and a value.
func (m *mesh) environment(more ...string) map[string]string {
	env := map[string]string{
		"DATABASE_URL": m.database, "REDIS_URL": m.redis, "JWT_SECRET": strings.Repeat("s", 32), "HOST": "127.0.0.1", "PORT": "0",
		"MESH_PORT": "0", "MESH_CERT_FILE": m.path("cert.pem"), "MESH_KEY_FILE": m.path("key.pem"), "API_LIMITS_FILE": m.path("limits.yaml"),
	}
	for i := 0; i+1 < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

func (m *mesh) startReplica() *replica {
	m.t.Helper()
	env := m.environment()
	c, err := control.FromEnvironment(func(name string) string { return env[name] })
	must(m.t, err)
	r := &replica{log: &logBuffer{}}
	r.app, err = control.New(context.Background(), control.Options{Config: c, Dev: true, Log: r.log})
	must(m.t, err)
	must(m.t, r.app.Start(context.Background()))
	m.t.Cleanup(func() {
		r.app.Stop()
		if m.t.Failed() {
			m.t.Logf("control's log:\n%s", r.log.tail())
		}
	})
	r.admin = m.login(r.url(), "admin").client
	m.replicas = append(m.replicas, r)
	return r
}

func (r *replica) url() string { return "http://" + r.app.Addr() }

// session is a login of one of the users that a dev database has.
type session struct {
	client         *operator.Client // calls as the user
	token, refresh string
}

func (m *mesh) login(url, user string) session {
	m.t.Helper()
	c, err := operator.New(operator.Options{URL: url})
	must(m.t, err)
	tok, err := c.Login(m.t.Context(), user, user+"123")
	must(m.t, err)
	c, err = c.With(tok.AccessToken)
	must(m.t, err)
	return session{c, tok.AccessToken, *tok.RefreshToken}
}

// user logs in at a replica.
func (r *replica) user(m *mesh, name string) session {
	m.t.Helper()
	return m.login(r.url(), name)
}

// set is the policy set number n: a route /vN tells it from others. edit
// changes its configuration.
func (m *mesh) set(n int, edit ...func(string) string) revision.Files {
	m.t.Helper()
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	must(m.t, err)
	text := fmt.Sprintf(`issuers:
  - {name: control, issuer: "https://gatehouse.internal", jwks: control, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
  - {name: outside, issuer: "https://outside.test", jwks: {file: %s}, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
upstreams:
  app: {url: %q}
limits:
  - {name: few, key: [principal], rate: 3/min, burst: 3}
  - {name: together, key: [principal], rate: 6/min, burst: 6, scope: mesh}
  - {name: crowd, key: [principal], rate: 60/min, burst: 60, scope: mesh}
routes:
  - {name: open, match: {listener: inbound, path: /open}, upstream: app, principal: none}
  - {name: admin, match: {listener: inbound, prefix: /admin}, upstream: app, permission: system.admin}
  - {name: tasks, match: {listener: inbound, prefix: /tasks}, upstream: app, permission: {GET: task.view, POST: task.create}}
  - {name: few, match: {listener: inbound, prefix: /few}, upstream: app, permission: task.view, limits: [few]}
  - {name: shared, match: {listener: inbound, prefix: /shared}, upstream: app, permission: task.view, limits: [together]}
  - {name: crowd, match: {listener: inbound, prefix: /crowd}, upstream: app, permission: task.view, limits: [crowd]}
  - {name: version, match: {listener: inbound, path: /v%d}, upstream: app, principal: none}
  - {name: work, match: {listener: outbound, base: /work, prefix: /}, upstream: app, principal: token_or_workload, permission: task.create}
`, m.path("jwks.json"), m.app.URL, n)
	for _, f := range edit {
		text = f(text)
	}
	return revision.Files{"authz.rego": rego, revision.ConfigFile: []byte(text)}
}

// put pushes and activates a set.
func (r *replica) put(m *mesh, files revision.Files) api.PolicyActivation {
	m.t.Helper()
	rev, _, err := r.admin.Push(m.t.Context(), meshSet, files, "")
	must(m.t, err)
	active, err := r.admin.Activate(m.t.Context(), meshSet, rev.Id)
	must(m.t, err)
	return *active.Active
}

// active is what the API says is in force.
func active(t testing.TB, c *operator.Client) api.PolicyActivation {
	t.Helper()
	r, err := c.API().GetPolicySetWithResponse(t.Context(), meshSet)
	set, err := operator.Answer(r, err, func(r *api.GetPolicySetResponse) *api.PolicySet { return r.JSON200 })
	must(t, err)
	return *set.Active
}

// soon waits until something holds, and demands that this took no longer than
// was promised.
func (m *mesh) soon(what string, holds func() bool) {
	m.t.Helper()
	begin := time.Now()
	envoytest.Eventually(m.t, what, holds)
	took := time.Since(begin)
	if took > promise {
		m.t.Errorf("%s: after %v, want within %v", what, took, promise)
	}
	m.t.Logf("%s: after %d ms", what, took.Milliseconds())
}

// wantAway demands that the API refuses in our format because it can't know.
func wantAway(t testing.TB, what string, err error) {
	t.Helper()
	e, ok := errors.AsType[*operator.Error](err)
	if !ok || e.Status != http.StatusServiceUnavailable || e.RequestID == "" {
		t.Errorf("%s: got %v, want 503 in our format", what, err)
	}
}

// witness is an upstream that knows which requests reached it: by the probe
// that each carries.
type witness struct {
	*httptest.Server

	mu   sync.Mutex
	seen map[string]string // the decision of each probe
}

func newWitness(t testing.TB) *witness {
	t.Helper()
	w := &witness{seen: map[string]string{}}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func (w *witness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.seen[r.Header.Get("x-probe")] = r.Header.Get("x-gatehouse-decision-id")
	w.mu.Unlock()
	_, _ = io.WriteString(out, "reached")
}

// reached tells whether a probe came through, and by which decision.
func (w *witness) reached(probe string) (decision string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	decision, ok = w.seen[probe]
	return decision, ok
}
