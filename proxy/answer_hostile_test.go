package proxy_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/budget"
	"gatehouse/proxy"
)

// visible is the body of a stream of a model that hides no tokens.
const visible = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello there"}]}`

// streamed plays a stream on a route, ends it or leaves it, and returns what the
// client got and the event.
func streamed(t *testing.T, route, body string, ends bool, chunks ...string) (string, *proxy.Event) {
	t.Helper()
	h := newHarness(t)
	h.ledger.limit(100_000)
	p, _ := h.confirmed(route, body)
	p.upstream("200", "text/event-stream")
	for i, c := range chunks {
		p.chunk(c, ends && i == len(chunks)-1)
	}
	var text string
	if ends {
		_, text = p.said()
	} else {
		p.recv() // the head
		p.recv() // of the first chunk
	}
	e := p.end()
	if u := h.ledger.usage(); u.Reserved != 0 || u.Used != e.Charged {
		t.Errorf("ledger %+v, charged %d", u, e.Charged)
	}
	return text, e
}

// How a stream ended says what it is charged by.
func TestEndsOfStreams(t *testing.T) {
	t.Parallel()
	failure := `{"error":{"message":"m","type":"t"}}`
	counted := func(body string, seen int64) int64 { return int64(len(body)) + seen }
	for name, c := range map[string]struct {
		route, body string
		ends        bool
		chunks      []string
		settled     string
		charged     int64 // -1: the hold
	}{
		"finished, no usage":           {"raw", streamBody, true, []string{sse(openaiDelta("hello"), openaiStop)}, "counted", counted(streamBody, 5)},
		"finished, and left":           {"raw", streamBody, false, []string{sse(openaiDelta("hello"), openaiStop)}, "held", -1},
		"usage, and left":              {"raw", streamBody, false, []string{sse(openaiDelta("hello"), openaiStop, openaiUsage)}, "reported", 12},
		"an error, then the mark":      {"raw", visible, true, []string{sse(openaiDelta("hello"), openaiStop, openaiUsage, failure, "[DONE]")}, "broken", counted(visible, 5)},
		"what was not understood":      {"raw", visible, true, []string{sse(openaiDelta("hello"), "what is this")}, "broken", counted(visible, 5+12)},
		"nothing at all":               {"raw", visible, true, []string{""}, "broken", counted(visible, 0)},
		"ends in the middle of a line": {"raw", visible, true, []string{sse(openaiDelta("hello")), "data: " + openaiDelta("you")}, "broken", counted(visible, 8)},
	} {
		_, e := streamed(t, c.route, c.body, c.ends, c.chunks...)
		want := c.charged
		if want < 0 {
			want = e.Held
		}
		if e.Settled != c.settled || e.Charged != want {
			t.Errorf("%s: charged %d by %s, want %d by %s", name, e.Charged, e.Settled, want, c.settled)
		}
	}
}

// What was held back comes at the end, whatever ends the stream.
func TestWhatIsHeldBackComes(t *testing.T) {
	t.Parallel()
	const tail = "and then DROP TABLE use"
	whole := sse(openaiDelta(tail))
	for name, chunks := range map[string][]string{
		"an end of its own":     {whole, ""},
		"the end with a chunk":  {whole},
		"an open frame":         {"data: " + openaiDelta(tail)},
		"a finish of its own":   {sse(openaiDelta(tail), openaiStop)},
		"a finish with a piece": {sse(openaiDelta("and then DROP "), strings.Replace(openaiDelta("TABLE use"), `"finish_reason":null`, `"finish_reason":"stop"`, 1))},
		"a whole message after": {sse(openaiDelta(tail), `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"message":{"content":"whole"},"finish_reason":"stop"}]}`)},
	} {
		text, _ := streamed(t, "chat", streamBody, true, chunks...)
		if got := joined(text); !strings.HasPrefix(got, tail) {
			t.Errorf("%s: the client reads %q in %s", name, got, text)
		}
		if strings.Contains(name, "whole") && !strings.Contains(text, `"message":{"content":"whole"}`) {
			t.Errorf("%s: the client got %s", name, text)
		}
	}
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("chat", streamBody)
	p.upstream("200", "text/event-stream")
	p.chunk(whole, false)
	p.trailers("x", "y")
	var got strings.Builder
	for m := p.recv(); m.GetResponseTrailers() == nil; m = p.recv() {
		s := m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		if s.GetEndOfStream() {
			t.Error("the body ends, though trailers follow")
		}
		got.Write(s.GetBody())
	}
	if joined(got.String()) != tail {
		t.Errorf("before trailers: the client got %s", got.String())
	}
}

