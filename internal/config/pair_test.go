package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckPair(t *testing.T) {
	t.Parallel()
	const (
		in       = "name: a, match: {listener: inbound, path: /a}, upstream: app, permission: task.view"
		token    = "name: b, match: {listener: outbound, path: /b}, upstream: app, permission: task.view, principal: token"
		workload = "name: c, match: {listener: outbound, path: /c}, upstream: app, permission: task.view, principal: workload"
		either   = "name: d, match: {listener: outbound, path: /d}, upstream: app, permission: task.view"
		paid     = "name: e, match: {listener: inbound, path: /e}, upstream: paid, permission: task.view"
		paid2    = "name: f, match: {listener: inbound, path: /f}, upstream: paid, permission: task.view"

		head     = "name: s\nsocket: /s\nstate_dir: /d\nlisteners:\n"
		inbound  = "  inbound: {address: 0.0.0.0:1}\n"
		loopback = "  outbound: {address: '[::1]:2'}\n"
		open     = "  outbound: {address: 0.0.0.0:2}\n"
		someone  = "principal: {subject: s, tenant: t}\n"
		key      = "credentials: {key: {env: K}}\n"
	)
	for _, row := range []struct {
		name, set, sidecar string
		want               []string
	}{
		{"all fits", routes(in, token, workload, either, paid), head + inbound + loopback + someone + key, nil},
		{"token routes at an open listener", routes(token), head + open, nil},
		{"unused upstream needs no credential", routes(in), head + inbound, nil},
		{"no inbound", routes(token, in), head + loopback, []string{
			"f:5:3: routes[1]: listener inbound is not configured in sidecar.yaml"}},
		{"no outbound", routes(in, token, workload), head + inbound + someone, []string{
			"f:5:3: routes[1]: listener outbound is not configured in sidecar.yaml",
			"f:6:3: routes[2]: listener outbound is not configured in sidecar.yaml"}},
		{"no principal", routes(token, workload, either), head + loopback, []string{
			"f:5:3: routes[1]: principal: workload needs a principal in sidecar.yaml",
			"f:6:3: routes[2]: principal: token_or_workload needs a principal in sidecar.yaml"}},
		{"open listener", routes(token, workload, either), head + open + someone, []string{
			"f:5:3: routes[1]: principal: workload needs a loopback address; sidecar.yaml has listeners.outbound at 0.0.0.0:2",
			"f:6:3: routes[2]: principal: token_or_workload needs a loopback address; sidecar.yaml has listeners.outbound at 0.0.0.0:2"}},
		{"no credential, once", routes(paid, paid2), head + inbound, []string{
			`f:1:86: upstreams.paid.credential: credential "key" is not configured in sidecar.yaml`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			set, err := ParseSet("f", []byte(row.set))
			if err != nil {
				t.Fatal(err)
			}
			sc, err := ParseSidecar("g", []byte(row.sidecar))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, lines(t, CheckPair(set, sc))); diff != "" {
				t.Errorf("faults: -want +got\n%s", diff)
			}
		})
	}
}

func TestCheckPairOfASetBuiltByHand(t *testing.T) {
	t.Parallel()
	set := &PolicySet{
		Upstreams: map[string]Upstream{"app": {Credential: "key"}},
		Routes:    []Route{{Match: Match{Listener: "nowhere"}, Upstream: "app"}},
	}
	want := []string{
		"routes[0]: listener nowhere is not configured in sidecar.yaml",
		`upstreams.app.credential: credential "key" is not configured in sidecar.yaml`,
	}
	if diff := cmp.Diff(want, lines(t, CheckPair(set, &Sidecar{}))); diff != "" {
		t.Errorf("faults: -want +got\n%s", diff)
	}
}
