package proxy_test

import (
	"context"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/budget"
	"gatehouse/policies"
	"gatehouse/proxy"
)

// An answer that an upstream gives to what was never confirmed passes nowhere:
// Envoy is not configured as it must be.
func TestAnswerWithoutConfirmation(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"opened", "headed"} {
		h := newHarness(t)
		p := upTo(h, state)
		p.upstream("200", "application/json")
		p.chunk(openaiAnswer("DROP TABLE users;", ""), true)
		if status, text := p.said(); status != "503" || strings.Contains(text, "DROP") {
			t.Errorf("%s: the client got %s %s", state, status, text)
		}
		if e := p.end(); e.Refusal == nil || e.Refusal.Rule != "not_confirmed" {
			t.Errorf("%s: event %+v", state, e)
		}
	}
}

// A reply that says nothing of itself is not taken for an upstream's.
func TestReplyWithoutAttributes(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.open()
	p.respond(map[string]any{}, ":status", "403", "content-type", "application/json")
	p.chunk("denied", true)
	if status, text := p.said(); status != "head" || text != "denied" {
		t.Errorf("the client got %s %s", status, text)
	}
}

// Trailers are text that nobody judges.
func TestTrailers(t *testing.T) {
	t.Parallel()
	for route, removed := range map[string]bool{"chat": true, "raw": false, "watched": false} {
		for _, contentType := range []string{"application/json", "text/event-stream"} {
			h := newHarness(t)
			h.ledger.limit(10_000)
			p, _ := h.confirmed(route, chatBody)
			p.upstream("200", contentType)
			text := openaiAnswer("hello", "")
			if contentType != "application/json" {
				text = sse(openaiDelta("hello"), "[DONE]")
			}
			p.chunk(text, false)
			p.trailers("x-note", "DROP TABLE users;", "grpc-status", "0")
			m := p.recv()
			for m.GetResponseTrailers() == nil {
				m = p.recv()
			}
			got := m.GetResponseTrailers().GetHeaderMutation().GetRemoveHeaders()
			if removed != (len(got) == 2) {
				t.Errorf("%s %s: removed %v", route, contentType, got)
			}
			if e := p.end(); e.Outcome != proxy.Complete {
				t.Errorf("%s %s: event %+v", route, contentType, e)
			}
		}
	}
}

// A text in another charset than the one it was judged in may be another text.
func TestCharsets(t *testing.T) {
	t.Parallel()
	for contentType, passes := range map[string]bool{
		"application/json":                       true,
		"application/json; charset=UTF-8":        true,
		"application/json; charset=us-ascii":     true,
		`application/json;charset="utf-8"`:       true,
		"application/json; charset=utf-7":        false,
		"application/json; Charset = UTF-16":     false,
		"application/json; charset*=utf-7":       false,
		`application/json; a=b;charset='latin1'`: false,
	} {
		h := newHarness(t)
		h.ledger.limit(10_000)
		p, _ := h.confirmed("chat", chatBody)
		p.upstream("200", contentType)
		p.chunk(openaiAnswer("+ADw-script+AD4-", ""), true)
		if status, text := p.said(); (status == "head") != passes {
			t.Errorf("%s: the client got %s %s", contentType, status, text)
		}
		p.end()

		p = h.open()
		p.head(h.ticket("chat"), false, "content-type", contentType)
		if m := p.recv(); (m.GetRequestHeaders() != nil) != passes {
			t.Errorf("a request of %s: got %v", contentType, m)
		}
		p.end()
	}
	// Where no text is judged its charset is the client's affair, and its cost is known.
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("raw", chatBody)
	p.upstream("200", "application/json; charset=iso-8859-1")
	p.chunk(openaiAnswer("hello", `{"prompt_tokens":5,"completion_tokens":7}`), true)
	p.said()
	if e := p.end(); e.Charged != 12 {
		t.Errorf("event %+v", e)
	}
}

