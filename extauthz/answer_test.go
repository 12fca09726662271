package extauthz_test

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse/extauthz"
)

// What leaves the sidecar, read from the answer: request headers set and
// removed, and the target without its token.
func TestWhatIsSetAndRemoved(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	token := h.issuer.Token("developer", "org1")
	dev := "Bearer " + token
	cases := []struct {
		name, route, path string
		headers           []string
		set               map[string]string
		unset             []string // headers that are not set
		removed, kept     []string // headers
		target            string   // that the upstream is to get instead of the sent one
	}{
		{"identity inbound", "tasks", "/p/1", []string{"authorization", dev},
			map[string]string{"x-gatehouse-role": "developer", "x-gatehouse-tenant": "org1", "x-gatehouse-project": "p1", "x-gatehouse-subject": "agent-7"},
			[]string{"authorization"}, []string{"authorization"}, nil, ""},
		{"no identity outbound", "tools", "/tools/1", []string{"authorization", dev},
			map[string]string{"authorization": "Bearer tools-secret"},
			[]string{"x-gatehouse-role", "x-gatehouse-subject"}, nil, []string{"authorization"}, ""},
		{"foreign keys go where the upstream has a credential", "tools", "/tools/1?key=k", []string{"x-api-key", "sk", "api-key", "k"},
			map[string]string{"authorization": "Bearer tools-secret"}, nil, []string{"x-api-key", "api-key"}, nil, "/tools/1"},
		{"foreign keys pass where it has none", "work", "/work/1?key=k", []string{"x-api-key", "sk"},
			nil, []string{"authorization"}, nil, []string{"x-api-key"}, ""},
		{"a token in the query goes", "tasks", "/p/1?key=" + token, nil, nil, nil, nil, nil, "/p/1"},
		{"names of ours that arrive all the same go", "tasks", "/p/1", []string{"authorization", dev, "x-gatehouse-budget", "1"},
			nil, nil, []string{"x-gatehouse-budget"}, []string{"x-gatehouse-role"}, ""},
	}
	for _, c := range cases {
		resp := h.check(h.ask(c.route, "GET", c.path, c.headers...))
		ok := resp.GetOkResponse()
		if ok == nil {
			t.Errorf("%s: refused with %d", c.name, status(resp))
			continue
		}
		for name, want := range c.set {
			if got, _ := headerOf(ok.GetHeaders(), name); got != want {
				t.Errorf("%s: %s is %q, want %q", c.name, name, got, want)
			}
		}
		for _, name := range c.unset {
			if _, found := headerOf(ok.GetHeaders(), name); found {
				t.Errorf("%s: %s is set", c.name, name)
			}
		}
		for _, name := range c.removed {
			if !slices.Contains(ok.GetHeadersToRemove(), name) {
				t.Errorf("%s: %s is not removed", c.name, name)
			}
		}
		for _, name := range c.kept {
			if slices.Contains(ok.GetHeadersToRemove(), name) {
				t.Errorf("%s: %s is removed, after it was set", c.name, name)
			}
		}
		if got, _ := headerOf(ok.GetHeaders(), ":path"); got != c.target {
			t.Errorf("%s: the target becomes %q, want %q", c.name, got, c.target)
		}
	}
}

// Refusals that only the slots decide.
func TestSlotsThatAreRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a, b := h.issuer.Token("developer", "org1"), h.issuer.Token("observer", "org1")
	for name, c := range map[string]struct {
		path    string
		headers []string
		status  int
		rule    string
	}{
		"two tokens":            {"/tools/1", []string{"authorization", "Bearer " + a, "x-api-key", b}, 400, "several_tokens"},
		"joined, ours second":   {"/tools/1", []string{"authorization", "Bearer sk-1, Bearer " + a}, 401, "token_refused"},
		"joined, bare":          {"/tools/1", []string{"x-api-key", "sk-1," + a}, 401, "token_refused"},
		"scheme in any case":    {"/tools/1", []string{"authorization", "BEARER " + a}, 200, ""},
		"another scheme":        {"/tools/1", []string{"authorization", "Basic " + a}, 401, "token_refused"},
		"escaped name":          {"/tools/1?k%65y=" + a, nil, 400, "query_key_escaped"},
		"escaped value":         {"/tools/1?key=" + strings.ReplaceAll(a, ".", "%2E"), nil, 200, ""},
		"behind a semicolon":    {"/tools/1?x=1;key=" + a, nil, 400, ""},
		"over 8 KiB":            {"/tools/1", []string{"x-api-key", strings.Repeat("k", 8193)}, 401, "token_refused"},
		"word before a token":   {"/tools/1", []string{"authorization", "Bearer v1.0 " + a}, 401, "token_refused"},
		"foreign key beside it": {"/tools/1", []string{"authorization", "Bearer " + a, "x-api-key", "sk-1"}, 200, ""},
	} {
		resp := h.check(h.ask("tools", "GET", c.path, c.headers...))
		if status(resp) != c.status {
			t.Errorf("%s: %d, want %d", name, status(resp), c.status)
		}
		if e := h.event(); c.rule != "" && (e.Refusal == nil || e.Refusal.Rule != c.rule) {
			t.Errorf("%s: refused by %+v, want %s", name, e.Refusal, c.rule)
		}
	}
}

