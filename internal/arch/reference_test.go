package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/apierr"
)

// productFiles parses the product's files of the packages below a path.
func productFiles(t *testing.T, path string) []source {
	t.Helper()
	var files []source
	for _, p := range packages(t) {
		if !below(p.short(), path) || matches(p.short(), testOnly()) {
			continue
		}
		for _, path := range p.files(false) {
			files = append(files, parse(t, path))
		}
	}
	if len(files) == 0 {
		t.Fatalf("there is no package below %q", path)
	}
	return files
}

// literal returns the value of a string literal.
func literal(n ast.Node) (string, bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// rows are the cells of the tables of a document, by their first cell, which
// is a name in code.
func rows(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[0], "`")
		if strings.HasPrefix(line, "| `") && cells[0] == "`"+name+"`" {
			out[name] = cells[1:]
		}
	}
	return out
}

// codeConstants are the names of apierr's constants and what they stand for.
func codeConstants(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range productFiles(t, "internal/apierr") {
		ast.Inspect(s.file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if ok && len(v.Values) == 1 {
				if code, isText := literal(v.Values[0]); isText && apierr.Code(code).Valid() {
					out[v.Names[0].Name] = code
				}
			}
			return true
		})
	}
	if len(out) != len(apierr.Codes()) {
		t.Fatalf("internal/apierr has %d constants for %d codes", len(out), len(apierr.Codes()))
	}
	return out
}

// codesIn are the error codes that a file can answer with.
func codesIn(s source, constants map[string]string) map[string]bool {
	codes := map[string]bool{}
	for _, name := range s.selected("gatehouse/internal/apierr", "apierr") {
		if code := constants[name]; code != "" {
			codes[code] = true
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if text, ok := literal(n); ok && apierr.Code(text).Valid() {
			codes[text] = true
		}
		return true
	})
	return codes
}

// TestErrorsAreDocumented holds docs/ERRORS.md against the code: the codes that
// this build can answer, with the status and the retryable of their row.
func TestErrorsAreDocumented(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	constants := codeConstants(t)
	for _, path := range []string{"extauthz", "internal/token", "internal/envoyconf"} {
		for _, s := range productFiles(t, path) {
			maps.Copy(used, codesIn(s, constants))
		}
	}
	said := rows(read(t, "docs", "ERRORS.md"))
	if diff := cmp.Diff(slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(said))); diff != "" {
		t.Errorf("codes of docs/ERRORS.md (-code +document):\n%s", diff)
	}
	for code, cells := range said {
		info := apierr.Code(code).Info()
		if status := fmt.Sprint(info.HTTP); len(cells) < 3 || !strings.HasPrefix(cells[0], status) {
			t.Errorf("docs/ERRORS.md: %s: want status %s first, got %q", code, status, cells)
			continue
		}
		if want := map[bool]string{true: "yes", false: "no"}[info.Retryable]; cells[2] != want {
			t.Errorf("docs/ERRORS.md: %s: retryable is %q, want %q", code, cells[2], want)
		}
	}
}

// metricsIn are the metrics that a file makes, with their labels.
func metricsIn(s source) map[string][]string {
	out := map[string][]string{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if name, ok := literal(n); ok && strings.HasPrefix(name, "gatehouse_") && out[name] == nil {
			out[name] = []string{}
		}
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 3 {
			return true
		}
		if name, isText := literal(call.Args[0]); isText && strings.HasPrefix(name, "gatehouse_") {
			out[name] = texts(call.Args[2:])
		}
		return true
	})
	return out
}

// texts are the string literals in some expressions.
func texts(exprs []ast.Expr) []string {
	out := []string{}
	for _, e := range exprs {
		ast.Inspect(e, func(n ast.Node) bool {
			if s, ok := literal(n); ok {
				out = append(out, s)
			}
			return true
		})
	}
	return out
}

// TestMetricsAreDocumented holds docs/METRICS.md against internal/telemetry:
// all names and, in the second column, their labels.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	made := map[string][]string{}
	for _, s := range productFiles(t, "internal/telemetry") {
		maps.Copy(made, metricsIn(s))
	}
	said := map[string][]string{}
	for name, cells := range rows(read(t, "docs", "METRICS.md")) {
		said[name] = []string{}
		if len(cells) < 3 {
			t.Errorf("docs/METRICS.md: %s: want kind, labels and meaning, got %q", name, cells)
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			said[name] = append(said[name], m[1])
		}
	}
	if diff := cmp.Diff(made, said); diff != "" {
		t.Errorf("metrics of docs/METRICS.md (-code +document):\n%s", diff)
	}
}

// keysIn are the configuration keys that a file's schemas name, and whether
// they are only refused as belonging to a later build.
func keysIn(s source) map[string]bool {
	names := map[string]string{"Inbound": "inbound", "Outbound": "outbound"}
	out := map[string]bool{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if id, isIdent := ident(lit, ok); !isIdent || id.Name != "schema" {
			return true
		}
		for _, e := range lit.Elts {
			kv := e.(*ast.KeyValueExpr)
			key, isText := literal(kv.Key)
			if id, isIdent := kv.Key.(*ast.Ident); isIdent && !isText {
				key = names[id.Name]
			}
			use, isIdent := kv.Value.(*ast.Ident)
			out[key] = out[key] || !isIdent || use.Name != "later"
		}
		return true
	})
	return out
}

func ident(lit *ast.CompositeLit, ok bool) (*ast.Ident, bool) {
	if !ok {
		return nil, false
	}
	id, isIdent := lit.Type.(*ast.Ident)
	return id, isIdent
}

// TestConfigurationIsDocumented holds docs/CONFIGURATION.md against
// internal/config: every key that is read, and none that is refused as later.
func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, s := range productFiles(t, "internal/config") {
		for key, used := range keysIn(s) {
			known[key] = known[key] || used
		}
	}
	said := map[string]bool{}
	for path := range rows(read(t, "docs", "CONFIGURATION.md")) {
		said[path[strings.LastIndex(path, ".")+1:]] = true
	}
	for key, used := range known {
		if used != said[key] {
			t.Errorf("docs/CONFIGURATION.md: %s: read by the code: %t, in a table: %t", key, used, said[key])
		}
	}
	for key := range said {
		if _, ok := known[key]; !ok {
			t.Errorf("docs/CONFIGURATION.md: %s is no key", key)
		}
	}
}

// TestReadings tries the readings on text whose content is known.
func TestReadings(t *testing.T) {
	t.Parallel()
	s := parseText(t, `package x
import "gatehouse/internal/apierr"
var a = apierr.PolicyUnavailable
var b = "auth.forbidden"
var c = counters("gatehouse_a_total", "help", "x", "y")
var d = Opts{Name: "gatehouse_b"}
var e = schema{"f": required, Inbound: optional, "g": later}
`)
	for _, tt := range []struct {
		name      string
		want, got any
	}{
		{"codes", map[string]bool{"policy.unavailable": true, "auth.forbidden": true}, codesIn(s, map[string]string{"PolicyUnavailable": "policy.unavailable"})},
		{"metrics", map[string][]string{"gatehouse_a_total": {"x", "y"}, "gatehouse_b": {}}, metricsIn(s)},
		{"keys", map[string]bool{"f": true, "inbound": true, "g": false}, keysIn(s)},
		{"rows", map[string][]string{"a.b": {"c", "d"}}, rows("text\n| name | x |\n|---|---|\n| `a.b` | c | d |\n")},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
