package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/control/httpapi/spec"
	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
)

func TestAgentLife(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	made := h.do("POST", "/api/v1/agents", "admin", `{"tenant_id":"org1","project_id":"proj1","name":"builder","role":"developer","metadata":{"team":"build"}}`)
	h.want(made, http.StatusCreated, "")
	at := made.header.Get("Location")
	if at != "/api/v1/agents/"+made.text(t, "id") || made.text(t, "status") != "active" || made.member(t, "blocked_at") != nil {
		t.Fatalf("Location %s: %s", at, made.body)
	}
	blocked := h.do("POST", at+"/block", "admin", `{"reason":"runs wild"}`, "If-Match", `"1"`)
	h.want(blocked, http.StatusOK, "")
	want := map[string]any{
		"id": made.text(t, "id"), "tenant_id": "org1", "project_id": "proj1", "name": "builder", "role": "developer", "status": "blocked",
		"blocked_at": "2026-01-02T03:04:05Z", "blocked_reason": "runs wild", "metadata": map[string]any{"team": "build"},
		"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "version": float64(2),
	}
	if diff := cmp.Diff(want, h.do("GET", at, "observer", "").member(t)); diff != "" {
		t.Errorf("blocked agent (-want +got):\n%s", diff)
	}
	again := h.do("POST", at+"/block", "admin", `{"reason":"another"}`)
	if again.text(t, "blocked_reason") != "runs wild" || len(h.store.by) != 2 {
		t.Errorf("blocked again: %s after %d changes, want 2", again.body, len(h.store.by))
	}
	h.want(h.do("POST", at+"/unblock", "admin", "", "If-Match", `"1"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	free := h.do("POST", at+"/unblock", "admin", "", "If-Match", `"2"`)
	if free.text(t, "status") != "active" || free.member(t, "blocked_reason") != nil {
		t.Errorf("unblocked: %s", free.body)
	}
	h.do("POST", at+"/unblock", "admin", "")
	if len(h.store.by) != 3 {
		t.Errorf("%d changes, want 3", len(h.store.by))
	}
}

// TestAgentIsBlockedInARace changes the agent between look and block: that
// stops nobody but who asks for a version.
func TestAgentIsBlockedInARace(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) { o.Agents = &racingAgents{o.Agents.(*store)} })
	for _, tt := range []struct {
		path, body, version string
		status              int
	}{
		{"/block", `{"reason":"x"}`, `"1"`, 412},
		{"/block", `{"reason":"x"}`, "", 200},
		{"/unblock", "", `"4"`, 412},
		{"/unblock", "", "", 200},
		{"/block", `{"reason":"x"}`, "*", 200},
	} {
		var header []string
		if tt.version != "" {
			header = []string{"If-Match", tt.version}
		}
		if a := h.do("POST", "/api/v1/agents/"+uuid(1)+tt.path, "admin", tt.body, header...); a.status != tt.status {
			t.Errorf("%s of version %q: %d %s, want %d", tt.path, tt.version, a.status, a.body, tt.status)
		}
	}
}

func TestAgentRefusals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const good = `{"tenant_id":"org1","name":"builder","role":"developer"}`
	var many strings.Builder
	for i := range 65 {
		fmt.Fprintf(&many, `,"k%d":""`, i)
	}
	for name, tt := range map[string]struct{ token, body, code string }{
		"by an operator":          {"operator", good, "auth.forbidden"},
		"another tenant's":        {"admin", strings.Replace(good, "org1", "org2", 1), "resource.not_found"},
		"all tenants'":            {"admin-all", strings.Replace(good, "org1", "*", 1), "validation.invalid"},
		"metadata that is deep":   {"admin", strings.Replace(good, "{", `{"metadata":{"a":{}},`, 1), "validation.invalid"},
		"metadata that is much":   {"admin", strings.Replace(good, "{", `{"metadata":{`+many.String()[1:]+`},`, 1), "validation.invalid"},
		"metadata that is double": {"admin", strings.Replace(good, "{", `{"metadata":{"a":"","a":""},`, 1), "validation.invalid"},
		"status given":            {"admin", strings.Replace(good, "{", `{"status":"blocked",`, 1), "validation.invalid"},
	} {
		if a := h.do("POST", "/api/v1/agents", tt.token, tt.body); a.text(t, "error_code") != tt.code {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.body, tt.code)
		}
	}
	h.want(h.do("POST", "/api/v1/agents/"+uuid(1)+"/block", "admin", `{}`), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	if len(h.store.by) != 0 {
		t.Errorf("%d changes were made", len(h.store.by))
	}
}

func TestSidecarLife(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	made := h.do("POST", "/api/v1/mesh/sidecars", "admin-all", `{"name":"app-1","tenant_id":"org1","policy_set":"main"}`)
	h.want(made, http.StatusCreated, "")
	at := made.header.Get("Location")
	if at != "/api/v1/mesh/sidecars/"+made.text(t, "sidecar", "id") || made.text(t, "sidecar", "role") != "developer" ||
		made.header.Get("Cache-Control") != "no-store" || made.header.Get("ETag") != `"1"` {
		t.Fatalf("Location %s, header %v: %s", at, made.header, made.body)
	}
	file, err := json.Marshal(made.member(t, "credential"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := mesh.ParseCredential(file); err != nil || c.Secret != "ghsc_the_credential_of_"+made.text(t, "sidecar", "id") {
		t.Errorf("the credential is no credential file: %v, %s", err, file)
	}
	changed := h.do("PATCH", at, "admin-all", `{"policy_set":"canary","role":"observer","shared":true,"agent_id":"`+uuid(1)+`","project_id":"proj1"}`, "If-Match", `"1"`)
	h.want(changed, http.StatusOK, "")
	if s := h.store.sidecars[2]; s.PolicySet != "canary" || s.Role != "observer" || !s.Shared || s.Agent != uuid(1) || s.Project != "proj1" {
		t.Errorf("changed to %+v", s)
	}
	h.want(h.do("POST", at+"/rotate", "admin-all", "", "If-Match", `"1"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	rotated := h.do("POST", at+"/rotate", "admin-all", "")
	h.want(rotated, http.StatusOK, "")
	if rotated.text(t, "credential", "credential") != "ghsc_the_credential_of_rotated" || rotated.header.Get("ETag") != `"3"` {
		t.Errorf("rotated: %s %s", rotated.header.Get("ETag"), rotated.body)
	}
	h.want(h.do("DELETE", at, "admin-all", "", "If-Match", `"2"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	h.want(h.do("DELETE", at, "admin-all", ""), http.StatusNoContent, "")
	for _, later := range []answer{h.do("GET", at, "admin-all", ""), h.do("GET", "/api/v1/mesh/sidecars", "admin-all", ""), changed} {
		if strings.Contains(later.body, "ghsc_") {
			t.Errorf("the credential is shown again: %s", later.body)
		}
	}
	if h.do("GET", at, "admin-all", "").member(t, "revoked") != true {
		t.Error("it is not shown as revoked")
	}
	h.want(h.do("PATCH", at, "admin-all", `{"shared":false}`), http.StatusPreconditionRequired, apierr.StatePreconditionFailed)
	if got := h.all("/api/v1/mesh/sidecars?tenant_id=org2&limit=1", "admin-all"); len(got) != 1 {
		t.Errorf("sidecars of one tenant: %v", got)
	}
}

// TestSidecarReport shows what a sidecar said last, and when it counts as
// connected.
func TestSidecarReport(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	at := "/api/v1/mesh/sidecars/" + uuid(1)
	silent := h.do("GET", at, "admin-all", "")
	if silent.member(t, "connected") != false || silent.member(t, "last_seen_at") != nil || silent.member(t, "generation") != nil {
		t.Errorf("one that never reported: %s", silent.body)
	}
	h.store.sidecars[0].Last = mesh.Report{
		At: seeded, Generation: 3, Revision: seededRevision, LiveEpoch: 17, Skew: -4 * time.Millisecond, Build: "v1",
		Refused: mesh.Refusal{Generation: 4, Revision: "abc", Reason: "no such cluster", At: seeded},
	}
	h.advance(connectedWithin)
	want := map[string]any{
		"connected": true, "last_seen_at": "2026-01-02T03:04:05Z", "generation": 3.0, "revision": seededRevision, "live_epoch": 17.0,
		"skew_ms": -4.0, "build": "v1",
		"refused": map[string]any{"generation": 4.0, "revision": "abc", "reason": "no such cluster", "at": "2026-01-02T03:04:05Z"},
	}
	got := h.do("GET", at, "admin-all", "").member(t).(map[string]any)
	for name := range got {
		if want[name] == nil {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	h.advance(time.Millisecond)
	if h.do("GET", at, "admin-all", "").member(t, "connected") != false {
		t.Error("connected after 15 s of silence")
	}
	h.store.sidecars[0].Last.At, h.store.sidecars[0].Revoked = h.clock(), true
	if h.do("GET", at, "admin-all", "").member(t, "connected") != false {
		t.Error("a revoked sidecar is connected")
	}
}

func TestPolicyLife(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const push = `{"files":{"gatehouse.yaml":"routes: []\n","a/b.rego":"package b <&>"},"note":"second"}`
	made := h.do("POST", "/api/v1/policies/main/revisions", "admin-all", push)
	h.want(made, http.StatusCreated, "")
	at := made.header.Get("Location")
	id := made.text(t, "id")
	if at != "/api/v1/policies/main/revisions/"+id || made.member(t, "files") != nil || made.text(t, "pushed_by") != "admin-all" {
		t.Fatalf("Location %s: %s", at, made.body)
	}
	again := h.do("POST", "/api/v1/policies/main/revisions", "admin-all", push)
	h.want(again, http.StatusOK, "")
	if again.text(t, "id") != id || again.header.Get("Location") != "" {
		t.Errorf("pushed again: %s", again.body)
	}
	files := map[string]any{"gatehouse.yaml": "routes: []\n", "a/b.rego": "package b <&>"}
	if diff := cmp.Diff(files, h.do("GET", at[:len(at)-56], "admin-all", "").member(t, "files")); diff != "" {
		t.Errorf("files, by the beginning of the id (-want +got):\n%s", diff)
	}
	if got := h.all("/api/v1/policies/main/revisions?limit=1", "admin-all"); len(got) != 2 {
		t.Errorf("revisions: %v", got)
	}
	h.want(h.do("POST", "/api/v1/policies/main/activate", "admin-all", `{"revision_id":"`+id+`"}`, "If-Match", `"7"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	on := h.do("POST", "/api/v1/policies/main/activate", "admin-all", `{"revision_id":"`+id+`"}`, "If-Match", `"1"`)
	h.want(on, http.StatusOK, "")
	want := map[string]any{
		"name": "main", "sidecars": 2.0, "in_force": 1.0, "created_at": "2026-01-02T03:04:05Z", "version": 2.0,
		"active": map[string]any{"revision": id, "generation": 2.0, "kind": "activate", "activated_at": "2026-01-02T03:04:05Z"},
	}
	if diff := cmp.Diff(want, h.do("GET", "/api/v1/policies/main", "admin-all", "").member(t)); diff != "" || on.header.Get("ETag") != `"2"` {
		t.Errorf("ETag %s, set (-want +got):\n%s", on.header.Get("ETag"), diff)
	}
	back := h.do("POST", "/api/v1/policies/main/rollback", "admin-all", `{}`)
	if back.text(t, "active", "kind") != "rollback" || back.text(t, "active", "revision") != seededRevision {
		t.Errorf("rolled back: %s", back.body)
	}
}

func TestPolicyRefusals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	fresh := h.do("POST", "/api/v1/policies/new-one/revisions", "admin-all", `{"files":{"gatehouse.yaml":""}}`)
	h.want(fresh, http.StatusCreated, "")
	if set := h.do("GET", "/api/v1/policies/new-one", "admin-all", ""); set.member(t, "active") != nil {
		t.Errorf("in force by being pushed: %s", set.body)
	}
	if a := h.do("GET", "/api/v1/policies?limit=1", "admin-all", ""); a.text(t, "next") == "" {
		t.Errorf("two sets in a part of one: %s", a.body)
	}
	for path, body := range map[string]string{
		"main/revisions": `{"files":{}}`, "main/activate": `{}`, "main/rollback": `{"revision_id":"ABCDEF00"}`,
	} {
		h.want(h.do("POST", "/api/v1/policies/"+path, "admin-all", body), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	}
	h.want(h.do("POST", "/api/v1/policies/Main/revisions", "admin-all", `{"files":{"a":""}}`), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("POST", "/api/v1/policies/none/rollback", "admin-all", `{}`), http.StatusNotFound, apierr.ResourceNotFound)
	h.want(h.do("GET", "/api/v1/policies/main/revisions/abc", "admin-all", ""), http.StatusNotFound, apierr.ResourceNotFound)
}

// TestLargeBodies holds each operation to its own bound.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	body := func(size int) string {
		const frame = `{"files":{"gatehouse.yaml":"","a.rego":""}}`
		half := strings.Repeat("x", (size-len(frame))/2)
		return `{"files":{"gatehouse.yaml":"` + half + `","a.rego":"` + half + `"}}`
	}
	const largest = 6 << 20
	h.want(h.do("POST", "/api/v1/policies/main/revisions", "admin-all", body(largest-1)), http.StatusCreated, "")
	h.want(h.do("POST", "/api/v1/policies/main/revisions", "admin-all", body(largest+3)), http.StatusRequestEntityTooLarge, apierr.ValidationTooLarge)
	h.want(h.do("POST", "/api/v1/policies/main/activate", "admin-all", body(spec.DefaultBody+3)), http.StatusRequestEntityTooLarge, apierr.ValidationTooLarge)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/policies/main/revisions", strings.NewReader(body(largest+3)))
	r.ContentLength = -1 // not announced
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer admin-all")
	h.want(h.send(r, ""), http.StatusRequestEntityTooLarge, apierr.ValidationTooLarge)
}

func TestGovernance(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	items, _ := h.do("GET", "/api/v1/governance/status", "operator", "").member(t, "items").([]any)
	want := []any{
		map[string]any{
			"agent_role": "developer", "daily_limit": 5.0, "cooldown_seconds": 7200.0, "requires_approval": false, "locked": false, "locked_reason": "",
			"updates_today": 1.0, "remaining_today": 4.0, "pending": 0.0, "last_update_at": "2026-01-02T03:04:05Z", "next_update_at": "2026-01-02T05:04:05Z",
			"refusal": "cooldown", "can_auto_update": false,
		},
		map[string]any{
			"agent_role": "tester", "daily_limit": 5.0, "cooldown_seconds": 7200.0, "requires_approval": false, "locked": false, "locked_reason": "",
			"updates_today": 0.0, "remaining_today": 5.0, "pending": 0.0, "refusal": "", "can_auto_update": true,
		},
	}
	if diff := cmp.Diff(want, items); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, token, body string
		status            int
		want              account.Revocation
	}{
		{"own token", "admin", `{"token_id":"j1","reason":"lost"}`, 200, account.Revocation{Tenant: "org1", TokenID: "j1", Reason: "lost"}},
		{"token of any", "admin-all", `{"token_id":"j1"}`, 200, account.Revocation{Tenant: "*", TokenID: "j1"}},
		{"token of one", "admin-all", `{"token_id":"j1","tenant_id":"org2"}`, 200, account.Revocation{Tenant: "org2", TokenID: "j1"}},
		{"own user", "admin", `{"subject":"` + uuid(1) + `"}`, 200, account.Revocation{Tenant: "org1", Subject: uuid(1)}},
		{"own user, tenant named", "admin", `{"subject":"` + uuid(1) + `","tenant_id":"org1"}`, 200, account.Revocation{Tenant: "org1", Subject: uuid(1)}},
		{"user of any", "admin-all", `{"subject":"` + uuid(2) + `"}`, 200, account.Revocation{Tenant: "org2", Subject: uuid(2)}},
		{"user of one", "admin-all", `{"subject":"` + uuid(2) + `","tenant_id":"org2"}`, 200, account.Revocation{Tenant: "org2", Subject: uuid(2)}},
		{"user of another than named", "admin-all", `{"subject":"` + uuid(2) + `","tenant_id":"org1"}`, 404, account.Revocation{}},
		{"stranger of one", "admin-all", `{"subject":"x@y","tenant_id":"org2"}`, 404, account.Revocation{}},
		{"another's user", "admin", `{"subject":"` + uuid(2) + `"}`, 404, account.Revocation{}},
		{"stranger", "admin", `{"subject":"x@y","tenant_id":"org1"}`, 404, account.Revocation{}},
		{"in another tenant", "admin", `{"token_id":"j1","tenant_id":"org2"}`, 404, account.Revocation{}},
		{"stranger of nobody", "admin-all", `{"subject":"x@y"}`, 404, account.Revocation{}},
		{"both", "admin", `{"token_id":"j1","subject":"x"}`, 422, account.Revocation{}},
		{"neither", "admin", `{"reason":"lost"}`, 422, account.Revocation{}},
	} {
		h := newHarness(t)
		a := h.do("POST", "/api/v1/auth/revocations", tt.token, tt.body)
		if a.status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, a.status, a.body, tt.status)
		}
		var got account.Revocation
		if len(h.store.revoked) > 0 {
			got = h.store.revoked[0]
			got.IssuedBefore, got.ExpiresAt = time.Time{}, time.Time{}
		}
		if got != tt.want {
			t.Errorf("%s: revoked %+v, want %+v", tt.name, got, tt.want)
		}
		if tt.status == 200 && (a.text(t, "tenant_id") != tt.want.Tenant || a.text(t, "token_id") != tt.want.TokenID) {
			t.Errorf("%s: answered %s", tt.name, a.body)
		}
	}
}

// TestLogoutMeansOut ends the access token with the session, and never stands
// in the way of ending the session.
func TestLogoutMeansOut(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]struct {
		status  int
		revoked string
	}{
		"developer": {204, "jti-developer"},
		"admin-all": {204, "jti-admin-all"},
		"":          {204, ""}, "expired": {204, ""}, "bad": {204, ""}, "a b": {204, ""},
		"keyless": {503, ""}, // whether it is good can't be told now
	} {
		h := newHarness(t)
		a := h.do("POST", "/api/v1/auth/logout", token, `{"refresh_token":"r_1"}`)
		if a.status != want.status {
			t.Errorf("%q: %d %s, want %d", token, a.status, a.body, want.status)
		}
		var got strings.Builder
		for _, r := range h.store.revoked {
			got.WriteString(r.TokenID)
		}
		if got.String() != want.revoked {
			t.Errorf("%q: revoked %q, want %q", token, got.String(), want.revoked)
		}
	}
	h := newHarness(t, func(o *Options) { o.Revocations = brokenRevocations{o.Revocations} })
	h.want(h.do("POST", "/api/v1/auth/logout", "developer", `{"refresh_token":"r_1"}`), http.StatusServiceUnavailable, apierr.Internal)
	if h.auth.ended != 1 {
		t.Errorf("%d sessions have ended where the token can't be refused, want 1", h.auth.ended)
	}
}
