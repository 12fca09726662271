package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ignorePlaces leaves the positions out of a comparison of sets.
var ignorePlaces = cmpopts.IgnoreUnexported(PolicySet{})

// faultsOf returns the faults of a set.
func faultsOf(t *testing.T, data string) []string {
	t.Helper()
	set, err := ParseSet("f", []byte(data))
	if (set == nil) != (err != nil) {
		t.Errorf("set is %v with error %v, want exactly one of the two", set, err)
	}
	return lines(t, err)
}

// tail is the rest of a set for tests of its head, without a fault.
const tail = "upstreams: {app: {url: http://a.example}}\n" +
	"routes: [{name: r, match: {listener: inbound, prefix: /}, upstream: app, permission: task.view}]\n"

// row is a file and the faults that it must have, all of them.
type row struct {
	name, data string
	want       []string
}

func checkRows(t *testing.T, rows []row) {
	t.Helper()
	runRows(t, rows, faultsOf)
}

func runRows(t *testing.T, rows []row, faults func(*testing.T, string) []string) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(r.want, faults(t, r.data)); diff != "" {
				t.Errorf("faults: -want +got\n%s", diff)
			}
		})
	}
}

func TestSetShape(t *testing.T) {
	t.Parallel()
	checkRows(t, []row{
		{"not a map", "- a\n", []string{"f:1:1: must be a map, is a list"}},
		{"text", "a\n", []string{"f:1:1: must be a map, is text"}},
		{"nothing required", "policy: {}\n", []string{`f:1:1: "routes" is missing`, `f:1:1: "upstreams" is missing`}},
		{"unknown keys", "polcy: {}\nxyz: 1\n" + tail, []string{
			`f:1:1: unknown key "polcy", did you mean "policy"?`, `f:2:1: unknown key "xyz"`}},
		{"duplicate key", tail + "limits: []\nlimits: []\n", []string{
			`f:4:1: key "limits" stands twice, first in line 3`}},
		{"duplicate key in two spellings", tail + "policy: {mode: observe, \"m\\u006fde\": enforce}\n", []string{
			`f:3:25: policy: key "mode" stands twice, first in line 3`}},
		{"keys that are not text", tail + "policy: {1: a, true: b, null: c, \"\": d, \"a\\nb\": e}\n", []string{
			"f:3:10: policy: a key must be text, is a number",
			"f:3:16: policy: a key must be text, is true or false",
			"f:3:25: policy: a key must be text, is empty",
			`f:3:34: policy: key "" is empty or not printable ASCII`,
			`f:3:41: policy: key "a\nb" is empty or not printable ASCII`}},
		{"wrong types", "policy: a\nissuers: {}\nlimits: 5\n" + tail, []string{
			"f:1:9: policy: must be a map, is text",
			"f:2:10: issuers: must be a list, is a map",
			"f:3:9: limits: must be a list, is a number"}},
		{"empty values", "policy:\nissuers: ~\nlimits: ''\n" + tail, []string{
			"f:1:8: policy: must be a map, is empty",
			"f:2:10: issuers: must be a list, is empty",
			"f:3:9: limits: must be a list, is text"}},
		{"no routes", "upstreams: {app: {url: http://a.example}}\nroutes: []\n", []string{
			"f:2:9: routes: is an empty list"}},
	})
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	checkRows(t, []row{
		{"all wrong at once", "policy:\n  entry: gatehouse.authz\n  mode: permissive\n  expose_token: yes\n" +
			"  show_reasons: \"true\"\n  timeout: 0.5ms\n" + tail, []string{
			`f:2:10: policy.entry: "gatehouse.authz" is not a reference such as data.gatehouse.authz`,
			`f:3:9: policy.mode: "permissive" is not one of enforce, observe`,
			"f:4:17: policy.expose_token: must be true or false, is text",
			"f:5:17: policy.show_reasons: must be true or false, is text",
			"f:6:12: policy.timeout: must be from 1ms to 400ms"}},
		{"other spellings of true", "policy: {expose_token: True, show_reasons: on}\n" + tail, []string{
			"f:1:24: policy.expose_token: must be true or false, is true or false",
			"f:1:44: policy.show_reasons: must be true or false, is text"}},
		{"entry is no path", "policy: {entry: 'data.a[\"b\"]'}\n" + tail, []string{
			`f:1:17: policy.entry: "data.a[\"b\"]" is not a reference such as data.gatehouse.authz`}},
		{"entry is all data", "policy: {entry: data}\n" + tail, []string{
			`f:1:17: policy.entry: "data" is not a reference such as data.gatehouse.authz`}},
		{"timeout of a second", "policy: {timeout: 1s}\n" + tail, []string{
			"f:1:19: policy.timeout: must be from 1ms to 400ms"}},
	})
}

