package policies

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// mainText is the entry point of the sets here; text with the second question
// stands in a file beside it.
const mainText = "package p\n\nallow := true\n"

func llmSource(text string) Source {
	return Source{"main.rego": []byte(mainText), "llm.rego": []byte(text)}
}

func compileLLM(t testing.TB, text string) *Engine {
	t.Helper()
	return compileLLMWithin(t, 10*time.Second, text)
}

func compileLLMWithin(t testing.TB, timeout time.Duration, text string) *Engine {
	t.Helper()
	e, err := Compile(t.Context(), llmSource(text), Options{Entry: "data.p.allow", Timeout: timeout})
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	if !e.AsksLLM() {
		t.Fatal("the set does not answer the second question")
	}
	return e
}

func typicalLLM() *LLMInput {
	return &LLMInput{
		Principal: typicalInput().Principal, Route: "chat", Listener: "outbound", Model: "gpt-5-mini",
		Stream: true, MaxOutputTokens: 4096, Tools: true, EstimatedTokens: 5000,
	}
}

func TestSetWithoutTheSecondQuestionAllows(t *testing.T) {
	t.Parallel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	engines := map[string]*Engine{"shipped": shippedEngine(t), "other": compileText(t, "data.p.allow", mainText)}
	for name, e := range engines {
		want := Decision{Allowed: true, Class: Decided, RuleID: "no_llm_policy", Reason: "the policy set asks nothing more of this request"}
		if diff := cmp.Diff(want, e.DecideLLM(gone, typicalLLM())); diff != "" || e.AsksLLM() {
			t.Errorf("%s: asks %v (-want +got):\n%s", name, e.AsksLLM(), diff)
		}
	}
}