// Under observe what would be refused goes on without what an allowed request
// gets, and what hygiene refuses does not go on.
func TestObserveWithholds(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	token := h.issuer.Token("developer", "org1")
	if got := status(h.check(h.ask("watched", "GET", "/watched?k%65y="+token))); got != 400 {
		t.Errorf("an escaped key under observe: %d", got)
	}
	// Only the limit refuses: the credential is not withheld for it.
	admin := "Bearer " + h.issuer.Token("admin", "*")
	var resp *authv3.CheckResponse
	for range 3 {
		resp = h.check(h.ask("watched-limit", "GET", "/limit/1", "authorization", admin))
	}
	if e := h.event(); len(e.Would) != 1 || e.Would[0].Class != extauthz.ClassLimit {
		t.Fatalf("recorded: %+v", e.Would)
	}
	if v, _ := headerOf(resp.GetOkResponse().GetHeaders(), "authorization"); v != "Bearer tools-secret" {
		t.Errorf("the credential is %q", v)
	}
	// A refused token is removed although the route forwards tokens.
	resp = h.check(h.ask("watched-forward", "GET", "/forward", "authorization", "Bearer "+token+"x"))
	if !slices.Contains(resp.GetOkResponse().GetHeadersToRemove(), "authorization") {
		t.Error("a refused token is forwarded")
	}
	resp = h.check(h.ask("watched-forward", "GET", "/forward", "authorization", "Bearer "+token))
	if slices.Contains(resp.GetOkResponse().GetHeadersToRemove(), "authorization") {
		t.Error("a good token is not forwarded")
	}
}

// No keys yet is no fault of the caller: 503, and no word of a bad token.
func TestKeysAwayIsNotABadToken(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	resp := h.check(h.ask("tasks", "GET", "/p/1", "authorization", "Bearer "+h.keyless.Token("developer", "org1")))
	if _, found := headerOf(resp.GetDeniedResponse().GetHeaders(), "www-authenticate"); status(resp) != 503 || found {
		t.Errorf("%d, www-authenticate %v", status(resp), found)
	}
	if e := h.event(); e.Token != "auth.unavailable" {
		t.Errorf("recorded as %q", e.Token)
	}
	h.check(h.ask("tasks", "GET", "/p/1", "authorization", "Bearer "+h.issuer.Token("developer", "org1")))
	if e := h.event(); e.Token != "accepted" {
		t.Errorf("recorded as %q", e.Token)
	}
}

// What a policy wants to be passed on reaches Envoy; what is ours it can't replace.
func TestPolicyMutations(t *testing.T) {
	t.Parallel()
	h := newHarnessWith(t, `package gatehouse

authz := {
	"allowed": input.route == "tasks",
	"rule_id": "test",
	"headers": {"x-tier": "gold"},
	"response_headers_to_add": {"x-cost": "3"},
	"request_headers_to_remove": ["x-noise"],
	"query_parameters_to_set": {"q": "1"},
	"query_parameters_to_remove": ["debug"],
	"dynamic_metadata": {"team": "a", "nohold": false, "route": "other", "decision_id": "mine"},
	"obligations": {"max": 5},
}
`)
	auth := []string{"authorization", "Bearer " + h.issuer.Token("developer", "org1"), "x-noise", "1"}
	resp := h.check(h.ask("tasks", "GET", "/p/1?debug=1", auth...))
	ok := resp.GetOkResponse()
	if v, _ := headerOf(ok.GetHeaders(), "x-tier"); v != "gold" {
		t.Errorf("x-tier is %q", v)
	}
	if v, _ := headerOf(ok.GetResponseHeadersToAdd(), "x-cost"); v != "3" {
		t.Errorf("x-cost is %q", v)
	}
	if !slices.Contains(ok.GetHeadersToRemove(), "x-noise") || !slices.Equal(ok.GetQueryParametersToRemove(), []string{"debug"}) {
		t.Errorf("removed: %v, %v", ok.GetHeadersToRemove(), ok.GetQueryParametersToRemove())
	}
	if q := ok.GetQueryParametersToSet(); len(q) != 1 || q[0].GetKey() != "q" || q[0].GetValue() != "1" {
		t.Errorf("query members set: %v", q)
	}
	m := resp.GetDynamicMetadata().GetFields()
	if m["team"].GetStringValue() != "a" || m["obligations"].GetStructValue().GetFields()["max"].GetNumberValue() != 5 {
		t.Errorf("metadata: %v", m)
	}
	if !m["nohold"].GetBoolValue() || m["route"].GetStringValue() != "tasks" || m["decision_id"].GetStringValue() == "mine" {
		t.Errorf("the policy replaced what is ours: %v", m)
	}
	// The headers of a denial are for the client; under observe they go nowhere.
	denied := h.check(h.ask("watched", "GET", "/watched", auth...))
	if _, found := headerOf(denied.GetOkResponse().GetHeaders(), "x-tier"); found || status(denied) != 200 {
		t.Errorf("a denial's headers went upstream: %d", status(denied))
	}
}

