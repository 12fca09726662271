package e2e

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/internal/envoytest"
)

// Five failures in a row of the provider, and it is left alone; one probe that
// comes back closes the breaker. Whoever is refused holds nothing.
func TestLLMBreaker(t *testing.T) {
	l := newLLM(t, func(text string) string {
		return strings.Replace(text, "format: openai, credential: openai}", "format: openai, credential: openai, breaker: {failures: 5, recovery: 1s}}", 1)
	})
	l.limit(1_000_000)
	failures := []struct {
		base, model string
		status      int
	}{
		{"openai", "error-500", 500}, {"openai", "html-502", 502}, {"raw", "html-503", 503}, {"raw", "refuse", 503}, {"openai", "error-503", 503},
	}
	if status, text, _ := l.ask("openai", prompt("error-429", false)); status != 429 {
		t.Fatalf("a 4xx: %d %s", status, text)
	}
	for _, f := range failures {
		calls := l.provider.Totals().Calls
		if status, text, _ := l.ask(f.base, prompt(f.model, false)); status != f.status {
			t.Errorf("%s: %d %s", f.model, status, text)
		}
		if l.provider.Totals().Calls != calls+1 {
			t.Errorf("%s did not reach the provider", f.model)
		}
	}
	before := l.settled()
	envoytest.Eventually(t, "the breaker is open", func() bool {
		calls := l.provider.Totals().Calls
		status, text, _ := l.ask("openai", prompt("words-3", false))
		return status == 503 && llmCode(text) == "upstream.unavailable" && l.provider.Totals().Calls == calls
	})
	if u := l.settled(); u.Used != before.Used {
		t.Errorf("a refused call was charged: %d, then %d", before.Used, u.Used)
	}
	envoytest.Eventually(t, "a probe closes it", func() bool {
		status, _, _ := l.ask("openai", prompt("words-3", false))
		return status == 200
	})
	if status, _, _ := l.ask("openai", prompt("words-3", false)); status != 200 {
		t.Errorf("after the probe: %d", status)
	}
}

// A second request with the idempotency key of one that is under way is refused,
// and reaches nobody.
func TestLLMKeyInFlight(t *testing.T) {
	l := newLLM(t)
	l.limit(1_000_000)
	first := l.begin("openai", prompt("slow-100-20", true), "idempotency-key", "k-1")
	calls := l.provider.Totals().Calls
	status, text, _ := l.ask("openai", prompt("words-3", false), "idempotency-key", "k-1")
	if status != 409 || llmCode(text) != "state.conflict" || !strings.Contains(text, `"reason":"in_flight"`) || l.provider.Totals().Calls != calls {
		t.Errorf("the second: %d %s", status, text)
	}
	if status, text, _ = l.ask("openai", prompt("words-3", false), "idempotency-key", "k-2"); status != 200 {
		t.Errorf("another key: %d %s", status, text)
	}
	first.leave()
	envoytest.Eventually(t, "the key is free again", func() bool {
		status, _, _ := l.ask("openai", prompt("words-3", false), "idempotency-key", "k-1")
		return status == 200
	})
}

// On plain routes the access log tells when a key is free again.
func TestKeyInFlight(t *testing.T) {
	s := start(t, stackOptions{})
	headers := append(bearer(s.issuer.Token("developer", "org1")), "idempotency-key", "k-1")
	p := s.app.hold()
	done := make(chan answer, 1)
	go func() { done <- s.do("POST", s.inbound+"/p/1", "", headers...) }()
	<-p.begun
	before := s.app.Count()
	s.refused("the second", before, s.do("POST", s.inbound+"/p/2", "", headers...), 409, "state.conflict")
	s.refused("a key that is none", before, s.do("POST", s.inbound+"/p/2", "", append(bearer(s.issuer.Token("developer", "org1")), "idempotency-key", "a b")...), 400, "validation.malformed")
	close(p.end)
	if a := <-done; a.Status != 200 {
		t.Errorf("the first: %d %s", a.Status, a.Body)
	}
	envoytest.Eventually(t, "the key is free again", func() bool { return s.do("POST", s.inbound+"/p/3", "", headers...).Status == 200 })
}

// On plain routes too a failing upstream is left alone, and a probe closes the
// breaker.
func TestBreaker(t *testing.T) {
	s := prepare(t, stackOptions{NoStart: true})
	set := strings.Replace(s.config(defaultRoutes), fmt.Sprintf("app: {url: %q}", s.app.URL), fmt.Sprintf("app: {url: %q, breaker: {failures: 3, recovery: 2s}}", s.app.URL), 1)
	s.write("gatehouse.yaml", set)
	s.startSidecar()
	s.startEnvoy()
	ask := func() answer { return s.get(s.inbound+"/p/1", bearer(s.issuer.Token("developer", "org1"))...) }
	s.app.fail(true)
	before := 0
	for range 3 {
		before = s.app.Count()
		if a := ask(); a.Status != 500 || s.app.Count() != before+1 {
			t.Fatalf("before the breaker opens: %d %s", a.Status, a.Body)
		}
	}
	envoytest.Eventually(t, "the breaker is open", func() bool { // the access log comes a moment later
		before = s.app.Count()
		return ask().Status == 503
	})
	s.refused("an upstream that is left alone", before, ask(), 503, "upstream.unavailable")
	s.app.fail(false)
	envoytest.Eventually(t, "a probe closes it", func() bool { return ask().Status == 200 })
}