func TestLLMDocument(t *testing.T) {
	t.Parallel()
	const want = `{"estimated_tokens":5000,"listener":"outbound","max_output_tokens":4096,"model":"gpt-5-mini",` +
		`"principal":{"agent":"","issuer":"main","kind":"token","project":"proj1","role":"developer","run":"","subject":"alice","tenant":"org1"},` +
		`"route":"chat","stream":true,"tools":true}`
	doc, err := ast.JSON(typicalLLM().document())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(doc)
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestLLMDecisionForms(t *testing.T) {
	t.Parallel()
	by := func(allowed bool, reason string) Decision {
		return Decision{Class: Decided, Allowed: allowed, RuleID: llmEntry, Reason: reason}
	}
	obliged := Decision{
		Class: Decided, Allowed: true, RuleID: "small", Reason: "a small model", HTTPStatus: 0,
		Obligations: map[string]any{"allowed_models": []any{"gpt-*"}, "max_output_tokens": json.Number("100")},
	}
	tests := []struct {
		name, text string
		want       Decision
	}{
		{"rule", "package gatehouse\n\nllm if input.model == \"gpt-5-mini\"\n", by(true, "allowed by data.gatehouse.llm")},
		{"default", "package gatehouse\n\ndefault llm := false\n\nllm if input.estimated_tokens < 5000\n", by(false, "denied by data.gatehouse.llm")},
		{"object", `package gatehouse

llm := {
	"allowed": input.stream, "rule_id": "small", "reason": "a small model",
	"obligations": {"allowed_models": {"gpt-*"}, "max_output_tokens": count(input.route) * 25},
}
`, obliged},
		{"members", "package gatehouse\n\nllm.allowed := true\n\nllm.reason := \"fine\"\n", by(true, "fine")},
		{"computed members", "package gatehouse\n\nllm[k] := true if some k in [\"allowed\", \"other\"]\n", by(true, "allowed by data.gatehouse.llm")},
		{"package", "package gatehouse.llm\n\ndefault allowed := false\n\nallowed if input.tools\n\nhelper(x) := x\n", by(true, "allowed by data.gatehouse.llm")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, compileLLM(t, tt.text).DecideLLM(t.Context(), typicalLLM())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsNoLLMDecisionIsDenied(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       Class
	}{
		{"undefined", "package gatehouse\n\nllm if input.model == \"another\"\n", Undefined},
		{"no such member", "package gatehouse\n\nllm if input.permission == \"\"\n", Undefined},
		{"package without a value", "package gatehouse.llm\n\nallowed if not input.stream\n", NotBoolean},
		{"text", "package gatehouse\n\nllm := \"true\"\n", NotBoolean},
		{"object without allowed", "package gatehouse\n\nllm := {\"allow\": true}\n", NotBoolean},
		{"built-in fails", "package gatehouse\n\nllm if to_number(input.model) > 1\n", Failed},
		{"two values", "package gatehouse\n\nllm := true if input.stream\n\nllm := false if input.tools\n", Failed},
		{"obligations", "package gatehouse\n\nllm := {\"allowed\": true, \"obligations\": [\"gpt-*\"]}\n", DecisionMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := compileLLM(t, tt.text).DecideLLM(t.Context(), typicalLLM())
			want := Decision{Class: tt.want, RuleID: string(tt.want), Reason: tt.want.reason()}
			if diff := cmp.Diff(want, d, cmpopts.IgnoreFields(Decision{}, "Cause")); diff != "" {
				t.Errorf("cause %v (-want +got):\n%s", d.Cause, diff)
			}
		})
	}
}

func TestEndlessLLMPolicyStopsAtTheTimeout(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("package p", "package gatehouse", "allow if", "llm if").Replace(endless)
	begun := time.Now()
	d := compileLLMWithin(t, 20*time.Millisecond, text).DecideLLM(t.Context(), typicalLLM())
	if d.Allowed || d.Class != TimedOut || d.Cause == nil {
		t.Errorf("got %+v", d)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	late, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if d := compileLLM(t, text).DecideLLM(late, typicalLLM()); d.Allowed || d.Class != TimedOut {
		t.Errorf("deadline of the caller: got %+v", d)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if d := compileLLM(t, "package gatehouse\n\nllm := true\n").DecideLLM(gone, typicalLLM()); d.Allowed || d.Class != Canceled {
		t.Errorf("caller that left: got %+v", d)
	}
}

func TestPanicOfTheLLMEvaluatorIsADenial(t *testing.T) {
	t.Parallel()
	e := compileLLM(t, "package gatehouse\n\nllm := true\n")
	e.llm.query = rego.PreparedEvalQuery{}
	if d := e.DecideLLM(t.Context(), typicalLLM()); d.Allowed || d.Class != Failed {
		t.Errorf("got %+v", d)
	}
}

func TestCompileRefusesAnIllFormedSecondQuestion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		src  Source
		want string
	}{
		{"function", llmSource("package gatehouse\n\nllm(x) if x\n"), "llm.rego:3:1: data.gatehouse.llm decides on LLM requests and can't be a function or a set"},
		{"set", llmSource("package gatehouse\n\nllm contains \"x\"\n"), "llm.rego:3:1: data.gatehouse.llm decides on LLM requests and can't be"},
		{"allowed is a function", llmSource("package gatehouse.llm\n\nallowed(x) if x\n"), "llm.rego:3:1: data.gatehouse.llm.allowed decides on LLM requests and can't be"},
		{"package without allowed", llmSource("package gatehouse.llm\n\nallow := true\n"),
			"llm.rego:3:1: rules stand below data.gatehouse.llm, but none is data.gatehouse.llm or data.gatehouse.llm.allowed"},
		{"package below", llmSource("package gatehouse.llm.lib\n\nallowed := true\n"), "llm.rego:3:1: rules stand below"},
		{"cache_key", llmSource("package gatehouse\n\n# METADATA\n# custom:\n#   cache_key: [route]\nllm if input.route\n"),
			"llm.rego:3:1: decisions of data.gatehouse.llm are never cached"},
		{"data in its place", Source{"main.rego": []byte(mainText), "gatehouse/data.json": []byte(`{"llm": {"allowed": true}}`)},
			"data.json holds data.gatehouse.llm, which must be a rule"},
		{"allowed from data", Source{
			"main.rego": []byte(mainText), "llm.rego": []byte("package gatehouse.llm\n\nhelper := 1\n"),
			"gatehouse/llm/data.json": []byte(`{"allowed": true}`),
		}, "llm.rego:3:1: rules stand below"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := Compile(t.Context(), tt.src, Options{Entry: "data.p.allow"})
			if _, ok := errors.AsType[Faults](err); !ok || e != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestDataBesideTheSecondQuestion(t *testing.T) {
	t.Parallel()
	src := llmSource("package gatehouse.llm\n\nallowed if input.model in data.gatehouse.llm.models\n")
	src["gatehouse/llm/data.json"] = []byte(`{"models": ["gpt-5-mini"]}`)
	src["llm_test.rego"] = []byte("package gatehouse.llm_test\n\nimport data.gatehouse.llm\n\ntest_allowed if llm.allowed with input as {\"model\": \"gpt-5-mini\"}\n")
	e, err := Compile(t.Context(), src, Options{Entry: "data.p.allow", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]bool{"gpt-5-mini": true, "gpt-5": false, "\xff": false} {
		in := typicalLLM()
		in.Model = model
		if d := e.DecideLLM(t.Context(), in); d.Allowed != want {
			t.Errorf("%q: got %+v", model, d)
		}
	}
	if d := e.Decide(t.Context(), typicalInput()); !d.Allowed || d.RuleID != "data.p.allow" {
		t.Errorf("the first question: got %+v", d)
	}
}

// The second question leaves a cache of the first one alone, and has none.
func TestLLMDecisionsAreNotCached(t *testing.T) {
	t.Parallel()
	src := shippedSource(t)
	src["llm.rego"] = []byte("package gatehouse\n\nllm if input.estimated_tokens < 6000\n")
	e, err := Compile(t.Context(), src, Options{Entry: "data.gatehouse.authz", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if !e.Cacheable() || e.ReadsBody() {
		t.Errorf("cacheable %v, reads the body %v", e.Cacheable(), e.ReadsBody())
	}
	for _, tokens := range []int64{5999, 6000, 5999} {
		in := typicalLLM()
		in.EstimatedTokens = tokens
		if d := e.DecideLLM(t.Context(), in); d.Allowed != (tokens < 6000) || d.Cached {
			t.Errorf("%d tokens: got %+v", tokens, d)
		}
	}
}

func TestDecideLLMConcurrently(t *testing.T) {
	t.Parallel()
	e := compileLLM(t, "package gatehouse\n\ndefault llm := false\n\nllm if input.max_output_tokens == input.estimated_tokens\n")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				in := typicalLLM()
				in.MaxOutputTokens = in.EstimatedTokens + int64((i+j)%2)
				if d := e.DecideLLM(t.Context(), in); d.Allowed != ((i+j)%2 == 0) || d.Class != Decided {
					t.Errorf("got %+v", d)
				}
			}
		})
	}
	wg.Wait()
}

func TestReadLLMObligations(t *testing.T) {
	t.Parallel()
	many := make([]any, maxDecisionItems+1)
	for i := range many {
		many[i] = "m"
	}
	tests := []struct {
		name  string
		given map[string]any
		want  LLMObligations
	}{
		{"none", nil, LLMObligations{}},
		{"others", map[string]any{"max": "x", "team": []any{1}}, LLMObligations{}},
		{"both", map[string]any{"allowed_models": []any{"gpt-*", "o1"}, "max_output_tokens": json.Number("100"), "other": nil},
			LLMObligations{Models: []string{"gpt-*", "o1"}, MaxOutputTokens: 100}},
		{"no model at all", map[string]any{"allowed_models": []any{}}, LLMObligations{Models: []string{}}},
		{"largest list", map[string]any{"allowed_models": many[:maxDecisionItems]}, LLMObligations{Models: slices.Repeat([]string{"m"}, maxDecisionItems)}},
		{"out of a Struct", map[string]any{"max_output_tokens": 4096.0}, LLMObligations{MaxOutputTokens: 4096}},
		{"with an exponent", map[string]any{"max_output_tokens": json.Number("1e3")}, LLMObligations{MaxOutputTokens: 1000}},
		{"least", map[string]any{"max_output_tokens": json.Number("1")}, LLMObligations{MaxOutputTokens: 1}},
		{"beyond all routes", map[string]any{"max_output_tokens": json.Number("9223372036854775807")}, LLMObligations{MaxOutputTokens: 1<<63 - 1}},
	}
	for _, tt := range tests {
		got, err := ReadLLMObligations(tt.given)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
	bad := map[string]map[string]any{}
	for name, values := range map[string][]any{
		"allowed_models": {nil, "gpt-*", true, map[string]any{}, []any{"a", 1}, []any{""}, []any{nil}, many, []any{strings.Repeat("a", maxModelPattern+1)}},
		"max_output_tokens": {nil, "100", true, []any{json.Number("1")}, json.Number("0"), json.Number("-1"), json.Number("1.5"), json.Number("1e30"),
			json.Number("9223372036854775808"), json.Number("x"), 0.0, 0.5, -3.0, 1e300},
	} {
		for _, v := range values {
			text, _ := json.Marshal(v) // only names the case
			given := map[string]any{"allowed_models": []any{"a"}, "max_output_tokens": 1.0}
			given[name] = v
			bad[name+" "+string(text)] = given
		}
	}
	for name, given := range bad {
		got, err := ReadLLMObligations(given)
		if diff := cmp.Diff(LLMObligations{}, got); err == nil || diff != "" || !strings.Contains(err.Error(), strings.Fields(name)[0]) {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
	}
}

func BenchmarkDecideLLM(b *testing.B) {
	e := compileLLM(b, `package gatehouse

default llm := {"allowed": false, "rule_id": "too_large", "reason": "asks for too much"}

llm := {"allowed": true, "obligations": {"max_output_tokens": 1000}} if {
	input.principal.role in {"admin", "developer"}
	startswith(input.model, "gpt-")
	input.estimated_tokens < 10000
}
`)
	in, ctx := typicalLLM(), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if d := e.DecideLLM(ctx, in); !d.Allowed {
			b.Fatal(d)
		}
	}
}