// An error beside an answer does not make the answer one that nobody checks.
func TestErrorBesideAnAnswer(t *testing.T) {
	t.Parallel()
	failure := `{"error":{"message":"m","type":"t"}`
	answer := `,"choices":[{"index":0,"message":{"role":"assistant","content":"no synthesis"},"finish_reason":"stop"}]`
	for name, c := range map[string]struct{ status, body, want string }{
		"beside an answer":  {"200", failure + answer + "}", "502"},
		"alone":             {"200", failure + "}", "head"},
		"a failed request":  {"429", failure + "}", "head"},
		"both, but refused": {"429", failure + answer + "}", "head"}, // clients look at the status
		"beside a call":     {"200", failure + `,"choices":[{"index":0,"message":{"role":"assistant","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}`, "502"},
	} {
		h := newHarness(t)
		h.ledger.limit(10_000)
		p, _ := h.confirmed("synthesis", chatBody)
		p.upstream(c.status, "application/json")
		p.chunk(c.body, true)
		if status, text := p.said(); status != c.want {
			t.Errorf("%s: the client got %s %s", name, status, text)
		}
		p.end()
	}
}

// A report beyond what the ledger takes is settled all the same.
func TestReportBeyondTheLedger(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("raw", chatBody)
	p.upstream("200", "application/json")
	p.chunk(openaiAnswer("hello", `{"prompt_tokens":1099511627776,"completion_tokens":1099511627776}`), true)
	p.said()
	if e := p.end(); e.Charged != budget.MaxTokens || !e.Flagged {
		t.Errorf("event %+v", e)
	}
	if u := h.ledger.usage(); u.Reserved != 0 {
		t.Errorf("ledger %+v", u)
	}
}

const denyLLM = `package gatehouse
authz := {"allowed": true, "rule_id": "r", "reason": "r"}
llm := {"allowed": false, "rule_id": "no_llm", "reason": "no"}
`

// What policy would have refused on its second question, or the route's models,
// goes on in mode observe without the upstream's credential.
func TestObserveGivesNoCredential(t *testing.T) {
	t.Parallel()
	shipped, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	check(t, err)
	for name, c := range map[string]struct {
		rego, body string
		edit       func(map[string]any)
		credential bool
	}{
		"allowed":           {string(shipped), chatBody, func(map[string]any) {}, true},
		"by Check":          {string(shipped), chatBody, func(m map[string]any) { m["withheld"] = true }, false},
		"by policy":         {denyLLM, chatBody, func(map[string]any) {}, false},
		"by the route":      {string(shipped), `{"model":"o1","messages":[]}`, func(map[string]any) {}, false},
		"only by the money": {string(shipped), `{"model":"gpt-x","messages":[],"prediction":{"type":"content","content":"x"}}`, func(map[string]any) {}, true},
	} {
		h := newHarnessWith(t, map[string]string{"authz.rego": c.rego})
		h.ledger.limit(10_000)
		p := h.open()
		p.head(h.ticket("watched", c.edit), false)
		p.recv()
		p.body(c.body)
		m := p.recv()
		got := mutated(m.GetRequestBody().GetResponse().GetHeaderMutation(), "authorization")
		if held(m) != "observed" || (got != "") != c.credential {
			t.Errorf("%s: mark %q, authorization %q", name, held(m), got)
		}
	}
}

// Mode observe carries out nothing that is not hygiene.
func TestObserveRefusesOnlyWhatCantBeRead(t *testing.T) {
	t.Parallel()
	observing := func(set string) string {
		return strings.ReplaceAll(set, "permission: task.create, llm:", "permission: task.create, mode: observe, llm:")
	}
	for name, c := range map[string]struct {
		route, body, contentType, answer string
		would                            string
	}{
		"a stream where answers are parsed": {"synthesis", streamBody, "text/event-stream", sse(openaiDelta("x"), openaiStop, openaiUsage, "[DONE]"), "stream_not_possible"},
		"an answer over the cap":            {"capped", chatBody, "application/json", openaiAnswer(strings.Repeat("x", 4000), ""), "answer_too_large"},
	} {
		h := newHarnessOver(t, observing(testSet))
		h.ledger.limit(10_000)
		p, m := h.confirmed(c.route, c.body)
		if held(m) != "observed" {
			t.Errorf("%s: mark %q", name, held(m))
		}
		p.upstream("200", c.contentType)
		half := len(c.answer) / 2
		p.chunk(c.answer[:half], false)
		p.chunk(c.answer[half:], false)
		p.chunk("", true)
		if _, text := p.said(); !strings.Contains(text, "x") || strings.Contains(text, "error") || c.route == "capped" && text != c.answer {
			t.Errorf("%s: the client got %.300s", name, text)
		}
		e := p.end()
		if e.Refusal != nil || len(e.Would) != 1 || e.Would[0].Rule != c.would || e.Outcome != proxy.Complete {
			t.Errorf("%s: event %+v, refusal %+v", name, e, e.Refusal)
		}
		if c.route == "synthesis" && e.Charged != 12 {
			t.Errorf("%s: charged %d by %s", name, e.Charged, e.Settled)
		}
	}
}

