package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// routes returns a set with two upstreams, one limit and the given routes,
// each on a line of its own from line 4 on.
func routes(routes ...string) string {
	return "upstreams: {app: {url: http://a.example}, paid: {url: https://p.example, credential: key}}\n" +
		"limits: [{name: slow, key: [role], rate: 1/s}]\n" +
		"routes:\n" + "- {" + strings.Join(routes, "}\n- {") + "}\n"
}

func TestRouteKeys(t *testing.T) {
	t.Parallel()
	const ok = "name: r, match: {listener: inbound, path: /}, upstream: app, permission: task.view, "
	checkRows(t, []row{
		{"all missing", routes(""), []string{
			`f:4:3: routes[0]: "match" is missing`, `f:4:3: routes[0]: "name" is missing`,
			`f:4:3: routes[0]: "upstream" is missing`,
			`f:4:3: routes[0]: "permission" is missing; only exempt routes and principal: none go without`}},
		{"later", routes(ok + "learning: true, dead_letter: true"), []string{
			`f:4:88: routes[0]: "learning" is not in this build`, `f:4:104: routes[0]: "dead_letter" is not in this build`}},
		{"unknown", routes(ok + "permision: a, lllm: {}"), []string{
			`f:4:88: routes[0]: unknown key "permision", did you mean "permission"?`, `f:4:102: routes[0]: unknown key "lllm", did you mean "llm"?`}},
		{"all wrong", routes("name: R, match: [], upstream: 'A', exempt: 1, principal: user, permission: [], limits: slow, " +
			"mode: shadow, timeout: 5, idle_timeout: 100ms, connect_timeout: 2m, body: 2MiB, forward_token: no"), []string{
			`f:4:10: routes[0].name: "R" is not a name: a-z, 0-9, _ and -, at most 63, the first no _ or -`,
			"f:4:20: routes[0].match: must be a map, is a list",
			`f:4:34: routes[0].upstream: "A" is not a name: a-z, 0-9, _ and -, at most 63, the first no _ or -`,
			"f:4:47: routes[0].exempt: must be true or false, is a number",
			`f:4:61: routes[0].principal: "user" is not one of token, workload, token_or_workload, none`,
			"f:4:79: routes[0].permission: must be text, is a list",
			"f:4:91: routes[0].limits: must be a list, is text",
			`f:4:103: routes[0].mode: "shadow" is not one of enforce, observe`,
			"f:4:120: routes[0].timeout: a duration needs a unit, such as 15s",
			"f:4:137: routes[0].idle_timeout: must be from 1s to 1h",
			"f:4:161: routes[0].connect_timeout: must be from 10ms to 1m",
			"f:4:171: routes[0].body: must be from 1B to 1MiB",
			"f:4:192: routes[0].forward_token: must be true or false, is text"}},
		{"references", routes("name: r, match: {listener: inbound, path: /}, upstream: ap, permission: task.view, limits: [slow, fast, slow]"), []string{
			`f:4:60: routes[0].upstream: there is no upstream "ap"`,
			`f:4:102: routes[0].limits[1]: there is no limit "fast"`,
			`f:4:108: routes[0].limits[2]: "slow" stands twice`}},
		{"same name", routes(ok, "name: r, match: {listener: inbound, path: /b}, upstream: app, permission: task.view"), []string{
			`f:5:10: routes[1].name: "r" is taken in line 4`}},
		{"too many limits", routes(ok + "limits: [" + strings.Repeat("a, ", maxRouteLimits+1) + "]"), []string{
			"f:4:96: routes[0].limits: has more than 16 entries"}},
	})
}

