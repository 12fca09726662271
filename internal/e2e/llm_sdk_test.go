package e2e

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"gatehouse/internal/fakellm"
)

// The official clients, unmodified: they know a base URL and a key, which is a
// token of ours. Their retries are left on.

// sdkRoutes are routes that only the clients need.
const sdkRoutes = `
  - {name: listed, match: {listener: outbound, base: /listed, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {max_output_tokens: 500, models: {allow: ["gpt-*"]}}}
  - {name: listed-messages, match: {listener: outbound, base: /listed-anthropic, path: /v1/messages, methods: [POST]}, upstream: anthropic, permission: task.create, llm: {max_output_tokens: 500, models: {allow: ["claude-*"]}}}
  - {name: anthropic-models, match: {listener: outbound, base: /anthropic, path: /v1/models, methods: [GET]}, upstream: anthropic, permission: task.view, llm: {kind: free}}
`

func newSDK(t *testing.T) *llmMesh {
	t.Helper()
	return newLLM(t, func(set string) string { return set + sdkRoutes })
}

// sent is what a client sent: each try, since the clients repeat by themselves.
type sent struct {
	mu    sync.Mutex
	tries []http.Header // of the answers; nil where none came
}

// watch is a middleware of both clients.
func (s *sent) watch(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	resp, err := next(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.tries = append(s.tries, nil)
		return resp, err
	}
	s.tries = append(s.tries, resp.Header)
	return resp, nil
}

func (s *sent) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tries)
}

// header is one of the last answer.
func (s *sent) header(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tries) == 0 {
		return ""
	}
	return s.tries[len(s.tries)-1].Get(name)
}

// id is the request id of the last try.
func (s *sent) id() string { return s.header("x-request-id") }

// refusal is what an error of a client must show.
type refusal struct {
	status  int
	kind    string // the provider's code or type
	code    string // ours
	message string // part of it
	reached bool   // the provider was
}

// notRepeated runs a call that is refused, and demands that the client tried it
// once, was told to leave it at that, and reached the provider only as wanted.
func (l *llmMesh) notRepeated(what string, s *sent, want refusal, call func() error) {
	l.t.Helper()
	tries, calls := s.count(), l.provider.Totals().Calls
	err := call()
	if n := s.count() - tries; n != 1 || s.header("x-should-retry") != "false" {
		l.t.Errorf("%s: %d tries, x-should-retry %q, want one and false", what, n, s.header("x-should-retry"))
	}
	if reached := l.provider.Totals().Calls != calls; reached != want.reached {
		l.t.Errorf("%s: the provider was reached: %t", what, reached)
	}
	got, raw, ok := refusalOf(err)
	if !ok || got.status != want.status || got.kind != want.kind || got.code != want.code || !strings.Contains(got.message, want.message) {
		l.t.Errorf("%s: got %v %s, want %+v", what, err, raw, want)
	}
}

// refusalOf reads an error of either client.
func refusalOf(err error) (got refusal, raw string, ok bool) {
	if e, ok := errors.AsType[*openai.Error](err); ok {
		code := strings.Trim(e.JSON.ExtraFields["error_code"].Raw(), `"`)
		return refusal{status: e.StatusCode, kind: e.Code, code: code, message: e.Message}, e.RawJSON(), true
	}
	return anthropicRefusal(err)
}

// charged runs a call and demands that it costs what the provider counted.
func (l *llmMesh) charged(what string, s *sent, call func()) {
	l.t.Helper()
	before := l.settled().Used
	call()
	e := l.billed(s.id())
	if used := l.settled().Used - before; used != e.Billed || used == 0 {
		l.t.Errorf("%s: charged %d; the provider %+v", what, used, e)
	}
}