// No limit is one that some servers read as none at all.
func TestOutputLimitOfNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p := h.open()
	p.head(h.ticket("raw"), false)
	p.recv()
	p.body(`{"model":"gpt-x","max_tokens":0,"messages":[]}`)
	if m := p.recv(); m.GetImmediateResponse().GetStatus().GetCode() != 422 || h.ledger.granted != 0 {
		t.Errorf("got %v", m)
	}
}

// A reply of Envoy's that does not say whether anything went upstream is explained
// by the access log; one without a count of attempts proves nothing.
func TestUnprovenLocalReply(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attributes map[string]any
		reached    bool
		released   bool
	}{
		"idle while connecting":  {map[string]any{"response.code_details": "stream_idle_timeout", "response.flags": 65536, "upstream.request_attempt_count": 1}, false, true},
		"idle":                   {map[string]any{"response.code_details": "stream_idle_timeout", "response.flags": 65536, "upstream.request_attempt_count": 1}, true, false},
		"no count":               {map[string]any{"response.code_details": "upstream_reset", "response.flags": 64}, true, false},
		"no count, not reached":  {map[string]any{"response.code_details": "upstream_reset", "response.flags": 64}, false, true},
		"connect, in two tries":  {map[string]any{"response.code_details": "upstream_reset", "response.flags": 32, "upstream.request_attempt_count": 2}, true, false},
		"a proof needs no log":   {map[string]any{"response.code_details": "no_route", "response.flags": 256, "upstream.request_attempt_count": 1}, true, true},
		"upstream's own, reset":  {map[string]any{"response.code_details": "upstream_reset", "response.flags": 16, "upstream.request_attempt_count": 1}, true, false},
		"no attempt was counted": {map[string]any{"response.code_details": "rbac", "upstream.request_attempt_count": 0}, true, true},
	} {
		h := newHarness(t)
		h.ledger.limit(10_000)
		p := upTo(h, "confirmed")
		p.respond(c.attributes, ":status", "503", "content-type", "application/json")
		p.chunk("{}", true)
		p.said()
		h.server.Logged("req-1", c.reached)
		h.server.Logged("req-1", !c.reached) // the first word counts
		if e := p.end(); (e.Charged == 0) != c.released || e.Outcome != proxy.Local {
			t.Errorf("%s: event %+v", name, e)
		}
	}
}

// The access log is one stream for all requests: it never waits for one of them.
func TestAccessLogWaitsForNobody(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.asked = make(chan struct{})
	p := h.open()
	p.head(h.ticket("chat"), false)
	p.recv()
	p.body(chatBody)
	<-h.ledger.asked // the ledger answers only when the client has left
	told := make(chan struct{})
	go func() {
		defer close(told)
		h.server.Logged("req-1", false)
	}()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("the access log waits for the ledger")
	}
	p.end()
}

