package extauthz_test

import (
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse/extauthz"
	"gatehouse/internal/live"
	"gatehouse/internal/request"
)

// liveSet is a policy set whose main issuer is control, with routes that
// administer, resolve, and are watched.
const liveSet = `
policy: {timeout: 400ms}
issuers:
  - {name: control, issuer: "https://issuer.test", jwks: control, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
  - {name: outside, issuer: "https://outside.test", jwks: {file: %s}, audience: gatehouse, algorithms: [EdDSA], tenants: [any], roles: [any]}
upstreams:
  app: {url: "http://127.0.0.1:9000"}
  tools: {url: "https://tools.example.com", credential: tools}
routes:
  - {name: open, match: {listener: inbound, path: /open}, upstream: app, principal: none}
  - {name: tasks, match: {listener: inbound, prefix: /tasks}, upstream: app, permission: task.view}
  - {name: admin, match: {listener: inbound, prefix: /admin}, upstream: app, permission: system.admin}
  - {name: dlq, match: {listener: inbound, prefix: /dlq}, upstream: app, permission: {GET: dlq.read, POST: dlq.resolve}}
  - {name: escalations, match: {listener: inbound, prefix: /escalations}, upstream: app, permission: escalation.resolve}
  - {name: watched, match: {listener: inbound, prefix: /watched}, upstream: app, permission: task.view, mode: observe}
  - {name: watched-out, match: {listener: outbound, base: /out, prefix: /}, upstream: tools, permission: task.view, mode: observe}
  - {name: watched-admin, match: {listener: inbound, prefix: /watched-admin}, upstream: app, permission: system.admin, mode: observe}
  - {name: work, match: {listener: outbound, base: /work, prefix: /}, upstream: app, principal: workload, permission: task.view}
`

// pathOf is one that a route matches.
func pathOf(route string) string {
	path, found := strings.CutPrefix(route, "watched-out")
	switch {
	case found:
		return "/out/1" + path
	case route == "open":
		return "/open"
	}
	return "/" + route + "/1"
}

// liveHarness is a sidecar that control manages, and that was confirmed a
// moment ago.
type liveHarness struct {
	*harness
	data    *live.Data
	outside string // a token of the other issuer
}

func newLiveHarness(t testing.TB) *liveHarness {
	t.Helper()
	h := &liveHarness{}
	clock := func() time.Time { return h.now }
	h.data = live.New(live.Binding{Tenant: "org1", Workload: &request.Principal{
		Kind: request.KindWorkload, Subject: "worker", Tenant: "org1", Agent: "worker-id", Role: request.RoleDeveloper,
	}}, true, clock)
	h.harness, h.outside = newFedHarness(t, liveSet, func(o *extauthz.Options) { o.Live = h.data })
	h.data.Confirm(h.now)
	return h
}

// get asks for a route, and returns the status, the rule and the error code of
// a refusal.
func (h *liveHarness) get(route, token string) (int, string, string) {
	h.t.Helper()
	return h.send("GET", route, token)
}

func (h *liveHarness) send(method, route, token string) (int, string, string) {
	h.t.Helper()
	var headers []string
	if token != "" {
		headers = []string{"authorization", "Bearer " + token}
	}
	resp := h.check(h.ask(route, method, pathOf(route), headers...))
	e := h.event()
	if e.Refusal == nil {
		return status(resp), "", ""
	}
	return status(resp), e.Refusal.Rule, e.Refusal.Code()
}