// joined is the content of an answer of events, as a client joins it.
func joined(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, `"delta":{"content":"`); ok {
			piece, _, _ := strings.Cut(rest, `"`)
			out.WriteString(piece)
		}
	}
	return out.String()
}

// Whole texts are judged by themselves, and nothing of them is held back.
func TestWholeTexts(t *testing.T) {
	t.Parallel()
	text, _ := streamed(t, "chat", streamBody, true, sse(`{"error":{"message":"never DROP TABLE use","type":"t"}}`))
	if !strings.Contains(text, "never DROP TABLE use") {
		t.Errorf("the client got %s", text)
	}
	text, _ = streamed(t, "chat", streamBody, true, sse(strings.Replace(openaiDelta("x"), `"index":0`, `"index":0,"logprobs":{"content":[{"token":"x"}]}`, 1), "[DONE]"))
	if !strings.Contains(text, `"logprobs":null`) {
		t.Errorf("log probabilities repeat the text: %s", text)
	}
	text, _ = streamed(t, "raw", streamBody, true, sse(openaiDelta("x"), openaiStop, openaiUsage, "[DONE]"))
	if strings.Contains(text, "prompt_tokens") || !strings.Contains(text, "[DONE]") {
		t.Errorf("the client did not ask for usage: %s", text)
	}
}

// Log probabilities repeat the text: they go where it is judged, and stay where
// nothing is changed.
func TestLogprobsOfADocument(t *testing.T) {
	t.Parallel()
	for route, want := range map[string]string{"chat": `"logprobs":null`, "watched": `"logprobs":{"content"`, "raw": `"logprobs":{"content"`} {
		h := newHarness(t)
		h.ledger.limit(10_000)
		p, _ := h.confirmed(route, chatBody)
		p.upstream("200", "application/json")
		p.chunk(strings.Replace(openaiAnswer("x", ""), `"index":0`, `"index":0,"logprobs":{"content":[{"token":"x"}]}`, 1), true)
		if _, text := p.said(); !strings.Contains(text, want) {
			t.Errorf("%s: the client got %s", route, text)
		}
	}
}

// What becomes a match only because the text ends is blocked before its end.
func TestBlockedByItsEnd(t *testing.T) {
	t.Parallel()
	call := func(arguments, more string) string {
		return fmt.Sprintf(`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"q","arguments":%q}}]}%s}]}`, arguments, more)
	}
	for name, frames := range map[string][]string{
		"with a piece":    {call(`{"q":"DROP TABLE use`, ""), call(`rs`, `,"finish_reason":"tool_calls"`)},
		"without a piece": {call(`{"q":"DROP TABLE users`, ""), openaiStop},
	} {
		text, e := streamed(t, "chat", streamBody, true, sse(frames...))
		if e.Outcome != proxy.Cut || strings.Contains(text, "TABLE") {
			t.Errorf("%s: event %+v, the client got %s", name, e, text)
		}
	}
}

// A frame that never ends is no frame: nobody waits for its end.
func TestEndlessFrame(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("chat", streamBody)
	p.upstream("200", "text/event-stream")
	p.chunk(sse(openaiDelta("first")), false)
	p.chunk("data: "+strings.Repeat("x", 1<<20), false)
	_, text := p.said()
	if !strings.Contains(text, "first") || !strings.Contains(text, `"error_code":"upstream.invalid_response"`) {
		t.Errorf("the client got %.300s", text)
	}
	if e := p.end(); e.Outcome != proxy.Cut || e.Refusal.Rule != "frame_too_large" {
		t.Errorf("event %+v", e)
	}
}

// A document with what is to be blocked is blocked as a whole.
func TestBlockedDocument(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("chat", chatBody)
	p.upstream("200", "application/json")
	p.chunk(`{"choices":[{"index":0,"message":{"role":"assistant","content":"fine","tool_calls":[{"id":"t","type":"function","function":{"name":"q","arguments":"{\"q\":\"DROP TABLE users;\"}"}}]}}],"usage":{"prompt_tokens":5,"completion_tokens":7}}`, true)
	status, text := p.said()
	if status != "502" || strings.Contains(text, "DROP") || strings.Contains(text, "fine") || !strings.Contains(text, `"class":`) {
		t.Errorf("the client got %s %s", status, text)
	}
	if e := p.end(); e.Charged != 12 || e.Refusal.Class != proxy.ClassAnswer || e.Found == 0 {
		t.Errorf("event %+v, refusal %+v", e, e.Refusal)
	}
}

