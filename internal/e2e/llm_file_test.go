package e2e

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"gatehouse/internal/fakellm"
)

// A sidecar without control has no budgets: routes that need none work, others
// are closed.
func TestLLMWithoutControl(t *testing.T) {
	provider := fakellm.New(fakellm.Options{OpenAIKey: "tools-secret", AnthropicKey: "tools-secret"})
	upstream := httptest.NewServer(provider)
	t.Cleanup(upstream.Close)
	s := prepare(t, stackOptions{NoStart: true})
	s.write("gatehouse.yaml", strings.Replace(s.config(fmt.Sprintf(`  openai: {url: %q, format: openai, credential: tools}
routes:
  - {name: unpaid, match: {listener: outbound, base: /unpaid, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, budget: none,
     llm: {max_output_tokens: 500, sanitize: {content: markdown}}}
  - {name: paid, match: {listener: outbound, base: /paid, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {}}
`, upstream.URL)), "\n\n", "\n", 1))
	s.startSidecar()
	s.startEnvoy()
	a := s.do("POST", s.outbound+"/unpaid/v1/chat/completions", prompt("sql", true), "content-type", "application/json")
	if a.Status != 200 || strings.Contains(said(a.Body), "DROP TABLE users;") || !strings.Contains(a.Body, "[DONE]") {
		t.Errorf("got %d %s", a.Status, a.Body)
	}
	calls := provider.Totals().Calls
	b := s.do("POST", s.outbound+"/paid/v1/chat/completions", prompt("words-3", false), "content-type", "application/json")
	if b.Status != 503 || llmCode(b.Body) != "budget.unavailable" || provider.Totals().Calls != calls {
		t.Errorf("got %d %s", b.Status, b.Body)
	}
	if leaks := provider.Leaks(); len(leaks) > 0 {
		t.Errorf("the provider saw %+v", leaks)
	}
}