// Each place has its own way to take several values; what is ours is only ours.
func TestSeveralValuesOfAPolicysHeader(t *testing.T) {
	t.Parallel()
	h := newHarnessWith(t, `package gatehouse

authz := {
	"allowed": input.route == "tasks",
	"rule_id": "test",
	"headers": {"x-many": ["a", "b"], "x-gatehouse-subject": ["root", "admin"], "x-gatehouse-decision-id": "mine"},
	"response_headers_to_add": {"set-cookie": ["c", "d"], "x-one": "e", "x-gatehouse-decision-id": ["f", "g"]},
}
`)
	auth := []string{"authorization", "Bearer " + h.issuer.Token("developer", "org1")}
	resp := h.check(h.ask("tasks", "GET", "/p/1", auth...))
	ok, id := resp.GetOkResponse(), resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()
	denied := h.check(h.ask("few", "GET", "/few", auth...))
	deniedID := denied.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()
	for name, c := range map[string]struct {
		list []*corev3.HeaderValueOption
		want []string
	}{
		"x-many upstream":                       {ok.GetHeaders(), []string{"a", "+b"}},
		"x-gatehouse-subject upstream":          {ok.GetHeaders(), []string{"agent-7"}},
		"x-gatehouse-decision-id upstream":      {ok.GetHeaders(), []string{id}},
		"set-cookie to the client":              {ok.GetResponseHeadersToAdd(), []string{"+c", "+d"}},
		"x-one to the client":                   {ok.GetResponseHeadersToAdd(), []string{"e"}},
		"x-gatehouse-decision-id to the client": {ok.GetResponseHeadersToAdd(), []string{id}},
		" without a name upstream":              {ok.GetHeaders(), nil},
		" without a name to the client":         {ok.GetResponseHeadersToAdd(), nil},
		"x-many of a denial":                    {denied.GetDeniedResponse().GetHeaders(), []string{"a", "b"}},
		"x-gatehouse-decision-id of a denial":   {denied.GetDeniedResponse().GetHeaders(), []string{deniedID}},
	} {
		header, _, _ := strings.Cut(name, " ")
		if got := mutations(c.list, header); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// mutations are a header's values, with a plus before those that stand beside
// what is there.
func mutations(list []*corev3.HeaderValueOption, name string) []string {
	var out []string
	for _, o := range list {
		plus := ""
		//lint:ignore SA1019 the newer member does not append in Envoy 1.40
		if o.GetAppend().GetValue() {
			plus = "+"
		}
		if o.GetHeader().GetKey() == name {
			out = append(out, plus+o.GetHeader().GetValue())
		}
	}
	return out
}

// upstream_path is what the upstream gets: without the base and the token.
func TestPolicySeesTheUpstreamsPath(t *testing.T) {
	t.Parallel()
	h := newHarnessWith(t, "package gatehouse\n\nauthz := {\"allowed\": false, \"rule_id\": input.upstream_path}\n")
	token := h.issuer.Token("developer", "org1")
	for _, c := range [][3]string{
		{"work", "/work", "/"}, {"work", "/work?a=1", "/?a=1"}, {"work", "/work/", "/"}, {"work", "/work/work/1", "/work/1"},
		{"work", "/work/1?a=1&key=k&b", "/1?a=1&b"}, {"tasks", "/p/1?key=" + token, "/p/1"}, {"tools", "/tools?key=" + token, "/"},
	} {
		h.check(h.ask(c[0], "GET", c[1], "authorization", "k"))
		if e := h.event(); e.Rule != c[2] {
			t.Errorf("%s: upstream_path is %s, want %s", c[1], e.Rule, c[2])
		}
	}
	h.check(h.ask("work", "GET", "/work/1?a=1;b=2"))
	if e := h.event(); e.Refusal == nil || e.Refusal.Class != extauthz.ClassPolicy || e.Refusal.Code() != "validation.malformed" {
		t.Errorf("a query that can't be taken apart: %+v", e.Refusal)
	}
}
