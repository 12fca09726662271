package extauthz_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"gatehouse/internal/snapshot"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
)

const llmSet = `
issuers:
  - {name: main, issuer: "https://issuer.test", jwks: {file: %s}, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
upstreams:
  app: {url: "http://127.0.0.1:9000"}
  openai: {url: "https://api.openai.example", format: openai, credential: tools}
  anthropic: {url: "https://api.anthropic.example", format: anthropic, credential: tools}
limits:
  - {name: one, key: [principal], rate: 1/min, burst: 1}
routes:
  - {name: plain, match: {listener: inbound, path: /plain}, upstream: app, permission: task.view}
  - {name: chat, match: {listener: outbound, base: /openai, path: /chat, methods: [POST]}, upstream: openai, permission: task.create, llm: {}}
  - {name: models, match: {listener: outbound, base: /openai, path: /models, methods: [GET]}, upstream: openai, permission: task.view, llm: {kind: free}}
  - {name: watched, match: {listener: outbound, base: /openai, path: /watched, methods: [POST]}, upstream: openai, permission: task.create, mode: observe, llm: {}}
  - {name: answers, match: {listener: inbound, path: /answers, methods: [POST]}, upstream: anthropic, permission: task.create, llm: {}}
  - {name: once, match: {listener: outbound, base: /anthropic, path: /once, methods: [POST]}, upstream: anthropic, permission: task.create, limits: [one], llm: {}}
  - {name: messages, match: {listener: outbound, base: /anthropic, path: /messages, methods: [POST]}, upstream: anthropic, permission: {POST: task.create}, llm: {}}
`

