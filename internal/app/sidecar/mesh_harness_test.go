package sidecar

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/link/linktest"
	"gatehouse/internal/mesh"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
)

const (
	meshSecret = "gs_credential-of-the-sidecar"
	meshKey    = "revisions-1"
	meshSet    = "agents"
)

// meshPlace is the files of a sidecar that belongs to a control service, and
// that control, which the test plays.
type meshPlace struct {
	*place
	control *linktest.Server
	key     ed25519.PrivateKey
	issuer  *tokentest.Issuer // control's tokens
	ahead   atomic.Int64      // nanoseconds that the sidecar's clock is ahead
}

func newMeshPlace(t *testing.T) *meshPlace {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	p := &meshPlace{
		place: newPlace(t), control: linktest.New(t, meshSecret), key: private,
		issuer: tokentest.NewIssuer(t, "control", "https://gatehouse.internal", "gatehouse"),
	}
	text, err := json.Marshal(mesh.Credential{Secret: meshSecret, Keys: []mesh.RevisionKey{{ID: meshKey, Public: public}}})
	check(t, err)
	check(t, os.WriteFile(p.path("credential.json"), text, 0o600))
	p.write("ca.pem", string(p.control.CA))
	p.write("sidecar.yaml", fmt.Sprintf(`name: t
socket: %[1]s/run/gate.sock
state_dir: %[1]s/state
debug: 127.0.0.1:%[2]d
listeners: {inbound: {address: "127.0.0.1:%[3]d"}, outbound: {address: "127.0.0.1:%[4]d"}}
control: {address: %[5]q, ca_file: %[1]s/ca.pem, credential_file: %[1]s/credential.json}
`, p.base, envoytest.FreePort(t), envoytest.FreePort(t), envoytest.FreePort(t), p.control.Address))
	return p
}

// now is the sidecar's clock.
func (p *meshPlace) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// move sets the sidecar's clock ahead of the test's, which is control's.
func (p *meshPlace) move(by time.Duration) { p.ahead.Store(int64(by)) }

func (p *meshPlace) options() Options {
	return Options{Config: p.path("sidecar.yaml"), Log: &log{}, Now: p.now}
}

func (p *meshPlace) start() *App {
	p.t.Helper()
	a, err := New(p.options())
	check(p.t, err)
	check(p.t, a.Start(context.Background()))
	p.t.Cleanup(func() { a.Stop(context.Background()) })
	return a
}

// set is the policy set whose upstream has a port.
func (p *meshPlace) set(port int) revision.Files {
	p.t.Helper()
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	check(p.t, err)
	return revision.Files{"authz.rego": rego, revision.ConfigFile: fmt.Appendf(nil, `
policy: {timeout: 400ms}
issuers:
  - {name: control, issuer: "https://gatehouse.internal", jwks: control, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
upstreams: {app: {url: "http://127.0.0.1:%d"}}
routes:
  - {name: open, match: {listener: inbound, path: /open}, upstream: app, principal: none}
  - {name: admin, match: {listener: inbound, prefix: /admin}, upstream: app, permission: system.admin}
  - {name: tasks, match: {listener: inbound, prefix: /tasks}, upstream: app, permission: task.view}
  - {name: work, match: {listener: outbound, base: /work, prefix: /}, upstream: app, principal: workload, permission: task.view}
`, port)}
}

func (p *meshPlace) activation(files revision.Files, generation int64) revision.Activation {
	return revision.Activation{PolicySet: meshSet, Generation: generation, Revision: revision.ID(files), Kind: revision.Activate}
}

// signed is what control sends of an activation.
func (p *meshPlace) signed(a revision.Activation, files revision.Files) *sidecarpb.Revision {
	p.t.Helper()
	bundle, err := revision.Encode(files)
	check(p.t, err)
	s := a.Sign(meshKey, p.key)
	return &sidecarpb.Revision{
		PolicySet: s.PolicySet, Generation: s.Generation, Revision: s.Revision, Kind: string(s.Kind),
		Bundle: bundle, Signature: s.Signature, KeyId: s.KeyID,
	}
}

// revision is a good one.
func (p *meshPlace) revision(files revision.Files, generation int64) *sidecarpb.Revision {
	p.t.Helper()
	return p.signed(p.activation(files, generation), files)
}

func welcome() *sidecarpb.Welcome {
	return &sidecarpb.Welcome{
		SidecarId: "id", Name: "worker", Tenant: "org1", Project: "proj1", Agent: "agent-id", Role: "developer", PolicySet: meshSet,
	}
}

func (p *meshPlace) live(epoch int64, edit ...func(*sidecarpb.Live)) *sidecarpb.Live {
	l := &sidecarpb.Live{Epoch: epoch, KeySet: p.issuer.JWKS()}
	for _, f := range edit {
		f(l)
	}
	return l
}

// beat is of control's clock.
func beat(epoch int64) *sidecarpb.Beat {
	return &sidecarpb.Beat{Epoch: epoch, NowUnixMs: time.Now().UnixMilli(), Connected: 1}
}

