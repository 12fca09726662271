package policies

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"gatehouse/internal/request"

	"github.com/google/go-cmp/cmp"
)

func TestCompileNamesEveryFault(t *testing.T) {
	t.Parallel()
	const fine = "package p\n\nallow := true\n"
	tests := []struct {
		name  string
		src   map[string]string
		entry string
		want  []string
	}{
		{"syntax in two files", map[string]string{"a.rego": "package p\n\nallow if {\n", "b.rego": "pakage p\n"}, "data.p.allow",
			[]string{"a.rego:4:0:", "b.rego:1:1:"}},
		{"a test file counts", map[string]string{"a.rego": fine, "a_test.rego": "package p\n\ntest_x if\n"}, "data.p.allow",
			[]string{"a_test.rego:4:0:"}},
		{"Rego v0", map[string]string{"a.rego": "package p\n\nallow { true }\n"}, "data.p.allow", []string{"a.rego:3:1: "}},
		{"strict: unused variable", map[string]string{"a.rego": "package p\n\nallow if {\n\tx := 1\n}\n"}, "data.p.allow",
			[]string{"a.rego:4:2: assigned var x unused"}},
		{"strict: unused import", map[string]string{"a.rego": "package p\n\nimport data.q\n\nallow := true\n"}, "data.p.allow",
			[]string{"a.rego:3:1: import data.q unused"}},
		{"unknown function", map[string]string{"a.rego": "package p\n\nallow if nothing.here(1)\n"}, "data.p.allow",
			[]string{"a.rego:3:10: undefined function nothing.here"}},
		{"recursion", map[string]string{"a.rego": "package p\n\nallow if deny\n\ndeny if allow\n"}, "data.p.allow",
			[]string{"a.rego:3:1: ", "a.rego:5:1: "}},
		{"no such entry", map[string]string{"a.rego": fine}, "data.p.deny", []string{"nothing defines the entry point data.p.deny"}},
		{"only a test defines the entry", map[string]string{"a.rego": fine, "b_test.rego": "package q\n\nallow := true\n"}, "data.q.allow",
			[]string{"nothing defines the entry point data.q.allow"}},
		{"no rego at all", map[string]string{"gatehouse.yaml": "routes: []"}, "data.p.allow", []string{"nothing defines"}},
		{"entry is a function", map[string]string{"a.rego": "package p\n\nallow(x) if x\n"}, "data.p.allow",
			[]string{"a.rego:3:1: the entry point data.p.allow is a function"}},
		{"entry is a path", map[string]string{"a.rego": fine}, "p/allow", []string{`entry point "p/allow" is not of the form`}},
		{"entry is all data", map[string]string{"a.rego": fine}, "data", []string{"is not of the form"}},
		{"entry is input", map[string]string{"a.rego": fine}, "input.allow", []string{"is not of the form"}},
		{"entry has a variable", map[string]string{"a.rego": fine}, "data.p[x]", []string{"is not of the form"}},
		{"entry has a call", map[string]string{"a.rego": fine}, "data.p.allow; http.send({})", []string{"is not of the form"}},
		{"data.json is cut off", map[string]string{"a.rego": fine, "data.json": "{\n \"a\": "}, "data.p.allow", []string{"data.json:2:"}},
		{"data.json with a name twice", map[string]string{"a.rego": fine, "data.json": `{"a": 1, "a": 2}`}, "data.p.allow", []string{"data.json:1:"}},
		{"data.json is a list", map[string]string{"a.rego": fine, "data.json": `[]`}, "data.p.allow", []string{"data.json: data.json must hold an object"}},
		{"two data.json set one member", map[string]string{"a.rego": fine, "data.json": `{"b": {"x": 1}}`, "b/data.json": `{"x": 2}`}, "data.p.allow",
			[]string{"already set by another"}},
		{"data where a rule is", map[string]string{"a.rego": fine, "data.json": `{"p": {"allow": true}}`}, "data.p.allow", []string{"a.rego:3:1: "}},
		{"too large", map[string]string{"a.rego": fine + strings.Repeat("#", maxFileBytes)}, "data.p.allow", []string{"a.rego: larger than"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := Source{}
			for name, text := range tt.src {
				src[name] = []byte(text)
			}
			_, err := Compile(t.Context(), src, Options{Entry: tt.entry})
			faults, ok := errors.AsType[Faults](err)
			if !ok || len(faults) < len(tt.want) {
				t.Fatalf("got %T %v, want faults with %q", err, err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestCompileBoundsTheNumberOfFilesAndFaults(t *testing.T) {
	t.Parallel()
	src := Source{}
	for i := range maxFiles + 1 {
		src[strings.Repeat("a", i+1)+".rego"] = []byte("package")
	}
	_, err := Compile(t.Context(), src, Options{Entry: "data.p.allow"})
	if faults, ok := errors.AsType[Faults](err); !ok || len(faults) != 1 {
		t.Errorf("got %v, want one fault", err)
	}
	delete(src, "a.rego")
	_, err = Compile(t.Context(), src, Options{Entry: "data.p.allow"})
	if faults, ok := errors.AsType[Faults](err); !ok || len(faults) != maxFaults {
		t.Errorf("got %d faults, want %d", len(faults), maxFaults)
	}
}

func TestCompileRefusesWhatReachesOut(t *testing.T) {
	t.Parallel()
	for _, name := range reachesOut() {
		for _, line := range []string{
			"allow if " + name + "(input.x)",
			"allow if object.get(" + name + "(input.x), \"a\", 1)",
			"allow if count([x | x := " + name + "(input.x)]) > 0",
			"allow if is_object(input) with is_object as " + name,
			"allow if false else := true if " + name + "(input.x)",
			"allow if every x in input.xs { " + name + "(x) }",
			"allow := " + name + "(input.x)",
		} {
			_, err := Compile(t.Context(), Source{"a.rego": []byte("package p\n\n" + line + "\n")}, Options{Entry: "data.p.allow"})
			if err == nil || !strings.Contains(err.Error(), "a.rego:3:") || !strings.Contains(err.Error(), "built-in "+name+" is not allowed") {
				t.Errorf("%s: got %v", line, err)
			}
		}
	}
}

func TestCapabilitiesLackWhatReachesOut(t *testing.T) {
	t.Parallel()
	caps := capabilities()
	for _, name := range reachesOut() {
		if caps.ContainsBuiltin(name) {
			t.Errorf("%s can be called", name)
		}
	}
	if caps.AllowNet == nil || len(caps.AllowNet) > 0 {
		t.Errorf("hosts that may be asked: %v, want an empty list, as nil means all", caps.AllowNet)
	}
}

func TestSchemasFetchNothing(t *testing.T) {
	t.Parallel()
	e := compileText(t, "data.p.allow", `package p

allow if json.match_schema({"a": 1}, {"$ref": "http://127.0.0.1:1/schema.json"})[0]
`)
	d := e.Decide(t.Context(), typicalInput())
	if d.Class != Failed || !strings.Contains(d.Cause.Error(), "remote reference loading disabled") {
		t.Errorf("got %s, %v; want an error that says that nothing is fetched", d.Class, d.Cause)
	}
}

func TestCompileUsesDataOfFolders(t *testing.T) {
	t.Parallel()
	e, err := Compile(t.Context(), Source{
		"a.rego":           []byte("package p\n\nallow if input.permission in data.teams.red.may\n"),
		"teams/data.json":  []byte(`{"red": {"may": ["task.create"]}}`),
		"other/data.json":  []byte(`{"x": 1}`),
		"teams/notes.json": []byte(`not JSON, and not read`),
	}, Options{Entry: "data.p.allow"})
	if err != nil {
		t.Fatal(err)
	}
	if d := e.Decide(t.Context(), typicalInput()); !d.Allowed {
		t.Errorf("got %+v", d)
	}
}

func TestCompileEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Compile(ctx, Source{"a.rego": []byte("package p\n\nallow if input.a\n")}, Options{Entry: "data.p.allow"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestReadSourceBoundsWhatItReads(t *testing.T) {
	t.Parallel()
	large := fstest.MapFS{"a.rego": {Data: make([]byte, maxFileBytes+1)}}
	if _, err := ReadSource(large); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a large file: %v", err)
	}
	many := fstest.MapFS{}
	for i := range maxFiles + 1 {
		many[strings.Repeat("a", i+1)+".rego"] = &fstest.MapFile{}
	}
	if _, err := ReadSource(many); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("many files: %v", err)
	}
	small := fstest.MapFS{"a.rego": {Data: []byte("x")}, "b/data.json": {Data: []byte("y")}, "gatehouse.yaml": {Data: []byte("z")}}
	got, err := ReadSource(small)
	if diff := cmp.Diff(Source{"a.rego": []byte("x"), "b/data.json": []byte("y")}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// samplePolicies are policies as users of opa-envoy-plugin write them.
func samplePolicies() map[string]string {
	return map[string]string{
		"data.envoy.authz.allow": `package envoy.authz

import input.attributes.request.http as http_request

default allow := false

allow if {
	http_request.method == "GET"
	input.parsed_path[0] == "health"
}

allow if {
	claims.role in {"admin", "developer"}
	http_request.headers["content-type"] == "application/json"
	not input.parsed_query.admin
}

claims := payload if {
	[_, encoded] := split(http_request.headers.authorization, " ")
	[_, payload, _] := io.jwt.decode(encoded)
}
`,
		"data.simple.allow": `package simple

allow if input.principal.role == "admin"

allow if {
	input.principal.role == "developer"
	startswith(input.permission, "task.")
}
`,
		"data.rbac.allow": `package rbac

permissions := {
	"admin": ["health.view", "task.view", "task.create", "task.delete", "system.admin"],
	"observer": ["health.view", "task.view"],
	"anonymous": ["health.view"],
}

default allow := false

allow if {
	some permission in permissions[input.principal.role]
	permission == input.permission
}
`,
		"data.either.decision": `package either

decision := {"allowed": true, "rule_id": "task", "reason": input.permission} if startswith(input.permission, "task.")

decision := {"allowed": false, "http_status": 404} if not startswith(input.permission, "task.")
`,
		"data.object.result": `package object

default allow := false

allow if input.principal.tenant == "org1"

result["allowed"] := allow
result["http_status"] := 451 if not allow
result["headers"] := {"x-tenant": input.principal.tenant}
`,
		"data.whole": `package whole

default allowed := false

allowed if input.permission in {"task.view", "task.create"}

reason := sprintf("%s asks", [input.principal.subject])

helper := {"a", "b"}

fn(x) := x
`,
	}
}

func TestPartialEvaluationChangesNoDecision(t *testing.T) {
	t.Parallel()
	sources := map[string]Source{"data.gatehouse.authz": shippedSource(t)}
	for entry, text := range samplePolicies() {
		sources[entry] = Source{"a.rego": []byte(text)}
	}
	for entry, src := range sources {
		t.Run(entry, func(t *testing.T) {
			t.Parallel()
			plain, partial := bothEngines(t, src, entry)
			for _, in := range variedInputs() {
				want, got := plain.Decide(t.Context(), in), partial.Decide(t.Context(), in)
				if diff := cmp.Diff(want, got, causesByPresence()); diff != "" {
					t.Errorf("%s %s %s %s (-plain +partial):\n%s", in.Principal.Role, in.Permission, in.Method, in.Path, diff)
				}
			}
		})
	}
}

// causesByPresence compares causes by whether there is one: partial evaluation
// loses the place of an error.
func causesByPresence() cmp.Option {
	return cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Cause" },
		cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) }))
}

// bothEngines builds the same engine as Compile does and without partial
// evaluation.
func bothEngines(t *testing.T, src Source, entry string) (plain, partial *Engine) {
	t.Helper()
	caps := capabilities()
	p, faults := parse(src, caps)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	ref, err := parseEntry(entry)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.compile(caps)
	if err != nil {
		t.Fatal(err)
	}
	found := readsOf(c, ref, unrepeatable(caps))
	plainQuery, err := p.preparePlain(t.Context(), c, ref)
	if err != nil {
		t.Fatal(err)
	}
	partialQuery, err := p.prepare(t.Context(), caps, c, ref)
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Entry: entry, Timeout: DefaultTimeout * 100, ExposeToken: true}
	return newEngine(opt, plainQuery, nil, &found), newEngine(opt, partialQuery, nil, &found)
}

// variedInputs is the whole table of roles and permissions, and requests that
// the samples tell apart.
func variedInputs() []*Input {
	var all []*Input
	roles := append(request.Roles(), "", "root")
	permissions := append(request.Permissions(), "", "task.explode")
	for _, role := range roles {
		for _, permission := range permissions {
			in := typicalInput()
			in.Principal.Role, in.Permission = role, permission
			all = append(all, in)
		}
	}
	const token = "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ."
	for _, path := range []string{"/health", "/health?admin=1", "/tasks", "/"} {
		for _, auth := range []string{token, "Bearer x", "", "Basic " + token} {
			in := typicalInput()
			in.Method, in.Path, in.Principal.Tenant = "GET", path, "org2"
			in.Headers = []Header{{"authorization", auth}, {"content-type", "application/json"}}
			all = append(all, in)
			other := *in
			other.Method = "POST"
			all = append(all, &other)
		}
	}
	return all
}

func TestPartialEvaluationIsUsedOnlyWhereItHelps(t *testing.T) {
	t.Parallel()
	caps := capabilities()
	tests := []struct {
		entry string
		src   Source
		want  error
	}{
		{"data.simple.allow", Source{"a.rego": []byte(samplePolicies()["data.simple.allow"])}, nil},
		{"data.rbac.allow", Source{"a.rego": []byte(samplePolicies()["data.rbac.allow"])}, nil},
		{"data.either.decision", Source{"a.rego": []byte(samplePolicies()["data.either.decision"])}, nil},
		{"data.envoy.authz.allow", Source{"a.rego": []byte(samplePolicies()["data.envoy.authz.allow"])}, nil},
		{"data.gatehouse.authz", shippedSource(t), errNotSimplified},
	}
	for _, tt := range tests {
		p, faults := parse(tt.src, caps)
		ref, err := parseEntry(tt.entry)
		if err != nil || len(faults) > 0 {
			t.Fatal(err, faults)
		}
		c, err := p.compile(caps)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.preparePartial(t.Context(), caps, c, ref); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.entry, err, tt.want)
		}
	}
}

// unreadable is a file system whose files can't be looked at.
type unreadable struct{ fstest.MapFS }

func (unreadable) Stat(string) (fs.FileInfo, error) { return nil, fs.ErrPermission }

func TestReadSourcePassesErrorsOn(t *testing.T) {
	t.Parallel()
	_, err := ReadSource(unreadable{fstest.MapFS{"a.rego": {}}})
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}