// Mode observe says which frames it would not have let pass.
func TestObservedFrames(t *testing.T) {
	t.Parallel()
	text, e := streamed(t, "watched", streamBody, true, sse("what is this", openaiDelta("x"), "[DONE]"))
	if !strings.Contains(text, "what is this") || len(e.Would) != 1 || e.Would[0].Rule != "frame_unreadable" {
		t.Errorf("event %+v, the client got %s", e, text)
	}
	h := newHarness(t)
	h.ledger.limit(100_000)
	p, _ := h.confirmed("watched", chatBody)
	p.upstream("200", "application/octet-stream")
	p.chunk("octets", true)
	if status, text := p.said(); status != "head" || text != "octets" {
		t.Errorf("the client got %s %s", status, text)
	}
}

// The ledger is told what the exchange says of itself.
func TestWhatIsSettled(t *testing.T) {
	t.Parallel()
	failure := `{"error":{"message":"m","type":"t"}}`
	for name, c := range map[string]struct {
		status, body string
		want         budget.Settlement
		outcome      proxy.Outcome
	}{
		"reported":      {"200", openaiAnswer("hello", `{"prompt_tokens":5,"completion_tokens":7}`), budget.Settlement{Action: budget.Commit, Tokens: 12}, proxy.Complete},
		"flagged":       {"200", openaiAnswer(strings.Repeat("word ", 100), `{"prompt_tokens":1,"completion_tokens":1}`), budget.Settlement{Action: budget.Commit, Tokens: int64(len(chatBody)) + 500, Flagged: true}, proxy.Complete},
		"failed":        {"500", failure, budget.Settlement{Action: budget.Release}, proxy.ErrorSent},
		"failed, 200":   {"200", failure, budget.Settlement{Action: budget.Commit, Tokens: int64(len(chatBody))}, proxy.Complete},
		"answered, 500": {"500", openaiAnswer("hello", ""), budget.Settlement{Action: budget.Commit, Tokens: int64(len(chatBody)) + 5}, proxy.Complete},
	} {
		h := newHarness(t)
		h.ledger.limit(10_000)
		p, _ := h.confirmed("raw", chatBody)
		p.upstream(c.status, "application/problem+json")
		p.chunk(c.body, true)
		p.said()
		e := p.end()
		got := h.ledger.settled
		if len(got) != 1 || got[0].Action != c.want.Action || got[0].Tokens != c.want.Tokens || got[0].Flagged != c.want.Flagged || e.Outcome != c.outcome {
			t.Errorf("%s: settled %+v, event %+v", name, got, e)
		}
	}
	h := newHarness(t)
	h.ledger.limit(10_000)
	p := upTo(h, "confirmed")
	h.server.Logged("req-1", false)
	if e := p.end(); e.Outcome != proxy.Unreached || h.ledger.settled[0].Action != budget.Release {
		t.Errorf("not reached: event %+v, settled %+v", e, h.ledger.settled)
	}
}

// An answer without a body goes on at once, and may have cost anything.
func TestBareAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("chat", chatBody)
	p.bare("204")
	if m := p.recv(); m.GetResponseHeaders() == nil {
		t.Errorf("got %v", m)
	}
	if e := p.end(); e.Outcome != proxy.Complete || e.Settled != "held" {
		t.Errorf("event %+v", e)
	}
}

// A free answer is not gathered.
func TestFreeAnswerIsNotGathered(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.open()
	p.head(h.ticket("models"), true)
	p.recv()
	p.upstream("200", "application/json")
	if m := p.recv(); m.GetResponseHeaders() == nil {
		t.Fatalf("got %v", m)
	}
	p.chunk(`{"da`, false)
	if m := p.recv(); m.GetResponseBody() == nil {
		t.Errorf("got %v", m)
	}
}

