package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/certtest"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/fakellm"
	"gatehouse/internal/operator"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/revision"
	"gatehouse/policies"
)

const (
	policySet    = "soak"
	tenant       = "org1"
	project      = "proj1"
	openaiKey    = "sk-fake-openai"
	anthropicKey = "sk-fake-anthropic"
	// tellBytes of each log are shown when a test fails.
	tellBytes = 4096
	// maxOutput is the routes' output limit.
	maxOutput = 60
)

// routes lead to both shapes of the provider; texts are judged on all but raw.
const routes = `
routes:
  - {name: chat, match: {listener: outbound, base: /openai, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, idle_timeout: 20s, max_stream: 30s,
     llm: {max_output_tokens: 60, sanitize: {content: markdown, reasoning: prose, tool_call: tool_call}}}
  - {name: raw, match: {listener: outbound, base: /raw, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, max_stream: 30s, llm: {max_output_tokens: 60}}
  - {name: messages, match: {listener: outbound, base: /anthropic, path: /v1/messages, methods: [POST]}, upstream: anthropic, permission: task.create, max_stream: 30s,
     llm: {max_output_tokens: 60, sanitize: {content: markdown, reasoning: prose, tool_call: tool_call}}}
`

// issuers is the only one whose tokens count.
const issuers = `issuers:
  - {name: control, issuer: "https://gatehouse.internal", jwks: control, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
`

// apiLimits let the test ask as often as it likes.
const apiLimits = "admin: 1000000\noperator: 1000000\ndeveloper: 1000000\nobserver: 1000000\nanonymous: 1000000\nprobe: 1000000\nsessions: 1000000\nfailed_logins: 1000000\n"

// world is one of everything: Postgres, control, a sidecar and its Envoy as
// processes of their own, and the provider in this one.
type world struct {
	t        testing.TB
	dir      string
	provider *fakellm.Provider
	url      string // of control's API
	mesh     string // host:port of control's service for sidecars
	outbound string // host:port of Envoy
	debug    string // of the sidecar
	admin    *operator.Client
	token    string // of a developer of the tenant
	client   *http.Client

	postgres, control, sidecar, envoy *unit
}

// newWorld starts all of it and waits until it can hold.
func newWorld(t testing.TB) *world {
	t.Helper()
	programs, err := programs()
	must(t, err)
	dir, err := os.MkdirTemp("", "gatehouse-soak-") // short: a socket's path has 108 bytes
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755)) // Postgres has a uid of its own
	w := &world{
		t: t, dir: dir, outbound: address(t), debug: address(t), mesh: address(t), url: "http://" + address(t),
		provider: fakellm.New(fakellm.Options{OpenAIKey: openaiKey, AnthropicKey: anthropicKey}),
	}
	connections := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	w.client = &http.Client{Transport: connections}
	t.Cleanup(connections.CloseIdleConnections)
	t.Cleanup(func() {
		if t.Failed() {
			w.tellLogs()
		}
	})
	pair := certtest.New(t)
	for name, text := range map[string][]byte{"ca.pem": pair.CertPEM, "cert.pem": pair.CertPEM, "key.pem": pair.KeyPEM} {
		w.write(name, text)
	}
	w.write("limits.yaml", []byte(apiLimits))
	w.startControl(programs)
	w.login()
	w.push()
	w.startSidecar(programs)
	w.awaitHolds()
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name string, text []byte) {
	w.t.Helper()
	must(w.t, os.WriteFile(w.path(name), text, 0o600))
}

// startControl starts Postgres and control, and waits for its API.
func (w *world) startControl(programs string) {
	w.t.Helper()
	port := envoytest.FreePort(w.t)
	w.postgres = supervise(w.t, "postgres", false, postgres(w.path("pg"), port, pgtest.Bin(w.t)))
	envoytest.Eventually(w.t, "Postgres is up", func() bool { return w.postgres.up() })
	password, err := os.ReadFile(w.path("pg/password"))
	must(w.t, err)
	_, apiPort, _ := strings.Cut(strings.TrimPrefix(w.url, "http://"), ":")
	_, meshPort, _ := strings.Cut(w.mesh, ":")
	p := program{path: filepath.Join(programs, "gatehouse-control"), args: []string{"--dev", "--log-level", "warn"}, log: w.path("control.log"), env: []string{
		fmt.Sprintf("DATABASE_URL=postgres://gatehouse:%s@127.0.0.1:%d/golden_arch?sslmode=disable", strings.TrimSpace(string(password)), port),
		"REDIS_URL=redis://127.0.0.1:1", "JWT_SECRET=" + strings.Repeat("s", 32), "HOST=127.0.0.1", "PORT=" + apiPort, "MESH_PORT=" + meshPort,
		"MESH_CERT_FILE=" + w.path("cert.pem"), "MESH_KEY_FILE=" + w.path("key.pem"), "API_LIMITS_FILE=" + w.path("limits.yaml"),
	}}
	w.control = supervise(w.t, "control", true, p.start)
	envoytest.Eventually(w.t, "control is ready", w.controlReady)
}