// A token that was good a moment ago, and that the cache knows, is refused by
// the next check after the live data says so; what is not of control's, or of
// another, is not.
func TestRevokedIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	subject := &live.State{Subjects: map[string]int64{"agent-7": time.Now().Add(time.Minute).Unix()}}
	for name, c := range map[string]struct {
		state          *live.State
		rule           string // for the token of control
		code           string
		status         int
		outside, other string // rules for the outside issuer's token, and the workload
	}{
		"subject": {state: subject, rule: live.RuleTokenRevoked, code: "auth.invalid_token", status: 401},
		"token":   {state: &live.State{Tokens: map[live.Token]struct{}{{Tenant: "org1", ID: "0198-token"}: {}}}, rule: live.RuleTokenRevoked, code: "auth.invalid_token", status: 401},
		"tenant": {
			state: &live.State{Suspended: map[string]struct{}{"org1": {}}}, rule: live.RuleTenantSuspended, code: "auth.forbidden", status: 403,
			outside: live.RuleTenantSuspended, other: live.RuleTenantSuspended,
		},
		"agent": {
			state: &live.State{Blocked: map[live.Agent]struct{}{{Tenant: "org1", Name: "a1"}: {}}}, rule: live.RuleAgentBlocked, code: "auth.forbidden", status: 403,
			outside: live.RuleAgentBlocked,
		},
		"workload's agent": {
			state: &live.State{Blocked: map[live.Agent]struct{}{{Tenant: "org1", Name: "worker-id"}: {}}}, status: 200, other: live.RuleAgentBlocked,
		},
		"agent of another tenant": {state: &live.State{Blocked: map[live.Agent]struct{}{{Tenant: "org2", Name: "a1"}: {}}}, status: 200},
		"nothing":                 {state: &live.State{}, status: 200},
	} {
		h := newLiveHarness(t)
		token := h.issuer.Token("developer", "org1")
		for what, got := range map[string]string{"token": token, "outside": h.outside} {
			if status, rule, _ := h.get("tasks", got); status != 200 {
				t.Fatalf("%s: the %s is refused before: %d by %s", name, what, status, rule)
			}
		}
		h.data.SetState(c.state)
		if status, rule, code := h.get("tasks", token); status != c.status || rule != c.rule || code != c.code {
			t.Errorf("%s: the token is answered %d %s by %q", name, status, code, rule)
		}
		if _, rule, _ := h.get("tasks", h.outside); rule != c.outside {
			t.Errorf("%s: the outside token is refused by %q, want %q", name, rule, c.outside)
		}
		if _, rule, _ := h.get("work", ""); rule != c.other {
			t.Errorf("%s: the workload is refused by %q, want %q", name, rule, c.other)
		}
		if status, rule, _ := h.get("open", ""); status != 200 {
			t.Errorf("%s: anonymous is answered %d by %s", name, status, rule)
		}
		h.data.SetState(&live.State{})
		if status, rule, _ := h.get("tasks", token); status != 200 {
			t.Errorf("%s: afterwards %d by %s", name, status, rule)
		}
	}
}

// A revoked token is told from any other bad one in the log alone.
func TestRevokedLooksLikeInvalid(t *testing.T) {
	t.Parallel()
	h := newLiveHarness(t)
	token := h.issuer.Token("developer", "org1")
	ask := func(token string) *authv3.CheckResponse {
		return h.check(h.ask("tasks", "GET", "/tasks/1", "authorization", "Bearer "+token))
	}
	h.data.SetState(&live.State{Tokens: map[live.Token]struct{}{{Tenant: "org1", ID: "0198-token"}: {}}})
	revoked, spoilt := ask(token).GetDeniedResponse(), ask(token+"x").GetDeniedResponse()
	for _, name := range []string{"www-authenticate", "content-type"} {
		a, _ := headerOf(revoked.GetHeaders(), name)
		if b, found := headerOf(spoilt.GetHeaders(), name); a != b || !found {
			t.Errorf("%s is %q for a revoked token, %q for a spoilt one", name, a, b)
		}
	}
	if strings.Contains(revoked.GetBody(), "revoked") || h.events[0].Token != "auth.invalid_token" {
		t.Errorf("the body is %s, the event says %q", revoked.GetBody(), h.events[0].Token)
	}
}

// Control that was not heard for a while: first what administers or resolves
// is refused, then everything, whoever asks.
func TestStaleRefuses(t *testing.T) {
	t.Parallel()
	h := newLiveHarness(t)
	admin := func() string { return h.issuer.Mint(h.issuer.Claims(h.now, "admin", "org1")) }
	cases := []struct {
		method, route, permission string
		token                     bool
		guarded                   bool
	}{
		{"GET", "admin", "system.admin", true, true},
		{"POST", "dlq", "dlq.resolve", true, true},
		{"GET", "escalations", "escalation.resolve", true, true},
		{"GET", "dlq", "dlq.read", true, false},
		{"GET", "tasks", "task.view", true, false},
		{"GET", "work", "task.view", false, false},
		{"GET", "open", "", false, false},
	}
	start := h.now
	for _, at := range []struct {
		age           time.Duration
		guarded, lost bool
	}{
		{0, false, false},
		{live.GuardAfter, false, false},
		{live.GuardAfter + time.Second, true, false},
		{live.LostAfter, true, false},
		{live.LostAfter + time.Second, true, true},
	} {
		h.now = start.Add(at.age)
		h.confirmKeys(h.now) // old keys are another matter
		for _, c := range cases {
			token := ""
			if c.token {
				token = admin()
			}
			status, rule, code := h.send(c.method, c.route, token)
			want := at.lost || at.guarded && c.guarded
			if want != (status == 503) || want != (code == "auth.unavailable") || want != (rule == live.RuleStale) || !want && status != 200 {
				t.Errorf("after %s: %s of %s is answered %d %s by %q", at.age, c.permission, c.route, status, code, rule)
			}
		}
	}
	h.data.Confirm(h.now)
	if status, rule, _ := h.get("admin", admin()); status != 200 {
		t.Errorf("heard again: %d by %s", status, rule)
	}
}

