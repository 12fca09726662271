package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	userID  = "8f14e45f-ceea-467f-a1d6-91a1b5c8f001"
	agentID = "8f14e45f-ceea-467f-a1d6-91a1b5c8f003"
	passing = "a long enough password"
	stampRE = `2026-01-02T03:04:05Z`
)

// TestCommands runs each command on the document's own examples, with both
// forms of output.
func TestCommands(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args  string
		lines []string // forms of what is printed
		json  string   // an operation whose example -o json prints, or the text itself
		asked []string
		body  string // of the last operation
	}{
		{"users list --tenant org1", []string{`NAME +ROLE +TENANT +PROJECT +DISABLED +CREATED AT +ID`, `ada +developer +org1 +proj1 +no +` + stampRE + ` +` + userID},
			"listUsers", []string{"listUsers"}, ""},
		{"users create ada --tenant org1 --role developer --project proj1 --password-stdin", []string{`created user ada: role developer, tenant org1`},
			"createUser", []string{"createUser"}, `{"username": "ada", "password": "` + passing + `", "role": "developer", "tenant_id": "org1", "project_id": "proj1"}`},
		{"users delete ada", []string{`deleted user ada`}, "getUser", []string{"listUsers", "deleteUser"}, ""},
		{"users disable " + userID, []string{`disabled user ada`}, "updateUser", []string{"listUsers", "updateUser"}, `{"disabled": true}`},
		{"users enable ada", []string{`enabled user ada`}, "updateUser", []string{"listUsers", "updateUser"}, `{"disabled": false}`},
		{"tenants list", []string{`TENANT +NAME +SUSPENDED +CREATED AT`, `org1 +Organisation one +no +` + stampRE}, "listTenants", []string{"listTenants"}, ""},
		{"tenants suspend org1", []string{`tenant org1 is suspended`}, "suspendTenant", []string{"suspendTenant"}, ""},
		{"tenants resume org1", []string{`tenant org1 is accepted`}, "resumeTenant", []string{"resumeTenant"}, ""},
		{"agents list", []string{`NAME +TENANT +PROJECT +ROLE +STATUS +REASON +CREATED AT +ID`, `builder +org1 +proj1 +developer +active +- +` + stampRE + ` +` + agentID},
			"listAgents", []string{"listAgents"}, ""},
		{"agents create builder --tenant org1 --role developer", []string{`created agent builder of tenant org1: id ` + agentID},
			"createAgent", []string{"createAgent"}, `{"name": "builder", "tenant_id": "org1", "role": "developer"}`},
		{"agents block builder --reason wild", []string{`agent builder of tenant org1 is blocked`}, "blockAgent", []string{"listAgents", "blockAgent"}, `{"reason": "wild"}`},
		{"agents unblock builder", []string{`agent builder of tenant org1 is active`}, "unblockAgent", []string{"listAgents", "unblockAgent"}, ""},
		{"sidecars revoke app-1 --tenant org1", []string{`revoked app-1 of tenant org1`}, "getSidecar", []string{"listSidecars", "revokeSidecar"}, ""},
		{"revoke --token-id t-5e0f6a7b8c9d --tenant org1", []string{`revoked token t-5e0f6a7b8c9d of tenant org1; needed until 2026-01-02T03:19:05Z`},
			"revokeTokens", []string{"revokeTokens"}, `{"token_id": "t-5e0f6a7b8c9d", "tenant_id": "org1"}`},
		{"policy list", []string{`SET +REVISION +GENERATION +BY +AT +IN FORCE`, `main +9f86d081884c +3 +activate +` + stampRE + ` +at 3 of 4 sidecars`},
			"listPolicySets", []string{"listPolicySets"}, ""},
		{"policy list main", []string{`REVISION +ACTIVE +PUSHED AT +PUSHED BY +NOTE`, `9f86d081884c +yes +` + stampRE + ` +\S+ +first`},
			"listRevisions", []string{"listRevisions"}, ""},
		{"policy activate main 9f86d081", []string{`revision    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`, `generation  3 \(activate\)`, `in force at 1 of 1 sidecars`},
			`{"policy_set": activateRevision, "sidecars": listSidecars}`, []string{"activateRevision", "listSidecars"}, ""},
		{"policy rollback main", []string{`revision    9f86\S+`, `generation  3 \(activate\)`, `in force at 1 of 1 sidecars`},
			`{"policy_set": rollbackPolicySet, "sidecars": listSidecars}`, []string{"rollbackPolicySet", "listSidecars"}, ""},
		{"proxy status", []string{` +NAME +TENANT +SET +REVISION +GENERATION +STATE +EPOCH +LAST SEEN +SKEW +REFUSED`, ` +app-1 +org1 +main +9f86d081884c +3 +in force +17 +` + stampRE + ` +-4ms +-`},
			"listSidecars", []string{"listPolicySets", "listSidecars"}, ""},
		{"decisions --denied --limit 1", []string{`TIME +DECISION +RESULT +RULE +SUBJECT +ROUTE +REQUEST`, stampRE + ` +d-5e0f6a7b8c9d +allowed +- +- +- +`},
			"listDecisions", []string{"listDecisions"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			sh := a.shell()
			sh.stdin = passing
			r := sh.run(t, strings.Fields(tt.args)...)
			r.want(t, ExitOK)
			r.wantStdout(t, tt.lines...)
			a.wantAsked(tt.asked...)
			if tt.body != "" {
				a.wantBody(tt.asked[len(tt.asked)-1], tt.body)
			}
			r = sh.run(t, append(strings.Fields(tt.args), "-o", "json")...)
			r.want(t, ExitOK)
			wantJSON(t, r.stdout, a.expected(tt.json))
		})
	}
}