func (w *world) controlReady() bool { return get(w.url+"/readyz") == http.StatusOK }

// get asks for a page and returns the status, 0 for none.
func get(url string) int {
	client := http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// login makes new sessions: they last ten minutes.
func (w *world) login() {
	w.t.Helper()
	c, err := operator.New(operator.Options{URL: w.url})
	must(w.t, err)
	admin, err := c.Login(w.t.Context(), "admin", "admin123")
	must(w.t, err)
	w.admin, err = c.With(admin.AccessToken)
	must(w.t, err)
	developer, err := c.Login(w.t.Context(), "developer", "developer123")
	must(w.t, err)
	w.token = developer.AccessToken
}

// push puts the policy set in force.
func (w *world) push() {
	w.t.Helper()
	upstream := httptest.NewServer(w.provider)
	w.t.Cleanup(upstream.Close)
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	must(w.t, err)
	text := issuers + fmt.Sprintf("upstreams:\n  openai: {url: %q, format: openai, credential: openai}\n  anthropic: {url: %q, format: anthropic, credential: anthropic}\n", upstream.URL, upstream.URL) + routes
	rev, _, err := w.admin.Push(w.t.Context(), policySet, revision.Files{"authz.rego": rego, revision.ConfigFile: []byte(text)}, "")
	must(w.t, err)
	_, err = w.admin.Activate(w.t.Context(), policySet, rev.Id)
	must(w.t, err)
}

// startSidecar registers the sidecar and starts it and its Envoy.
func (w *world) startSidecar(programs string) {
	w.t.Helper()
	made, err := w.admin.RegisterNew(w.t.Context(), api.SidecarRegister{Name: "soak", TenantId: tenant, PolicySet: policySet, Role: new(api.Role("developer"))})
	must(w.t, err)
	credential, err := json.Marshal(made.Credential)
	must(w.t, err)
	w.write("credential.json", credential)
	w.write("sidecar.yaml", fmt.Appendf(nil, `name: soak
socket: %s
state_dir: %s
debug: %s
listeners:
  inbound: {address: %s}
  outbound: {address: %s}
control: {address: %q, ca_file: %s, credential_file: %s}
credentials: {openai: {env: FAKE_OPENAI}, anthropic: {env: FAKE_ANTHROPIC}}
`, w.path("run/gate.sock"), w.path("state"), w.debug, address(w.t), w.outbound, w.mesh, w.path("ca.pem"), w.path("credential.json")))
	p := program{
		path: filepath.Join(programs, "gatehouse-sidecar"), args: []string{"--config", w.path("sidecar.yaml")}, log: w.path("sidecar.log"),
		env: []string{"FAKE_OPENAI=" + openaiKey, "FAKE_ANTHROPIC=" + anthropicKey},
	}
	w.sidecar = supervise(w.t, "sidecar", false, p.start)
	envoytest.Eventually(w.t, "the sidecar wrote Envoy's bootstrap", func() bool {
		_, err := os.Stat(w.path("state/envoy.yaml"))
		return err == nil
	})
	e := program{path: envoytest.Binary(w.t), log: w.path("envoy.log"), args: []string{
		"-c", w.path("state/envoy.yaml"), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--drain-strategy", "immediate",
	}}
	w.envoy = supervise(w.t, "envoy", false, e.start)
}

// awaitHolds waits until a hold is refused because there is no limit, or is made:
// then all is up, up to Postgres and back.
func (w *world) awaitHolds() {
	w.t.Helper()
	envoytest.Eventually(w.t, "holds are decided", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		o := w.send(ctx, &request{base: "openai", model: "words-1", output: 1, n: 1})
		return o.status == http.StatusOK || o.status == http.StatusTooManyRequests
	})
}

// limits are those of a run: the tenant's, which is tight, and its project's.
type limits struct {
	tenant, project api.BudgetLimit
}

// limit gives the tenant so many tokens, and forgets what was before.
func (w *world) limit(tokens int64) limits {
	w.t.Helper()
	w.provider.Reset()
	for _, u := range w.usage(w.t.Context()) {
		r, err := w.admin.API().DeleteBudgetLimitWithResponse(w.t.Context(), u.LimitId, &api.DeleteBudgetLimitParams{TenantId: new(api.TenantName(tenant))})
		must(w.t, operator.Done(r, err))
	}
	return limits{tenant: w.newLimit(nil, tokens), project: w.newLimit(new(api.ProjectReference(project)), 100*tokens)}
}

