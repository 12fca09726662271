package fakellm

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFindReadsNumbers(t *testing.T) {
	t.Parallel()
	s, f := find(&call{model: "slow-3-250"})
	if f != nil || s.pace != 250*time.Millisecond || len(s.blocks[0].pieces) != 3 {
		t.Errorf("slow-3-250: %+v, fault %+v", s, f)
	}
	if diff := cmp.Diff([]string{"word1", " word2", " word3"}, s.blocks[0].pieces); diff != "" {
		t.Errorf("its words: -want +got\n%s", diff)
	}
	if s, f := find(&call{model: "huge-70"}); f != nil || len(s.blocks[0].pieces[0]) != 70 || words(s.blocks[0].pieces[0]) != 3 {
		t.Errorf("huge-70: %+v, fault %+v; want 70 bytes in one piece, 3 words", s, f)
	}
}

func TestFindRefuses(t *testing.T) {
	t.Parallel()
	names := []string{
		"", "-", "gpt-5", "words", "words-", "words-x", "words--1", "words-01", "words-+1", "words-1-2", "words-100001",
		"cut-0", "slow-5", "slow-5-0", "slow-5-60001", "huge-0", "error-399", "error-600", "sql-1", "WORDS-1", "words-99999999999999999999",
	}
	for _, name := range names {
		if _, f := find(&call{model: name}); f == nil || f.status != 404 || f.code != "model_not_found" {
			t.Errorf("%q: fault %+v, want 404", name, f)
		}
	}
}

func TestToolModelsNeedATool(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tools", "tool-sql"} {
		if _, f := find(&call{model: name}); f == nil || f.status != 400 {
			t.Errorf("%s without tools: fault %+v, want 400", name, f)
		}
	}
}

// TestLateErrorIsEarlyWithoutAStream: an error document costs nothing.
func TestLateErrorIsEarlyWithoutAStream(t *testing.T) {
	t.Parallel()
	if s, f := find(&call{model: "late-error-5"}); f != nil || s.fault == nil || s.fault.status != 500 {
		t.Errorf("unary: %+v, fault %+v, want error-500", s, f)
	}
}

// TestEveryModelIsDocumented holds the package comment against the table, both
// ways.
func TestEveryModelIsDocumented(t *testing.T) {
	t.Parallel()
	documented := documentedModels(t)
	for _, m := range models() {
		if !documented[m.name] {
			t.Errorf("%s is not in the package comment", m.name)
		}
		delete(documented, m.name)
		if _, f := find(&call{model: m.example(), tool: "f"}); f != nil {
			t.Errorf("the example %s is no model", m.example())
		}
	}
	for name := range documented {
		t.Errorf("%s is in the package comment, and no model", name)
	}
}

// documentedModels are the names in the first column of the comment's table.
func documentedModels(t *testing.T) map[string]bool {
	f, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for line := range strings.Lines(f.Doc.Text()) {
		if !strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "\t ") {
			continue
		}
		column, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		for name := range strings.SplitSeq(column, ",") {
			name = strings.TrimSpace(name)
			for _, number := range []string{"-MS", "-N", "-S"} {
				name = strings.TrimSuffix(name, number)
			}
			if name != "" {
				names[name] = true
			}
		}
	}
	return names
}
