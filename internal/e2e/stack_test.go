package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/app/sidecar"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
)

// stack is one sidecar in this process, its Envoy, and an upstream.
type stack struct {
	t        testing.TB
	dir      string
	policies string
	issuer   *tokentest.Issuer
	app      *upstream
	inbound  string // host:port
	outbound string
	debug    string
	sidecar  *sidecar.App
	envoy    *envoytest.Envoy
	log      *logBuffer
	opts     stackOptions
}

// stackOptions are what a test may choose.
type stackOptions struct {
	Config       string            // gatehouse.yaml after the issuers and upstreams; default defaultRoutes
	Policy       string            // the policy: section, indented text
	Files        map[string]string // further or other files of the set
	Sidecar      string            // more of sidecar.yaml
	Grace        time.Duration
	NoStart      bool // neither sidecar nor Envoy is started
	NoEnvoy      bool
	EnvoyUID     int
	Tenant       string            // of the workload, and so the sidecar; default org1
	UpstreamURLs map[string]string // more upstreams
}

const defaultRoutes = `
limits:
  - {name: few, key: [principal], rate: 3/min, burst: 3}
routes:
  - {name: health, match: {listener: inbound, path: /healthz}, exempt: true, upstream: app}
  - {name: status, match: {listener: inbound, path: /status, methods: [GET]}, upstream: app, principal: none}
  - {name: few, match: {listener: inbound, prefix: /few}, upstream: app, permission: task.view, limits: [few]}
  - {name: upload, match: {listener: inbound, path: /upload, methods: [POST]}, upstream: app, permission: task.create, body: 64KiB}
  - {name: forward, match: {listener: inbound, prefix: /forward}, upstream: app, permission: task.view, forward_token: true}
  - {name: watched, match: {listener: inbound, prefix: /watched}, upstream: app, permission: task.create, mode: observe}
  - name: tasks
    match: {listener: inbound, prefix: /p}
    upstream: app
    permission: {GET: task.view, POST: task.create, DELETE: task.delete}
  - {name: tools, match: {listener: outbound, base: /tools, prefix: /}, upstream: tools, permission: task.create}
  - {name: only-workload, match: {listener: outbound, base: /work, prefix: /}, upstream: app, principal: workload, permission: task.create}
  - {name: open, match: {listener: outbound, base: /open, prefix: /}, upstream: app, permission: task.create}
`

func start(t testing.TB, o stackOptions) *stack {
	t.Helper()
	s := prepare(t, o)
	if o.NoStart {
		return s
	}
	s.startSidecar()
	if !o.NoEnvoy {
		s.startEnvoy()
	}
	return s
}

func prepare(t testing.TB, o stackOptions) *stack {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	s := &stack{
		t: t, dir: dir, opts: o, policies: filepath.Join(dir, "policies"), log: &logBuffer{},
		app:      newUpstream(t, "app"),
		inbound:  fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)),
		outbound: fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)),
		debug:    fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)),
	}
	s.issuer = tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse")
	must(t, os.WriteFile(s.path("jwks.json"), s.issuer.JWKS(), 0o600))
	must(t, os.Mkdir(s.policies, 0o755))
	s.write("gatehouse.yaml", s.config(cmpOr(o.Config, defaultRoutes)))
	rego, err := policies.Shipped().Open("authz.rego")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(rego)
	must(t, err)
	s.write("authz.rego", string(text))
	for name, text := range o.Files {
		s.write(name, text)
	}
	must(t, os.WriteFile(s.path("sidecar.yaml"), []byte(s.sidecarYAML()), 0o600))
	return s
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *stack) path(name string) string { return filepath.Join(s.dir, name) }

// config is gatehouse.yaml with the given limits and routes.
func (s *stack) config(rest string) string {
	urls := map[string]string{}
	maps.Copy(urls, s.opts.UpstreamURLs)
	var more strings.Builder
	for name, url := range urls {
		fmt.Fprintf(&more, "  %s: {url: %q}\n", name, url)
	}
	policy := ""
	if s.opts.Policy != "" {
		policy = "policy: " + s.opts.Policy + "\n"
	}
	return policy + fmt.Sprintf(`issuers:
  - {name: main, issuer: "https://issuer.test", jwks: {file: %s}, audience: gatehouse, algorithms: [EdDSA], tenants: [any], roles: [any]}
upstreams:
  app: {url: %q}
  tools: {url: %q, credential: tools}
`, s.path("jwks.json"), s.app.URL, s.app.URL) + more.String() + rest
}

