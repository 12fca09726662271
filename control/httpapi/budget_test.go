package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/budget"
	"gatehouse/internal/apierr"
)

const (
	holdPath    = "/api/v1/budget/request"
	commitPath  = "/api/v1/budget/commit"
	releasePath = "/api/v1/budget/release"
	goodHold    = `{"request_id":"job-17","tenant_id":"org1","project_id":"proj1","estimated_tokens":1200}`
)

func TestHold(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	task := uuid(9)
	got := h.do("POST", holdPath, "developer", `{"request_id":"job-17","tenant_id":"org1","project_id":"proj1","estimated_tokens":1200,
		"model":"m","task_id":"`+task+`","purpose":"p","ttl_seconds":60}`)
	h.want(got, http.StatusCreated, "")
	want := map[string]any{
		"request_id": "job-17", "tenant_id": "org1", "project_id": "proj1", "state": "held",
		"reserved_tokens": float64(1200), "expires_at": "2026-01-02T03:05:05Z",
	}
	if diff := cmp.Diff(want, got.member(t)); diff != "" {
		t.Errorf("hold (-want +got):\n%s", diff)
	}
	if got.header.Get("Idempotent-Replayed") != "" {
		t.Error("a first answer says that it was given before")
	}
	h.want(h.do("POST", holdPath, "developer", goodHold), http.StatusCreated, "")
	asked := []budget.Hold{
		{Key: budget.Key{ID: "job-17"}, Project: "proj1", Tokens: 1200, TTL: time.Minute, Model: "m", Task: task, Purpose: "p", Subject: "developer"},
		{Key: budget.Key{ID: "job-17"}, Project: "proj1", Tokens: 1200, TTL: 5 * time.Minute, Subject: "developer"},
	}
	if diff := cmp.Diff(asked, h.store.holds); diff != "" || h.store.tenant != "org1" {
		t.Errorf("asked in %s (-want +got):\n%s", h.store.tenant, diff)
	}
}

// TestHoldAgain: what was answered before says so, an error too, and where it
// stands now.
func TestHoldAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.store.replayed = true
	for state, want := range map[budget.State]string{
		budget.Reserved: "held", budget.Committed: "committed", budget.Released: "released", budget.Expired: "expired",
	} {
		h.store.state = state
		got := h.do("POST", holdPath, "developer", goodHold)
		h.want(got, http.StatusCreated, "")
		if got.text(t, "state") != want || got.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s: %s with %v", state, got.body, got.header)
		}
	}
	h.store.refusal = insufficient()
	got := h.do("POST", holdPath, "developer", goodHold)
	h.want(got, http.StatusConflict, apierr.BudgetInsufficient)
	if got.header.Get("Idempotent-Replayed") != "true" {
		t.Error("a refusal that is repeated does not say so")
	}
	want := map[string]any{
		"reason": "exhausted", "requested": float64(1200), "available": float64(300), "limit": float64(1000),
		"limit_id": uuid(1), "resets_at": "2026-01-31T23:00:00Z",
	}
	if diff := cmp.Diff(want, got.member(t, "details")); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, body          string
		late                      bool
		state                     string
		charged, returned, beyond float64
	}{
		{"commit", commitPath, `"actual_tokens":40`, false, "committed", 40, 60, 0},
		{"commit of nothing", commitPath, `"actual_tokens":0`, false, "committed", 0, 100, 0},
		{"commit beyond", commitPath, `"actual_tokens":130`, false, "committed", 130, 0, 30},
		{"late commit", commitPath, `"actual_tokens":40`, true, "committed", 40, 0, 0},
		{"release", releasePath, `"project_id":"proj1"`, false, "released", 0, 100, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.store.late = tt.late
			body := `{"request_id":"job-17",` + tt.body + `}`
			got := h.do("POST", tt.path, "developer", body)
			h.want(got, http.StatusOK, "")
			want := map[string]any{
				"request_id": "job-17", "tenant_id": "org1", "project_id": "proj1", "state": tt.state, "charged_tokens": tt.charged,
				"returned_tokens": tt.returned, "overrun_tokens": tt.beyond, "late": tt.late, "settled_at": "2026-01-02T03:04:05Z",
			}
			if diff := cmp.Diff(want, got.member(t)); diff != "" || got.header.Get("Idempotent-Replayed") != "" {
				t.Errorf("settlement (-want +got):\n%s", diff)
			}
			h.store.replayed = true
			again := h.do("POST", tt.path, "developer", body)
			if again.body != got.body || again.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("again: %s with %v, want %s", again.body, again.header, got.body)
			}
		})
	}
}

