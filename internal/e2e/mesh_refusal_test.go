package e2e

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/internal/envoytest"
)

// A revision that control signed, and that can't be enforced at one sidecar,
// leaves there what was in force, and the API says why.
func TestMeshRevisionIsRefused(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 1})
	r := m.replicas[0]
	good := r.put(m, m.set(1))
	n := m.join(r.admin, joining{Name: "picky", Via: r.mesh()})
	n.enforces(r.admin, good)
	upstream := func(text string) func(string) string {
		return func(set string) string {
			set = strings.Replace(set, "\nlimits:", "\n  other: "+text+"\nlimits:", 1)
			return set + "  - {name: other, match: {listener: inbound, prefix: /other}, upstream: other, permission: task.view}\n"
		}
	}
	for i, c := range []struct{ what, upstream, why string }{
		{"a credential that the sidecar lacks", fmt.Sprintf("{url: %q, credential: nobody}", m.app.URL), "nobody"},
		{"authorities that Envoy can't read", fmt.Sprintf(`{url: "https://127.0.0.1:9", ca_file: %s}`, m.path("limits.yaml")), "trusted CA"},
	} {
		version := i + 2
		bad := r.put(m, m.set(version, upstream(c.upstream)))
		envoytest.Eventually(t, c.what+" is shown as refused", func() bool {
			no := n.shown(r.admin, "org1").Refused
			return no != nil && no.Generation == bad.Generation && no.Revision == bad.Revision && strings.Contains(no.Reason, c.why)
		})
		s := n.shown(r.admin, "org1")
		if *s.Generation != good.Generation || *s.Revision != good.Revision || !s.Connected {
			t.Errorf("%s: in force is shown generation %d, connected %v", c.what, *s.Generation, s.Connected)
		}
		n.want(c.what+": the version before", n.ask("GET", "/v1", ""), 200, "")
		n.want(c.what+": its own version", n.ask("GET", fmt.Sprintf("/v%d", version), ""), 404, "resource.not_found")
		n.want(c.what+": no token", n.ask("GET", "/tasks", ""), 401, "auth.missing_token")
	}
	n.enforces(r.admin, r.put(m, m.set(9)))
	if no := n.shown(r.admin, "org1").Refused; no != nil {
		t.Errorf("a good revision is in force, and still refused is %+v", no)
	}
	n.want("the good version", n.ask("GET", "/v9", ""), 200, "")
}
