package proxy_test

import (
	"strings"
	"testing"

	"gatehouse/proxy"
)

const adaptiveBody = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello there"}]}`

// An adaptive hold begins small, grows with what is seen, and never beyond what
// the request can use.
func TestAdaptiveHold(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(1_000_000)
	p, _ := h.confirmed("adaptive", adaptiveBody)
	prompt := int64(len(adaptiveBody))
	if u := h.ledger.usage(); u.Reserved != prompt+1024 {
		t.Errorf("%d tokens are held at first, want %d", u.Reserved, prompt+1024)
	}
	p.upstream("200", "text/event-stream")
	p.recv()
	sent := 0
	for _, want := range []int{2048, 4096, 8192} {
		p.chunk(sse(openaiDelta(strings.Repeat("x", want/4-sent-1))), false)
		p.recv()
		if u := h.ledger.usage(); u.Reserved != prompt+int64(want)/2 {
			t.Errorf("%d tokens are held, want %d", u.Reserved, prompt+int64(want)/2)
		}
		p.chunk(sse(openaiDelta("x")), false)
		p.recv()
		sent = want / 4
		if u := h.ledger.usage(); u.Reserved != prompt+int64(want) {
			t.Errorf("%d tokens are held, want %d", u.Reserved, prompt+int64(want))
		}
	}
	p.chunk(sse(openaiStop, openaiUsage, "[DONE]"), true)
	p.said()
	if e := p.end(); e.Settled != "underreported" && e.Settled != "reported" || e.Held <= prompt+1024 {
		t.Errorf("event %+v", e)
	}
	if u := h.ledger.usage(); u.Reserved != 0 {
		t.Errorf("ledger %+v", u)
	}
}

// A budget that runs out ends the stream with the provider's own error.
func TestAdaptiveHoldRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(int64(len(adaptiveBody)) + 1500)
	p, _ := h.confirmed("adaptive", adaptiveBody)
	p.upstream("200", "text/event-stream")
	p.recv()
	p.chunk(sse(openaiDelta(strings.Repeat("word ", 120))), false)
	_, text := p.said()
	if !strings.Contains(text, "word word") || !strings.Contains(text, `"error_code":"budget.insufficient"`) || strings.Contains(text, "[DONE]") {
		t.Errorf("the client got %s", text)
	}
	e := p.end()
	if e.Outcome != proxy.Cut || e.Refusal.Rule != "top_up_refused" || e.Charged != int64(len(adaptiveBody))+600 {
		t.Errorf("event %+v", e)
	}
}

// Where tokens may be hidden, and in one piece, all is held at once.
func TestAdaptiveOnlyWhereAllIsSeen(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"model":"o3","stream":true,"messages":[]}`,
		`{"model":"gpt-4o","messages":[]}`,
	} {
		h := newHarness(t)
		h.ledger.limit(1_000_000)
		h.confirmed("adaptive", body)
		if u := h.ledger.usage(); u.Reserved != int64(len(body))+100_000 {
			t.Errorf("%s: %d tokens are held", body, u.Reserved)
		}
	}
}