func TestPolicyIsRead(t *testing.T) {
	t.Parallel()
	set, err := ParseSet("f", []byte("policy: {entry: data.envoy.authz.allow, mode: observe, expose_token: true, show_reasons: true, timeout: 400ms}\n"+tail))
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{Entry: "data.envoy.authz.allow", Mode: Observe, ExposeToken: true, ShowReasons: true, Timeout: 400 * time.Millisecond}
	if diff := cmp.Diff(want, set.Policy); diff != "" {
		t.Errorf("policy: -want +got\n%s", diff)
	}
	if got := set.Routes[0].Mode; got != Observe {
		t.Errorf("a route's mode = %s, want the policy's", got)
	}
}

func TestIssuers(t *testing.T) {
	t.Parallel()
	const head = "issuers:\n  - {name: a, issuer: i, audience: g, algorithms: [EdDSA], jwks: {file: /k}"
	checkRows(t, []row{
		{"all missing", "issuers: [{}]\n" + tail, []string{
			`f:1:11: issuers[0]: "algorithms" is missing`, `f:1:11: issuers[0]: "audience" is missing`,
			`f:1:11: issuers[0]: "issuer" is missing`, `f:1:11: issuers[0]: "jwks" is missing`, `f:1:11: issuers[0]: "name" is missing`}},
		{"all empty", "issuers: [{name: '', issuer: '', audience: '', algorithms: [], jwks: {}}]\n" + tail, []string{
			"f:1:18: issuers[0].name: is empty", "f:1:30: issuers[0].issuer: is empty", "f:1:44: issuers[0].audience: is empty",
			"f:1:60: issuers[0].algorithms: is an empty list", "f:1:70: issuers[0].jwks: needs exactly one of file and url"}},
		{"jwks from control", strings.Replace(head, "{file: /k}", "control", 1) + "}\n" + tail, nil},
		{"jwks from elsewhere", strings.Replace(head, "{file: /k}", "controls", 1) + "}\n" + tail, []string{
			"f:2:66: issuers[0].jwks: must be a map, is text"}},
		{"jwks of both kinds", strings.Replace(head, "{file: /k}", "{file: k, url: 'http://k.example'}", 1) + "}\n" + tail, []string{
			"f:2:66: issuers[0].jwks: needs exactly one of file and url",
			"f:2:73: issuers[0].jwks.file: must be an absolute path in its shortest form",
			"f:2:81: issuers[0].jwks.url: needs https, or a literal loopback address"}},
		{"jwks is a list", strings.Replace(head, "{file: /k}", "[a]", 1) + "}\n" + tail, []string{
			"f:2:66: issuers[0].jwks: must be a map, is a list"}},
		{"same name and value", head + "}\n" + strings.TrimPrefix(head, "issuers:\n") + "}\n" + tail, []string{
			`f:3:12: issuers[1].name: "a" is taken in line 2`, `f:3:23: issuers[1].issuer: "i" is taken in line 2`}},
		{"algorithms", strings.Replace(head, "[EdDSA]", "[none, ES256K, EdDSA, EdDSA, 1]", 1) + "}\n" + tail, []string{
			`f:2:52: issuers[0].algorithms[0]: "none" is not one of EdDSA, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512, HS256`,
			`f:2:58: issuers[0].algorithms[1]: "ES256K" is not one of EdDSA, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512, HS256`,
			`f:2:73: issuers[0].algorithms[3]: "EdDSA" stands twice`,
			"f:2:80: issuers[0].algorithms[4]: must be text, is a number"}},
		{"HS256 without symmetric", strings.Replace(head, "EdDSA", "HS256", 1) + "}\n" + tail, []string{
			"f:2:51: issuers[0].algorithms: HS256 needs symmetric: true"}},
		{"symmetric without HS256", head + ", symmetric: true}\n" + tail, []string{
			"f:2:51: issuers[0].algorithms: an issuer with symmetric: true takes HS256 only"}},
		{"symmetric with more", strings.Replace(head, "EdDSA", "HS256, RS256", 1) + ", symmetric: true}\n" + tail, []string{
			"f:2:51: issuers[0].algorithms: an issuer with symmetric: true takes HS256 only"}},
		{"symmetric by url", strings.NewReplacer("EdDSA", "HS256", "file: /k", "url: 'https://k.example/k'").Replace(head) + ", symmetric: true}\n" + tail, []string{
			"f:2:66: issuers[0].jwks: the keys of an issuer with symmetric: true stand in a file"}},
		{"roles and tenants", head + ", roles: [any, anonymous, root, admin], tenants: [any, 'a b', '*', '*']}\n" + tail, []string{
			`f:2:91: issuers[0].roles[1]: "anonymous" is not a role that an issuer can assert`,
			`f:2:102: issuers[0].roles[2]: "root" is not a role that an issuer can assert`,
			"f:2:131: issuers[0].tenants[1]: must be printable ASCII without spaces, at most 255 bytes",
			`f:2:143: issuers[0].tenants[3]: "*" stands twice`}},
		{"claims", head + ", claims: {role: tenant_id, agent: '', run: r, user: u}}\n" + tail, []string{
			`f:2:86: issuers[0].claims.tenant: claim "tenant_id" already carries the role`,
			"f:2:111: issuers[0].claims.agent: is empty",
			`f:2:123: issuers[0].claims: unknown key "user"`}},
	})
}