func TestRouteMatch(t *testing.T) {
	t.Parallel()
	match := func(m string) string {
		return routes("match: {" + m + "}, name: r, upstream: app, permission: task.view")
	}
	checkRows(t, []row{
		{"empty", match(""), []string{
			`f:4:11: routes[0].match: "listener" is missing`, "f:4:11: routes[0].match: needs exactly one of path and prefix"}},
		{"listener", match("listener: both, path: /"), []string{`f:4:22: routes[0].match.listener: "both" is not one of inbound, outbound`}},
		{"path and prefix", match("listener: inbound, path: /, prefix: /"), []string{
			"f:4:11: routes[0].match: needs exactly one of path and prefix"}},
		{"host and base", match("listener: outbound, path: /, host: a.example, base: /a"), []string{
			"f:4:64: routes[0].match.base: host and base exclude each other"}},
		{"host and base inbound", match("listener: inbound, path: /, host: a.example"), []string{
			"f:4:46: routes[0].match.host: is for outbound routes only"}},
		{"base inbound", match("listener: inbound, path: /, base: /a"), []string{
			"f:4:46: routes[0].match.base: is for outbound routes only"}},
		{"base of everything", match("listener: outbound, path: /, base: /"), []string{
			"f:4:47: routes[0].match.base: must be more than /"}},
		{"host with a port", match("listener: outbound, path: /, host: 'a.example:80'"), []string{
			`f:4:47: routes[0].match.host: "a.example:80" is neither a DNS name nor an address`}},
		{"host is IPv6", match("listener: outbound, path: /, host: '::1'"), []string{
			"f:4:47: routes[0].match.host: must be a DNS name or an IPv4 address"}},
		{"methods", match("listener: inbound, path: /, methods: [get, GET, GET, TRACE, CONNECT, 'A B']"), []string{
			`f:4:50: routes[0].match.methods[0]: "get" is not a method in capitals`,
			`f:4:60: routes[0].match.methods[2]: "GET" stands twice`,
			"f:4:65: routes[0].match.methods[3]: TRACE is refused on every route",
			"f:4:72: routes[0].match.methods[4]: CONNECT is refused on every route",
			`f:4:81: routes[0].match.methods[5]: "A B" is not a method in capitals`}},
		{"no methods", match("listener: inbound, path: /, methods: []"), []string{
			"f:4:49: routes[0].match.methods: is an empty list"}},
		{"unknown", match("listener: inbound, pth: /"), []string{
			"f:4:11: routes[0].match: needs exactly one of path and prefix",
			`f:4:31: routes[0].match: unknown key "pth", did you mean "path"?`}},
	})
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		text               string
		path, prefix, base bool
	}{
		{"/", true, true, false},
		{"/a", true, true, true},
		{"/a/b-c_d.e~f", true, true, true},
		{"/A!$&'()*+,=:@", true, true, true},
		{"/a/", true, false, false},
		{"/...", true, true, true},
		{"/.a/b..", true, true, true},
		{"/" + strings.Repeat("a", maxPath-1), true, true, true},
		{"/" + strings.Repeat("a", maxPath), false, false, false},
		{"a", false, false, false},
		{"//", false, false, false},
		{"/a//b", false, false, false},
		{"/.", false, false, false},
		{"/a/../b", false, false, false},
		{"/a/..", false, false, false},
		{"/a%2fb", false, false, false},
		{"/a?b", false, false, false},
		{"/a#b", false, false, false},
		{"/a;b", false, false, false},
		{`/a\b`, false, false, false},
		{"/a b", false, false, false},
		{"/a\tb", false, false, false},
		{"/a\x7f", false, false, false},
		{"/é", false, false, false},
		{"/a|b", false, false, false},
		{"/{a}", false, false, false},
	} {
		if got := checkPath(row.text) == nil; got != row.path {
			t.Errorf("path %.40q accepted = %t, want %t", row.text, got, row.path)
		}
		if got := checkPrefix(row.text) == nil; got != row.prefix {
			t.Errorf("prefix %.40q accepted = %t, want %t", row.text, got, row.prefix)
		}
		if got := checkBase(row.text) == nil; got != row.base {
			t.Errorf("base %.40q accepted = %t, want %t", row.text, got, row.base)
		}
	}
}