// Who is refused for another reason learns that reason, not how stale we are;
// permissions are only guarded from those that have them.
func TestStaleComesAfterTheRest(t *testing.T) {
	t.Parallel()
	h := newLiveHarness(t)
	h.now = h.now.Add(live.GuardAfter + time.Second)
	if status, rule, _ := h.send("PUT", "dlq", h.issuer.Mint(h.issuer.Claims(h.now, "admin", "org1"))); status != 405 {
		t.Errorf("a method that is not listed: %d by %s", status, rule)
	}
	if status, rule, _ := h.get("admin", ""); status != 401 {
		t.Errorf("nobody: %d by %s", status, rule)
	}
}

// Under observe what the live data would refuse goes on as nobody: without the
// upstream's credential, without the caller's name, and it is recorded.
func TestObserveRecordsWhatLiveDataRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state *live.State
		age   time.Duration
		rule  string
	}{
		"token":  {state: &live.State{Tokens: map[live.Token]struct{}{{Tenant: "org1", ID: "0198-token"}: {}}}, rule: live.RuleTokenRevoked},
		"tenant": {state: &live.State{Suspended: map[string]struct{}{"org1": {}}}, rule: live.RuleTenantSuspended},
		"agent":  {state: &live.State{Blocked: map[live.Agent]struct{}{{Tenant: "org1", Name: "a1"}: {}}}, rule: live.RuleAgentBlocked},
		"lost":   {state: &live.State{}, age: live.LostAfter + time.Second, rule: live.RuleStale},
	} {
		h := newLiveHarness(t)
		h.now = h.now.Add(c.age)
		h.confirmKeys(h.now)
		h.data.SetState(c.state)
		for _, route := range []string{"watched", "watched-out"} {
			token := h.issuer.Mint(h.issuer.Claims(h.now, "developer", "org1"))
			resp := h.check(h.ask(route, "GET", pathOf(route), "authorization", "Bearer "+token))
			e := h.event()
			if status(resp) != 200 || !e.Allowed || len(e.Would) == 0 || e.Would[0].Rule != c.rule || e.Would[0].Class != extauthz.ClassIdentity {
				t.Errorf("%s, %s: %d, would %+v", name, route, status(resp), e.Would)
			}
			if e.Principal != request.Anonymous() {
				t.Errorf("%s, %s: goes on as %+v", name, route, e.Principal)
			}
			h.wantNobody(name+", "+route, resp)
		}
	}
}

// wantNobody looks at what reaches the upstream: nothing of the caller or of
// why it would have been refused, and no credential.
func (h *liveHarness) wantNobody(what string, resp *authv3.CheckResponse) {
	h.t.Helper()
	removed := false
	for _, name := range resp.GetOkResponse().GetHeadersToRemove() {
		removed = removed || name == "authorization"
	}
	if !removed {
		h.t.Errorf("%s: the token goes on", what)
	}
	for _, header := range resp.GetOkResponse().GetHeaders() {
		name, value := header.GetHeader().GetKey(), header.GetHeader().GetValue()+string(header.GetHeader().GetRawValue())
		if name == "authorization" || strings.Contains(value, "agent-7") || strings.Contains(value, "org1") || strings.Contains(value, "tools-secret") ||
			strings.Contains(value, "revoked") || strings.Contains(value, "blocked") || strings.Contains(value, "suspended") {
			h.t.Errorf("%s: the upstream gets %s: %s", what, name, value)
		}
	}
}

// What is guarded is recorded under observe, too, and goes on.
func TestObserveRecordsWhatIsGuarded(t *testing.T) {
	t.Parallel()
	h := newLiveHarness(t)
	h.now = h.now.Add(live.GuardAfter + time.Second)
	token := h.issuer.Mint(h.issuer.Claims(h.now, "admin", "org1"))
	resp := h.check(h.ask("watched-admin", "GET", "/watched-admin/1", "authorization", "Bearer "+token))
	e := h.event()
	if status(resp) != 200 || !e.Allowed || len(e.Would) == 0 || e.Would[0].Rule != live.RuleStale {
		t.Errorf("%d, would %+v", status(resp), e.Would)
	}
}
