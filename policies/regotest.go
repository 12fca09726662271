package policies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/tester"
)

// Limits of one run of a policy set's tests.
const (
	testsTimeout = 10 * time.Second
	testTimeout  = 5 * time.Second
)

// ErrTestsTimedOut is the error of tests that did not end in ten seconds.
var ErrTestsTimedOut = errors.New("the tests of the policy set did not end in time")

// TestResult is one test rule of a policy set.
type TestResult struct {
	Name     string // package and rule, data.gatehouse_test.test_every_cell
	File     string
	Line     int
	Passed   bool
	Skipped  bool   // its name begins with todo_
	Message  string // why it did not pass, "" if it did
	Output   string // what it printed
	Duration time.Duration
}

// Report is the outcome of a policy set's tests, ordered by file and line.
type Report struct {
	Results []TestResult
	Passed  int
	Failed  int // failed or broken
	Skipped int
}

// Test runs the test rules of src: those named test_ in any .rego file. Its
// error is [Faults] if src does not compile, [ErrTestsTimedOut], or ctx's error;
// a failing test is no error. Tests may use what policies may use.
func Test(ctx context.Context, src Source) (Report, error) {
	results, err := runTests(ctx, src, tester.NewRunner().SetTimeout(testTimeout))
	if err != nil {
		return Report{}, err
	}
	var report Report
	for _, r := range results {
		report.add(testResult(r))
	}
	slices.SortFunc(report.Results, func(a, b TestResult) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	return report, nil
}

// runTests compiles src with its tests and runs them. The runner closes its
// channel when all tests ended or ctx did, so draining it waits for them.
func runTests(ctx context.Context, src Source, runner *tester.Runner) ([]*tester.Result, error) {
	caps := capabilities()
	p, faults := parse(src, caps)
	if len(faults) > 0 {
		return nil, faultsOrNil(faults)
	}
	modules := maps.Clone(p.modules)
	maps.Copy(modules, p.tests)

	bounded, cancel := context.WithTimeout(ctx, testsTimeout)
	defer cancel()
	c := newCompiler(caps).WithEnablePrintStatements(true).WithPathConflictsCheck(p.hasData)
	ch, err := runner.SetCompiler(c).SetStore(p.store()).SetModules(modules).RunTests(bounded, nil)
	if err != nil {
		return nil, faultsOrNil(faultsOf("", err))
	}
	var results []*tester.Result
	for r := range ch {
		results = append(results, r)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if bounded.Err() != nil {
		return nil, ErrTestsTimedOut
	}
	return results, nil
}

func testResult(r *tester.Result) TestResult {
	t := TestResult{
		Name:     r.Package + "." + r.Name,
		Passed:   r.Pass(),
		Skipped:  r.Skip,
		Output:   string(r.Output),
		Duration: r.Duration,
	}
	if r.Location != nil {
		t.File, t.Line = r.Location.File, r.Location.Row
	}
	switch {
	case r.Error != nil:
		t.Message = r.Error.Error()
	case r.Fail:
		t.Message = "the rule is false or undefined" + failedCases(r.SubResults)
	}
	return t
}

// failedCases names the cases of a test rule that has several.
func failedCases(cases tester.SubResultMap) string {
	var text strings.Builder
	for name, c := range cases.Iter {
		if c.Fail {
			fmt.Fprintf(&text, "; case %q failed", name)
		}
	}
	return text.String()
}

func (r *Report) add(t TestResult) {
	switch {
	case t.Passed:
		r.Passed++
	case t.Skipped:
		r.Skipped++
	default:
		r.Failed++
	}
	r.Results = append(r.Results, t)
}