func TestExempt(t *testing.T) {
	t.Parallel()
	exempt := func(rest string) string { return routes("exempt: true, name: r, upstream: app, " + rest) }
	checkRows(t, []row{
		{"GET and HEAD", exempt("match: {listener: inbound, path: /, methods: [HEAD, GET]}, timeout: 1s"), nil},
		{"no methods", exempt("match: {listener: inbound, path: /}"), nil},
		{"outbound", exempt("match: {listener: outbound, path: /}"), []string{
			"f:4:12: routes[0].exempt: is for inbound routes only"}},
		{"prefix", exempt("match: {listener: inbound, prefix: /a}"), []string{
			"f:4:12: routes[0].exempt: needs an exact path"}},
		{"other methods", exempt("match: {listener: inbound, path: /, methods: [GET, POST]}"), []string{
			"f:4:12: routes[0].exempt: takes GET and HEAD only"}},
		{"upstream with a credential", routes("exempt: true, name: r, upstream: paid, match: {listener: inbound, path: /}"), []string{
			"f:4:37: routes[0].upstream: an exempt route must not lead to an upstream with a credential"}},
		{"keys without effect", exempt("match: {listener: inbound, path: /}, principal: none, permission: task.view, limits: [], mode: observe, body: 1, forward_token: false"), []string{
			"f:4:90: routes[0].principal: has no effect on an exempt route",
			"f:4:108: routes[0].permission: has no effect on an exempt route",
			"f:4:127: routes[0].limits: has no effect on an exempt route",
			"f:4:137: routes[0].mode: has no effect on an exempt route",
			"f:4:152: routes[0].body: has no effect on an exempt route",
			"f:4:170: routes[0].forward_token: has no effect on an exempt route"}},
	})
}

func TestPrincipalModes(t *testing.T) {
	t.Parallel()
	const inbound = "name: r, match: {listener: inbound, path: /}, upstream: app, permission: task.view, "
	outbound := strings.Replace(inbound, "inbound", "outbound", 1)
	checkRows(t, []row{
		{"workload inbound", routes(inbound + "principal: workload"), []string{
			"f:4:99: routes[0].principal: workload is for outbound routes only"}},
		{"token or workload inbound", routes(inbound + "principal: token_or_workload"), []string{
			"f:4:99: routes[0].principal: token_or_workload is for outbound routes only"}},
		{"forward_token outbound", routes(outbound + "forward_token: true"), []string{
			"f:4:104: routes[0].forward_token: is for inbound routes only"}},
		{"no permission", routes("name: r, match: {listener: inbound, path: /}, upstream: app"), []string{
			`f:4:3: routes[0]: "permission" is missing; only exempt routes and principal: none go without`}},
		{"no permission with a token", routes("name: r, match: {listener: inbound, path: /}, upstream: app, principal: token, exempt: false"), []string{
			`f:4:3: routes[0]: "permission" is missing; only exempt routes and principal: none go without`}},
		{"none without permission", routes("name: r, match: {listener: inbound, path: /}, upstream: app, principal: none"), nil},
		{"none with permission", routes(inbound + "principal: none"), nil},
	})
	for _, row := range []struct {
		listener, extra string
		want            PrincipalMode
	}{
		{"inbound", "", PrincipalToken},
		{"outbound", "", PrincipalTokenOrWorkload},
		{"outbound", "principal: token, ", PrincipalToken},
		{"outbound", "principal: workload, ", PrincipalWorkload},
		{"outbound", "principal: none, ", PrincipalNone},
	} {
		data := routes(strings.Replace(inbound, "inbound", row.listener, 1) + row.extra)
		set, err := ParseSet("f", []byte(data))
		if err != nil {
			t.Fatalf("%s %s: %v", row.listener, row.extra, err)
		}
		if got := set.Routes[0].Principal; got != row.want {
			t.Errorf("%s with %q: principal = %s, want %s", row.listener, row.extra, got, row.want)
		}
	}
}

