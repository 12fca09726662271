package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/fakellm"
	"gatehouse/internal/operator"
	"gatehouse/internal/revision"
)

const (
	openaiKey    = "sk-fake-openai"
	anthropicKey = "sk-fake-anthropic"
	llmOutput    = 500 // the routes' output limit
)

// llmRoutes are routes to both shapes of the provider; %q is its URL.
const llmRoutes = `
  - {name: chat, match: {listener: outbound, base: /openai, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, idle_timeout: 20s, max_stream: 60s,
     llm: {max_output_tokens: 500, sanitize: {content: markdown, reasoning: prose, tool_call: tool_call}}}
  - {name: models, match: {listener: outbound, base: /openai, path: /v1/models, methods: [GET]}, upstream: openai, permission: task.view, llm: {kind: free}}
  - {name: raw, match: {listener: outbound, base: /raw, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, idle_timeout: 2s, llm: {max_output_tokens: 500}}
  - {name: adaptive, match: {listener: outbound, base: /adaptive, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {max_output_tokens: 50000, hold: adaptive}}
  - {name: unpaid, match: {listener: outbound, base: /unpaid, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, budget: none, llm: {max_output_tokens: 500}}
  - {name: synthesis, match: {listener: outbound, base: /synthesis, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {max_output_tokens: 500, parser: synthesis}}
  - {name: gone, match: {listener: outbound, base: /gone, path: /v1/chat/completions, methods: [POST]}, upstream: nobody, permission: task.create, llm: {max_output_tokens: 500}}
  - {name: watched, match: {listener: outbound, base: /watched, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: agent.configure, mode: observe, llm: {max_output_tokens: 500, sanitize: {content: markdown}}}
  - {name: messages, match: {listener: outbound, base: /anthropic, path: /v1/messages, methods: [POST]}, upstream: anthropic, permission: task.create,
     llm: {max_output_tokens: 500, sanitize: {content: markdown, reasoning: prose, tool_call: tool_call}}}
`

// llmMesh is a control, a sidecar with its Envoy, and a provider behind it that
// counts for itself.
type llmMesh struct {
	*mesh
	provider *fakellm.Provider
	admin    *operator.Client
	control  *replica
	node     *member
	token    string         // of the developer of org1
	files    revision.Files // the policy set
}

func newLLM(t testing.TB, edit ...func(string) string) *llmMesh {
	t.Helper()
	l := &llmMesh{mesh: newMesh(t, meshOptions{Replicas: 1}), provider: fakellm.New(fakellm.Options{OpenAIKey: openaiKey, AnthropicKey: anthropicKey})}
	l.control = l.replicas[0]
	l.admin = l.control.admin
	upstream := httptest.NewServer(l.provider)
	t.Cleanup(upstream.Close)
	routes := func(text string) string {
		up := fmt.Sprintf("  openai: {url: %q, format: openai, credential: openai}\n  anthropic: {url: %q, format: anthropic, credential: anthropic}\n"+
			"  nobody: {url: \"http://127.0.0.1:1\", format: openai}\nlimits:\n", upstream.URL, upstream.URL)
		return strings.Replace(text, "limits:\n", up, 1) + llmRoutes
	}
	l.files = l.set(1, append([]func(string) string{routes}, edit...)...)
	l.control.put(l.mesh, l.files)
	l.node = l.join(l.admin, joining{Name: "llm", Via: l.control.mesh()})
	l.token = l.control.user(l.mesh, "developer").token
	return l
}

// askTwice gives the policy set a second question, and waits until it is in force.
func (l *llmMesh) askTwice(rego string) {
	l.t.Helper()
	l.files["llm.rego"] = []byte(rego)
	l.node.enforces(l.admin, l.control.put(l.mesh, l.files))
}

// limit gives org1 so many tokens in all.
func (l *llmMesh) limit(tokens int64) api.BudgetLimit {
	l.t.Helper()
	r, err := l.admin.API().CreateBudgetLimitWithResponse(l.t.Context(), api.BudgetLimitCreate{TenantId: "org1", Tokens: tokens, Window: api.BudgetWindow("total")})
	made, err := operator.Answer(r, err, func(r *api.CreateBudgetLimitResponse) *api.BudgetLimit { return r.JSON201 })
	must(l.t, err)
	return *made
}