// expected puts the examples of operations into a text; that of a list is its
// items.
func (a *api) expected(text string) string {
	a.t.Helper()
	if example, ok := a.shown[text]; ok {
		return example
	}
	sidecars := strings.TrimSuffix(strings.TrimPrefix(a.shown["listSidecars"], `{"items":`), "}")
	return strings.NewReplacer("listSidecars", sidecars, "activateRevision", a.shown["activateRevision"], "rollbackPolicySet", a.shown["rollbackPolicySet"]).Replace(text)
}

func wantJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got)
	}
	noError(t, json.Unmarshal([]byte(want), &w))
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args, operation string
		status          int
		code, details   string
		exit            int
		want            []string
	}{
		{"tenants list", "listTenants", 403, "auth.forbidden", `{"reason": "role observer lacks system.admin"}`, ExitDenied,
			[]string{"It is refused (auth.forbidden): role observer lacks system.admin", "request q1", "gatehouse login --user NAME"}},
		{"tenants list", "listTenants", 401, "auth.invalid_token", "", ExitDenied, []string{"auth.invalid_token", "gatehouse login --api URL"}},
		{"tenants list", "listTenants", 500, "internal.error", "", ExitFindings, []string{"internal.error", "request q1"}},
		{"tenants list", "listTenants", 429, "rate_limit.exceeded", "", ExitFindings, []string{"rate_limit.exceeded"}},
		{"tenants suspend org9", "suspendTenant", 404, "resource.not_found", "", ExitFindings, []string{"there is no tenant org9", "gatehouse tenants list"}},
		{"users create ada --tenant t --role king --password-stdin", "createUser", 422, "validation.invalid", `{"errors": [{"pointer": "/role", "code": "x", "message": "want one of admin"}]}`, ExitFindings,
			[]string{"/role: want one of admin"}},
		{"users disable ada", "updateUser", 412, "state.precondition_failed", "", ExitFindings, []string{"state.precondition_failed"}},
		{"users delete ada", "deleteUser", 409, "state.conflict", `{"reason": "last_admin"}`, ExitFindings, []string{"last_admin"}},
		{"policy list none", "listRevisions", 404, "resource.not_found", "", ExitFindings, []string{"no policy set none", "gatehouse policy list"}},
		{"policy activate main abcdef01", "activateRevision", 404, "resource.not_found", "", ExitFindings, []string{"gatehouse policy list main"}},
		{"policy rollback main", "rollbackPolicySet", 409, "state.conflict", `{"reason": "nothing_before"}`, ExitFindings, []string{"nothing_before", "gatehouse policy list main"}},
		{"policy rollback main", "listSidecars", 500, "internal.error", "", ExitFindings, []string{"generation 3 is active, but the sidecars were not seen", "gatehouse proxy status"}},
		{"explain d-1", "getDecision", 404, "resource.not_found", "", ExitFindings, []string{"no decision d-1", "gatehouse decisions"}},
		{"revoke --subject ada", "revokeTokens", 404, "resource.not_found", "", ExitFindings, []string{"no subject ada", "gatehouse users list"}},
		{"proxy status", "listPolicySets", 403, "auth.forbidden", "", ExitDenied, []string{"auth.forbidden"}},
		{"decisions", "listDecisions", 503, "internal.error", "", ExitFindings, []string{"internal.error"}},
		{"decisions --follow", "tailDecisions", 403, "auth.forbidden", "", ExitDenied, []string{"auth.forbidden"}},
	}
	for _, tt := range tests {
		t.Run(tt.args+" "+tt.code, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.refuses(tt.operation, tt.status, tt.code, tt.details)
			sh := a.shell()
			sh.stdin = passing
			sh.run(t, strings.Fields(tt.args)...).want(t, tt.exit, tt.want...)
		})
	}
}