func (s *stack) sidecarYAML() string {
	uid := ""
	if s.opts.EnvoyUID > 0 {
		uid = fmt.Sprintf("envoy_uid: %d\n", s.opts.EnvoyUID)
	}
	return fmt.Sprintf(`name: test
socket: %s
state_dir: %s
debug: %s
listeners:
  inbound: {address: %s}
  outbound: {address: %s}
principal: {subject: agent-7, tenant: %s, project: proj1, agent: seven, role: developer}
credentials: {tools: {env: TOOLS_KEY}}
`, s.path("run/gate.sock"), s.path("state"), s.debug, s.inbound, s.outbound, cmpOr(s.opts.Tenant, "org1")) + uid + s.opts.Sidecar
}

// write puts a file into the policy folder, as an editor does: whole.
func (s *stack) write(name, text string) {
	s.t.Helper()
	tmp := s.path(".tmp")
	must(s.t, os.WriteFile(tmp, []byte(text), 0o644))
	must(s.t, os.Rename(tmp, filepath.Join(s.policies, name)))
}

func (s *stack) startSidecar() {
	s.t.Helper()
	app, err := sidecar.New(sidecar.Options{
		Config: s.path("sidecar.yaml"), Policies: s.policies, Log: s.log, Level: slog.LevelInfo, Grace: s.opts.Grace,
		Env: func(name string) string { return map[string]string{"TOOLS_KEY": "tools-secret"}[name] },
	})
	must(s.t, err)
	must(s.t, app.Start(context.Background()))
	s.sidecar = app
	s.t.Cleanup(func() {
		app.Stop(context.Background())
		if s.t.Failed() {
			s.t.Logf("the sidecar's log:\n%s", s.log.tail())
		}
	})
}

func (s *stack) startEnvoy() {
	s.t.Helper()
	s.envoy = envoytest.Start(s.t, s.path("state/envoy.yaml"), envoytest.Options{
		Admin: s.path("run/admin.sock"), UID: s.opts.EnvoyUID,
	})
	s.envoy.WaitReady()
}

// inForce waits until a change of the policy folder is in force, or refused.
func (s *stack) inForce(before string) sidecar.Status {
	s.t.Helper()
	var st sidecar.Status
	envoytest.Eventually(s.t, "the changed policy set is in force", func() bool {
		st = s.sidecar.Status()
		return st.Revision != before && st.Envoy.Phase == "idle"
	})
	return st
}

// answer is what a client got.
type answer struct {
	Status int
	Header http.Header
	Body   string
	Code   string // error_code, "" where the body has none
}

// client keeps no connection, so that tests don't depend on each other's.
func client() *http.Client {
	return &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do sends a request with headers given as name, value pairs.
func (s *stack) do(method, url string, body string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+url, strings.NewReader(body))
	must(s.t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := client().Do(req)
	if err != nil {
		return answer{Body: err.Error()}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text), Code: errorCode(text)}
}

func errorCode(body []byte) string {
	var e struct {
		Code string `json:"error_code"`
	}
	_ = json.Unmarshal(body, &e)
	return e.Code
}

func (s *stack) get(url string, headers ...string) answer {
	s.t.Helper()
	return s.do("GET", url, "", headers...)
}

func bearer(token string) []string { return []string{"authorization", "Bearer " + token} }

// refused demands an answer and that the upstream was not reached for it.
func (s *stack) refused(what string, before int, a answer, status int, code string) {
	s.t.Helper()
	if a.Status != status || a.Code != code {
		s.t.Errorf("%s: got %d %s, want %d %s; body %.200s", what, a.Status, a.Code, status, code, a.Body)
	}
	if n := s.app.Count(); n != before {
		s.t.Errorf("%s: reached the upstream", what)
	}
}

// logBuffer keeps what a sidecar logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail() string {
	s := l.String()
	return s[max(0, len(s)-6000):]
}

func readAll(r io.Reader) string {
	b, _ := io.ReadAll(r)
	return string(b)
}
