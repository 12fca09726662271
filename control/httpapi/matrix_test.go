package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	apiv1 "gatehouse/api/v1"
	"gatehouse/control/httpapi/spec"
)

// holders are who has the permissions that this API asks for, written here
// once more, apart from the policy.
var holders = map[string][]string{
	"":                 {"admin-all", "admin", "operator", "developer", "observer", "anonymous", "none"},
	"health.view":      {"admin-all", "admin", "operator", "developer", "observer", "anonymous", "none"},
	"task.view":        {"admin-all", "admin", "operator", "developer", "observer"},
	"agent.view":       {"admin-all", "admin", "operator", "developer", "observer"},
	"agent.configure":  {"admin-all", "admin"},
	"budget.view":      {"admin-all", "admin", "operator", "developer", "observer"},
	"budget.configure": {"admin-all", "admin"},
	"task.create":      {"admin-all", "admin", "operator", "developer"},
	"escalation.view":  {"admin-all", "admin", "operator"},
	"learning.view":    {"admin-all", "admin", "operator"},
	"system.admin":     {"admin-all", "admin"},
}

// described is what the matrix needs of an operation in the document.
type described struct {
	Body struct {
		Content map[string]struct {
			Example map[string]any `json:"example"`
		} `json:"content"`
	} `json:"requestBody"`
	Responses map[string]any `json:"responses"`
}

func describedOperations(t *testing.T) (map[string]spec.Operation, map[string]described) {
	t.Helper()
	ops, err := spec.Parse(apiv1.Spec())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]described `json:"paths"`
	}
	if err := json.Unmarshal(apiv1.Spec(), &doc); err != nil {
		t.Fatal(err)
	}
	byID, about := map[string]spec.Operation{}, map[string]described{}
	for _, op := range ops {
		byID[op.ID], about[op.ID] = op, doc.Paths[op.Path][strings.ToLower(op.Method)]
	}
	return byID, about
}

// targets fill an operation's path and body with things of one tenant.
func target(op spec.Operation, d described, tenant string) (path, body string) {
	id := map[string]string{"org1": uuid(1), "org2": uuid(2)}[tenant]
	path = strings.NewReplacer(
		"{user_id}", id, "{client_id}", id, "{tenant_id}", tenant, "{project_id}", "proj1", "{agent_id}", id, "{sidecar_id}", id,
		"{limit_id}", id,
		"{kind}", "consensus", "{policy_set}", "main", "{breaker_name}", "db", "{revision_id}", seededRevision, "{decision_id}", "d-"+tenant,
	).Replace(op.Path)
	if op.InQuery["tenant_id"] != nil {
		path += "?tenant_id=" + tenant
	}
	if op.Body == nil {
		return path, ""
	}
	example := maps.Clone(d.Body.Content["application/json"].Example)
	if _, ok := example["tenant_id"]; ok {
		example["tenant_id"] = tenant
	}
	if op.ID == "createTenant" {
		example["id"] = "new-one"
	}
	b, _ := json.Marshal(example) // of maps and strings
	return path, string(b)
}

// success is the status below 300 that the document gives: what creates may
// also find that it is there already.
func (d described) success() int {
	for _, status := range []int{http.StatusCreated, http.StatusOK, http.StatusNoContent} {
		if _, ok := d.Responses[fmt.Sprint(status)]; ok {
			return status
		}
	}
	return 0
}

// expected is what the rules of tenants and roles say, in the order in which
// they are asked.
func expected(op spec.Operation, d described, caller, tenant string) int {
	_, body := d.Body.Content["application/json"].Example["tenant_id"]
	names := body || op.InPath["tenant_id"] != nil || op.InPath["user_id"] != nil || op.InPath["client_id"] != nil ||
		op.InPath["agent_id"] != nil || op.InPath["decision_id"] != nil ||
		op.InQuery["tenant_id"] != nil || op.ID == "revokeTokens"
	switch {
	case op.Token == spec.TokenRequired && caller == "none":
		return http.StatusUnauthorized
	case !slices.Contains(holders[op.Permission], caller):
		return http.StatusForbidden
	case op.Tenancy == spec.TenancyAll && caller != "admin-all":
		return http.StatusForbidden
	case op.Tenancy == spec.TenancyTenant && names && tenant != "org1" && caller != "admin-all":
		return http.StatusNotFound
	}
	return d.success()
}