func TestPermission(t *testing.T) {
	t.Parallel()
	permission := func(methods, p string) string {
		return routes("name: r, match: {listener: inbound, path: /" + methods + "}, upstream: app, permission: " + p)
	}
	checkRows(t, []row{
		{"unknown to the shipped policy", permission("", "task.veiw"), []string{
			`f:4:77: routes[0].permission: the shipped policy has no permission "task.veiw"`}},
		{"empty", permission("", "''"), []string{"f:4:77: routes[0].permission: is empty"}},
		{"empty map", permission("", "{}"), []string{"f:4:77: routes[0].permission: is an empty map"}},
		{"map", permission("", "{GET: task.veiw, get: task.view, TRACE: task.view, HEAD: '', PUT: 'a b', OPTIONS: 5}"), []string{
			`f:4:83: routes[0].permission.GET: the shipped policy has no permission "task.veiw"`,
			`f:4:94: routes[0].permission.get: "get" is not a method in capitals`,
			"f:4:110: routes[0].permission.TRACE: TRACE is refused on every route",
			"f:4:134: routes[0].permission.HEAD: is empty",
			`f:4:143: routes[0].permission.PUT: "a b" is not a permission: letters, digits and . _ : / -, at most 128`,
			"f:4:159: routes[0].permission.OPTIONS: must be text, is a number"}},
		{"method that never matches", permission(", methods: [GET]", "{GET: task.view, PUT: task.update}"), []string{
			"f:4:110: routes[0].permission.PUT: match.methods does not have PUT"}},
		{"too many", permission("", "{"+numbered(maxMethods+1, "A%d: task.view, ")+"}"), []string{
			"f:4:77: routes[0].permission: has more than 32 entries"}},
		{"own entry, own names", "policy: {entry: data.mine.allow}\n" + permission("", "{GET: Reports/View:v1}"), nil},
		{"own entry, bad name", "policy: {entry: data.mine.allow}\n" + permission("", "{GET: '.view'}"), []string{
			`f:5:83: routes[0].permission.GET: ".view" is not a permission: letters, digits and . _ : / -, at most 128`}},
	})
}

func TestRoutesAreRead(t *testing.T) {
	t.Parallel()
	set, err := ParseSet("f", []byte(routes(
		"name: a, match: {listener: inbound, path: /a/, methods: [GET, M-SEARCH]}, upstream: app, permission: task.view, "+
			"limits: [slow], mode: observe, timeout: 1h, idle_timeout: 1h, connect_timeout: 60s, body: 1MiB, forward_token: true",
		"name: b, match: {listener: outbound, base: /b, prefix: /}, upstream: paid, permission: {GET: task.view, HEAD: task.create}, body: 1",
		"name: c, match: {listener: outbound, host: C.Example, prefix: /c}, upstream: paid, principal: none, timeout: 1ms, idle_timeout: 1s, connect_timeout: 10ms",
	)))
	if err != nil {
		t.Fatal(err)
	}
	want := []Route{
		{Name: "a", Match: Match{Listener: Inbound, Path: "/a/", Methods: []string{"GET", "M-SEARCH"}}, Upstream: "app",
			Principal: PrincipalToken, Permission: Permission{Name: "task.view"}, Limits: []string{"slow"}, Mode: Observe,
			Timeout: time.Hour, IdleTimeout: time.Hour, ConnectTimeout: time.Minute, Body: 1 << 20, ForwardToken: true},
		{Name: "b", Match: Match{Listener: Outbound, Base: "/b", Prefix: "/"}, Upstream: "paid", Principal: PrincipalTokenOrWorkload,
			Permission: Permission{ByMethod: map[string]string{"GET": "task.view", "HEAD": "task.create"}}, Mode: Enforce,
			Timeout: 15 * time.Second, IdleTimeout: time.Minute, ConnectTimeout: 2 * time.Second, Body: 1},
		{Name: "c", Match: Match{Listener: Outbound, Host: "c.example", Prefix: "/c"}, Upstream: "paid", Principal: PrincipalNone, Mode: Enforce,
			Timeout: time.Millisecond, IdleTimeout: time.Second, ConnectTimeout: 10 * time.Millisecond},
	}
	if diff := cmp.Diff(want, set.Routes); diff != "" {
		t.Errorf("routes: -want +got\n%s", diff)
	}
}

func BenchmarkParseSet(b *testing.B) {
	rows := make([]string, maxRoutes)
	for i := range rows {
		rows[i] = fmt.Sprintf("name: r%d, match: {listener: inbound, prefix: /p%d}, upstream: app, permission: {GET: task.view, POST: task.create}, limits: [slow]", i, i)
	}
	data := []byte(routes(rows...))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSet("f", data); err != nil {
			b.Fatal(err)
		}
	}
}