// newLLMHarness is a harness over routes to language models; no Rego means the
// shipped one.
func newLLMHarness(t testing.TB, rego string) *harness {
	t.Helper()
	if rego == "" {
		shipped, err := fs.ReadFile(policies.Shipped(), "authz.rego")
		check(t, err)
		rego = string(shipped)
	}
	h := &harness{t: t, table: snapshot.NewTable(), issuer: tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse"), now: time.Now()}
	h.load(testSidecar(t, ""), llmSet, rego, h.issuer, nil)
	h.serve()
	return h
}

// hasNoHold reports whether the guard would let the request pass: it asks only
// whether the member is there.
func hasNoHold(resp *authv3.CheckResponse) bool {
	_, found := resp.GetDynamicMetadata().GetFields()["nohold"]
	return found
}

// usurper is a policy that writes what the guard and the Exchange obey; %s says
// whether it allows.
const usurper = `package gatehouse

authz := {"allowed": %s, "rule_id": "usurper", "dynamic_metadata": {
	"nohold": false, "withheld": true, "shape": "x", "route": "x", "revision": "x", "decision_id": "x",
	"principal": {"tenant": "x"}, "kept": "yes",
}}
`

// Check lets no request of an LLM route pass by itself, in no mode and whatever
// the policy says, and gives none of them the credential.
func TestCheckLeavesLLMRoutesToTheExchange(t *testing.T) {
	t.Parallel()
	for name, rego := range map[string]string{
		"shipped": "", "allows": fmt.Sprintf(usurper, "true"), "denies": fmt.Sprintf(usurper, "false"),
	} {
		h := newLLMHarness(t, rego)
		dev := "Bearer " + h.issuer.Token("developer", "org1")
		allowed := 0
		for _, c := range []struct{ route, method, path string }{
			{"chat", "POST", "/openai/chat"}, {"models", "GET", "/openai/models"}, {"models", "HEAD", "/openai/models"},
			{"watched", "POST", "/openai/watched"}, {"answers", "POST", "/answers"}, {"once", "POST", "/anthropic/once"},
			{"once", "POST", "/anthropic/once"}, {"messages", "POST", "/anthropic/messages"},
		} {
			for _, token := range []string{dev, "", dev + "x", "Bearer sk-own"} {
				resp := h.check(h.ask(c.route, c.method, c.path, "authorization", token))
				_, credential := headerOf(resp.GetOkResponse().GetHeaders(), "authorization")
				if hasNoHold(resp) || credential {
					t.Errorf("%s: %s with %.9q got %d: nohold %t, credential %t", name, c.route, token, status(resp), hasNoHold(resp), credential)
				}
				if status(resp) == 200 {
					allowed++
				}
			}
		}
		if want := map[string]int{"shipped": 19, "allows": 19, "denies": 4}[name]; allowed != want {
			t.Errorf("%s: %d requests go on, want %d", name, allowed, want)
		}
	}
}

// What goes with the request is ours, in every member that something obeys.
func TestLLMMetadata(t *testing.T) {
	t.Parallel()
	h := newLLMHarness(t, fmt.Sprintf(usurper, "true"))
	claims := h.issuer.Claims(time.Now(), "developer", "org1")
	token := "Bearer " + h.issuer.Mint(claims)
	caller := map[string]any{
		"kind": "token", "role": "developer", "issuer": "main", "subject": "agent-7", "tenant": "org1", "project": "p1",
		"agent": "a1", "run": "r1", "token_id": claims["jti"], "issued": float64(claims["iat"].(int64)),
	}
	workload := map[string]any{"kind": "workload", "role": "developer", "subject": "agent-7", "tenant": "org1", "project": "proj1"}
	nobody := map[string]any{"kind": "anonymous", "role": "anonymous"}
	for name, c := range map[string]struct {
		route, method, path, token string
		principal                  map[string]any
		more                       string // withheld or nohold
	}{
		"token":              {"chat", "POST", "/openai/chat", token, caller, ""},
		"workload":           {"chat", "POST", "/openai/chat", "", workload, ""},
		"observed, and good": {"watched", "POST", "/openai/watched", token, caller, ""},
		"observed, and bad":  {"watched", "POST", "/openai/watched", token + "x", nobody, "withheld"},
		"plain":              {"plain", "GET", "/plain", token, caller, "nohold"},
	} {
		resp := h.check(h.ask(c.route, c.method, c.path, "authorization", c.token))
		snap := h.table.Current()
		want := map[string]any{
			"kept": "yes", "principal": c.principal, "decision_id": h.event().DecisionID, "route": c.route, "revision": snap.Revision,
		}
		for i := range snap.Set.Routes {
			if r := &snap.Set.Routes[i]; r.Name == c.route {
				want["shape"] = shapeOf(snap, r)
			}
		}
		if c.more != "" {
			want[c.more] = true
		}
		if diff := cmp.Diff(want, resp.GetDynamicMetadata().AsMap()); diff != "" || status(resp) != 200 {
			t.Errorf("%s: got %d (-want +got):\n%s", name, status(resp), diff)
		}
	}
}

// Slots are emptied for the credential to come, unless it is withheld: then the
// app's own key passes, and every value of ours goes.
func TestLLMTokenSlots(t *testing.T) {
	t.Parallel()
	h := newLLMHarness(t, "")
	dev, obs := "Bearer "+h.issuer.Token("developer", "org1"), "Bearer "+h.issuer.Token("observer", "org1")
	for name, c := range map[string]struct {
		route, path, token string
		gone, kept         []string
	}{
		"allowed":                      {"chat", "/openai/chat", dev, []string{"authorization", "x-api-key"}, nil},
		"allowed, and observed":        {"watched", "/openai/watched", dev, []string{"authorization", "x-api-key"}, nil},
		"observed, a bad token":        {"watched", "/openai/watched", dev + "x", []string{"authorization"}, []string{"x-api-key"}},
		"observed, denied by policy":   {"watched", "/openai/watched", obs, []string{"authorization"}, []string{"x-api-key"}},
		"inbound, identity is told of": {"answers", "/answers", dev, []string{"authorization", "x-api-key"}, nil},
	} {
		ok := h.check(h.ask(c.route, "POST", c.path, "authorization", c.token, "x-api-key", "sk-own")).GetOkResponse()
		if ok == nil {
			t.Errorf("%s: refused", name)
			continue
		}
		for _, header := range c.gone {
			if !slices.Contains(ok.GetHeadersToRemove(), header) {
				t.Errorf("%s: %s stays", name, header)
			}
		}
		for _, header := range c.kept {
			if slices.Contains(ok.GetHeadersToRemove(), header) {
				t.Errorf("%s: %s is removed", name, header)
			}
		}
		if role, told := headerOf(ok.GetHeaders(), "x-gatehouse-role"); told != (c.route == "answers") {
			t.Errorf("%s: the upstream is told of role %q", name, role)
		}
	}
}

// providerError is what the official clients read of an error: OpenAI's the
// members of error, Anthropic's the type of the document too.
type providerError struct {
	Type  string `json:"type"`
	Error struct {
		Type      string          `json:"type"`
		Code      string          `json:"code"`
		Message   string          `json:"message"`
		ErrorCode string          `json:"error_code"`
		RequestID string          `json:"request_id"`
		Details   json.RawMessage `json:"details"`
	} `json:"error"`
	RequestID string `json:"request_id"`
	ErrorCode string `json:"error_code"` // of ours alone
}

// A refusal on an LLM route is one of its provider's to the provider's clients,
// with our status and code.
func TestLLMDenials(t *testing.T) {
	t.Parallel()
	h := newLLMHarness(t, "")
	dev, obs := "Bearer "+h.issuer.Token("developer", "org1"), "Bearer "+h.issuer.Token("observer", "org1")
	h.check(h.ask("once", "POST", "/anthropic/once", "authorization", dev)) // takes what the limit has
	for name, c := range map[string]struct {
		route, method, path, token string
		status                     int
		code                       string // ours
		kind, word                 string // the provider's type and code
		again                      bool   // a client may repeat it
	}{
		"OpenAI, no good token":     {"chat", "POST", "/openai/chat", dev + "x", 401, "auth.invalid_token", "invalid_request_error", "invalid_api_key", false},
		"OpenAI, denied":            {"chat", "POST", "/openai/chat", obs, 403, "auth.forbidden", "invalid_request_error", "permission_denied", false},
		"OpenAI, malformed":         {"chat", "POST", "/openai//chat", dev, 400, "validation.malformed", "invalid_request_error", "invalid_request", false},
		"Anthropic, no token":       {"answers", "POST", "/answers", "", 401, "auth.missing_token", "authentication_error", "", false},
		"Anthropic, denied":         {"messages", "POST", "/anthropic/messages", obs, 403, "auth.forbidden", "permission_error", "", false},
		"Anthropic, another method": {"messages", "PUT", "/anthropic/messages", dev, 405, "validation.method_not_allowed", "invalid_request_error", "", false},
		"Anthropic, limited":        {"once", "POST", "/anthropic/once", dev, 429, "rate_limit.exceeded", "rate_limit_error", "", true},
	} {
		resp := h.check(h.ask(c.route, c.method, c.path, "authorization", c.token, "accept", "application/problem+json"))
		d := resp.GetDeniedResponse()
		var e providerError
		if err := json.Unmarshal([]byte(d.GetBody()), &e); err != nil {
			t.Errorf("%s: %v in %s", name, err, d.GetBody())
			continue
		}
		if status(resp) != c.status || e.Error.ErrorCode != c.code || e.Error.Type != c.kind || e.Error.Code != c.word || e.Error.Message == "" {
			t.Errorf("%s: %d with %s", name, status(resp), d.GetBody())
		}
		if anthropic := c.word == ""; anthropic != (e.Type == "error") || e.RequestID+e.Error.RequestID != "req-1" {
			t.Errorf("%s: not the provider's document: %s", name, d.GetBody())
		}
		retry, said := headerOf(d.GetHeaders(), "x-should-retry")
		if contentType, _ := headerOf(d.GetHeaders(), "content-type"); contentType != "application/json" || said == c.again || said && retry != "false" {
			t.Errorf("%s: content-type %s, x-should-retry %q", name, contentType, retry)
		}
		if _, ours := headerOf(d.GetHeaders(), "x-gatehouse-decision-id"); !ours || hasNoHold(resp) {
			t.Errorf("%s: no decision id, or nohold", name)
		}
		if c.status == 403 && !strings.Contains(string(e.Error.Details), h.event().DecisionID) {
			t.Errorf("%s: details %s lack the decision", name, e.Error.Details)
		}
	}
	if after, ok := headerOf(h.check(h.ask("once", "POST", "/anthropic/once", "authorization", dev)).GetDeniedResponse().GetHeaders(), "retry-after"); !ok || after == "0" {
		t.Errorf("retry-after %q", after)
	}
}

// Before the route is known, so is no provider.
func TestUnknownLLMRouteIsRefusedPlainly(t *testing.T) {
	t.Parallel()
	h := newLLMHarness(t, "")
	req := h.ask("chat", "POST", "/openai/chat")
	req.Attributes.ContextExtensions["shape"] = "x"
	resp := h.check(req)
	var e providerError
	if err := json.Unmarshal([]byte(resp.GetDeniedResponse().GetBody()), &e); err != nil || e.ErrorCode != "policy.unavailable" || hasNoHold(resp) {
		t.Errorf("%v: %s", err, resp.GetDeniedResponse().GetBody())
	}
	if _, found := resp.GetDynamicMetadata().GetFields()["shape"]; found {
		t.Error("a shape that is not known is passed on")
	}
}

// A policy's own answer stays as it is, and is not repeated either unless the
// policy says so.
func TestPolicysOwnAnswerOnAnLLMRoute(t *testing.T) {
	t.Parallel()
	const rego = "package gatehouse\n\nauthz := {\"allowed\": false, \"rule_id\": \"own\", \"body\": \"no\", \"http_status\": 418, \"headers\": {%s}}\n"
	for headers, want := range map[string]string{"": "false", `"x-should-retry": "true"`: "true"} {
		d := newLLMHarness(t, fmt.Sprintf(rego, headers))
		resp := d.check(d.ask("chat", "POST", "/openai/chat"))
		got := mutations(resp.GetDeniedResponse().GetHeaders(), "x-should-retry")
		if resp.GetDeniedResponse().GetBody() != "no" || status(resp) != 418 || !slices.Equal(got, []string{want}) {
			t.Errorf("%d %q with x-should-retry %q, want %q", status(resp), resp.GetDeniedResponse().GetBody(), got, want)
		}
	}
}

func BenchmarkCheckLLM(b *testing.B) {
	h := newLLMHarness(b, "")
	for name, role := range map[string]string{"allowed": "developer", "denied": "observer"} {
		b.Run(name, func(b *testing.B) {
			message, err := proto.Marshal(h.ask("chat", "POST", "/openai/chat", "authorization", "Bearer "+h.issuer.Token(role, "org1")))
			check(b, err)
			b.ReportAllocs()
			for b.Loop() {
				h.events = h.events[:0]
				if _, err := h.Check(context.Background(), message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
