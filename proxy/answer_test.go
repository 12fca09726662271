package proxy_test

import (
	"strings"
	"testing"

	"gatehouse/proxy"
)

// An exchange that can't be judged in mode observe goes on, without what only a
// principal that was let pass may have.
func TestObserve(t *testing.T) {
	t.Parallel()
	h := newHarness(t) // no limit: a hold would be refused
	p := h.open()
	p.head(h.ticket("watched", func(m map[string]any) { m["withheld"] = true }), false)
	p.recv()
	p.body(`{"model":"o1","messages":[]}`)
	m := p.recv()
	if held(m) != "observed" || mutated(m.GetRequestBody().GetResponse().GetHeaderMutation(), "authorization") != "" {
		t.Fatalf("got %v", m)
	}
	p.upstream("200", "application/json")
	p.chunk(openaiAnswer("DROP TABLE users;", ""), true)
	if _, text := p.said(); !strings.Contains(text, "DROP TABLE users;") {
		t.Errorf("observe changed the answer: %s", text)
	}
	e := p.end()
	if len(e.Would) != 2 || e.Found == 0 || e.Outcome != proxy.Complete {
		t.Errorf("event %+v", e)
	}
}

func TestUnfitAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		route, status, contentType, encoding, body string
		blocked                                    bool
		charged                                    int64 // -1: the hold
	}{
		"octets":              {"chat", "200", "application/octet-stream", "", "x", true, -1},
		"octets, not judged":  {"raw", "200", "application/octet-stream", "", "x", false, -1},
		"gzip":                {"chat", "200", "application/json", "gzip", "x", true, -1},
		"gzip, not judged":    {"raw", "200", "application/json", "gzip", "x", false, -1},
		"HTML error":          {"chat", "500", "text/html", "", "<html>", true, -1},
		"JSON of no format":   {"chat", "200", "application/json", "", `{"a":1}`, true, -1},
		"not JSON":            {"chat", "200", "application/json", "", `{"a":`, true, -1},
		"not JSON, unjudged":  {"raw", "200", "application/json", "", `{"a":`, false, -1},
		"too large":           {"chat", "200", "application/json", "", `{"a":"` + strings.Repeat("x", 64<<10) + `"}`, true, -1},
		"error document":      {"chat", "429", "application/json", "", `{"error":{"message":"slow down","type":"requests","code":"rate_limit"}}`, false, 0},
		"without usage":       {"raw", "200", "application/json", "", openaiAnswer("hello", ""), false, int64(len(chatBody)) + 5},
		"unlikely usage":      {"raw", "200", "application/json", "", openaiAnswer(strings.Repeat("word ", 100), `{"prompt_tokens":1,"completion_tokens":1}`), false, int64(len(chatBody)) + 500},
		"synthesis, invalid":  {"synthesis", "200", "application/json", "", openaiAnswer(`{"synthesis_reasoning":"x","action_plan":[{"priority":0,"type":"fix","issue":"i","agent":"a"}]}`, `{"prompt_tokens":1,"completion_tokens":90}`), true, 91},
		"synthesis":           {"synthesis", "200", "application/json", "", openaiAnswer(`{"synthesis_reasoning":"x","action_plan":[{"priority":1,"type":"fix","issue":"i","agent":"a"}]}`, `{"prompt_tokens":1,"completion_tokens":90}`), false, 91},
		"synthesis as stream": {"synthesis", "200", "text/event-stream", "", "x", true, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p, _ := h.confirmed(c.route, chatBody)
			p.upstream(c.status, c.contentType, "content-encoding", c.encoding)
			p.chunk(c.body, true)
			head, text := p.said()
			if got := head == "502"; got != c.blocked {
				t.Errorf("the client got %s %.300s, want blocked: %v", head, text, c.blocked)
			}
			if c.blocked && !strings.Contains(text, `"error_code":"upstream.invalid_response"`) {
				t.Errorf("the client got %s", text)
			}
			if strings.Contains(name, "invalid") && !strings.Contains(text, `"pointer":"/action_plan/0/priority"`) {
				t.Errorf("the pointer is missing: %s", text)
			}
			want := c.charged
			e := p.end()
			if want < 0 {
				want = e.Held
			}
			if e.Charged != want {
				t.Errorf("charged %d by %s, want %d", e.Charged, e.Settled, want)
			}
		})
	}
}
