package proxy_test

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"gatehouse/internal/breaker"
	"gatehouse/internal/inflight"
	"gatehouse/proxy"
)

// guarded is a harness with keys and breakers.
func guarded(t *testing.T) (*harness, *inflight.Set, *breaker.Set) {
	t.Helper()
	keys, breakers := inflight.New(inflight.Options{}), breaker.New(breaker.Options{})
	set := strings.Replace(testSet, "credential: openai}", "credential: openai, breaker: {failures: 2, recovery: 1h}}", 1)
	h := newHarnessOver(t, set, func(o *proxy.Options) { o.Keys, o.Breakers = keys, breakers })
	h.ledger.limit(100_000)
	return h, keys, breakers
}

// ask sends a request up to its refusal or confirmation.
func (h *harness) ask(id, route, body string, pairs ...string) (*player, *pb.ProcessingResponse) {
	h.t.Helper()
	p := h.open()
	p.named(id, h.ticket(route), body == "", pairs...)
	m := p.recv()
	if body == "" || m.GetRequestHeaders() == nil {
		return p, m
	}
	p.body(body)
	return p, p.recv()
}

// named is head with another request id.
func (p *player) named(id string, m *corev3.Metadata, end bool, pairs ...string) {
	p.h.t.Helper()
	pairs = append([]string{":method", "POST", "x-request-id", id, "content-type", "application/json"}, pairs...)
	p.send(&pb.ProcessingRequest{
		ProtocolConfig: modes(), MetadataContext: m,
		Request: &pb.ProcessingRequest_RequestHeaders{RequestHeaders: &pb.HttpHeaders{Headers: headerMap(pairs...), EndOfStream: end}},
	})
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	h, keys, _ := guarded(t)
	first, m := h.ask("a", "chat", chatBody, "idempotency-key", "k1")
	if held(m) != "true" {
		t.Fatalf("got %v", m)
	}
	granted := h.ledger.granted
	second, m := h.ask("b", "chat", chatBody, "idempotency-key", "k1")
	r := m.GetImmediateResponse()
	if r.GetStatus().GetCode() != 409 || !strings.Contains(string(r.GetBody()), `"reason":"in_flight"`) || mutated(r.GetHeaders(), "x-should-retry") != "" {
		t.Errorf("got %v", m)
	}
	if e := second.end(); e.Refusal.Class != proxy.ClassConflict || h.ledger.granted != granted {
		t.Errorf("event %+v", e)
	}
	if _, m := h.ask("c", "chat", chatBody, "idempotency-key", "k2"); held(m) != "true" {
		t.Errorf("another key: %v", m)
	}
	if _, m := h.ask("d", "raw", chatBody, "idempotency-key", "k1"); held(m) != "true" {
		t.Errorf("another route: %v", m)
	}
	if _, m := h.ask("e", "chat", chatBody, "idempotency-key", strings.Repeat("k", 5000)); m.GetImmediateResponse().GetStatus().GetCode() != 400 {
		t.Errorf("a key that is none: %v", m)
	}
	before := keys.Len()
	h.server.Close()
	first.end()
	if keys.Len() != before-1 {
		t.Errorf("%d keys are in flight, want %d", keys.Len(), before-1)
	}
	if _, m := h.ask("f", "chat", chatBody, "idempotency-key", "k1"); held(m) != "true" {
		t.Errorf("a key that is free again: %v", m)
	}
	// Without a body there is a key too.
	h.ask("g", "models", "", "idempotency-key", "k3")
	if _, m := h.ask("h", "models", "", "idempotency-key", "k3"); m.GetImmediateResponse().GetStatus().GetCode() != 409 {
		t.Errorf("a free route: %v", m)
	}
}

// A breaker opens by what the upstream answers, never by what we made of it, and
// what it refuses leaves neither a hold nor a key.
func TestBreaker(t *testing.T) {
	t.Parallel()
	h, keys, breakers := guarded(t)
	state := func() breaker.State {
		for _, s := range breakers.States() {
			if s.Name == "openai" {
				return s
			}
		}
		return breaker.State{}
	}
	answer := func(id, status, body string) {
		t.Helper()
		p, m := h.ask(id, "chat", chatBody)
		if held(m) != "true" {
			t.Fatalf("%s: got %v", id, m)
		}
		p.upstream(status, "application/json")
		p.chunk(body, true)
		p.said()
		p.end()
	}
	answer("blocked", "200", `{"a":1}`)
	if s := state(); s.TotalCalls != 1 || s.TotalFailures != 0 {
		t.Errorf("after an answer that we blocked: %+v", s)
	}
	answer("failed", "500", `<html>`)
	answer("failed again", "503", `<html>`)
	if s := state(); s.TotalCalls != 3 || s.TotalFailures != 2 || s.Phase == breaker.Closed {
		t.Errorf("after two failures: %+v", s)
	}
	granted := h.ledger.granted
	p, m := h.ask("refused", "chat", chatBody, "idempotency-key", "k")
	r := m.GetImmediateResponse()
	if r.GetStatus().GetCode() != 503 || !strings.Contains(string(r.GetBody()), `"retry_after_ms"`) || mutated(r.GetHeaders(), "x-should-retry") != "" {
		t.Errorf("got %v", m)
	}
	e := p.end()
	if e.Refusal.Class != proxy.ClassBreaker || e.Charged != 0 || e.Settled != "unreached" || h.ledger.granted != granted+1 {
		t.Errorf("event %+v", e)
	}
	if u := h.ledger.usage(); u.Reserved != 0 || keys.Len() != 0 {
		t.Errorf("ledger %+v, %d keys", u, keys.Len())
	}
	if _, m := h.ask("free", "models", ""); m.GetImmediateResponse().GetStatus().GetCode() != 503 {
		t.Errorf("a free route: %v", m)
	}
}