func (w *world) newLimit(project *api.ProjectReference, tokens int64) api.BudgetLimit {
	w.t.Helper()
	r, err := w.admin.API().CreateBudgetLimitWithResponse(w.t.Context(), api.BudgetLimitCreate{TenantId: tenant, ProjectId: project, Tokens: tokens, Window: api.BudgetWindow("total")})
	made, err := operator.Answer(r, err, func(r *api.CreateBudgetLimitResponse) *api.BudgetLimit { return r.JSON201 })
	must(w.t, err)
	return *made
}

// setLimit changes a limit. Its error is the API's.
func (w *world) setLimit(ctx context.Context, l api.BudgetLimit, tokens int64) error {
	r, err := w.admin.API().UpdateBudgetLimitWithResponse(ctx, l.Id, &api.UpdateBudgetLimitParams{TenantId: new(api.TenantName(tenant)), IfMatch: new(api.IfMatch("*"))}, api.BudgetLimitUpdate{Tokens: tokens})
	return operator.Done(r, err)
}

// ask says where the limits stand.
func (w *world) ask(ctx context.Context) ([]api.BudgetUsage, error) {
	r, err := w.admin.API().GetBudgetStateWithResponse(ctx, &api.GetBudgetStateParams{TenantId: new(api.TenantName(tenant)), ProjectId: new(api.FilterProject(project))})
	state, err := operator.Answer(r, err, func(r *api.GetBudgetStateResponse) *api.BudgetState { return r.JSON200 })
	if err != nil {
		return nil, err
	}
	return state.Items, nil
}

// usage is ask, of a world in which everything is up.
func (w *world) usage(ctx context.Context) []api.BudgetUsage {
	w.t.Helper()
	items, err := w.ask(ctx)
	must(w.t, err)
	return items
}

// quiet waits until no exchange is under way and nothing is held, for at most so
// long, and returns the usage.
func (w *world) quiet(within time.Duration) []api.BudgetUsage {
	w.t.Helper()
	for began := time.Now(); ; <-time.After(samplePause) {
		items, err := w.atRest()
		if err == nil {
			w.t.Logf("quiet after %v", time.Since(began).Round(time.Millisecond))
			return items
		}
		if time.Since(began) > within {
			w.t.Errorf("not quiet after %v: %v; %+v", within, err, items)
			return items
		}
	}
}

// atRest returns the usage; its error says what is not at rest. The sidecar is
// asked first: what it has settled, control shows.
func (w *world) atRest() ([]api.BudgetUsage, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), askTimeout)
	defer cancel()
	if n := w.provider.Totals().Open; n != 0 {
		return nil, fmt.Errorf("the provider answers %d calls", n)
	}
	for _, gauge := range []string{"gatehouse_exchanges_open", "gatehouse_settlements_waiting"} {
		n, err := w.metric(ctx, gauge)
		if err != nil {
			return nil, err
		}
		if n != 0 {
			return nil, fmt.Errorf("%s is %v", gauge, n)
		}
	}
	items, err := w.ask(ctx)
	for _, u := range items {
		if u.Reserved != 0 {
			err = fmt.Errorf("%d tokens are held", u.Reserved)
		}
	}
	return items, err
}

// metric is one of the sidecar's.
func (w *world) metric(ctx context.Context, name string) (float64, error) {
	out, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.debug+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := w.client.Do(out)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// journal is what happened to limits.
func (w *world) journal(of limits) []api.BudgetTransaction {
	w.t.Helper()
	var all []api.BudgetTransaction
	params := &api.ListBudgetTransactionsParams{TenantId: new(api.TenantName(tenant)), Limit: new(api.Limit(200))}
	for {
		r, err := w.admin.API().ListBudgetTransactionsWithResponse(w.t.Context(), params)
		page, err := operator.Answer(r, err, func(r *api.ListBudgetTransactionsResponse) *api.BudgetTransactionList { return r.JSON200 })
		must(w.t, err)
		for _, line := range page.Items {
			switch line.LimitId {
			case of.tenant.Id, of.project.Id:
				all = append(all, line)
			default:
				if len(all) > 0 {
					return all // those of the run before
				}
			}
		}
		if page.Next == nil {
			return all
		}
		params.Cursor = page.Next
	}
}

// tellLogs shows the end of each log.
func (w *world) tellLogs() {
	for _, name := range []string{"control.log", "sidecar.log", "envoy.log", "pg/postgres.log"} {
		text, err := os.ReadFile(w.path(name))
		text = bytes.ReplaceAll(text[max(0, len(text)-tellBytes):], []byte{0}, nil) // of a server that went on writing
		w.t.Logf("%s: …%s", name, text)
		if err != nil {
			w.t.Log(err)
		}
	}
}