func TestBudgetRefusals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	away := apierr.New(apierr.BudgetUnavailable, apierr.Options{})
	for _, tt := range []struct {
		path, body string
		refusal    error
		status     int
		code       apierr.Code
	}{
		{holdPath, goodHold, insufficient(), 409, apierr.BudgetInsufficient},
		{holdPath, goodHold, conflict("key_reused"), 409, apierr.StateConflict},
		{holdPath, goodHold, away, 503, apierr.BudgetUnavailable},
		{holdPath, goodHold, missing(), 404, apierr.ResourceNotFound},
		{holdPath, goodHold, context.DeadlineExceeded, 503, apierr.Internal},
		{commitPath, `{"request_id":"a","actual_tokens":1}`, conflict("already_released"), 409, apierr.StateConflict},
		{commitPath, `{"request_id":"a","actual_tokens":1}`, away, 503, apierr.BudgetUnavailable},
		{releasePath, `{"request_id":"a"}`, conflict("expired"), 409, apierr.StateConflict},
		{releasePath, `{"request_id":"a"}`, missing(), 404, apierr.ResourceNotFound},
	} {
		h.store.refusal = tt.refusal
		got := h.do("POST", tt.path, "developer", tt.body)
		h.want(got, tt.status, tt.code)
		if (got.header.Get("Retry-After") != "") != (tt.status == http.StatusServiceUnavailable) {
			t.Errorf("%d with Retry-After %q", got.status, got.header.Get("Retry-After"))
		}
	}
}

// TestBudgetFaults: what the document does not allow comes to no ledger.
func TestBudgetFaults(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	hold := func(more string) string {
		return `{"request_id":"a","tenant_id":"org1","project_id":"proj1"` + more + `}`
	}
	for _, tt := range []struct{ path, body, pointer, code string }{
		{holdPath, hold(``), "/estimated_tokens", "required"},
		{holdPath, hold(`,"estimated_tokens":0`), "/estimated_tokens", "too_small"},
		{holdPath, hold(`,"estimated_tokens":1000000000001`), "/estimated_tokens", "too_large"},
		{holdPath, hold(`,"estimated_tokens":1.5`), "/estimated_tokens", "type"},
		{holdPath, hold(`,"estimated_tokens":"1"`), "/estimated_tokens", "type"},
		{holdPath, hold(`,"estimated_tokens":99999999999999999999`), "/estimated_tokens", "type"},
		{holdPath, hold(`,"estimated_tokens":1,"ttl_seconds":0`), "/ttl_seconds", "too_small"},
		{holdPath, hold(`,"estimated_tokens":1,"ttl_seconds":86401`), "/ttl_seconds", "too_large"},
		{holdPath, hold(`,"estimated_tokens":1,"task_id":"x"`), "/task_id", "too_short"},
		{commitPath, `{"request_id":"a","actual_tokens":-1}`, "/actual_tokens", "too_small"},
		{commitPath, `{"request_id":"","actual_tokens":1}`, "/request_id", "too_short"},
		{releasePath, `{"request_id":"a\u0000"}`, "/request_id", "pattern"},
	} {
		got := h.do("POST", tt.path, "developer", tt.body)
		h.want(got, http.StatusUnprocessableEntity, apierr.ValidationInvalid)
		faults, _ := got.member(t, "details", "errors").([]any)
		if first, _ := faults[0].(map[string]any); len(faults) != 1 || first["pointer"] != tt.pointer || first["code"] != tt.code {
			t.Errorf("%s: %v, want %s %s", tt.body, faults, tt.pointer, tt.code)
		}
	}
	if len(h.store.by) != 0 {
		t.Errorf("asked: %v", h.store.by)
	}
}

