package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/app/sidecar"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/operator"
)

// member is one sidecar of a mesh, in this process, and its Envoy.
type member struct {
	*stack
	mesh  *mesh
	name  string
	ahead atomic.Int64 // nanoseconds that its clock is ahead of the test's
}

// joining says what a sidecar is registered as, and how it gets to control.
type joining struct {
	Name   string
	Via    string // address of the service for sidecars
	Tenant string // org1 where ""
	Shared bool
	Agent  string // id
	Ahead  time.Duration
}

func (r *replica) mesh() string { return r.app.MeshAddr() }

// join registers a sidecar, starts it, and waits until it enforces.
func (m *mesh) join(admin *operator.Client, j joining) *member {
	m.t.Helper()
	n := m.recruit(j)
	n.credential(m.register(admin, j).Credential)
	n.start()
	n.startEnvoy()
	envoytest.Eventually(m.t, j.Name+" enforces", func() bool {
		st := n.sidecar.Status()
		return n.sidecar.Ready() == nil && st.Control.Generation > 0 && !st.Control.Confirmed.IsZero()
	})
	return n
}

func (m *mesh) register(admin *operator.Client, j joining) *api.SidecarRegistered {
	m.t.Helper()
	reg := api.SidecarRegister{Name: j.Name, TenantId: cmpOr(j.Tenant, "org1"), PolicySet: meshSet, Shared: &j.Shared, Role: new(api.Role("developer"))}
	if j.Agent != "" {
		reg.AgentId = &j.Agent
	}
	made, err := admin.RegisterNew(m.t.Context(), reg)
	must(m.t, err)
	return made
}

// recruit makes the files of a sidecar, all but its credential.
func (m *mesh) recruit(j joining) *member {
	m.t.Helper()
	dir, err := os.MkdirTemp("", "gh") // short: a socket's path has 108 bytes
	must(m.t, err)
	m.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(m.t, os.Chmod(dir, 0o755))
	address := func() string { return fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(m.t)) }
	n := &member{mesh: m, name: j.Name, stack: &stack{t: m.t, dir: dir, log: &logBuffer{}, inbound: address(), outbound: address(), debug: address()}}
	n.ahead.Store(int64(j.Ahead))
	text := fmt.Sprintf(`name: %s
socket: %s
state_dir: %s
debug: %s
listeners:
  inbound: {address: %s}
  outbound: {address: %s}
control: {address: %q, ca_file: %s, credential_file: %s}
credentials: {openai: {env: FAKE_OPENAI}, anthropic: {env: FAKE_ANTHROPIC}}
`, j.Name, n.path("run/gate.sock"), n.path("state"), n.debug, n.inbound, n.outbound, j.Via, m.path("ca.pem"), n.path("credential.json"))
	must(m.t, os.WriteFile(n.path("sidecar.yaml"), []byte(text), 0o600))
	return n
}

// credential replaces the credential file, as a whole.
func (n *member) credential(c api.SidecarCredential) {
	n.t.Helper()
	text, err := json.Marshal(c)
	must(n.t, err)
	must(n.t, os.WriteFile(n.path(".new"), text, 0o600))
	must(n.t, os.Rename(n.path(".new"), n.path("credential.json")))
}

func (n *member) now() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }

func (n *member) start() {
	n.t.Helper()
	app, err := sidecar.New(sidecar.Options{Config: n.path("sidecar.yaml"), Log: n.log, Level: slog.LevelWarn, Now: n.now, Env: providerKeys})
	must(n.t, err)
	must(n.t, app.Start(context.Background()))
	n.sidecar = app
	n.t.Cleanup(func() {
		app.Stop(context.Background())
		if n.t.Failed() {
			n.t.Logf("the log of %s:\n%s", n.name, n.log.tail())
		}
	})
}

// providerKeys are the credentials of a sidecar's environment.
func providerKeys(name string) string {
	return map[string]string{"FAKE_OPENAI": openaiKey, "FAKE_ANTHROPIC": anthropicKey}[name]
}

// reply is how a request was answered, and whether it reached the upstream.
type reply struct {
	Status   int
	Code     string
	Reached  bool
	Decision string // as the upstream was told
}

// ask sends a request: a path of the inbound listener, or one that begins with
// a host and port. token may be "".
func (n *member) ask(method, path, token string) reply {
	n.t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = n.inbound + path
	}
	probe := rand.Text()
	headers := []string{"x-probe", probe}
	if token != "" {
		headers = append(headers, bearer(token)...)
	}
	a := n.do(method, url, "", headers...)
	decision, reached := n.mesh.app.reached(probe)
	return reply{a.Status, a.Code, reached, decision}
}

// work calls as the workload.
func (n *member) work() reply {
	n.t.Helper()
	return n.ask("GET", n.outbound+"/work/1", "")
}

// want demands an answer, and that the upstream was reached only for a 200.
func (n *member) want(what string, got reply, status int, code string) {
	n.t.Helper()
	if got.Status != status || got.Code != code || got.Reached != (status == 200) {
		n.t.Errorf("%s at %s: got %+v, want %d %s", what, n.name, got, status, code)
	}
}

// agrees reports whether the sidecar enforces an activation, and its Envoy has
// taken it whole.
func (n *member) agrees(a api.PolicyActivation) bool {
	st := n.sidecar.Status()
	return st.Control.Generation == a.Generation && st.Revision == a.Revision && st.Envoy.Phase == "idle"
}

// shown is what the API says of the sidecar.
func (n *member) shown(admin *operator.Client, tenant string) api.Sidecar {
	n.t.Helper()
	s, err := admin.Sidecar(n.t.Context(), tenant, n.name)
	must(n.t, err)
	return *s
}

// enforces waits until the sidecar enforces an activation and the API says so.
func (n *member) enforces(admin *operator.Client, a api.PolicyActivation) {
	n.t.Helper()
	envoytest.Eventually(n.t, fmt.Sprintf("%s enforces generation %d", n.name, a.Generation), func() bool { return n.agrees(a) })
	envoytest.Eventually(n.t, fmt.Sprintf("the API shows generation %d at %s", a.Generation, n.name), func() bool {
		return operator.StandingOf(n.shown(admin, "org1"), &a) == operator.InForce
	})
}