// greet answers the next stream as control does, up to the first Beat. more is
// said before that.
func (p *meshPlace) greet(more ...any) *linktest.Stream {
	p.t.Helper()
	st := p.control.Next()
	st.Follow(nil)
	st.Say(welcome())
	st.Say(p.live(1))
	for _, m := range more {
		st.Say(m)
	}
	st.Say(beat(1))
	return st
}

// inForce brings a sidecar up with a revision of generation 1 in force.
func (p *meshPlace) inForce() (*App, *linktest.Stream, *envoy) {
	p.t.Helper()
	a := p.start()
	e := p.connect()
	e.agreeToAll()
	st := p.greet(p.revision(p.set(9001), 1))
	p.acknowledged(st, 1)
	confirmed(p.t, a)
	return a, st, e
}

func (p *meshPlace) acknowledged(st *linktest.Stream, generation int64) {
	p.t.Helper()
	envoytest.Eventually(p.t, fmt.Sprintf("generation %d is acknowledged", generation), func() bool {
		return st.Status().GetGeneration() == generation
	})
}

func confirmed(t *testing.T, a *App) {
	t.Helper()
	envoytest.Eventually(t, "a beat is heard", func() bool { return !a.live.Lost() })
}

// savedAs waits until the generations of the current and the previous set are
// on disk; previous is 0 for none.
func savedAs(t *testing.T, a *App, current, previous int64) {
	t.Helper()
	generation := func(s snapshot.Accepted) int64 {
		if s.Signed == nil {
			return 0
		}
		return s.Signed.Generation
	}
	envoytest.Eventually(t, fmt.Sprintf("generations %d and %d are saved", current, previous), func() bool {
		a.storeMu.Lock()
		defer a.storeMu.Unlock()
		saved, err := a.store.Load()
		return err == nil && saved != nil && generation(saved.Current) == current && generation(saved.Previous) == previous
	})
}

// refusedFor waits until a refusal has gone up.
func refusedFor(t *testing.T, st *linktest.Stream, reason string) {
	t.Helper()
	envoytest.Eventually(t, "a refusal goes up: "+reason, func() bool {
		return strings.Contains(st.Status().GetRefused().GetReason(), reason)
	})
}

// token is one of control's, by the sidecar's clock.
func (p *meshPlace) token(role, tenant string, edit ...func(map[string]any)) string {
	claims := p.issuer.Claims(p.now(), role, tenant)
	for _, f := range edit {
		f(claims)
	}
	return p.issuer.Mint(claims)
}

// answer is how a request was answered: 200 where it goes on, and the error code.
type answer struct {
	status int
	code   string
}

// ask sends a request as Envoy does for a route of the set in force.
func (p *meshPlace) ask(a *App, route, token string) answer {
	p.t.Helper()
	path := map[string]string{"open": "/open", "admin": "/admin", "tasks": "/tasks/1", "work": "/work/1"}[route]
	message, err := proto.Marshal(checkRequest(a, route, path, token))
	check(p.t, err)
	raw, err := a.authz.Check(p.t.Context(), message)
	check(p.t, err)
	resp := &authv3.CheckResponse{}
	check(p.t, proto.Unmarshal(*raw, resp))
	if resp.GetOkResponse() != nil && resp.GetStatus().GetCode() == 0 {
		return answer{status: 200}
	}
	var body struct {
		Code string `json:"error_code"`
	}
	check(p.t, json.Unmarshal([]byte(resp.GetDeniedResponse().GetBody()), &body))
	return answer{int(resp.GetDeniedResponse().GetStatus().GetCode()), body.Code}
}

func checkRequest(a *App, route, path, token string) *authv3.CheckRequest {
	ext := map[string]string{envoyconf.ExtRevision: "none", envoyconf.ExtRoute: route}
	if snap := a.table.Current(); snap != nil {
		ext[envoyconf.ExtRevision] = snap.Revision
		for i := range snap.Set.Routes {
			if r := &snap.Set.Routes[i]; r.Name == route {
				ext[envoyconf.ExtShape] = envoyconf.Shape(r, snap.Set.Upstreams[r.Upstream])
			}
		}
	}
	headers := []string{":authority", "app.test", ":path", path, ":method", "GET", "x-request-id", "req-1"}
	if token != "" {
		headers = append(headers, "authorization", "Bearer "+token)
	}
	m := &corev3.HeaderMap{}
	for i := 0; i < len(headers); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: headers[i], RawValue: []byte(headers[i+1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: "GET", Path: path, Host: "app.test", Scheme: "http", Protocol: "HTTP/1.1", Size: -1, HeaderMap: m,
		}},
		ContextExtensions: ext,
	}}
}

// want compares how requests are answered, by route and token.
func (p *meshPlace) want(a *App, what, route, token string, status int, code string) {
	p.t.Helper()
	if got, want := p.ask(a, route, token), (answer{status, code}); got != want {
		p.t.Errorf("%s: %s is answered %v, want %v", what, route, got, want)
	}
}
