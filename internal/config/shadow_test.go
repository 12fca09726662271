package config

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestShadows(t *testing.T) {
	t.Parallel()
	// Each pair is an early and a late match; the late one is a fault or not.
	for _, row := range []struct {
		name, early, late string
		shadowed          bool
	}{
		{"identical", "listener: inbound, path: /a", "listener: inbound, path: /a", true},
		{"path under a prefix", "listener: inbound, prefix: /a", "listener: inbound, path: /a/b", true},
		{"the prefix itself", "listener: inbound, prefix: /a", "listener: inbound, path: /a", true},
		{"prefix under a prefix", "listener: inbound, prefix: /a", "listener: inbound, prefix: /a/b", true},
		{"anything under /", "listener: inbound, prefix: /", "listener: inbound, path: /a", true},
		{"not a whole segment", "listener: inbound, prefix: /a", "listener: inbound, prefix: /ab", false},
		{"wider prefix later", "listener: inbound, prefix: /a/b", "listener: inbound, prefix: /a", false},
		{"path before its prefix", "listener: inbound, path: /a", "listener: inbound, prefix: /a", false},
		{"other listener", "listener: inbound, prefix: /", "listener: outbound, prefix: /", false},
		{"methods within", "listener: inbound, path: /a, methods: [GET, PUT]", "listener: inbound, path: /a, methods: [PUT]", true},
		{"methods beyond", "listener: inbound, path: /a, methods: [GET]", "listener: inbound, path: /a, methods: [GET, PUT]", false},
		{"all methods later", "listener: inbound, path: /a, methods: [GET]", "listener: inbound, path: /a", false},
		{"all methods earlier", "listener: inbound, path: /a", "listener: inbound, path: /a, methods: [GET]", true},
		{"any host earlier", "listener: outbound, prefix: /", "listener: outbound, host: a.example, path: /a", true},
		{"any host later", "listener: outbound, host: a.example, prefix: /", "listener: outbound, path: /a", false},
		{"same host in capitals", "listener: outbound, host: A.example, prefix: /", "listener: outbound, host: a.Example, path: /a", true},
		{"other host", "listener: outbound, host: a.example, prefix: /", "listener: outbound, host: b.example, path: /a", false},
		{"base under a prefix", "listener: outbound, prefix: /a", "listener: outbound, base: /a, path: /b", true},
		{"prefix under a base", "listener: outbound, base: /a, prefix: /", "listener: outbound, prefix: /a", true},
		{"base and prefix", "listener: outbound, base: /a, prefix: /b", "listener: outbound, base: /a/b, prefix: /", true},
		{"other base", "listener: outbound, base: /a, prefix: /", "listener: outbound, base: /b, prefix: /", false},
		{"base with path /", "listener: outbound, base: /a, path: /", "listener: outbound, path: /a", false},
	} {
		data := routes("name: early, match: {"+row.early+"}, upstream: app, permission: task.view",
			"name: late, match: {"+row.late+"}, upstream: app, permission: task.view")
		var want []string
		if row.shadowed {
			want = []string{`f:5:23: routes[1].match: route "early" in line 4 takes all its requests`}
		}
		if got := faultsOf(t, data); !slices.Equal(got, want) {
			t.Errorf("%s: faults %q, want %q", row.name, got, want)
		}
	}
}

func TestExemptRouteTakesProbesOnly(t *testing.T) {
	t.Parallel()
	const exempt = "name: health, match: {listener: inbound, path: /h}, upstream: app, exempt: true"
	app := func(methods string) string {
		return "name: app, match: {listener: inbound, path: /h" + methods + "}, upstream: app, permission: task.view"
	}
	const shadowed = `f:5:22: routes[1].match: route "health" in line 4 takes all its requests`
	checkRows(t, []row{
		{"other methods", routes(exempt, app(", methods: [GET, POST]")), nil},
		{"all methods", routes(exempt, app("")), nil},
		{"GET", routes(exempt, app(", methods: [GET]")), []string{shadowed}},
		{"GET and HEAD", routes(exempt, app(", methods: [HEAD, GET]")), []string{shadowed}},
		{"exempt behind the app", routes(app(""), exempt), []string{
			`f:5:25: routes[1].match: route "app" in line 4 takes all its requests`}},
		{"exempt behind GET only", routes(app(", methods: [GET]"), exempt), nil},
	})
}

func TestFaultyMatchShadowsNothing(t *testing.T) {
	t.Parallel()
	const late = "name: late, match: {listener: inbound, path: /a}, upstream: app, permission: task.view"
	got := faultsOf(t, routes("name: early, match: {listener: inbound, prefix: /, methds: [GET]}, upstream: app, permission: task.view", late))
	want := []string{`f:4:55: routes[0].match: unknown key "methds", did you mean "methods"?`}
	if !slices.Equal(got, want) {
		t.Errorf("faults %q, want %q", got, want)
	}
}

// sent is one request as a client sends it.
type sent struct{ host, path, method string }

// takes is the slow and obvious model of Match for one request.
func (m Match) takes(s sent) bool {
	if m.Host != "" && m.Host != s.host || len(m.Methods) > 0 && !slices.Contains(m.Methods, s.method) {
		return false
	}
	if m.Path != "" {
		return s.path == m.Base+m.Path
	}
	prefix := strings.TrimSuffix(m.Base+m.Prefix, "/")
	return s.path == prefix || strings.HasPrefix(s.path, prefix+"/")
}

// Two matches compare as the sets of their requests do.
func TestTakesAllAgainstModel(t *testing.T) {
	t.Parallel()
	var requests []sent
	for _, base := range []string{"", "/x", "/y"} {
		for _, path := range []string{"", "/", "/x", "/x/", "/x/y", "/x/y/", "/x/y/z", "/x/q", "/xy", "/y", "/y/", "/y/q", "/q"} {
			for _, host := range []string{"a", "b", "other"} {
				for _, method := range []string{"GET", "PUT", "OTHER"} {
					requests = append(requests, sent{host, base + path, method})
				}
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	shadowed := 0
	for range 50_000 {
		early, late := randomMatch(r), randomMatch(r)
		want := true
		for _, s := range requests {
			want = want && (!late.takes(s) || early.takes(s))
		}
		if got := early.takesAll(late, early.Methods, late.Methods); got != want {
			t.Fatalf("takesAll(%+v, %+v) = %t, want %t", early, late, got, want)
		}
		if want {
			shadowed++
		}
	}
	if shadowed < 1000 {
		t.Errorf("only %d of the pairs were shadowed, the test shows little", shadowed)
	}
}

func randomMatch(r *rand.Rand) Match {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	m := Match{Listener: Outbound, Host: pick("", "", "a", "b"), Base: pick("", "", "/x", "/y")}
	if r.IntN(2) == 0 {
		m.Path = pick("/", "/x", "/x/y", "/y", "/x/")
	} else {
		m.Prefix = pick("/", "/x", "/x/y", "/y")
	}
	switch r.IntN(4) {
	case 0:
		m.Methods = []string{"GET"}
	case 1:
		m.Methods = []string{"GET", "PUT"}
	}
	return m
}
