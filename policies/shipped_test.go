package policies

import (
	"maps"
	"slices"
	"testing"

	"gatehouse/internal/request"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
)

func TestShippedRegoTestsPassAndCoverEveryLine(t *testing.T) {
	t.Parallel()
	tracer := cover.New()
	runner := tester.NewRunner().SetCoverageQueryTracer(tracer)
	results, err := runTests(t.Context(), shippedSource(t), runner)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) == 0 {
		t.Fatal("no Rego test ran")
	}
	for _, r := range results {
		if !r.Pass() {
			t.Errorf("%s", r)
		}
	}
	p, faults := parse(shippedSource(t), capabilities())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	report := tracer.Report(p.modules)
	file, ok := report.Files["authz.rego"]
	if !ok {
		t.Fatalf("no coverage of authz.rego: %v", report.Files)
	}
	if len(file.NotCovered) > 0 || file.Coverage != 100 {
		t.Errorf("authz.rego is covered to %v %%, not covered: %+v", file.Coverage, file.NotCovered)
	}
}

// shippedTable reads permissions_of out of the compiled policy.
func shippedTable(t *testing.T) map[string]map[string]bool {
	t.Helper()
	e, err := Compile(t.Context(), shippedSource(t), Options{Entry: "data.gatehouse.permissions_of"})
	if err != nil {
		t.Fatal(err)
	}
	results, err := e.query.Eval(t.Context())
	if err != nil || len(results) != 1 {
		t.Fatalf("permissions_of: %v, %v", results, err)
	}
	table := map[string]map[string]bool{}
	for role, list := range results[0].Expressions[0].Value.(map[string]any) {
		table[role] = map[string]bool{}
		for _, p := range list.([]any) {
			table[role][p.(string)] = true
		}
	}
	return table
}

func TestShippedTableIsThatOfTheNouns(t *testing.T) {
	t.Parallel()
	table := shippedTable(t)
	counts := map[string]int{}
	known := map[string]bool{}
	for role, held := range table {
		counts[role] = len(held)
		for p := range held {
			known[p] = true
		}
	}
	want := map[string]int{"admin": 17, "operator": 11, "developer": 7, "observer": 4, "anonymous": 1}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("permissions by role (-want +got):\n%s", diff)
	}
	if len(table) != len(request.Roles()) || len(known) != len(request.Permissions()) {
		t.Errorf("%d roles and %d permissions, want %d and %d", len(table), len(known), len(request.Roles()), len(request.Permissions()))
	}
	for _, role := range request.Roles() {
		if _, ok := table[string(role)]; !ok {
			t.Errorf("role %s is not in the table", role)
		}
	}
	for _, p := range request.Permissions() {
		if !known[p] {
			t.Errorf("permission %s is not in the table", p)
		}
	}
}

func TestShippedDecidesEveryCell(t *testing.T) {
	t.Parallel()
	e, table := shippedEngine(t), shippedTable(t)
	for _, role := range request.Roles() {
		for _, permission := range request.Permissions() {
			in := typicalInput()
			in.Principal.Role, in.Permission = role, permission
			want := Decision{Class: Decided, RuleID: "role_lacks_permission", Reason: "role " + string(role) + " lacks " + permission}
			if table[string(role)][permission] {
				want = Decision{Class: Decided, Allowed: true, RuleID: "role_permission", Reason: "role " + string(role) + " has " + permission}
			}
			if diff := cmp.Diff(want, e.Decide(t.Context(), in)); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", role, permission, diff)
			}
		}
	}
}

func TestShippedSourceIsTheRegoAlone(t *testing.T) {
	t.Parallel()
	got := slices.Sorted(maps.Keys(shippedSource(t)))
	if diff := cmp.Diff([]string{"authz.rego", "authz_test.rego"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestShippedPolicyCanBeExtendedByAFile(t *testing.T) {
	t.Parallel()
	src := shippedSource(t)
	src["ours.rego"] = []byte("package gatehouse\n\nallow[\"status_is_public\"] := \"anyone may ask\" if input.route == \"status\"\n")
	e, err := Compile(t.Context(), src, Options{Entry: "data.gatehouse.authz"})
	if err != nil {
		t.Fatal(err)
	}
	in := typicalInput()
	in.Route, in.Permission = "status", "system.admin"
	if d := e.Decide(t.Context(), in); !d.Allowed || d.RuleID != "status_is_public" || d.Reason != "anyone may ask" {
		t.Errorf("got %+v", d)
	}
	in.Route = "tasks"
	if d := e.Decide(t.Context(), in); d.Allowed {
		t.Errorf("got %+v", d)
	}
}
