package e2e

import (
	"slices"
	"strings"
	"testing"
)

// A policy's header replaces what the client sent, with all of its values. In
// answers one value replaces the upstream's, several stand beside it, which is
// all that Envoy can do. What is ours no policy replaces or adds to.
func TestPolicyHeadersWithSeveralValues(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{
		Files: map[string]string{"authz.rego": `package gatehouse.authz

default allowed := false

allowed if input.parsed_path[0] == "p"

headers := {"x-many": ["a", "b"], "x-gatehouse-subject": ["root", "admin"], "x-gatehouse-decision-id": ["g", "h"]}

response_headers_to_add := {"x-upstream": ["c", "d"], "x-seen-revision": "one", "set-cookie": ["e=1", "f=2"], "x-gatehouse-decision-id": ["g", "h"]}

query_parameters_to_set := {"q": "1"}
`},
		Config: "routes:\n  - {name: all, match: {listener: inbound, prefix: /}, upstream: app, permission: task.view}\n",
	})
	dev := s.issuer.Token("developer", "org1")
	a := s.get(s.inbound+"/p/1?key="+dev+"&b=1", "x-many", "client")
	got := s.app.Last()
	for name, want := range map[string][]string{"x-many": {"a", "b"}, "x-gatehouse-subject": {"agent-7"}} {
		if v := values(got.Header.Values(name)); !slices.Equal(v, want) {
			t.Errorf("%s at the upstream: %q, want %q", name, v, want)
		}
	}
	if got.Target != "/p/1?b=1&q=1" {
		t.Errorf("the target at the upstream: %s", got.Target)
	}
	for name, want := range map[string][]string{"x-upstream": {"app", "c", "d"}, "x-seen-revision": {"one"}, "set-cookie": {"e=1", "f=2"}} {
		if v := values(a.Header.Values(name)); !slices.Equal(v, want) {
			t.Errorf("%s at the client: %q, want %q", name, v, want)
		}
	}
	if v := a.Header.Values("x-gatehouse-decision-id"); len(v) != 1 || len(v[0]) < 20 {
		t.Errorf("the decision's id at the client: %q", v)
	}
	a = s.get(s.inbound+"/q", bearer(dev)...)
	if v := values(a.Header.Values("x-many")); a.Status != 403 || !slices.Equal(v, []string{"a", "b"}) {
		t.Errorf("denied: %d, x-many %q", a.Status, v)
	}
	if v := a.Header.Values("x-gatehouse-decision-id"); len(v) != 1 || len(v[0]) < 20 {
		t.Errorf("denied, the decision's id at the client: %q", v)
	}
}

// values takes apart what one of the hops may have joined.
func values(list []string) []string {
	return strings.Split(strings.ReplaceAll(strings.Join(list, ","), ", ", ","), ",")
}
