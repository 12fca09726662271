package e2e

import (
	"strings"
	"testing"
)

// An adaptive hold lets a long answer begin with a small budget, grows with it,
// and ends it with the provider's own error where the budget has no more. What
// the provider was ahead is overrun, and shown.
func TestLLMAdaptive(t *testing.T) {
	l := newLLM(t)
	l.limit(4000)
	body := prompt("gpt-4o/words-100", true)
	if status, text, id := l.ask("adaptive", body); status != 200 || !strings.Contains(text, "[DONE]") {
		t.Errorf("a short answer: %d %s", status, text)
	} else if u := l.settled(); u.Used != l.provider.Billed(id) {
		t.Errorf("charged %d, the provider billed %d", u.Used, l.provider.Billed(id))
	}
	if status, text, _ := l.ask("openai", prompt("words-10", false, `"max_tokens":5000`, `"n":9`)); status != 429 {
		t.Errorf("a full hold does not fit: %d %s", status, text)
	}
	c := l.begin("adaptive", prompt("gpt-4o/slow-5000-1", true))
	text, _ := c.rest()
	if llmCode(text) != "budget.insufficient" || strings.Contains(text, "[DONE]") || !strings.Contains(text, "word100 ") && !strings.Contains(text, "word100\"") {
		t.Errorf("the long answer ended so: %s", text[max(0, len(text)-600):])
	}
	e, err := l.provider.Ended(t.Context(), c.requestID)
	must(t, err)
	u := l.settled()
	if u.Used > 4000 || e.Billed > u.Limit+u.Overrun {
		t.Errorf("used %d, overrun %d; the provider billed %d", u.Used, u.Overrun, e.Billed)
	}
	if e.Finished != 0 {
		t.Error("the provider said all it had")
	}
}