// bounded runs a call and demands that it costs no less than the provider
// counted, and no more than limit.
func (l *llmMesh) bounded(what string, s *sent, limit int64, call func()) {
	l.t.Helper()
	before := l.settled().Used
	call()
	e := l.billed(s.id())
	if used := l.settled().Used - before; used < e.Billed || used > limit {
		l.t.Errorf("%s: charged %d, want at least the provider's %d and at most %d", what, used, e.Billed, limit)
	}
}

// billed waits for the end of a call, and returns what the provider has counted.
func (l *llmMesh) billed(id string) fakellm.Entry {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	e, err := l.provider.Ended(ctx, id)
	if err != nil {
		l.t.Fatalf("request %s at the provider: %+v, %v", id, e, err)
	}
	return e
}

var errAccumulator = errors.New("the client's accumulator refuses a chunk")

// harmful are models, and what must not be left of their texts.
func harmful() map[string]string {
	return map[string]string{"sql": "DROP TABLE users;", "sql-bytes": "DROP TABLE users;", "script": "<script", "image": "![the chart](http", "bidi": "\u202e", "tags": "\U000e0044"}
}

func (l *llmMesh) wantClean(model, harm string, texts map[string]string) {
	l.t.Helper()
	if texts["whole"] == "" || texts["whole"] != texts["streamed"] || strings.Contains(texts["whole"], harm) {
		l.t.Errorf("%s: got %q, want one text without %q", model, texts, harm)
	}
}

// wantCut demands that a stream of either client ended in an error of ours.
func (l *llmMesh) wantCut(what string, err error, code, message string) {
	l.t.Helper()
	if e, ok := errors.AsType[*ssestream.StreamError](err); ok {
		if !strings.Contains(e.Message, message) || !strings.Contains(e.Message, `"error_code":"`+code+`"`) {
			l.t.Errorf("%s: got %v, want %s and %q", what, err, code, message)
		}
		return
	}
	got, raw, ok := anthropicRefusal(err)
	if !ok || got.status != 200 || got.code != code || !strings.Contains(got.message, message) {
		l.t.Errorf("%s: got %v %s, want %s and %q", what, err, raw, code, message)
	}
}

// wantUnavailable demands the error for a document that the upstream broke off.
func (l *llmMesh) wantUnavailable(err error) {
	l.t.Helper()
	if got, raw, ok := refusalOf(err); !ok || got.status != 503 {
		l.t.Errorf("half of a document: got %v %s, want 503", err, raw)
	}
}

// wantUnfinished demands an error that says something; which one, where the
// connection broke, is by chance.
func (l *llmMesh) wantUnfinished(model string, err error, says string) {
	l.t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		l.t.Errorf("%s: got %v, want an error with %q", model, err, says)
	}
}

// A budget that is used up, or that nobody gave, is an error that says so.
func TestSDKBudget(t *testing.T) {
	l := newSDK(t)
	o, a := l.openai("openai", l.token), l.anthropic("anthropic", l.token)
	deny := func(says string) {
		t.Helper()
		for way, ask := range o.ways() {
			l.notRepeated("OpenAI, "+way, o.sent, refusal{429, "insufficient_quota", "budget.insufficient", says, false}, func() error {
				_, err := ask(t.Context(), chat("words-5"))
				return err
			})
		}
		for way, ask := range a.ways() {
			l.notRepeated("Anthropic, "+way, a.sent, refusal{429, "rate_limit_error", "budget.insufficient", says, false}, func() error {
				_, err := ask(t.Context(), message("words-5", 500))
				return err
			})
		}
	}
	deny("No budget applies to this request.")
	l.limit(1000)
	for way, ask := range o.ways() {
		l.charged(way, o.sent, func() {
			if _, err := ask(t.Context(), chat("words-300")); err != nil {
				t.Errorf("within the budget, %s: %v", way, err)
			}
		})
	}
	deny("The token budget is exhausted: ")
	if u := l.settled(); u.Used != 610 {
		t.Errorf("used %d, want twice 300 words and a prompt of 5", u.Used)
	}
}
