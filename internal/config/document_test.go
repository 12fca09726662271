package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// read returns the faults of a document before any schema is asked.
func read(t *testing.T, data string) []string {
	t.Helper()
	r := &report{file: "f"}
	root := parseDocument(r, []byte(data))
	if (root == nil) != (r.total > 0) {
		t.Errorf("root is %v with %d faults, want exactly one of the two", root, r.total)
	}
	return lines(t, r.err())
}

func TestDocumentRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, data string
		want       []string
	}{
		{"empty", "", []string{"f:1:1: the file is empty"}},
		{"comment only", "# a\n\n", []string{"f:1:1: the file is empty"}},
		{"header only", "---\n", []string{"f:1:1: the file is empty"}},
		{"anchor", "a: &x b\n", []string{"f:1:4: anchors and aliases are not allowed"}},
		{"alias", "a: b\nc: *x\n", []string{"f:2:4: anchors and aliases are not allowed"}},
		{"alias as a key", "*x : b\n", []string{"f:1:1: anchors and aliases are not allowed"}},
		{"merge key", "a:\n  <<: {b: c}\n", []string{"f:2:3: merge keys are not allowed"}},
		{"tag", "a: !!int \"1\"\n", []string{"f:1:4: tags are not allowed"}},
		{"own tag", "a: !include x.yaml\n", []string{"f:1:4: tags are not allowed"}},
		{"directive", "%YAML 1.1\n---\na: b\n", []string{
			"f:1:1: directives are not allowed", "f:2:1: a second document is not allowed"}},
		{"second document", "a: b\n---\nc: d\n", []string{"f:2:1: a second document is not allowed"}},
		{"document end", "a: b\n...\n", []string{"f:2:1: a document end is not allowed"}},
		{"complex key", "? a\n: b\n", []string{"f:1:1: \"?\" keys are not allowed"}},
		{"literal text", "a: |\n  b\n", []string{"f:1:4: block text is not allowed"}},
		{"folded text", "a: >\n  b\n", []string{"f:1:4: block text is not allowed"}},
		{"map in a flow list", "a: [b: c]\n", []string{"f:1:6: a map within braces or brackets needs braces of its own"}},
		{"two colons in a flow entry", "{a: 'b': c}\n", []string{"f:1:8: a map within braces or brackets needs braces of its own"}},
		{"long key", strings.Repeat("k", maxKey+1) + ": a\n", []string{"f:1:1: the key is too long"}},
		{"several at once", "a: &x b\nc: !t d\n", []string{
			"f:1:4: anchors and aliases are not allowed", "f:2:4: tags are not allowed"}},
		{"not UTF-8", "a: b\nc: \xff\n", []string{"f:2:4: not UTF-8"}},
		{"control character", "a: \x00\n", []string{"f:1:4: a control character"}},
		{"C1 control character", "a: \u0085\n", []string{"f:1:4: a control character"}},
		{"line separator", "a: é\u2028b\n", []string{"f:1:5: a control character"}},
		{"byte order mark", "\ufeffa: b\n", []string{"f:1:1: a byte order mark"}},
		{"lone carriage return", "a: b\rc: d\n", []string{"f:1:5: a carriage return without a line feed"}},
		{"too large", strings.Repeat("#\n", maxDocument/2) + "#", []string{"f:1:1: the file is larger than 1 MiB"}},
		{"unclosed brace", "a: {b: c\n", []string{"f:1:4: not YAML: could not find flow mapping end token '}'"}},
		{"unclosed quote", "a: \"b\n", []string{"f:1:4: not YAML: could not find end character of double-quoted text"}},
		{"stray bracket", "a: b\n]\n", []string{"f:2:1: not YAML: non-map value is specified"}},
		{"dash in a flow list", "a: [\n- b]\n", []string{"f:2:1: a list within braces or brackets needs brackets of its own"}},
		{"key without a map", ": b\n", []string{"f:1:1: not YAML: unexpected key name"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(row.want, read(t, row.data)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestDocumentAccepts(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		"---\na: b\n",
		"a: b\r\nc: d\r\n",
		"a:\n- b\n- c\nd:\n  - {e: f,}\n  - []\n  - {}\n",
		"a:\n  - b: c\n    d: e\n  - b: c\n",
		"a: {b: {c: [d, {e: f}]}}\n",
		strings.Repeat("k", maxKey) + ": a\n",
		strings.Repeat("#\n", maxDocument/2-3) + "a: b\n",
		strings.Repeat("- {a: b,}\n", 2*maxEmpty),
	} {
		if got := read(t, data); got != nil {
			t.Errorf("faults of %.40q: %q, want none", data, got)
		}
	}
}

func TestSyntaxErrorOfAnotherKind(t *testing.T) {
	t.Parallel()
	r := &report{file: "f"}
	addSyntax(r, errors.New("oops"))
	if got := r.err().Error(); got != "f:1:1: not YAML: oops" {
		t.Errorf("fault = %q", got)
	}
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// What would cost the parser minutes or the whole stack never reaches it.
func TestHostileDocumentsAreRefusedUnparsed(t *testing.T) {
	t.Parallel()
	full := func(unit string) string { return strings.Repeat(unit, maxDocument/len(unit)) }
	for _, row := range []struct{ name, data, want string }{
		{"open brackets", full("["), "nested too deeply"},
		{"open braces", full("{a: "), "nested too deeply"},
		{"dashes on a line", full("- "), "nested too deeply"},
		{"dashes in brackets", "[" + full("- ")[2:], "needs brackets of its own"},
		{"nested keys", numbered(maxDepth+3, "%[1]*[1]d:\n"), "nested too deeply"},
		{"dashes on lines", full("-\n"), "empty values"},
		{"empty keys", numbered(maxBlockKeys, "k%d:\n"), "empty values"},
		{"empty keys before a list", strings.Repeat("- a:\n", maxEmpty+1) + "-", "empty values"},
		{"bare flow keys", "{" + full("a,")[2:] + "}", "empty values"},
		{"empty flow values", "{" + full("a:,")[3:] + "}", "empty values"},
		{"keys of one map", numbered(maxBlockKeys+1, "k%d: a\n"), "too many keys in one map"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := read(t, row.data)
			if len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), row.want) {
				t.Errorf("faults %.200q, want one with %q", got, row.want)
			}
		})
	}
}
