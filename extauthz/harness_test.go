package extauthz_test

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"gatehouse/extauthz"
	"gatehouse/internal/config"
	"gatehouse/internal/live"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/token"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
)

const testSet = `
issuers:
  - {name: main, issuer: "https://issuer.test", jwks: {file: %s}, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
  - {name: keyless, issuer: "https://keyless.test", jwks: {file: /nowhere/jwks.json}, audience: gatehouse, algorithms: [EdDSA], tenants: [any], roles: [any]}
upstreams:
  app: {url: "http://127.0.0.1:9000"}
  tools: {url: "https://tools.example.com", credential: tools}
limits:
  - {name: few, key: [principal], rate: 2/min, burst: 2}
  - {name: by-address, key: [address, route, role, tenant, project, agent], rate: 1000/min}
routes:
  - {name: health, match: {listener: inbound, path: /healthz}, exempt: true, upstream: app}
  - {name: status, match: {listener: inbound, path: /status}, upstream: app, principal: none}
  - {name: few, match: {listener: inbound, prefix: /few}, upstream: app, permission: task.view, limits: [few, by-address]}
  - {name: watched, match: {listener: inbound, prefix: /watched}, upstream: app, permission: task.create, mode: observe, limits: [few]}
  - {name: watched-out, match: {listener: outbound, base: /watched, prefix: /}, upstream: tools, permission: agent.configure, mode: observe}
  - {name: watched-limit, match: {listener: outbound, base: /limit, prefix: /}, upstream: tools, permission: task.create, mode: observe, limits: [few]}
  - {name: watched-forward, match: {listener: inbound, prefix: /forward}, upstream: app, permission: task.view, mode: observe, forward_token: true}
  - {name: tasks, match: {listener: inbound, prefix: /p}, upstream: app, permission: {GET: task.view, POST: task.create}}
  - {name: tools, match: {listener: outbound, base: /tools, prefix: /}, upstream: tools, permission: task.create}
  - {name: work, match: {listener: outbound, base: /work, prefix: /}, upstream: app, principal: workload, permission: task.create}
`

// harness is a Check server over a compiled policy set, without Envoy.
type harness struct {
	*extauthz.Server
	t       testing.TB
	table   *snapshot.Table
	issuer  *tokentest.Issuer
	keyless *tokentest.Issuer // its key set can't be had
	events  []*extauthz.Event
	now     time.Time

	confirmKeys func(now time.Time) // that control's are good as of then; nil without control
}

func newHarness(t testing.TB, edit ...func(*extauthz.Options)) *harness {
	t.Helper()
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	check(t, err)
	return newHarnessWith(t, string(rego), edit...)
}