// The cap is what the route says of the upstream's answers.
func TestCaps(t *testing.T) {
	t.Parallel()
	padded := func(n int) string { return `{"choices":[]}` + strings.Repeat(" ", n-len(`{"choices":[]}`)) }
	for name, c := range map[string]struct {
		route string
		local bool
		size  int
		want  string
	}{
		"at the cap":              {"capped", false, 1024, "head"},
		"over the cap":            {"capped", false, 1025, "502"},
		"Envoy's, over the cap":   {"capped", true, 2000, "head"},
		"the upstream's, as much": {"raw", false, 64<<10 + 1, "head"},
	} {
		h := newHarness(t)
		h.ledger.limit(10_000)
		p, _ := h.confirmed(c.route, chatBody)
		if c.local {
			p.local("503", "upstream_reset", 32, 1)
		} else {
			p.upstream("200", "application/json")
		}
		p.chunk(padded(c.size)[:500], false)
		p.chunk(padded(c.size)[500:], true)
		if status, _ := p.said(); status != c.want {
			t.Errorf("%s: got %s", name, status)
		}
		p.end()
	}
}

// A response that says nothing of itself is held to be the upstream's.
func TestResponseWithoutAttributes(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("chat", chatBody)
	p.respond(map[string]any{}, ":status", "200", "content-type", "application/json")
	p.chunk(openaiAnswer("DROP TABLE users;", `{"prompt_tokens":5,"completion_tokens":7}`), true)
	if _, text := p.said(); strings.Contains(text, "DROP TABLE users;") {
		t.Errorf("the client got %s", text)
	}
	if e := p.end(); e.Charged != 12 || e.Outcome != proxy.Complete {
		t.Errorf("event %+v", e)
	}
}

// Only what is said to the reader is held against a structure, and it has to be said.
func TestWhatIsParsed(t *testing.T) {
	t.Parallel()
	const synthesis = `{"synthesis_reasoning":"x","action_plan":[{"priority":1,"type":"fix","issue":"i","agent":"a"}]}`
	for name, c := range map[string]struct{ message, want string }{
		"beside a thought": {fmt.Sprintf(`{"role":"assistant","reasoning":"{}","content":%q}`, synthesis), "head"},
		"a refusal":        {`{"role":"assistant","refusal":"no"}`, "502"},
		"nothing":          {`{"role":"assistant","content":null}`, "502"},
	} {
		h := newHarness(t)
		h.ledger.limit(10_000)
		p, _ := h.confirmed("synthesis", chatBody)
		p.upstream("200", "application/json")
		p.chunk(`{"choices":[{"index":0,"message":`+c.message+`,"finish_reason":"stop"}]}`, true)
		if status, text := p.said(); status != c.want {
			t.Errorf("%s: got %s %s", name, status, text)
		}
		if e := p.end(); c.want == "502" && (e.Refusal.Class != proxy.ClassSchema || e.Outcome != proxy.Cut) {
			t.Errorf("%s: event %+v, refusal %+v", name, e, e.Refusal)
		}
	}
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("chat", chatBody)
	p.upstream("200", "text/html")
	p.said()
	if e := p.end(); e.Outcome != proxy.Cut || e.Refusal.Rule != "answer_type" {
		t.Errorf("event %+v", e)
	}
}

// No adaptive hold begins or grows beyond what the request can use.
func TestAdaptiveNeverBeyondAll(t *testing.T) {
	t.Parallel()
	for most, first := range map[int64]int64{10: 10, 3000: 1024} {
		h := newHarness(t)
		h.ledger.limit(1_000_000)
		body := strings.Replace(adaptiveBody, `"stream"`, fmt.Sprintf(`"max_tokens":%d,"stream"`, most), 1)
		p, _ := h.confirmed("adaptive", body)
		if u := h.ledger.usage(); u.Reserved != int64(len(body))+first {
			t.Errorf("%d tokens are held of at most %d", u.Reserved, int64(len(body))+most)
		}
		p.upstream("200", "text/event-stream")
		p.recv()
		for range 4 {
			p.chunk(sse(openaiDelta(strings.Repeat("x", 1500))), false)
			p.recv()
		}
		if u := h.ledger.usage(); u.Reserved != int64(len(body))+most {
			t.Errorf("%d tokens are held of at most %d", u.Reserved, int64(len(body))+most)
		}
	}
}

// How long a client waits is known.
func TestFirstEvent(t *testing.T) {
	t.Parallel()
	var ticks atomic.Int64
	h := newHarness(t, func(o *proxy.Options) { o.Now = func() time.Time { return time.Unix(ticks.Add(1), 0) } })
	h.ledger.limit(10_000)
	p, _ := h.confirmed("raw", chatBody)
	p.upstream("200", "application/json")
	p.chunk(openaiAnswer("x", ""), true)
	p.said()
	if e := p.end(); e.FirstEvent <= 0 || e.FirstEvent >= e.Duration {
		t.Errorf("first event after %s of %s", e.FirstEvent, e.Duration)
	}
}