// TestMatrix asks every operation as every caller for things of the caller's
// own and of another tenant.
func TestMatrix(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ops, about := describedOperations(t)
	seen := map[int]int{}
	for _, id := range slices.Sorted(maps.Keys(ops)) {
		op, d := ops[id], about[id]
		if _, known := holders[op.Permission]; !known {
			t.Errorf("%s: permission %q is not in the table of this test", id, op.Permission)
		}
		for _, caller := range holders[""] {
			for _, tenant := range []string{"org1", "org2"} {
				h.store.seed()
				want := expected(op, d, caller, tenant)
				path, body := target(op, d, tenant)
				token := caller
				if caller == "none" {
					token = ""
				}
				got := h.do(op.Method, path, token, body, "If-Match", `"1"`)
				seen[got.status]++
				if got.status != want {
					t.Errorf("%s as %s in %s: %d, want %d: %s", id, caller, tenant, got.status, want, got.body)
				}
				if changed := len(h.store.by); want >= 400 && changed > 0 {
					t.Errorf("%s as %s in %s: refused, and %d changes made", id, caller, tenant, changed)
				}
			}
		}
	}
	for _, status := range []int{200, 201, 204, 401, 403, 404} {
		if seen[status] == 0 {
			t.Errorf("no cell of the matrix is %d: %v", status, seen)
		}
	}
}

// TestNoCallerBecomesEverybody holds the tenant "*" to administrators, and
// nothing to whoever has no tenant.
func TestNoCallerBecomesEverybody(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct{ token, path, rule string }{
		{"operator-all", "/api/v1/stats", "no_tenant"},
		{"admin-none", "/api/v1/users", "no_tenant"},
		{"admin-none", "/api/v1/tenants", "tenant_scope"},
	} {
		a := h.do("GET", tt.path, tt.token, "")
		h.want(a, http.StatusForbidden, "auth.forbidden")
		if got := a.text(t, "details", "rule_id"); got != tt.rule {
			t.Errorf("%s as %s: rule %q, want %q", tt.path, tt.token, got, tt.rule)
		}
	}
}

// TestStoreThatForgetsTenants shows that isolation does not rest on stores.
func TestStoreThatForgetsTenants(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) {
		leaky := &leakyStore{o.Users.(*store)}
		o.Users, o.Clients, o.Projects, o.Agents, o.Decisions, o.Revocations = leaky, leaky, leaky, leaky, leaky, leaky
		o.Budgets = leaky
	})
	for _, path := range []string{"/api/v1/users/" + uuid(2), "/api/v1/clients/" + uuid(2), "/api/v1/projects/proj1"} {
		h.want(h.do("GET", path, "admin", ""), http.StatusNotFound, "resource.not_found")
		h.want(h.do("DELETE", path, "admin", ""), http.StatusNotFound, "resource.not_found")
	}
	agent := "/api/v1/agents/" + uuid(2)
	h.want(h.do("GET", agent, "admin", ""), http.StatusNotFound, "resource.not_found")
	h.want(h.do("POST", agent+"/block", "admin", `{"reason":"x"}`), http.StatusNotFound, "resource.not_found")
	h.want(h.do("POST", agent+"/unblock", "admin", ""), http.StatusNotFound, "resource.not_found")
	limit := "/api/v1/budget/limits/" + uuid(2)
	h.want(h.do("GET", limit, "admin", ""), http.StatusNotFound, "resource.not_found")
	h.want(h.do("PATCH", limit, "admin", `{"tokens":1}`, "If-Match", "*"), http.StatusNotFound, "resource.not_found")
	h.want(h.do("DELETE", limit, "admin", ""), http.StatusNotFound, "resource.not_found")
	h.want(h.do("GET", "/api/v1/decisions/d-org2", "admin", ""), http.StatusNotFound, "resource.not_found")
	h.want(h.do("POST", "/api/v1/auth/revocations", "admin", `{"subject":"`+uuid(2)+`"}`), http.StatusInternalServerError, "internal.error")
	for _, path := range []string{"/api/v1/users", "/api/v1/clients", "/api/v1/projects", "/api/v1/agents", "/api/v1/decisions", "/api/v1/decisions/tail",
		"/api/v1/budget/limits", "/api/v1/budget/state?project_id=proj1"} {
		h.want(h.do("GET", path, "admin", ""), http.StatusInternalServerError, "internal.error")
	}
	if len(h.store.by) != 0 {
		t.Errorf("changes were made: %v", h.store.by)
	}
}

func TestMatrixKnowsAllOperations(t *testing.T) {
	t.Parallel()
	ops, about := describedOperations(t)
	if len(ops) < 65 {
		t.Errorf("%d operations, want at least 65", len(ops))
	}
	for id, op := range ops {
		if about[id].success() == 0 {
			t.Errorf("%s: the document gives no success", id)
		}
		if op.Tenancy == spec.TenancyTenant && op.Token != spec.TokenRequired {
			t.Errorf("%s: is about a tenant's things without a token", id)
		}
		if op.Permission == "system.admin" && op.Tenancy == spec.TenancyNone {
			t.Errorf("%s: an administrator of one tenant could do it to all", id)
		}
	}
}