// One request has one exchange: a second stream with its id is refused, and leaves
// the first alone.
func TestRequestIDTwice(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	first, _ := h.confirmed("chat", chatBody)
	second := h.open()
	second.head(h.ticket("chat"), false)
	if status, _ := second.said(); status != "503" {
		t.Errorf("got %s", status)
	}
	if e := second.end(); e.Refusal.Rule != "exchange_twice" {
		t.Errorf("event %+v", e)
	}
	if h.server.Open() != 1 {
		t.Errorf("%d are open", h.server.Open())
	}
	h.server.Logged("req-1", false)
	if e := first.end(); e.Settled != "unreached" {
		t.Errorf("event %+v", e)
	}
	nameless := h.open()
	nameless.named("", h.ticket("chat"), false)
	if status, _ := nameless.said(); status != "503" {
		t.Errorf("without an id: %s", status)
	}
}

// A reply of Envoy's, which has the provider's form already, is passed on as it is.
func TestFreeLocalReply(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.open()
	p.head(h.ticket("models"), true)
	p.recv()
	p.local("503", "upstream_reset", 32, 1)
	p.chunk(`{"error":{"message":"m"}}`, true)
	if _, text := p.said(); text != `{"error":{"message":"m"}}` {
		t.Errorf("the client got %s", text)
	}
	if e := p.end(); e.Outcome != proxy.Free {
		t.Errorf("event %+v", e)
	}
}

// What an adaptive hold was exceeded by is charged, as far as it was seen.
func TestAdaptiveOverrun(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	prompt := int64(len(adaptiveBody))
	h.ledger.limit(prompt + 1500)
	p, _ := h.confirmed("adaptive", adaptiveBody)
	p.upstream("200", "text/event-stream")
	p.recv()
	p.chunk(sse(openaiDelta(strings.Repeat("x", 5000))), false)
	p.said()
	if e := p.end(); e.Charged != prompt+5000 || e.Settled != "broken" {
		t.Errorf("event %+v, want %d charged", e, prompt+5000)
	}
}

// A model that hides tokens after all has all of them held.
func TestAdaptiveHidden(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(1_000_000)
	p, _ := h.confirmed("adaptive", adaptiveBody)
	p.upstream("200", "text/event-stream")
	p.recv()
	p.chunk(sse(`{"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":90,"completion_tokens_details":{"reasoning_tokens":80}}}`), false)
	p.recv()
	if u := h.ledger.usage(); u.Reserved != int64(len(adaptiveBody))+100_000 {
		t.Errorf("%d tokens are held", u.Reserved)
	}
	if e := p.end(); e.Settled != "held" || e.Charged != int64(len(adaptiveBody))+100_000 {
		t.Errorf("event %+v", e)
	}
}

// refusing is a ledger that raises no hold.
type refusing struct {
	proxy.Ledger
	asked atomic.Int64
}

func (r *refusing) TopUp(context.Context, string, budget.Key, int64) error {
	r.asked.Add(1)
	return budget.ErrUnavailable
}

// Where nothing is limited, nothing is carried out, or there is no hold to raise, no
// hold cuts a stream, and nobody is asked again and again.
func TestAdaptiveCutsOnlyWhatIsEnforced(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change      string
		limit, most int64
	}{
		"nothing is limited":     {"budget: none", 1500, 0},
		"nothing is carried out": {"mode: observe", 1500, 1},
		"nothing is held":        {"mode: observe", 10, 0},
	} {
		l := &refusing{}
		set := strings.Replace(testSet, "llm: {hold: adaptive", c.change+", llm: {hold: adaptive", 1)
		h := newHarnessOver(t, set, func(o *proxy.Options) { l.Ledger, o.Ledger = o.Ledger, l })
		h.ledger.limit(int64(len(adaptiveBody)) + c.limit)
		p, _ := h.confirmed("adaptive", adaptiveBody)
		p.upstream("200", "text/event-stream")
		p.recv()
		for range 3 {
			p.chunk(sse(openaiDelta(strings.Repeat("x", 3000))), false)
		}
		p.chunk(sse(openaiStop, "[DONE]"), true)
		if _, text := p.said(); strings.Contains(text, "error") {
			t.Errorf("%s: the client got %s", name, text)
		}
		if e := p.end(); e.Refusal != nil || l.asked.Load() != c.most || (e.Held == 0) != (c.limit == 10) {
			t.Errorf("%s: event %+v, asked %d times", name, e, l.asked.Load())
		}
	}
}
