package config

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	shippedSet     = "../../policies/shipped/gatehouse.yaml"
	exampleSidecar = "../../deploy/sidecar.example.yaml"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestShippedFilesFit(t *testing.T) {
	t.Parallel()
	set, err := ParseSet(shippedSet, readFile(t, shippedSet))
	if err != nil {
		t.Fatal(err)
	}
	sc, err := ParseSidecar(exampleSidecar, readFile(t, exampleSidecar))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckPair(set, sc); err != nil {
		t.Error(err)
	}
	var names []string
	for _, r := range set.Routes {
		names = append(names, r.Name)
	}
	if diff := cmp.Diff([]string{"health", "status", "tasks", "upload", "agents", "tools",
		"openai-chat", "openai-models", "anthropic-messages", "anthropic-models"}, names); diff != "" {
		t.Errorf("shipped routes: -want +got\n%s", diff)
	}
}

// testdata/example.yaml has every key of the design.
func TestExampleIsRead(t *testing.T) {
	t.Parallel()
	got, err := ParseSet("example.yaml", readFile(t, "testdata/example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	limited := []string{"per-principal"}
	want := &PolicySet{
		Policy: Policy{Entry: ShippedEntry, Mode: Enforce, Timeout: 50 * time.Millisecond},
		Issuers: []Issuer{{
			Name: "control", Issuer: "https://gatehouse.internal", JWKS: JWKS{Control: true},
			Audience: "gatehouse", Algorithms: []string{"EdDSA"}, Tenants: []string{"any", "*"}, Roles: []string{"any", "admin"},
			Claims: Claims{Role: "role", Tenant: "tenant_id", Project: "project_id", Agent: "agent_id", Run: "run_id"},
		}},
		Upstreams: map[string]Upstream{
			"app": {URL: "http://127.0.0.1:9000", Scheme: "http", Host: "127.0.0.1", Port: 9000, Breaker: &Breaker{5, 30 * time.Second}},
			"openai": {URL: "https://api.openai.com", Scheme: "https", Host: "api.openai.com", Port: 443,
				Credential: "openai", Format: "openai"},
		},
		Limits: []Limit{{Name: "per-principal", Key: []string{"principal"}, Rate: Rate{600, time.Minute}, Burst: 60, Scope: ScopeSidecar}},
		Routes: []Route{
			{Name: "health", Match: Match{Listener: Inbound, Path: "/healthz"}, Upstream: "app", Exempt: true, Principal: PrincipalNone},
			{Name: "tasks", Match: Match{Listener: Inbound, Prefix: "/tasks"}, Upstream: "app", Principal: PrincipalToken, Limits: limited,
				Permission: Permission{ByMethod: map[string]string{"GET": "task.view", "POST": "task.create", "DELETE": "task.delete"}}},
			{Name: "models", Match: Match{Listener: Outbound, Base: "/openai", Path: "/v1/models", Methods: []string{"GET"}},
				Upstream: "openai", Principal: PrincipalTokenOrWorkload, Permission: Permission{Name: "task.view"},
				LLM: &LLM{Kind: LLMFree, MaxOutputTokens: 4096, Hold: HoldFull, UnaryCap: 4 << 20}, Budget: BudgetNone},
			{Name: "chat", Match: Match{Listener: Outbound, Base: "/openai", Path: "/v1/chat/completions", Methods: []string{"POST"}},
				Upstream: "openai", Principal: PrincipalTokenOrWorkload, Permission: Permission{Name: "task.create"}, Limits: limited,
				LLM: &LLM{Kind: LLMCall, Models: []string{"gpt-*"}, MaxOutputTokens: 4096, Hold: HoldFull, UnaryCap: 4 << 20,
					Sanitize: Sanitize{Content: "markdown", Reasoning: "prose", ToolCall: "tool_call"}}, Budget: BudgetRequired},
		},
	}
	for i := range want.Routes {
		r := &want.Routes[i]
		r.Mode, r.IdleTimeout, r.ConnectTimeout = Enforce, time.Minute, 2*time.Second
		if r.Timeout = 15 * time.Second; r.LLM != nil {
			r.Timeout, r.MaxStream = 0, 30*time.Minute
		}
	}
	want.Routes[3].IdleTimeout = 2 * time.Minute
	if diff := cmp.Diff(want, got, ignorePlaces); diff != "" {
		t.Errorf("example: -want +got\n%s", diff)
	}
}
