package config

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// checkFaults checks what holds for the faults of any file.
func checkFaults(t *testing.T, data []byte, err error) {
	t.Helper()
	faults, ok := errors.AsType[Faults](err)
	if !ok || len(faults) == 0 || len(faults) > maxFaults+1 {
		t.Fatalf("error is %T with %d faults, want 1 to %d Faults", err, len(faults), maxFaults+1)
	}
	rows := bytes.Split(data, []byte("\n"))
	for _, f := range faults {
		if f.File != "f" || f.Message == "" || strings.ContainsAny(f.Message, "\n\r\x00\x1b") {
			t.Errorf("fault %q: want file f and a message on one line", f)
		}
		if f.Line < 1 || f.Line > len(rows) || f.Col < 1 || f.Col > utf8.RuneCount(rows[min(f.Line, len(rows))-1])+1 {
			t.Errorf("fault %q stands outside the file", f)
		}
	}
}

func FuzzParseSet(f *testing.F) {
	for _, name := range []string{shippedSet, "testdata/example.yaml"} {
		f.Add(readFile(f, name))
	}
	for _, seed := range []string{
		"", "- a", "a: &b *b", "{a: [b: c]}", "a:\n- b\n-\n", "? a", "a: |\n b", "routes: [{}, {}]", "policy: {mode: \"\\x00\"}",
		routes("name: a, match: {listener: inbound, prefix: /}, upstream: app, permission: {GET: task.view}"),
		llmRoutes(call("llm: {parser: '', sanitize: {content: prose, actions: {control: off}, image_origins: ['https://a']}, unbounded: [urls]}")),
		llmRoutes(free("llm: {kind: free}, budget: none, max_stream: 1s")),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := ParseSet("f", data)
		if err != nil {
			checkFaults(t, data, err)
			return
		}
		checkSet(t, set)
	})
}

// checkSet checks what holds for any set without faults.
func checkSet(t *testing.T, set *PolicySet) {
	t.Helper()
	limits, names := map[string]bool{}, map[string]bool{}
	for _, l := range set.Limits {
		if limits[l.Name] || checkName(l.Name) != nil || len(l.Key) == 0 || l.Rate.Count < 1 || l.Rate.Per <= 0 || l.Burst < 1 {
			t.Errorf("limit %+v", l)
		}
		limits[l.Name] = true
	}
	for name, u := range set.Upstreams {
		if checkUpstreamName(name) != nil || checkDestination(u.Host) != nil || u.Host == "" || u.Port < 1 {
			t.Errorf("upstream %s: %+v", name, u)
		}
	}
	for _, r := range set.Routes {
		u, known := set.Upstreams[r.Upstream]
		if names[r.Name] || checkName(r.Name) != nil || !known {
			t.Errorf("route %+v has a bad name or upstream", r)
		}
		names[r.Name] = true
		checkLLMRoute(t, r, u)
		if (r.Match.Path == "") == (r.Match.Prefix == "") || r.Timeout <= 0 && r.LLM == nil || r.IdleTimeout <= 0 || r.ConnectTimeout <= 0 {
			t.Errorf("route %+v has a bad match or time-out", r)
		}
		open := r.Permission.Name == "" && len(r.Permission.ByMethod) == 0
		if open && r.Principal != PrincipalNone || r.Exempt && (!open || r.Match.Path == "" || r.Match.Listener != Inbound) {
			t.Errorf("route %+v is open", r)
		}
		if slices.ContainsFunc(r.Limits, func(name string) bool { return !limits[name] }) {
			t.Errorf("route %+v has an unknown limit", r)
		}
	}
	if len(set.Routes) == 0 {
		t.Error("no route")
	}
}

func FuzzParseSidecar(f *testing.F) {
	f.Add(readFile(f, exampleSidecar))
	for _, seed := range []string{"", "{}", sidecar(""), sidecar("limits: {envoy_heap: 1GiB}\ncredentials: {a: {env: B}}\n"), sidecar("shared: true\n")} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sc, err := ParseSidecar("f", data)
		if err != nil {
			checkFaults(t, data, err)
			return
		}
		if sc.Name == "" || checkSocket(sc.Socket) != nil || checkFile(sc.StateDir) != nil || !loopbackAddress(sc.Debug) {
			t.Errorf("sidecar %+v", sc)
		}
		if sc.Listeners.Inbound == nil && sc.Listeners.Outbound == nil {
			t.Error("no listener")
		}
		if sc.Shared != (sc.Principal == nil) || sc.Principal != nil && checkTenant(sc.Principal.Tenant) != nil {
			t.Errorf("shared %t with principal %+v", sc.Shared, sc.Principal)
		}
	})
}
