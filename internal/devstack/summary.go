package devstack

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// Summary says in a few aligned lines where everything is, for a person. Its
// commands call this program as it was called.
func (s *Stack) Summary() string {
	r, token := s.ready, os.Args[0]+" token --data "+s.ready.Data
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"API", r.API + "  (admin/admin123, operator/..., developer/developer123, observer/...)"},
		{"Inbound", r.Inbound + "  -> app"},
		{"Outbound", r.Outbound + "  -> tools, open, openai, anthropic, synthesis"},
		{"App", r.App + "  (counts: " + r.AppCounters + "/count)"},
		{"Models", r.LLM + "  (a fake provider; counts: " + r.LLMLedger + ")"},
		{"Budget", fmt.Sprintf("%s: %d tokens a day, if it had none  (GET %s/api/v1/budget/state)", Tenant, dailyTokens, r.API)},
		{"Metrics", r.Metrics + "  (also /status)"},
		{"Policies", r.Policies},
		{"Data", r.Data + "  (logs: logs/*.log, decisions: state/decisions.jsonl)"},
		{"Tokens", token + " --role developer"},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	_ = w.Flush() // a strings.Builder takes everything
	fmt.Fprintf(&b, "\nTry:     curl -i -H \"authorization: Bearer $(%s)\" %s/tasks\n", token, r.Inbound)
	if s.models {
		fmt.Fprintf(&b, "Model:   %s\n", r.modelLine("sql"))
	}
	fmt.Fprintf(&b, "Log in:  token=$(%s | sed -nE 's/.*\"access_token\": ?\"([^\"]+)\".*/\\1/p')\n", r.loginLine("developer"))
	fmt.Fprintf(&b, "         curl -i -H \"authorization: Bearer $token\" %s/tasks\n", r.Inbound)
	fmt.Fprintf(&b, "Ready in %s. For trying things out, not for production. Ctrl-C ends it.\n", s.took.Round(time.Millisecond))
	return b.String()
}

// modelLine is a command that calls a model as the workload.
func (r Ready) modelLine(model string) string {
	return fmt.Sprintf(`curl -s %s/openai/v1/chat/completions -H 'content-type: application/json' -d '{"model": "%s", "messages": [{"role": "user", "content": "hello"}]}'`, r.Outbound, model)
}

// loginLine is a command that logs one of the dev users in, and prints what
// control answers.
func (r Ready) loginLine(user string) string {
	return fmt.Sprintf(`curl -s %s/api/v1/auth/login -H 'content-type: application/json' -d '{"username": "%s", "password": "%[2]s123"}'`, r.API, user)
}
