package extauthz_test

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse/extauthz"
	"gatehouse/internal/breaker"
	"gatehouse/internal/inflight"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
)

const breakerSet = `
issuers:
  - {name: main, issuer: "https://issuer.test", jwks: {file: %s}, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
upstreams:
  app: {url: "http://127.0.0.1:9000", breaker: {failures: 2, recovery: 30s}}
  sound: {url: "http://127.0.0.1:9001"}
routes:
  - {name: tasks, match: {listener: inbound, prefix: /p}, upstream: app, permission: task.view}
  - {name: sound, match: {listener: inbound, prefix: /s}, upstream: sound, permission: task.view}
  - {name: watched, match: {listener: inbound, prefix: /watched}, upstream: app, permission: task.view, mode: observe}
`

// named gives a request another id.
func named(req *authv3.CheckRequest, id string) *authv3.CheckRequest {
	for _, h := range req.GetAttributes().GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
		if h.GetKey() == "x-request-id" {
			h.RawValue = []byte(id)
		}
	}
	return req
}

// guarded is a harness with keys and breakers of its own time.
func guarded(t *testing.T) (h *harness, keys *inflight.Set, breakers *breaker.Set) {
	t.Helper()
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	check(t, err)
	h = &harness{t: t, table: snapshot.NewTable(), issuer: tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse"), now: time.Now()}
	now := func() time.Time { return h.now }
	keys, breakers = inflight.New(inflight.Options{Now: now}), breaker.New(breaker.Options{Now: now})
	h.load(testSidecar(t, ""), breakerSet, string(rego), h.issuer, nil)
	h.serve(func(o *extauthz.Options) { o.Keys, o.Breakers = keys, breakers })
	return h, keys, breakers
}

func TestKeyInFlight(t *testing.T) {
	t.Parallel()
	h, keys, _ := guarded(t)
	ask := func(id, route, subject, key string) int {
		t.Helper()
		claims := h.issuer.Claims(time.Now(), "developer", "org1")
		claims["sub"] = subject
		resp := h.check(named(h.ask(route, "GET", "/s/1", "authorization", "Bearer "+h.issuer.Mint(claims), "idempotency-key", key), id))
		if code := status(resp); code == 409 && !strings.Contains(resp.GetDeniedResponse().GetBody(), `"reason":"in_flight"`) {
			t.Errorf("body %s", resp.GetDeniedResponse().GetBody())
		}
		return status(resp)
	}
	if got := ask("r1", "sound", "a", "k"); got != 200 {
		t.Fatalf("the first: %d", got)
	}
	if got := ask("r2", "sound", "a", "k"); got != 409 {
		t.Errorf("the second while the first lasts: %d", got)
	}
	if got := ask("r3", "sound", "b", "k"); got != 200 {
		t.Errorf("of another subject: %d", got)
	}
	if got := ask("r4", "tasks", "a", "k"); got != 200 {
		t.Errorf("on another route: %d", got)
	}
	keys.Leave("r1")
	if got := ask("r5", "sound", "a", "k"); got != 200 {
		t.Errorf("after the first: %d", got)
	}
	h.now = h.now.Add(time.Minute)
	if got := ask("r6", "sound", "a", "k"); got != 200 {
		t.Errorf("after the time of any request: %d", got)
	}
	if got := ask("r7", "sound", "a", "two words"); got != 400 {
		t.Errorf("a key with a space: %d", got)
	}
}

func TestBreakerOpen(t *testing.T) {
	t.Parallel()
	h, keys, breakers := guarded(t)
	ask := func(id, route string, pairs ...string) (int, string) {
		t.Helper()
		resp := h.check(named(h.ask(route, "GET", "/p/1", append(pairs, "authorization", "Bearer "+h.issuer.Token("developer", "org1"))...), id))
		after, _ := headerOf(resp.GetDeniedResponse().GetHeaders(), "retry-after")
		return status(resp), after
	}
	for _, id := range []string{"r1", "r2"} {
		if got, _ := ask(id, "tasks"); got != 200 {
			t.Fatalf("%s: %d", id, got)
		}
		breakers.Done(id, true)
	}
	if got, after := ask("r3", "tasks", "idempotency-key", "k"); got != 503 || after == "" {
		t.Errorf("after two failures: %d, retry after %q", got, after)
	}
	if keys.Len() != 0 {
		t.Error("a refusing breaker kept the key")
	}
	if e := h.event(); e.Refusal.Class != extauthz.ClassBreaker || e.Refusal.Code() != "upstream.unavailable" {
		t.Errorf("refusal %+v", e.Refusal)
	}
	if got, _ := ask("r4", "sound"); got != 200 {
		t.Errorf("another upstream: %d", got)
	}
	if got, _ := ask("r5", "watched"); got != 200 {
		t.Errorf("in mode observe: %d", got)
	}
	if e := h.event(); len(e.Would) != 1 || e.Would[0].Class != extauthz.ClassBreaker {
		t.Errorf("would %+v", e.Would)
	}
	h.now = h.now.Add(61 * time.Second) // twice the recovery: the gate beside it has a clock of its own
	if got, _ := ask("r6", "tasks"); got != 200 {
		t.Errorf("the probe: %d", got)
	}
	if got, _ := ask("r7", "tasks"); got != 503 {
		t.Errorf("beside the probe: %d", got)
	}
	breakers.Done("r6", false)
	if got, _ := ask("r8", "tasks"); got != 200 {
		t.Errorf("after the probe came back: %d", got)
	}
}