func newHarnessWith(t testing.TB, rego string, edit ...func(*extauthz.Options)) *harness {
	t.Helper()
	h := &harness{t: t, table: snapshot.NewTable(), issuer: tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse"), now: time.Now()}
	h.keyless = tokentest.NewIssuer(t, "keyless", "https://keyless.test", "gatehouse")
	h.load(testSidecar(t, ""), testSet, rego, h.issuer, nil)
	h.serve(edit...)
	return h
}

// newFedHarness is a harness over another set, whose main issuer is control:
// its keys are fed. It returns a token of the other issuer, which a file has.
func newFedHarness(t testing.TB, set string, edit ...func(*extauthz.Options)) (h *harness, outside string) {
	t.Helper()
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	check(t, err)
	h = &harness{t: t, table: snapshot.NewTable(), issuer: tokentest.NewIssuer(t, "control", "https://issuer.test", "gatehouse"), now: time.Now()}
	other := tokentest.NewIssuer(t, "outside", "https://outside.test", "gatehouse")
	feed := token.NewFeed("control", nil)
	h.confirmKeys = func(now time.Time) { check(t, feed.Replace(h.issuer.JWKS(), now)) }
	h.confirmKeys(h.now)
	h.load(testSidecar(t, "control: {address: \"127.0.0.1:1\", credential_file: /etc/gatehouse/credential.json}\n"), set, string(rego), other, feed)
	h.serve(edit...)
	return h, other.Token("developer", "org1")
}

// load compiles a set whose one key file is that of an issuer.
func (h *harness) load(sc *config.Sidecar, set, rego string, filed *tokentest.Issuer, feed *token.Feed) {
	h.t.Helper()
	jwks := filepath.Join(h.t.TempDir(), "jwks.json")
	check(h.t, os.WriteFile(jwks, filed.JWKS(), 0o600))
	files := revision.Files{"gatehouse.yaml": fmt.Appendf(nil, set, jwks), "authz.rego": []byte(rego)}
	snap, err := snapshot.NewBuilder(sc, token.NewKeys(token.KeysOptions{}), feed).Build(context.Background(), files)
	check(h.t, err)
	h.table.Add(snap)
}

func (h *harness) serve(edit ...func(*extauthz.Options)) {
	o := extauthz.Options{
		Table: h.table, Limiter: ratelimit.New(), Log: slog.New(slog.DiscardHandler),
		Observe: func(e *extauthz.Event) { h.events = append(h.events, e) },
		Now:     func() time.Time { return h.now },
		Live: live.New(live.Binding{Tenant: "org1", Workload: &request.Principal{
			Kind: request.KindWorkload, Subject: "agent-7", Tenant: "org1", Project: "proj1", Role: request.RoleDeveloper,
		}}, false, time.Now),
		Credentials: map[string]request.Secret{"tools": "tools-secret"},
	}
	for _, f := range edit {
		f(&o)
	}
	h.Server = extauthz.New(o)
}

// testSidecar is bound to org1, or belongs to a control that a line names.
func testSidecar(t testing.TB, control string) *config.Sidecar {
	t.Helper()
	sc, err := config.ParseSidecar("sidecar.yaml", []byte(cmp.Or(control, "principal: {subject: agent-7, tenant: org1, project: proj1, role: developer}\n")+`
name: test
socket: /run/gatehouse/gate.sock
state_dir: /var/lib/gatehouse
listeners: {inbound: {address: "127.0.0.1:8080"}, outbound: {address: "127.0.0.1:8081"}}
credentials: {tools: {env: TOOLS_KEY}}
`))
	check(t, err)
	return sc
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask builds what Envoy would send for a route of the current set.
func (h *harness) ask(route, method, path string, headers ...string) *authv3.CheckRequest {
	shape := ""
	snap := h.table.Current()
	for i := range snap.Set.Routes {
		if r := &snap.Set.Routes[i]; r.Name == route {
			shape = shapeOf(snap, r)
		}
	}
	all := append([]string{":authority", "app.test", ":path", path, ":method", method, "x-request-id", "req-1"}, headers...)
	m := &corev3.HeaderMap{}
	for i := 0; i+1 < len(all); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: all[i], RawValue: []byte(all[i+1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "192.0.2.9"},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: method, Path: path, Host: "app.test", Scheme: "http", Protocol: "HTTP/1.1", Size: -1, HeaderMap: m,
		}},
		ContextExtensions: map[string]string{"rev": snap.Revision, "route": route, "shape": shape},
	}}
}

func (h *harness) check(req *authv3.CheckRequest) *authv3.CheckResponse {
	h.t.Helper()
	resp, err := h.call(req)
	check(h.t, err)
	return resp
}

// call asks as Envoy does: over the wire form of the messages.
func (h *harness) call(req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	message, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	raw, err := h.Check(context.Background(), message)
	if err != nil {
		return nil, err
	}
	resp := &authv3.CheckResponse{}
	return resp, proto.Unmarshal(*raw, resp)
}

// event is the newest.
func (h *harness) event() *extauthz.Event { return h.events[len(h.events)-1] }

// status is the HTTP status of an answer: 200 where the request goes on.
func status(resp *authv3.CheckResponse) int {
	if d := resp.GetDeniedResponse(); d != nil {
		return int(d.GetStatus().GetCode())
	}
	if resp.GetOkResponse() != nil && resp.GetStatus().GetCode() == 0 {
		return 200
	}
	return -1
}

func nohold(resp *authv3.CheckResponse) bool {
	return resp.GetDynamicMetadata().GetFields()["nohold"].GetBoolValue()
}

func headerOf(list []*corev3.HeaderValueOption, name string) (value string, found bool) {
	for _, h := range list {
		if strings.EqualFold(h.GetHeader().GetKey(), name) {
			value, found = h.GetHeader().GetValue(), true
		}
	}
	return value, found
}
