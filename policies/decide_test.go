package policies

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/rego"
)

func TestDecisionForms(t *testing.T) {
	t.Parallel()
	const entry = "data.p.d"
	named := func(allowed bool) Decision {
		return Decision{Class: Decided, Allowed: allowed, RuleID: "r", Reason: "because"}
	}
	with := func(d Decision, change func(*Decision)) Decision { change(&d); return d }
	tests := []struct {
		name, value string
		want        Decision
	}{
		{"true", `true`, Decision{Class: Decided, Allowed: true, RuleID: entry, Reason: "allowed by data.p.d"}},
		{"false", `false`, Decision{Class: Decided, RuleID: entry, Reason: "denied by data.p.d"}},
		{"object", `{"allowed": true, "rule_id": "r", "reason": "because", "anything": [1]}`, named(true)},
		{"status of a denial", `{"allowed": false, "rule_id": "r", "reason": "because", "http_status": 451, "body": "no"}`,
			with(named(false), func(d *Decision) { d.HTTPStatus, d.Body = 451, "no" })},
		{"status of an allow", `{"allowed": true, "rule_id": "r", "reason": "because", "http_status": 200}`, named(true)},
		{"headers", `{"allowed": true, "rule_id": "r", "reason": "because", "headers": {"X-B": "2", "x-a": ["1", "0"]}, "response_headers_to_add": [{"y": "1"}, {"x": "2"}], "request_headers_to_remove": ["z"]}`,
			with(named(true), func(d *Decision) {
				d.Headers = []Header{{"x-b", "2"}, {"x-a", "1"}, {"x-a", "0"}}
				d.ResponseHeaders = []Header{{"y", "1"}, {"x", "2"}}
				d.RemoveHeaders = []string{"z"}
			})},
		{"query", `{"allowed": true, "rule_id": "r", "reason": "because", "query_parameters_to_set": {"a": "1", "b": ["2", "3"]}, "query_parameters_to_remove": ["c"]}`,
			with(named(true), func(d *Decision) {
				d.SetQuery = []Header{{"a", "1"}, {"b", "2"}, {"b", "3"}}
				d.RemoveQuery = []string{"c"}
			})},
		{"obligations and metadata", `{"allowed": true, "rule_id": "r", "reason": "because", "obligations": {"models": ["m"], "max": 10}, "dynamic_metadata": {"k": null}}`,
			with(named(true), func(d *Decision) {
				d.Obligations = map[string]any{"models": []any{"m"}, "max": json.Number("10")}
				d.DynamicMetadata = map[string]any{"k": nil}
			})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := compileText(t, entry, "package p\n\nd := "+tt.value+"\n")
			if diff := cmp.Diff(tt.want, e.Decide(t.Context(), typicalInput())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsNoDecisionIsDenied(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, rule string
		want       Class
	}{
		{"undefined", `d if input.permission == "nothing"`, Undefined},
		{"string", `d := "true"`, NotBoolean},
		{"number", `d := 1`, NotBoolean},
		{"null", `d := null`, NotBoolean},
		{"array", `d := [true]`, NotBoolean},
		{"set", `d contains true`, NotBoolean},
		{"object without allowed", `d := {"allow": true}`, NotBoolean},
		{"allowed is a string", `d := {"allowed": "true"}`, NotBoolean},
		{"built-in fails", `d if to_number(input.route) == 1`, Failed},
		{"built-in fails behind an allow", "d if to_number(input.route) == 1\n\nd if true == false", Failed},
		{"two values", "d := true if input.route\n\nd := false if input.permission", Failed},
		{"division by zero", `d if 1 / count(input.nothing_of_this_is_here | set()) == 1`, Undefined},
		{"rule_id", `d := {"allowed": true, "rule_id": 1}`, DecisionMalformed},
		{"reason", `d := {"allowed": true, "reason": ["a"]}`, DecisionMalformed},
		{"long reason", `d := {"allowed": true, "reason": sprintf("%10000d", [1])}`, DecisionMalformed},
		{"obligations", `d := {"allowed": true, "obligations": ["a"]}`, DecisionMalformed},
		{"dynamic_metadata", `d := {"allowed": true, "dynamic_metadata": "a"}`, DecisionMalformed},
		{"status of an allow", `d := {"allowed": true, "http_status": "200"}`, DecisionMalformed},
		{"status 200 of a denial", `d := {"allowed": false, "http_status": 200}`, DecisionMalformed},
		{"status 600", `d := {"allowed": false, "http_status": 600}`, DecisionMalformed},
		{"status 400.5", `d := {"allowed": false, "http_status": 400.5}`, DecisionMalformed},
		{"body", `d := {"allowed": false, "body": {}}`, DecisionMalformed},
		{"headers is a string", `d := {"allowed": true, "headers": "x"}`, DecisionMalformed},
		{"header value is a number", `d := {"allowed": true, "headers": {"a": 1}}`, DecisionMalformed},
		{"header value in a list is a number", `d := {"allowed": true, "headers": {"a": ["b", 1]}}`, DecisionMalformed},
		{"header name", `d := {"allowed": true, "headers": {"a b": "c"}}`, DecisionMalformed},
		{"header value with a line break", `d := {"allowed": true, "headers": {"a": "b\r\nc: d"}}`, DecisionMalformed},
		{"pseudo header", `d := {"allowed": true, "headers": {":path": "/admin"}}`, DecisionMalformed},
		{"host", `d := {"allowed": true, "headers": {"Host": "other"}}`, DecisionMalformed},
		{"framing", `d := {"allowed": true, "response_headers_to_add": {"Content-Length": "1"}}`, DecisionMalformed},
		{"too many headers", `d := {"allowed": true, "headers": {"a": [x | some i in numbers.range(1, 65); x := sprintf("%d", [i])]}}`, DecisionMalformed},
		{"remove is a string", `d := {"allowed": true, "request_headers_to_remove": "a"}`, DecisionMalformed},
		{"remove has a number", `d := {"allowed": true, "request_headers_to_remove": [1]}`, DecisionMalformed},
		{"set query", `d := {"allowed": true, "query_parameters_to_set": {"a": {}}}`, DecisionMalformed},
		{"set query, no name", `d := {"allowed": true, "query_parameters_to_set": {"": "a"}}`, DecisionMalformed},
		{"remove query", `d := {"allowed": true, "query_parameters_to_remove": {}}`, DecisionMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := compileText(t, "data.p.d", "package p\n\n"+tt.rule+"\n")
			d := e.Decide(t.Context(), typicalInput())
			want := Decision{Class: tt.want, RuleID: string(tt.want), Reason: tt.want.reason()}
			if diff := cmp.Diff(want, d, cmpopts.IgnoreFields(Decision{}, "Cause")); diff != "" {
				t.Errorf("cause %v (-want +got):\n%s", d.Cause, diff)
			}
			if (d.Cause == nil) != (tt.want == Undefined) {
				t.Errorf("cause: %v", d.Cause)
			}
		})
	}
}

func TestEveryDenialClassHasItsOwnReason(t *testing.T) {
	t.Parallel()
	seen := map[string]Class{}
	for _, c := range Classes() {
		if c == Decided {
			continue
		}
		if other, ok := seen[c.reason()]; ok {
			t.Errorf("%s and %s share a reason", c, other)
		}
		seen[c.reason()] = c
	}
}

func TestEndlessRegoStopsAtTheTimeout(t *testing.T) {
	t.Parallel()
	e := compileWith(t, Options{Entry: "data.p.allow", Timeout: 20 * time.Millisecond}, endless)
	begun := time.Now()
	d := e.Decide(t.Context(), typicalInput())
	if d.Class != TimedOut || d.Allowed || d.Cause == nil {
		t.Errorf("got %+v", d)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// endless allows after 10^12 steps, which it takes only once it has an input.
const endless = `package p

ns := numbers.range(1, 2000 * count(input.route))

allow if {
	some a in ns
	some b in ns
	some c in ns
	a + b + c == count(input.route) - 1000000
}
`

func TestDecideEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e := compileText(t, "data.p.allow", endless)
	late, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if d := e.Decide(late, typicalInput()); d.Class != TimedOut {
		t.Errorf("deadline of the caller: got %s", d.Class)
	}
	gone, leave := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, leave)
	if d := e.Decide(gone, typicalInput()); d.Class != Canceled || d.Cause == nil {
		t.Errorf("caller that leaves: got %s, %v", d.Class, d.Cause)
	}
	if d := compileText(t, "data.p.allow", "package p\n\nallow := true\n").Decide(gone, typicalInput()); d.Allowed || d.Class != Canceled {
		t.Errorf("caller that left before: got %+v", d)
	}
}

func TestEndlessPartialEvaluationFallsBackToThePlainQuery(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	text := strings.Replace(endless, "count(input.route))", "5)", 1)
	e := compileWith(t, Options{Entry: "data.p.allow", Timeout: time.Millisecond}, text)
	if took := time.Since(begun); took < partialTimeout || took > 10*partialTimeout {
		t.Errorf("compiling took %v, want a little more than %v", took, partialTimeout)
	}
	if d := e.Decide(t.Context(), typicalInput()); d.Class != TimedOut {
		t.Errorf("got %+v", d)
	}
}

// It does not run in parallel: it counts the goroutines of the process.
func TestDecideLeavesNoGoroutineBehind(t *testing.T) {
	quick := compileText(t, "data.p.allow", "package p\n\nallow := true\n")
	slow := compileWith(t, Options{Entry: "data.p.allow", Timeout: time.Millisecond}, endless)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := runtime.NumGoroutine()
	for range 20 {
		if d := quick.Decide(ctx, typicalInput()); !d.Allowed {
			t.Fatalf("got %+v", d)
		}
		if d := slow.Decide(ctx, typicalInput()); d.Class != TimedOut {
			t.Fatalf("got %+v", d)
		}
	}
	// A timer's goroutine may still be on its way out.
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestPanicOfTheEvaluatorIsADenial(t *testing.T) {
	t.Parallel()
	e := compileText(t, "data.p.allow", "package p\n\nallow := true\n")
	e.query = rego.PreparedEvalQuery{}
	d := e.Decide(t.Context(), typicalInput())
	if d.Allowed || d.Class != Failed || !strings.Contains(d.Cause.Error(), "panic") {
		t.Errorf("got %+v", d)
	}
}

func TestPackageAsEntry(t *testing.T) {
	t.Parallel()
	e := compileText(t, "data.whole", samplePolicies()["data.whole"])
	d := e.Decide(t.Context(), typicalInput())
	want := Decision{Class: Decided, Allowed: true, RuleID: "data.whole", Reason: "alice asks"}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTokenReadingPolicyNeedsExposeToken(t *testing.T) {
	t.Parallel()
	const entry = "data.envoy.authz.allow"
	in := typicalInput()
	in.Headers = []Header{
		{"authorization", "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ."}, {"content-type", "application/json"},
	}
	for _, expose := range []bool{true, false} {
		e := compileWith(t, Options{Entry: entry, Timeout: 10 * time.Second, ExposeToken: expose}, samplePolicies()[entry])
		if d := e.Decide(t.Context(), in); d.Allowed != expose || d.Class != Decided {
			t.Errorf("expose_token %v: got %+v", expose, d)
		}
	}
}

func TestDecideConcurrently(t *testing.T) {
	t.Parallel()
	e := shippedEngine(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				in := typicalInput()
				if (i+j)%2 == 0 {
					in.Permission = "system.admin"
				}
				if d := e.Decide(t.Context(), in); d.Allowed != ((i+j)%2 == 1) || d.Class != Decided {
					t.Errorf("got %+v", d)
				}
			}
		})
	}
	wg.Wait()
}