// TestWhoseBudget: a caller of one project acts on it only, a caller of all
// tenants says which, and what is another's is as what is not there.
func TestWhoseBudget(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	settle := `{"request_id":"a","actual_tokens":1%s}`
	for _, tt := range []struct {
		token, path, body string
		status            int
		tenant, project   string // that the ledger was asked in
	}{
		{"developer", holdPath, `{"request_id":"a","tenant_id":"org1","project_id":"other","estimated_tokens":1}`, 201, "org1", "other"},
		{"admin-proj1", holdPath, goodHold, 201, "org1", "proj1"},
		{"admin-proj1", holdPath, `{"request_id":"a","tenant_id":"org1","project_id":"other","estimated_tokens":1}`, 404, "", ""},
		{"admin-all", holdPath, `{"request_id":"a","tenant_id":"org2","project_id":"proj1","estimated_tokens":1}`, 201, "org2", "proj1"},
		{"developer", commitPath, fmt.Sprintf(settle, ``), 200, "org1", ""},
		{"developer", commitPath, fmt.Sprintf(settle, `,"project_id":"other"`), 200, "org1", "other"},
		{"developer", commitPath, fmt.Sprintf(settle, `,"tenant_id":"org2"`), 404, "", ""},
		{"admin-proj1", commitPath, fmt.Sprintf(settle, ``), 200, "org1", "proj1"},
		{"admin-proj1", commitPath, fmt.Sprintf(settle, `,"project_id":"other"`), 404, "", ""},
		{"admin-proj1", releasePath, `{"request_id":"a","project_id":"other"}`, 404, "", ""},
		{"admin-all", commitPath, fmt.Sprintf(settle, ``), 422, "", ""},
		{"admin-all", releasePath, `{"request_id":"a","tenant_id":"org2"}`, 200, "org2", ""},
		{"observer", releasePath, `{"request_id":"a"}`, 403, "", ""},
	} {
		h.store.seed()
		if got := h.do("POST", tt.path, tt.token, tt.body); got.status != tt.status {
			t.Errorf("%s by %s: %d, want %d: %s", tt.body, tt.token, got.status, tt.status, got.body)
		}
		project := ""
		for _, asked := range h.store.holds {
			project = asked.Project
		}
		for _, asked := range h.store.settled {
			project = asked.Project
		}
		if h.store.tenant != tt.tenant || project != tt.project {
			t.Errorf("%s by %s: asked in %q, %q, want %q, %q", tt.body, tt.token, h.store.tenant, project, tt.tenant, tt.project)
		}
	}
}

func TestBudgetState(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	got := h.do("GET", "/api/v1/budget/state?tenant_id=org1&project_id=proj1", "observer", "")
	h.want(got, http.StatusOK, "")
	want := map[string]any{"tenant_id": "org1", "project_id": "proj1", "items": []any{
		map[string]any{
			"limit_id": uuid(1), "scope": "project", "window": "day", "time_zone": "UTC", "limit": 1000.0, "ceiling": 1000.0, "used": 100.0,
			"reserved": 50.0, "available": 850.0, "overrun": 7.0, "period_start": "2026-01-02T03:04:05Z", "resets_at": "2026-01-03T03:04:05Z",
		},
		map[string]any{
			"limit_id": uuid(3), "scope": "tenant", "window": "total", "time_zone": "UTC", "limit": 5000.0, "ceiling": 5000.0, "used": 100.0,
			"reserved": 50.0, "available": 4850.0, "overrun": 7.0, "period_start": "2026-01-02T03:04:05Z",
		},
	}}
	if diff := cmp.Diff(want, got.member(t)); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		token, query, project string
		status                int
	}{
		{"observer", "", "", 200}, {"admin-proj1", "", "proj1", 200}, {"admin-proj1", "?project_id=other", "", 404},
		{"admin-all", "", "", 422}, {"admin-all", "?tenant_id=org2", "", 200}, {"observer", "?tenant_id=org2", "", 404},
	} {
		h.store.seed()
		if got := h.do("GET", "/api/v1/budget/state"+tt.query, tt.token, ""); got.status != tt.status || h.store.project != tt.project {
			t.Errorf("%s by %s: %d of project %q, want %d of %q", tt.query, tt.token, got.status, h.store.project, tt.status, tt.project)
		}
	}
	h.store.err = apierr.New(apierr.BudgetUnavailable, apierr.Options{})
	h.want(h.do("GET", "/api/v1/budget/state", "observer", ""), http.StatusServiceUnavailable, apierr.BudgetUnavailable)
}