func TestNamesThatAreNotThere(t *testing.T) {
	t.Parallel()
	sh := newAPI(t).shell()
	sh.run(t, "users", "disable", "bob").want(t, ExitFindings, "there is no user bob", "gatehouse users list")
	sh.run(t, "agents", "block", "bob", "--reason", "x").want(t, ExitFindings, "there is no agent bob", "gatehouse agents list")
	sh.run(t, "sidecars", "revoke", "bob", "--tenant", "org1").want(t, ExitFindings, "there is no sidecar bob in tenant org1", "gatehouse proxy status")
	sh.run(t, "proxy", "status", "bob").want(t, ExitFindings, "there is no sidecar bob")
	a := newAPI(t)
	one := strings.TrimSuffix(strings.TrimPrefix(a.shown["listAgents"], `{"items":[`), "]}")
	a.says("listAgents", 200, `{"items": [`+one+`,`+strings.Replace(one, "org1", "org2", 1)+`]}`)
	a.shell().run(t, "agents", "unblock", "builder").want(t, ExitUsage, "--tenant")
}

func TestRemoteUsage(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, args := range []string{
		"users", "users nonsense", "users list more", "users create", "users create ada", "users create ada --tenant t", "users delete", "users list -o xml",
		"tenants suspend", "agents block builder", "agents create a --tenant t", "sidecars register a --tenant t --set s", "sidecars rotate a --out f",
		"sidecars revoke a", "revoke", "revoke --subject a --token-id b", "policy", "policy push", "policy push x", "policy push x --set s --wait 1h",
		"policy push x --set s --wait -1s", "policy activate main", "policy activate main 12345678 --wait 11m", "policy rollback", "policy test", "policy fmt",
		"proxy", "proxy status a b", "decisions more", "decisions --limit 0", "decisions --limit 10001", "decisions --follow --limit 5", "explain", "logout more",
	} {
		a.shell().run(t, strings.Fields(args)...).want(t, ExitUsage, "gatehouse:", "--help")
	}
	a.wantAsked()
}

func TestRemoteHelpSaysTheExitCodes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"login", "logout", "policy push", "policy list", "policy activate", "policy rollback", "proxy status", "decisions", "explain", "users list",
		"users create", "users delete", "users disable", "tenants list", "tenants suspend", "agents list", "agents block", "sidecars register", "sidecars rotate",
		"sidecars revoke", "revoke",
	} {
		r := run(t, append(strings.Fields(name), "--help")...)
		r.want(t, ExitOK)
		if !strings.Contains(r.stdout, "Exit codes: 0 ") || !strings.Contains(r.stdout, "4 not logged in, or not") {
			t.Errorf("help of %q does not say the exit codes:\n%s", name, r.stdout)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"é /a b": "é /a b", "a\x1b[2J": `a\x1b[2J`, "a\tb\nc": `a\tb\nc`, "\u009b1m\u202e": `\u009b1m\u202e`, "a\xff": `a�`,
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}