// usage is what the API says of the limit.
func (l *llmMesh) usage() api.BudgetUsage {
	l.t.Helper()
	tenant := api.TenantName("org1")
	r, err := l.admin.API().GetBudgetStateWithResponse(l.t.Context(), &api.GetBudgetStateParams{TenantId: &tenant})
	state, err := operator.Answer(r, err, func(r *api.GetBudgetStateResponse) *api.BudgetState { return r.JSON200 })
	must(l.t, err)
	if len(state.Items) == 0 {
		return api.BudgetUsage{}
	}
	return state.Items[0]
}

// settled waits until nothing is held, and returns the usage.
func (l *llmMesh) settled() (u api.BudgetUsage) {
	l.t.Helper()
	envoytest.Eventually(l.t, "all holds are settled", func() bool {
		u = l.usage()
		return u.Reserved == 0
	})
	return u
}

// prompt is the body of a call; more are further members.
func prompt(model string, stream bool, more ...string) string {
	var b strings.Builder
	b.WriteString(fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"please say something"}]`, model))
	if stream {
		b.WriteString(`,"stream":true`)
	}
	for _, m := range more {
		b.WriteString("," + m)
	}
	return b.String() + "}"
}

// call is an answer as it comes.
type call struct {
	t         testing.TB
	resp      *http.Response
	leave     context.CancelFunc
	requestID string
	events    *bufio.Reader
}

// begin sends a call and returns when its headers are here.
func (l *llmMesh) begin(base, body string, headers ...string) *call {
	l.t.Helper()
	c, err := l.try(base, body, headers...)
	must(l.t, err)
	return c
}

func (l *llmMesh) try(base, body string, headers ...string) (*call, error) {
	return l.send(context.Background(), base, body, headers...)
}

// send sends a call that ends with ctx.
func (l *llmMesh) send(ctx context.Context, base, body string, headers ...string) (*call, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	path := "/v1/chat/completions"
	if base == "anthropic" {
		path = "/v1/messages"
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+l.node.outbound+"/"+base+path, strings.NewReader(body))
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("content-type", "application/json")
	req.Header.Set("authorization", "Bearer "+l.token)
	req.Header.Set("anthropic-version", "2023-06-01")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client().Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	return &call{l.t, resp, cancel, resp.Header.Get("x-request-id"), bufio.NewReader(resp.Body)}, nil
}

// rest reads the answer to its end.
func (c *call) rest() (string, error) {
	defer c.leave()
	b, err := io.ReadAll(c.events)
	_ = c.resp.Body.Close()
	return string(b), err
}

// ask sends a call and reads all of its answer.
func (l *llmMesh) ask(base, body string, headers ...string) (status int, text string, requestID string) {
	l.t.Helper()
	c := l.begin(base, body, headers...)
	text, _ = c.rest() // some are broken off
	return c.resp.StatusCode, text, c.requestID
}

// said is the text of an answer, of either shape, in one piece or in events.
func said(answer string) string {
	var out strings.Builder
	read := func(doc string) {
		var d struct {
			Choices []struct{ Delta, Message struct{ Content string } }
			Delta   struct{ Text string }
			Content []struct{ Text string }
		}
		if json.Unmarshal([]byte(doc), &d) != nil {
			return
		}
		for _, c := range d.Choices {
			out.WriteString(c.Delta.Content + c.Message.Content)
		}
		out.WriteString(d.Delta.Text)
		for _, c := range d.Content {
			out.WriteString(c.Text)
		}
	}
	if strings.HasPrefix(strings.TrimSpace(answer), "{") {
		read(answer)
		return out.String()
	}
	for line := range strings.Lines(answer) {
		if data, ok := strings.CutPrefix(strings.TrimSpace(line), "data:"); ok {
			read(strings.TrimSpace(data))
		}
	}
	return out.String()
}

// llmCode is the error code in an answer of a provider's form.
func llmCode(text string) string {
	var doc struct {
		Code  string `json:"error_code"`
		Error struct {
			Code string `json:"error_code"`
		} `json:"error"`
	}
	if i := strings.LastIndex(text, "data: {"); i >= 0 {
		text = text[i+len("data: "):]
	}
	_ = json.NewDecoder(strings.NewReader(text)).Decode(&doc)
	return cmpOr(doc.Error.Code, doc.Code)
}
