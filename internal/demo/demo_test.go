package demo

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/demoapp"
	"gatehouse/internal/devstack"
	"gatehouse/internal/revision"
	"gatehouse/policies"
)

// The whole demo against the real programs is tested in package devstack; here
// is shown that a row that does not hold is seen.

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fake is a stack in which nobody decides: everybody may log in, and everything
// reaches the app, but for paths that are in refusals.
func fake(t *testing.T, refusals map[string]string) (*probe, *demoapp.App) {
	t.Helper()
	app := demoapp.New()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := refusals[r.URL.Path]; text != "" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(text))
			return
		}
		app.Handler().ServeHTTP(w, r)
	}))
	counters := httptest.NewServer(app.Counters())
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/json")
		_, _ = w.Write([]byte(`{"access_token": "t"}`)) // whoever it is, and whatever is pushed
	}))
	t.Cleanup(func() { front.Close(); counters.Close(); control.Close() })
	key, err := devstack.NewKey("k")
	noError(t, err)
	return &probe{
		key: key, forger: key, client: http.DefaultClient, tokens: map[string]string{},
		ready: devstack.Ready{API: control.URL, Inbound: front.URL, Outbound: front.URL, AppCounters: counters.URL, LLMLedger: control.URL, Policies: shippedPolicy(t).ready.Policies},
	}, app
}

func wantFault(t *testing.T, what string, o outcome, parts ...string) {
	t.Helper()
	if len(parts) == 0 {
		if o.fault != nil {
			t.Errorf("%s: %v", what, o.fault)
		}
		return
	}
	for _, part := range parts {
		if o.fault == nil || !strings.Contains(o.fault.Error(), part) {
			t.Errorf("%s: fault %v does not say %q", what, o.fault, part)
		}
	}
}

func TestRowsThatDoNotHoldAreSeen(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, map[string]string{"/no": `{"error_code": "auth.forbidden"}`, "/text": "no"})
	forbidden := refused(403, "auth.forbidden")
	tests := []struct {
		what   string
		row    row
		faults []string
	}{
		{"as expected", row{want: allowed(), send: anonymously(try{path: "/"})}, nil},
		{"refused as expected", row{want: forbidden, send: anonymously(try{path: "/no"})}, nil},
		{"not refused", row{want: forbidden, send: anonymously(try{path: "/"})},
			[]string{"expected 403 auth.forbidden", "counted 1 requests, expected 0"}},
		{"refused", row{want: allowed(), send: anonymously(try{path: "/no"})}, []string{"expected 200", "counted 0 requests, expected 1"}},
		{"another code", row{want: refused(403, "auth.other"), send: anonymously(try{path: "/no"})}, []string{"expected 403 auth.other"}},
		{"no refusal of ours", row{want: forbidden, send: anonymously(try{path: "/text"})}, []string{"refusal's body"}},
		{"prepare fails", row{prepare: func(context.Context, *probe) (string, error) { return "", errors.New("not prepared") }}, []string{"not prepared"}},
		{"prepare is refused", row{prepare: useUp(anonymously(try{path: "/no"}))}, []string{"request 1 of 5", "403 auth.forbidden"}},
		{"header", row{want: allowed(), send: anonymously(try{path: "/", header: map[string]string{"x-a": "1"}}),
			check: sees(map[string]string{"x-a": "2", "x-b": ""})}, []string{`saw x-a: "1", expected "2"`}},
		{"identity", row{want: allowed(), send: anonymously(try{path: "/", header: map[string]string{"x-gatehouse-role": "a"}}),
			check: seesNoIdentity}, []string{"saw x-gatehouse-role"}},
		{"answer's header", row{want: allowed(), send: anonymously(try{path: "/"}), check: answers("content-type", "retry-after")}, []string{"no retry-after"}},
	}
	for _, tt := range tests {
		wantFault(t, tt.what, tt.row.run(t.Context(), p), tt.faults...)
	}
}

// With nobody deciding, every row that expects a refusal must fail.
func TestEveryRefusalRowNeedsARefusal(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, nil)
	for _, r := range rows(true) {
		if r.prepare != nil || r.want.status == http.StatusOK {
			continue
		}
		if o := r.run(t.Context(), p); o.fault == nil || o.answer.status != http.StatusOK {
			t.Errorf("%s: %s, fault %v: holds though nobody refuses", r.what, o.answer, o.fault)
		}
	}
}

func TestTokensStandInTheirSlots(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, nil)
	a, err := with(devstack.Claims{Role: "observer"}, try{path: "/", header: map[string]string{"x-a": "1"}}, own, "authorization", "x-api-key")(t.Context(), p)
	noError(t, err)
	bearer, key := a.seen.Header("authorization"), a.seen.Header("x-api-key")
	if bearer != "Bearer "+key || strings.Count(key, ".") != 2 || a.seen.Header("x-a") != "1" {
		t.Errorf("headers %v: want one token in both slots, and x-a", a.seen.Headers)
	}
}

