package sanitize

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	goodSynthesis = `{"synthesis_reasoning": "test", "action_plan": [{"priority": 1, "type": "test", "issue": "test", "agent": "tester"}]}`
	goodPatterns  = `[{"pattern_type": "skill_gap", "root_cause": "r", "suggested_fix": "f", "agents_involved": ["a", "b"], "confidence": 0.5}]`
	goodConsensus = `{"decision": "approve", "confidence": 1, "reasoning": "", "concerns": ["c"]}`
)

func TestGoodAnswers(t *testing.T) {
	t.Parallel()
	synthesis := &Synthesis{Reasoning: "test", ActionPlan: []PlannedIssue{{Priority: 1, Type: "test", Issue: "test", Agent: "tester"}}}
	patterns := []Pattern{{Type: "skill_gap", RootCause: "r", Fix: "f", Agents: []string{"a", "b"}, Confidence: new(0.5)}}
	consensus := &Consensus{Decision: "approve", Confidence: 1, Concerns: []string{"c"}}
	for _, tt := range []struct {
		text string
		want Answer
	}{
		{goodSynthesis, Answer{Kind: KindSynthesis, Synthesis: synthesis}},
		{"Here it is:\n```json\n" + goodSynthesis + "\n```\nAnd {more}.", Answer{Kind: KindSynthesis, Synthesis: synthesis}},
		{"For {name} and [ these: " + goodSynthesis + goodConsensus, Answer{Kind: KindSynthesis, Synthesis: synthesis}},
		{goodPatterns, Answer{Kind: KindPatterns, Patterns: patterns}},
		{"[]", Answer{Kind: KindPatterns, Patterns: []Pattern{}}},
		{goodConsensus, Answer{Kind: KindConsensus, Consensus: consensus}},
	} {
		got, err := Parse(tt.want.Kind, tt.text, Options{})
		if err != nil {
			t.Errorf("%s: %q: %v", tt.want.Kind, tt.text, err)
			continue
		}
		got.JSON = nil
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

// faultsOf parses a text and says what is wrong with it, one fault a word.
func faultsOf(t *testing.T, kind Kind, text string, o Options) string {
	t.Helper()
	_, err := Parse(kind, text, o)
	if err == nil {
		return ""
	}
	bad, ok := errors.AsType[*InvalidError](err)
	if !ok {
		t.Fatalf("%q: the error is %v, want an InvalidError", text, err)
	}
	if bad.Kind != kind {
		t.Errorf("the error is of %s, want %s", bad.Kind, kind)
	}
	var out []string
	for _, f := range bad.Faults {
		if f.Message == "" {
			t.Errorf("%q: a fault without a message: %+v", text, f)
		}
		out = append(out, f.Pointer+"="+f.Code)
	}
	return strings.Join(out, " ")
}

func TestFaults(t *testing.T) {
	t.Parallel()
	of := func(good, old, new string) string {
		if strings.Count(good, old) != 1 {
			t.Fatalf("%q is not once in %q", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	long := func(n int) string { return `"` + strings.Repeat("ß", n) + `"` }
	item := `{"priority": 1, "type": "test", "issue": "test", "agent": "tester"}`
	items := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]" }
	names := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(`"a",`, n), ",") + "]" }
	pattern := strings.Trim(goodPatterns, "[]") + "]}"
	pattern = strings.TrimSuffix(pattern, "]}")
	for _, tt := range []struct {
		kind Kind
		text string
		want string
	}{
		{KindSynthesis, "", "=no_json"},
		{KindSynthesis, "no JSON in here", "=no_json"},
		{KindSynthesis, goodSynthesis[:len(goodSynthesis)-1], "=type"}, // only the array in it is complete
		{KindSynthesis, "[]", "=type"},
		{KindSynthesis, "{}", "/synthesis_reasoning=required /action_plan=required"},
		{KindSynthesis, of(goodSynthesis, `"test",`+" "+`"action`, `"", "action`), "/synthesis_reasoning=too_short"},
		{KindSynthesis, of(goodSynthesis, `: "test", "action`, `: `+long(2000)+`, "action`), ""},
		{KindSynthesis, of(goodSynthesis, `: "test", "action`, `: `+long(2001)+`, "action`), "/synthesis_reasoning=too_long"},
		{KindSynthesis, of(goodSynthesis, `: "test", "action`, `: null, "action`), "/synthesis_reasoning=type"},
		{KindSynthesis, of(goodSynthesis, "["+item+"]", "[]"), "/action_plan=too_short"},
		{KindSynthesis, of(goodSynthesis, "["+item+"]", items(50)), ""},
		{KindSynthesis, of(goodSynthesis, "["+item+"]", items(51)), "/action_plan=too_long"},
		{KindSynthesis, of(goodSynthesis, `"priority": 1`, `"priority": 0`), "/action_plan/0/priority=out_of_range"},
		{KindSynthesis, of(goodSynthesis, `"priority": 1`, `"priority": 101`), "/action_plan/0/priority=out_of_range"},
		{KindSynthesis, of(goodSynthesis, `"priority": 1`, `"priority": 1e400`), "/action_plan/0/priority=type"},
		{KindSynthesis, of(goodSynthesis, `"priority": 1`, `"priority": 99999999999999999999`), "/action_plan/0/priority=out_of_range"},
		{KindSynthesis, of(goodSynthesis, `"priority": 1`, `"priority": 1.5`), "/action_plan/0/priority=type"},
		{KindSynthesis, of(goodSynthesis, `"priority": 1`, `"priority": "1"`), "/action_plan/0/priority=type"},
		{KindSynthesis, of(goodSynthesis, `"type": "test"`, `"type": "Test"`), "/action_plan/0/type=not_allowed"},
		{KindSynthesis, of(goodSynthesis, `"issue": "test"`, `"issue": `+long(1001)), "/action_plan/0/issue=too_long"},
		{KindSynthesis, of(goodSynthesis, `"tester"`, long(101)), "/action_plan/0/agent=too_long"},
		{KindSynthesis, of(goodSynthesis, `"tester"`, `""`), "/action_plan/0/agent=too_short"},
		{KindSynthesis, of(goodSynthesis, `, "agent": "tester"`, ""), "/action_plan/0/agent=required"},
		{KindSynthesis, of(goodSynthesis, `"agent": "tester"`, `"agent": "tester", "agent": "other"`), "/action_plan/0/agent=duplicate"},
		{KindSynthesis, of(goodSynthesis, `"agent": "tester"`, `"agent": "tester", "a/~b": {"c": [1, {}]}`), "/action_plan/0/a~1~0b=unknown"},
		{KindSynthesis, of(goodSynthesis, `"agent": "tester"`, `"Agent": "tester"`), "/action_plan/0/Agent=unknown /action_plan/0/agent=required"},
		{KindSynthesis, `{"synthesis_reasoning": "", "action_plan": [{"priority": 0}, 7], "x": 1}`,
			"/synthesis_reasoning=too_short /action_plan/0/priority=out_of_range /action_plan/0/type=required /action_plan/0/issue=required " +
				"/action_plan/0/agent=required /action_plan/1=type /x=unknown"},
		{KindPatterns, "{}", "=type"},
		{KindPatterns, "[1]", "/0=type"},
		{KindPatterns, "[" + strings.TrimSuffix(strings.Repeat(pattern+",", 20), ",") + "]", ""},
		{KindPatterns, "[" + strings.TrimSuffix(strings.Repeat(pattern+",", 21), ",") + "]", "=too_long"},
		{KindPatterns, of(goodPatterns, `"skill_gap"`, `"gap"`), "/0/pattern_type=not_allowed"},
		{KindPatterns, of(goodPatterns, `"r"`, long(501)), "/0/root_cause=too_long"},
		{KindPatterns, of(goodPatterns, `"f"`, long(1001)), "/0/suggested_fix=too_long"},
		{KindPatterns, of(goodPatterns, `["a", "b"]`, names(10)), ""},
		{KindPatterns, of(goodPatterns, `["a", "b"]`, names(11)), "/0/agents_involved=too_long"},
		{KindPatterns, of(goodPatterns, `["a", "b"]`, `["a", 1]`), "/0/agents_involved/1=type"},
		{KindPatterns, of(goodPatterns, "0.5", "1.01"), "/0/confidence=out_of_range"},
		{KindPatterns, of(goodPatterns, "0.5", "-0.1"), "/0/confidence=out_of_range"},
		{KindPatterns, of(goodPatterns, "0.5", "1e999"), "/0/confidence=out_of_range"},
		{KindPatterns, of(goodPatterns, "0.5", "true"), "/0/confidence=type"},
		{KindConsensus, of(goodConsensus, `"approve"`, `"maybe"`), "/decision=not_allowed"},
		{KindConsensus, of(goodConsensus, `""`, long(2001)), "/reasoning=too_long"},
		{KindConsensus, of(goodConsensus, `["c"]`, names(11)), "/concerns=too_long"},
		{KindConsensus, of(goodConsensus, `["c"]`, "["+long(501)+"]"), "/concerns/0=too_long"},
		{KindConsensus, of(goodConsensus, `"confidence": 1, `, ""), "/confidence=required"},
		{KindConsensus, strings.Repeat(" ", MaxAnswer+1), "=too_long"},
		{KindConsensus, strings.Repeat("[", maxValues+1), "=malformed"},
		{KindConsensus, strings.Repeat("{", maxOpenings+1), "=malformed"},
		{KindConsensus, of(goodConsensus, `"c"`, "\"\xff\""), "=no_json"},
	} {
		if got := faultsOf(t, tt.kind, tt.text, Options{}); got != tt.want {
			t.Errorf("%s: %.200q:\ngot  %s\nwant %s", tt.kind, tt.text, got, tt.want)
		}
	}
}

func TestLenientDropsUnknownMembers(t *testing.T) {
	t.Parallel()
	text := strings.Replace(goodConsensus, `"reasoning"`, `"more": {"deep": [1, 2]}, "reasoning"`, 1)
	got, err := Parse(KindConsensus, text, Options{Lenient: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(goodConsensus, " ", ""); string(got.JSON) != want {
		t.Errorf("got %s, want %s", got.JSON, want)
	}
	for text, want := range map[string]string{
		strings.Replace(goodConsensus, `"decision"`, `"DECISION": "reject", "decision"`, 1):  "/DECISION=unknown",
		strings.Replace(goodConsensus, `"decision"`, `"decision": "reject", "decision"`, 1):  "/decision=duplicate",
		strings.Replace(goodConsensus, `"decision": "approve"`, `"verdict": "approve"`, 1):   "/decision=required",
		strings.Replace(goodConsensus, `"confidence": 1`, `"confidence": 2, "more": [2]`, 1): "/confidence=out_of_range",
	} {
		if got := faultsOf(t, KindConsensus, text, Options{Lenient: true}); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 2 * MaxFaults {
		fmt.Fprintf(&b, `"%s%d": 1,`, strings.Repeat("é", maxName), i)
	}
	_, err := Parse(KindConsensus, "{"+b.String()+goodConsensus[1:], Options{})
	bad, ok := errors.AsType[*InvalidError](err)
	if !ok || len(bad.Faults) != MaxFaults {
		t.Fatalf("got %v, want %d faults", err, MaxFaults)
	}
	if n := len(bad.Faults[0].Pointer); n > maxName+1 {
		t.Errorf("a pointer of %d bytes repeats a name of the answer, want at most %d", n, maxName+1)
	}
	if !strings.Contains(err.Error(), "not a valid consensus") || !strings.Contains(err.Error(), "(unknown)") {
		t.Errorf("the error says too little: %.200s", err)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for k := range numKinds {
		if got, err := ParseKind(k.String()); got != k || err != nil {
			t.Errorf("%s: got %s, %v", k, got, err)
		}
	}
	if _, err := ParseKind("Synthesis"); err == nil || !strings.Contains(err.Error(), "synthesis, patterns, consensus") {
		t.Errorf("got %v, want an error that lists the kinds", err)
	}
	if _, err := Parse(numKinds, goodConsensus, Options{}); err == nil {
		t.Error("an unknown kind is parsed")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{goodSynthesis, goodPatterns, goodConsensus, "{[", `{"a": "\ud800"}`} {
		f.Add(text, uint8(0), false)
	}
	f.Fuzz(func(t *testing.T, text string, kind uint8, lenient bool) {
		k := Kind(kind) % numKinds
		got, err := Parse(k, text, Options{Lenient: lenient})
		if err != nil {
			return
		}
		// What was accepted is accepted again, strictly, and means the same.
		again, err := Parse(k, string(got.JSON), Options{})
		if err != nil {
			t.Fatalf("%q was accepted, but %s is not: %v", text, got.JSON, err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("%q (-first +again):\n%s", text, diff)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(KindSynthesis, goodSynthesis, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
