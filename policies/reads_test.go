package policies

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// analyse compiles text and returns what data.p.allow reads, as dotted paths.
func analyse(t *testing.T, text string) (paths []string, calls []string) {
	t.Helper()
	caps := capabilities()
	p, faults := parse(Source{"a.rego": []byte(text)}, caps)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	c, err := p.compile(caps)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := parseEntry("data.p.allow")
	if err != nil {
		t.Fatal(err)
	}
	found := readsOf(c, entry, unrepeatable(caps))
	for _, in := range found.inputs {
		paths = append(paths, strings.Join(in.path, "."))
	}
	for _, call := range found.unrepeatable {
		calls = append(calls, call.String())
	}
	slices.Sort(paths)
	return slices.Compact(paths), calls
}

func TestReadsAreFoundWhereverTheyHide(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, body, want string }{
		{"plain", "allow if input.a.b == 1", "a.b"},
		{"brackets", `allow if input["a"]["b c"] == 1`, "a.b c"},
		{"variable ends the path", "allow if {\n\tsome x\n\tinput.a[x].b == 1\n}", "a"},
		{"input inside a reference", "allow if data.t[input.a]", "a"},
		{"input inside a reference of the input", "allow if input.a[input.b]", "a|b"},
		{"whole", "allow if count(input) > 0", ""},
		{"alias", "allow if {\n\tx := input\n\tx.a\n}", ""},
		{"walk", "allow if {\n\twalk(input, [_, v])\n\tv == 1\n}", ""},
		{"else", "allow if false else if input.a == 1", "a"},
		{"else value", "allow := false if false else := input.a", "a"},
		{"head value", "allow := input.a", "a"},
		{"default", "default allow := false\n\nallow if input.a", "a"},
		{"helper rule", "allow if helper\n\nhelper if input.a", "a"},
		{"helper by a variable", "allow if {\n\tsome k\n\tdata.p.h[k].x\n}\n\nh.one.x if input.a", "a"},
		{"all of a package", "allow if count(data.p.sub) > 0\n\nsub.one if input.a", "a"},
		{"function", "allow if f(1)\n\nf(x) if x == input.a", "a"},
		{"comprehension", "allow if count([1 | input.a == 1]) > 0", "a"},
		{"every", "allow if every x in input.a { x == input.b }", "a|b"},
		{"negation", "allow if not input.a", "a"},
		{"with", "allow if helper with input.a as 1\n\nhelper if input.b", "a|b"},
		{"partial object key", "allow[input.a] := 1", "a"},
		{"partial set", "allow contains input.a", "a"},
		{"template string", "allow if $\"{input.a}\" == \"x\"", "a"},
		{"rule nobody asks", "allow := true\n\nother if input.a", "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			paths, _ := analyse(t, "package p\n\n"+tt.body+"\n")
			got := strings.Join(paths, "|")
			if len(paths) == 0 {
				got = "none"
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	imported, _ := analyse(t, "package p\n\nimport input.attributes.request.http as h\n\nallow if h.method == \"GET\"\n")
	if !slices.Equal(imported, []string{"attributes.request.http.method"}) {
		t.Errorf("import: got %v", imported)
	}
}

func TestUnrepeatableCallsAreFound(t *testing.T) {
	t.Parallel()
	for _, call := range []string{
		"time.now_ns() > 1", `rand.intn("x", 2) == 1`, `uuid.rfc4122("k") != ""`, `io.jwt.decode_verify(input.a, {})[0]`,
		"crypto.x509.parse_and_verify_certificates(input.a)[0]",
	} {
		if _, calls := analyse(t, "package p\n\nallow if helper\n\nhelper if "+call+"\n"); len(calls) != 1 {
			t.Errorf("%s: got %v", call, calls)
		}
	}
	if _, calls := analyse(t, `package p

allow if startswith(input.a, "b")
`); len(calls) != 0 {
		t.Errorf("startswith: got %v", calls)
	}
}

func TestReadsBody(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		"input.parsed_body.a":                                true,
		"input.attributes.request.http.body == \"x\"":        true,
		"count(input.attributes.request.http) > 1":           true,
		"count(input.attributes) > 1":                        true,
		"count(input) > 1":                                   true,
		"input.attributes.request.http.headers.a":            false,
		"input.parsed_path[0]":                               false,
		"input.truncated_body":                               false,
		"json.unmarshal(input.attributes.request.http.body)": true,
	} {
		e := compileText(t, "data.p.allow", "package p\n\nallow if "+body+"\n")
		if e.ReadsBody() != want {
			t.Errorf("%s: got %v", body, e.ReadsBody())
		}
	}
}

func cachePolicy(key, body string) string {
	return "package p\n\n# METADATA\n# custom:\n#   cache_key: " + key + "\nallow if " + body + "\n"
}

func TestCacheKeyThatIsWrongIsAFault(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"not covered", cachePolicy("[permission]", `input.principal.role == "admin"`), "a.rego:6:10: input.principal.role is read here"},
		{"a whole object", cachePolicy("[principal.role]", `input.principal == {}`), "input.principal is read here"},
		{"a prefix in letters only", cachePolicy("[route]", `input.route_name == ""`), "input.route_name is read here"},
		{"all of the input", cachePolicy("[permission]", `count(input) == 1`), "input is read here"},
		{"a helper's read", cachePolicy("[permission]", `helper`) + "\nhelper if input.route\n", "a.rego:8:11: input.route is read here"},
		{"the clock", cachePolicy("[permission]", `time.now_ns() > 1`), "a.rego:6:10: time.now_ns gives another result each time"},
		{"unknown path", cachePolicy("[attributes.request.http.path]", `input.permission`), "attributes.request.http.path is not one of"},
		{"not a path", cachePolicy("[7]", `input.permission`), "7 is not one of"},
		{"not a list", cachePolicy("permission", `input.permission`), "must be a list of"},
		{"empty", cachePolicy("[]", `input.permission`), "must be a list of"},
		{"long", cachePolicy("[route, route, route, route, route, route, route, route, route]", `input.route`), "must be a list of 1 to 8"},
		{"twice", cachePolicy("[route]", `input.route`) + "\n# METADATA\n# custom:\n#   cache_key: [permission]\nallow if input.permission\n", "more than once"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(t.Context(), Source{"a.rego": []byte(tt.text)}, Options{Entry: "data.p.allow"})
			if _, ok := errors.AsType[Faults](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCacheKeyIsFoundAtEachScope(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"rule":     cachePolicy("[permission]", "input.permission"),
		"document": strings.Replace(cachePolicy("[permission]", "input.permission"), "# custom", "# scope: document\n# custom", 1),
	} {
		if e := compileText(t, "data.p.allow", text); !e.Cacheable() {
			t.Errorf("%s: not cacheable", name)
		}
	}
	whole := "# METADATA\n# custom:\n#   cache_key: [permission]\npackage p\n\nallowed if input.permission\n"
	if e := compileText(t, "data.p", whole); !e.Cacheable() {
		t.Error("package: not cacheable")
	}
	if e := compileText(t, "data.p.allowed", whole); e.Cacheable() {
		t.Error("a package's cache_key counts for a rule in it")
	}
	other := cachePolicy("[permission]", "input.permission") + "\nother if input.x\n"
	if e := compileText(t, "data.p.other", other); e.Cacheable() {
		t.Error("another rule's cache_key counts")
	}
}