func TestRawPathIsNotCleaned(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, nil)
	const path = "/a/..%2f..//b;x=1"
	a, err := rawPath(path)(t.Context(), p)
	if err != nil || a.seen.Path != path {
		t.Errorf("the upstream saw %q, %v; want %q", a.seen.Path, err, path)
	}
}

func TestNothingListens(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	p, _ := fake(t, nil)
	p.ready.Inbound = gone.URL
	for _, r := range []row{{send: anonymously(try{path: "/"})}, {send: rawPath("/")}} {
		wantFault(t, "no listener", r.run(t.Context(), p), "refused")
	}
	counters := p.ready.AppCounters
	p.ready.AppCounters = gone.URL
	wantFault(t, "no counters", row{}.run(t.Context(), p), "refused")
	p.ready.AppCounters, p.ready.LLMLedger = counters, gone.URL
	wantFault(t, "no counter of the provider", row{}.run(t.Context(), p), "refused")
}

func TestTable(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, nil)
	two := []row{
		{what: "good", want: allowed(), why: "so", send: anonymously(try{path: "/"}),
			prepare: func(context.Context, *probe) (string, error) { return "a note", nil }},
		{what: "bad", want: refused(403, "auth.forbidden"), why: "not so", send: anonymously(try{path: "/"})},
	}
	var out bytes.Buffer
	bad, err := runRows(t.Context(), p, two, table{out: &out})
	noError(t, err)
	want := `       #  tried                               answer                              upstream    why
ok     1  good                                200                                 reached     so (a note)
FAIL   2  bad                                 200                                 reached     not so
          expected 403 auth.forbidden
          the upstream counted 1 requests, expected 0

1 of 2 rows are as expected.
`
	if diff := cmp.Diff(want, out.String()); diff != "" || bad != 1 {
		t.Errorf("%d bad rows, want 1; -want +got\n%s", bad, diff)
	}
	if err := failure(bad); err == nil || failure(0) != nil {
		t.Errorf("failure(1) = %v, failure(0) = %v", err, failure(0))
	}
	out.Reset()
	if _, err := runRows(t.Context(), p, two, table{out: &out, color: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), green+"ok"+plain) || !strings.Contains(out.String(), red+"FAIL"+plain) {
		t.Errorf("marks have no color:\n%q", out.String())
	}
}

func TestCanceledDemoStops(t *testing.T) {
	t.Parallel()
	p, app := fake(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := runRows(ctx, p, rows(true), table{out: &bytes.Buffer{}})
	if !errors.Is(err, context.Canceled) || app.Total() != 0 {
		t.Errorf("%v after %d requests, want none", err, app.Total())
	}
}

// shippedPolicy is a probe of a stack with the shipped policy.
func shippedPolicy(t *testing.T) *probe {
	t.Helper()
	dir := t.TempDir()
	noError(t, os.CopyFS(dir, policies.Shipped()))
	for _, name := range []string{".", regoFile, testFile, revision.ConfigFile} {
		noError(t, os.Chmod(filepath.Join(dir, name), 0o755)) // the files of an embedded folder have no write bit
	}
	return &probe{client: http.DefaultClient, ready: devstack.Ready{Policies: dir}}
}

// The edit alone fails the policy's own tests, and with theirs it passes: else
// the rows of the demo would show nothing.
func TestEditsOfThePolicy(t *testing.T) {
	t.Parallel()
	p := shippedPolicy(t)
	for _, tt := range []struct {
		edits  []edit
		failed bool
	}{{nil, false}, {generous, true}, {append(generous, tested...), false}} {
		files, err := p.policySet(tt.edits...)
		noError(t, err)
		src := policies.Source{}
		for path, text := range files {
			if path != revision.ConfigFile {
				src[path] = text
			}
		}
		report, err := policies.Test(t.Context(), src)
		if err != nil || report.Failed > 0 != tt.failed || report.Passed == 0 {
			t.Errorf("%d edits: %d tests passed, %d failed, %v", len(tt.edits), report.Passed, report.Failed, err)
		}
	}
}

func TestOtherRegoCantBeEdited(t *testing.T) {
	t.Parallel()
	p := shippedPolicy(t)
	noError(t, os.WriteFile(filepath.Join(p.ready.Policies, regoFile), []byte("package x"), 0o644))
	if _, err := p.policySet(generous...); err == nil || !strings.Contains(err.Error(), "observer") {
		t.Errorf("other Rego: %v", err)
	}
	p.ready.Policies = t.TempDir()
	if _, err := p.policySet(); err == nil {
		t.Error("no policy set: no fault")
	}
}

func TestUntilGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	given := errors.New("enough")
	err := (&probe{}).until(ctx, "nothing", func(context.Context) (bool, error) { cancel(given); return false, nil })
	if !errors.Is(err, given) {
		t.Errorf("%v, want %v", err, given)
	}
	if err := (&probe{}).until(t.Context(), "nothing", func(context.Context) (bool, error) { return false, given }); !errors.Is(err, given) {
		t.Errorf("%v, want %v", err, given)
	}
}