func TestBudgetTransactions(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	path := "/api/v1/budget/transactions"
	got := h.do("GET", path+"?project_id=proj1&request_id=job-17&limit=1", "observer", "")
	h.want(got, http.StatusOK, "")
	want := []any{map[string]any{
		"id": 3.0, "kind": "commit", "project_id": "proj1", "limit_id": uuid(1), "origin": "api", "request_id": "job-17", "attempt": 1.0,
		"used": 40.0, "reserved": -100.0, "overrun": 0.0, "late": true, "at": "2026-01-02T03:04:05Z",
	}}
	if diff := cmp.Diff(want, got.member(t, "items")); diff != "" {
		t.Errorf("transactions (-want +got):\n%s", diff)
	}
	next := got.text(t, "next")
	h.want(h.do("GET", path+"?project_id=proj1&request_id=job-17&limit=1&cursor="+next, "observer", ""), http.StatusOK, "")
	h.want(h.do("GET", path+"?project_id=other&request_id=job-17&limit=1&cursor="+next, "observer", ""), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	all := h.do("GET", path, "admin-proj1", "")
	items, _ := all.member(t, "items").([]any)
	limit := map[string]any{
		"id": 1.0, "kind": "limit", "project_id": "", "limit_id": uuid(3), "origin": "admin", "limit": 5000.0,
		"used": 0.0, "reserved": 0.0, "overrun": 0.0, "late": false, "at": "2026-01-02T03:04:05Z",
	}
	if diff := cmp.Diff(limit, items[len(items)-1]); diff != "" {
		t.Errorf("a limit's (-want +got):\n%s", diff)
	}
	queries := h.store.queries
	first := budget.Query{Project: "proj1", Request: "job-17", Limit: 1}
	second := first
	second.Before = queries[1].Before
	if diff := cmp.Diff([]budget.Query{first, second, {Project: "proj1", Limit: 50}}, queries); diff != "" || second.Before == "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
	h.want(h.do("GET", path+"?project_id=other", "admin-proj1", ""), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("GET", path, "admin-all", ""), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
}

func TestBudgetLimitLife(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	path := "/api/v1/budget/limits"
	made := h.do("POST", path, "admin", `{"tenant_id":"org1","project_id":"proj1","window":"month","tokens":1000000}`)
	h.want(made, http.StatusCreated, "")
	at := made.header.Get("Location")
	if at != path+"/"+made.text(t, "id") || made.text(t, "time_zone") != "UTC" || made.header.Get("Etag") != `"1"` {
		t.Fatalf("Location %s: %s", at, made.body)
	}
	h.want(h.do("POST", path, "admin", `{"tenant_id":"org1","project_id":"proj1","window":"month","tokens":1}`), http.StatusConflict, apierr.StateConflict)
	h.want(h.do("PATCH", at, "admin", `{"tokens":5}`), http.StatusPreconditionRequired, apierr.StatePreconditionFailed)
	h.want(h.do("PATCH", at, "admin", `{"tokens":5}`, "If-Match", `"7"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	h.want(h.do("PATCH", at, "admin", `{"tokens":5}`, "If-Match", `"1"`), http.StatusOK, "")
	want := map[string]any{
		"id": made.text(t, "id"), "tenant_id": "org1", "project_id": "proj1", "window": "month", "time_zone": "UTC", "tokens": 5.0,
		"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "version": 2.0,
	}
	if diff := cmp.Diff(want, h.do("GET", at, "admin", "").member(t)); diff != "" {
		t.Errorf("limit (-want +got):\n%s", diff)
	}
	h.want(h.do("DELETE", at, "admin", "", "If-Match", `"1"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	h.want(h.do("DELETE", at, "admin", ""), http.StatusNoContent, "")
	h.want(h.do("GET", at, "admin", ""), http.StatusNotFound, apierr.ResourceNotFound)
	closing := h.do("GET", path+"/"+uuid(3), "admin", "")
	if closing.text(t, "closed_at") != "2026-01-02T04:04:05Z" || closing.text(t, "project_id") != "" {
		t.Errorf("a limit that was deleted: %s", closing.body)
	}
}

// TestLimitsOfAProject: a caller of a project sees and changes its limits only,
// not those of the tenant.
func TestLimitsOfAProject(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	path := "/api/v1/budget/limits"
	for token, want := range map[string]int{"admin": 2, "admin-proj1": 1} {
		items, _ := h.do("GET", path, token, "").member(t, "items").([]any)
		if len(items) != want {
			t.Errorf("%s sees %d limits, want %d", token, len(items), want)
		}
	}
	of := path + "/" + uuid(3)
	h.want(h.do("GET", of, "admin-proj1", ""), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("PATCH", of, "admin-proj1", `{"tokens":1}`, "If-Match", "*"), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("DELETE", of, "admin-proj1", ""), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("POST", path, "admin-proj1", `{"tenant_id":"org1","window":"hour","tokens":1}`), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("POST", path, "admin-proj1", `{"tenant_id":"org1","project_id":"other","window":"hour","tokens":1}`), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("GET", path, "admin-all", ""), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	if len(h.store.by) != 0 {
		t.Errorf("changes were made: %v", h.store.by)
	}
	h.want(h.do("POST", path, "admin-proj1", `{"tenant_id":"org1","project_id":"proj1","window":"hour","tokens":1}`), http.StatusCreated, "")
}

// TestHoldsAreLimited: besides the role's limit, each principal has one of holds.
func TestHoldsAreLimited(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	passed := 0
	for range 40 {
		got := h.do("POST", holdPath, "operator", goodHold)
		if got.status == http.StatusCreated {
			passed++
			continue
		}
		h.want(got, http.StatusTooManyRequests, apierr.RateLimitExceeded)
		if limit := got.text(t, "details", "limit"); limit != "budget" {
			t.Fatalf("limit %q, want budget", limit)
		}
	}
	if passed != 30 {
		t.Errorf("%d holds passed, want 30", passed)
	}
	h.want(h.do("POST", commitPath, "operator", `{"request_id":"a","actual_tokens":1}`), http.StatusOK, "")
}