func TestIssuersAreRead(t *testing.T) {
	t.Parallel()
	set, err := ParseSet("f", []byte(`issuers:
  - {name: a, issuer: "https://a.example", audience: g, algorithms: [EdDSA, RS256], jwks: {url: "https://a.example/keys?x=1"}, tenants: [any, "*"], roles: [any, admin]}
  - {name: b, issuer: "${HOME}", audience: "{{.Env}}", algorithms: [HS256], symmetric: true, jwks: {file: "/etc/$K"}, claims: {role: r, tenant: t, project: p, agent: a, run: u}}
`+tail))
	if err != nil {
		t.Fatal(err)
	}
	want := []Issuer{
		{Name: "a", Issuer: "https://a.example", Audience: "g", Algorithms: []string{"EdDSA", "RS256"},
			JWKS: JWKS{URL: "https://a.example/keys?x=1"}, Tenants: []string{"any", "*"}, Roles: []string{"any", "admin"},
			Claims: Claims{Role: "role", Tenant: "tenant_id", Project: "project_id", Agent: "agent_id", Run: "run_id"}},
		// Nothing is expanded.
		{Name: "b", Issuer: "${HOME}", Audience: "{{.Env}}", Algorithms: []string{"HS256"}, Symmetric: true,
			JWKS: JWKS{File: "/etc/$K"}, Claims: Claims{Role: "r", Tenant: "t", Project: "p", Agent: "a", Run: "u"}},
	}
	if diff := cmp.Diff(want, set.Issuers); diff != "" {
		t.Errorf("issuers: -want +got\n%s", diff)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	checkRows(t, []row{
		{"all missing", "limits: [{}]\n" + tail, []string{
			`f:1:10: limits[0]: "key" is missing`, `f:1:10: limits[0]: "name" is missing`, `f:1:10: limits[0]: "rate" is missing`}},
		{"all wrong", "limits: [{name: A, key: [ip, role, role], rate: 600, burst: 0, scope: global, on_error: local}]\n" + tail, []string{
			`f:1:17: limits[0].name: "A" is not a name: a-z, 0-9, _ and -, at most 63, the first no _ or -`,
			`f:1:26: limits[0].key[0]: "ip" is not one of principal, tenant, project, agent, role, route, address`,
			`f:1:36: limits[0].key[2]: "role" stands twice`,
			"f:1:49: limits[0].rate: must be text, is a number",
			"f:1:61: limits[0].burst: must be from 1 to 1000000",
			`f:1:71: limits[0].scope: "global" is not one of sidecar, mesh`,
			"f:1:89: limits[0].on_error: is for limits with scope: mesh"}},
		{"mesh", "limits: [{name: a, key: [role], rate: 6/s, scope: mesh}]\n" + tail, nil},
		{"mesh denies", "limits: [{name: a, key: [role], rate: 6/s, scope: mesh, on_error: deny}]\n" + tail, nil},
		{"mesh opens", "limits: [{name: a, key: [role], rate: 6/s, scope: mesh, on_error: allow}]\n" + tail, []string{
			`f:1:67: limits[0].on_error: "allow" is not one of local, deny`}},
		{"mesh for 31 days", "limits: [{name: a, key: [role], rate: 1/day, burst: 31, scope: mesh}]\n" + tail, nil},
		{"mesh for longer", "limits: [{name: a, key: [role], rate: 1/day, burst: 1000000, scope: mesh}]\n" + tail, []string{
			"f:1:53: limits[0].burst: 1000000 at 1 in 24h0m0s are free again after more than 31 days, the most with scope: mesh"}},
		{"mesh at the most", "limits: [{name: a, key: [role], rate: 1000000/day, burst: 1000000, scope: mesh}, {name: b, key: [role], rate: 999999/day, scope: mesh}]\n" + tail, nil},
		{"mesh without a rate", "limits: [{name: a, key: [role], rate: 0/day, burst: 1000000, scope: mesh}]\n" + tail, []string{
			`f:1:39: limits[0].rate: "0/day" is not a rate such as 600/min`}},
		{"sidecar for longer", "limits: [{name: a, key: [role], rate: 1/day, burst: 1000000}]\n" + tail, nil},
		{"empty key", "limits: [{name: a, key: [], rate: 6/s}]\n" + tail, []string{"f:1:25: limits[0].key: is an empty list"}},
		{"key is text", "limits: [{name: a, key: role, rate: 6/s}]\n" + tail, []string{"f:1:25: limits[0].key: must be a list, is text"}},
		{"same name", "limits: [{name: a, key: [role], rate: 6/s}, {name: a, key: [role], rate: 6/s}]\n" + tail, []string{
			`f:1:52: limits[1].name: "a" is taken in line 1`}},
		{"burst", "limits: [{name: a, key: [role], rate: 6/s, burst: 010}, {name: b, key: [role], rate: 6/s, burst: 1000001}]\n" + tail, []string{
			"f:1:51: limits[0].burst: must be a whole number, is a number",
			"f:1:98: limits[1].burst: must be from 1 to 1000000"}},
	})
}

func TestLimitsAreRead(t *testing.T) {
	t.Parallel()
	set, err := ParseSet("f", []byte("limits: [{name: a, key: [principal, route], rate: 600/min, burst: 60, scope: sidecar}, {name: 9_b-, key: [address], rate: 5/day}]\n"+tail))
	if err != nil {
		t.Fatal(err)
	}
	want := []Limit{
		{Name: "a", Key: []string{"principal", "route"}, Rate: Rate{600, time.Minute}, Burst: 60, Scope: ScopeSidecar},
		{Name: "9_b-", Key: []string{"address"}, Rate: Rate{5, 24 * time.Hour}, Burst: 5, Scope: ScopeSidecar},
	}
	if diff := cmp.Diff(want, set.Limits); diff != "" {
		t.Errorf("limits: -want +got\n%s", diff)
	}
}

func TestSetBounds(t *testing.T) {
	t.Parallel()
	const route = "  - {name: r%d, match: {listener: inbound, path: /%[1]d}, upstream: u1, permission: task.view}\n"
	const upstream = "  u%d: {url: 'http://a.example'}\n"
	const limit = "  - {name: l%d, key: [role], rate: 1/s}\n"
	const issuer = "  - {name: i%d, issuer: i%[1]d, audience: a, algorithms: [EdDSA], jwks: {file: /k}}\n"
	build := func(routes, upstreams, limits, issuers int) string {
		return "routes:\n" + numbered(routes, route) + "upstreams:\n" + numbered(upstreams, upstream) +
			"limits:\n" + numbered(limits, limit) + "issuers:\n" + numbered(issuers, issuer)
	}
	if got := faultsOf(t, build(maxRoutes, maxUpstreams, maxLimits, maxIssuers)); got != nil {
		t.Errorf("faults at the bounds: %q", got)
	}
	checkRows(t, []row{
		{"routes", build(maxRoutes+1, 2, 1, 1), []string{"f:2:3: routes: has more than 2000 entries"}},
		{"upstreams", build(1, maxUpstreams+1, 1, 1), []string{"f:4:3: upstreams: has more than 500 entries"}},
		{"limits", build(1, 2, maxLimits+1, 1), []string{"f:7:3: limits: has more than 200 entries"}},
		{"issuers", build(1, 2, 1, maxIssuers+1), []string{"f:9:3: issuers: has more than 50 entries"}},
	})
}
