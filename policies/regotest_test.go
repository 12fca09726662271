package policies

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestTestReportsEachRule(t *testing.T) {
	t.Parallel()
	report, err := Test(t.Context(), Source{
		"a.rego": []byte("package a\n\nallow if input.x == 1\n"),
		"a_test.rego": []byte(`package a_test

import data.a

test_good if a.allow with input as {"x": 1}

test_bad if a.allow with input as {"x": 2}

test_broken if {
	print("seen")
	two_values(1) == 2
}

two_values(x) := 1 if x

two_values(x) := 2 if x

test_cases[n] if {
	some n, x in {"one": 1, "two": 2}
	a.allow with input as {"x": x}
}

todo_test_later if false
`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Passed != 1 || report.Failed != 3 || report.Skipped != 1 || len(report.Results) != 5 {
		t.Errorf("got %+v", report)
	}
	good, bad, cases, later := report.Results[0], report.Results[1], report.Results[3], report.Results[4]
	if !good.Passed || good.Name != "data.a_test.test_good" || good.File != "a_test.rego" || good.Line != 5 || good.Message != "" {
		t.Errorf("good: %+v", good)
	}
	if bad.Passed || bad.Line != 7 || !strings.Contains(bad.Message, "false or undefined") {
		t.Errorf("bad: %+v", bad)
	}
	if cases.Passed || !strings.Contains(cases.Message, `case ["two"] failed`) || strings.Contains(cases.Message, "one") {
		t.Errorf("cases: %+v", cases)
	}
	if !later.Skipped || later.Passed {
		t.Errorf("later: %+v", later)
	}
	if broken := report.Results[2]; broken.Output != "seen\n" || !strings.Contains(broken.Message, "conflicting values") {
		t.Errorf("broken: %+v", broken)
	}
}

func TestTestPassesOnTheShippedSet(t *testing.T) {
	t.Parallel()
	report, err := Test(t.Context(), shippedSource(t))
	if err != nil || report.Passed == 0 || report.Failed+report.Skipped > 0 {
		t.Errorf("got %+v, %v", report, err)
	}
}

func TestTestReportsFaults(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"syntax":      "package a\n\ntest_x if {\n",
		"undefined":   "package a\n\ntest_x if nothing.here(1)\n",
		"reaches out": "package a\n\ntest_x if http.send({})\n",
	} {
		_, err := Test(t.Context(), Source{"a_test.rego": []byte(text)})
		if faults, ok := errors.AsType[Faults](err); !ok || faults[0].File != "a_test.rego" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Test(ctx, shippedSource(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
