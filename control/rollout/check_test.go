package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/apierr"
	"gatehouse/internal/revision"
	"gatehouse/policies"
)

const (
	goodConfig = `policy: {entry: data.app.allow}
issuers:
  - {name: control, issuer: https://gatehouse.internal, jwks: control, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
upstreams:
  app: {url: "http://127.0.0.1:9000"}
limits:
  - {name: all, key: [principal], rate: 600/min, burst: 60, scope: mesh}
routes:
  - name: all
    match: {listener: inbound, prefix: /}
    permission: task.view
    limits: [all]
    upstream: app
`
	goodRego = "package app\n\nallow if input.permission == \"task.view\"\n"
	goodTest = "package app_test\n\nimport data.app\n\ntest_view if app.allow with input as {\"permission\": \"task.view\"}\n"
)

// files is a good set with changes; "-" takes a file away.
func files(changes ...string) revision.Files {
	f := revision.Files{revision.ConfigFile: []byte(goodConfig), "app.rego": []byte(goodRego), "app_test.rego": []byte(goodTest)}
	for i := 0; i < len(changes); i += 2 {
		if f[changes[i]] = []byte(changes[i+1]); changes[i+1] == "-" {
			delete(f, changes[i])
		}
	}
	return f
}

func TestGoodSetsPass(t *testing.T) {
	t.Parallel()
	shipped := revision.Files{}
	err := fs.WalkDir(policies.Shipped(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		shipped[p], err = fs.ReadFile(policies.Shipped(), p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]revision.Files{
		"jwks: control and scope: mesh": files(),
		"a test that is left for later": files("app_test.rego", goodTest+"\ntodo_test_more if false\n"),
		"shipped":                       shipped,
	} {
		got, err := Check(t.Context(), f)
		if err != nil || len(got.Faults) > 0 || got.Tests.Passed == 0 {
			t.Errorf("%s: got %v and %v with %d tests, want no fault", name, got.Faults, err, got.Tests.Passed)
		}
	}
}

// TestCheckSaysWhere looks for each kind of fault by place and code.
func TestCheckSaysWhere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files revision.Files
		want  []string // code and the beginning of the text
	}{
		{"nothing", revision.Files{}, []string{"config_invalid gatehouse.yaml: is missing"}},
		{"no configuration", files(revision.ConfigFile, "-"), []string{"config_invalid gatehouse.yaml: is missing"}},
		{"no YAML", files(revision.ConfigFile, "a: ["), []string{"config_invalid gatehouse.yaml:1:"}},
		{"two faults of configuration", files(revision.ConfigFile, strings.NewReplacer("mesh", "galaxy", "task.view", "task.see", "data.app.allow", "data.gatehouse.authz").Replace(goodConfig)),
			[]string{"config_invalid gatehouse.yaml:7:", "config_invalid gatehouse.yaml:11:"}},
		{"no Rego", files("app.rego", "package app\n\nallow if {"), []string{"rego_invalid app.rego:3:"}},
		{"Rego that does not compile", files("app.rego", goodRego+"\nallow if missing(1)\n"), []string{"rego_invalid app.rego:5:10: "}},
		{"a test that does not compile", files("app_test.rego", "package app_test\n\ntest_x if missing(1)\n"), []string{"rego_invalid app_test.rego:3:11: "}},
		{"Rego that reaches out", files("app.rego", goodRego+"\nallow if http.send({\"method\": \"GET\", \"url\": \"https://example.org\"})\n"), []string{"rego_invalid app.rego:5:10: "}},
		{"an entry that nothing defines", files(revision.ConfigFile, strings.Replace(goodConfig, "data.app.allow", "data.app.permit", 1)),
			[]string{"rego_invalid nothing defines the entry point data.app.permit"}},
		{"data that is no object", files("data.json", "[]"), []string{"rego_invalid data.json: "}},
		{"a test that fails", files("app_test.rego", goodTest+"\ntest_edit if app.allow with input as {\"permission\": \"task.edit\"}\n"),
			[]string{"test_failed app_test.rego:7: data.app_test.test_edit: "}},
		{"a file that is none of a set", files("README.md", "hello"), []string{"config_invalid README.md: "}},
		{"a path that leaves", files("../app2.rego", goodRego), []string{"config_invalid ../app2.rego: "}},
		{"a path that is no text", files("a\xff.rego", goodRego), []string{"config_invalid a\xff.rego: the path is not UTF-8"}},
		{"a large file", files("app.rego", strings.Repeat("#", revision.MaxFileBytes+1)), []string{"too_large app.rego: "}},
		{"a large set", files("a/data.json", `"`+strings.Repeat("a", 2<<20)+`"`, "b/data.json", `"`+strings.Repeat("b", 2<<20)+`"`), []string{"too_large the set has a bundle of "}},
		{"much Rego", files("a.rego", "package a\n"+strings.Repeat("#", maxRegoBytes/2), "b_test.rego", "package b\n"+strings.Repeat("#", maxRegoBytes/2)),
			[]string{"too_large the set has 1048"}},
		{"many rules", files("a.rego", manyRules(maxRules-1)), []string{"too_large the set has 5001 rules of Rego, at most 5000 are compiled"}},
		{"one long rule", files("a.rego", "package a\n\nx := ["+strings.Repeat("input.a,", 3200)+"]\n"), []string{"too_large a.rego:3:1: the rules are too long to be compiled; the longest: the rule x has 320"}},
		{"many rules, and wrong ones", files("a.rego", manyRules(maxRules)+"\nx if {"), []string{"rego_invalid a.rego:5004:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, err := Check(t.Context(), tt.files)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, beginnings(found.Faults, tt.want)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// beginnings are faults as code and text, each as long as what is wanted.
func beginnings(faults []Fault, want []string) (out []string) {
	for i, f := range faults {
		text := string(f.Code) + " " + f.String()
		if i < len(want) {
			text = text[:min(len(text), len(want[i]))]
		}
		out = append(out, text)
	}
	return out
}

// manyRules are n rules, each of which needs the next: a compiler takes more
// than linear time for them.
func manyRules(n int) string {
	text := []byte("package a\n\n")
	for i := range n - 1 {
		text = fmt.Appendf(text, "r%d if r%d\n", i, i+1)
	}
	return string(fmt.Appendf(text, "r%d if input.x\n", n-1))
}

func TestCheckBoundsTheNumberOfFiles(t *testing.T) {
	t.Parallel()
	many := files()
	for i := range revision.MaxFiles {
		many[fmt.Sprint(i, ".rego")] = []byte("no Rego")
	}
	found, err := Check(t.Context(), many)
	if err != nil || len(found.Faults) != 1 || found.Faults[0].Code != TooLarge || found.Faults[0].Message != "more than 1000 files" {
		t.Errorf("got %v and %v, want that there are too many and nothing else", found.Faults, err)
	}
}

// TestCheckEndsWithItsContext shows that the caller's end is no fault of the set.
func TestCheckEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, f := range map[string]revision.Files{"compiling": files(), "testing": files(revision.ConfigFile, "")} {
		if _, err := Check(ctx, f); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that the caller has ended", name, err)
		}
	}
}

func TestFieldsPointIntoTheRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault Fault
		want  apierr.Field
	}{
		{Fault{"a/b~c.rego", 3, 7, RegoInvalid, "no"}, apierr.Field{Pointer: "/files/a~1b~0c.rego", Code: "rego_invalid", Message: "a/b~c.rego:3:7: no"}},
		{Fault{File: "a.rego", Code: TooLarge, Message: "no"}, apierr.Field{Pointer: "/files/a.rego", Code: "too_large", Message: "a.rego: no"}},
		{Fault{Code: TestFailed, Message: "no"}, apierr.Field{Pointer: "/files", Code: "test_failed", Message: "no"}},
		{Fault{Code: TestFailed, Message: strings.Repeat("a", maxMessageBytes-1) + "é"}, apierr.Field{Pointer: "/files", Code: "test_failed", Message: strings.Repeat("a", maxMessageBytes-1)}},
	} {
		if diff := cmp.Diff(tt.want, tt.fault.field()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.fault, diff)
		}
	}
}

func TestFieldsAreBounded(t *testing.T) {
	t.Parallel()
	for n, last := range map[int]string{98: "f97", 99: "f98", 100: "and 2 more", 200: "and 102 more"} {
		var faults []Fault
		for i := range n {
			faults = append(faults, Fault{File: "a.rego", Code: RegoInvalid, Message: fmt.Sprint("f", i)})
		}
		got := fieldsOf([]apierr.Field{{Pointer: "/note"}}, faults)
		if len(got) != min(n+1, maxFaults) || got[0].Pointer != "/note" || !strings.HasSuffix(got[len(got)-1].Message, last) {
			t.Errorf("%d faults: got %d fields, the last %+v; want it to say %q", n, len(got), got[len(got)-1], last)
		}
	}
}
