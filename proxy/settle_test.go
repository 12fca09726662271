package proxy

import (
	"testing"

	"pgregory.net/rapid"

	"gatehouse/proxy/llm"
)

func TestSettle(t *testing.T) {
	t.Parallel()
	final := func(in, out int64) llm.Usage { return llm.Usage{Input: in, Output: out, Seen: true, Final: true} }
	seen := llm.Counts{Text: 100, Other: 10}
	for name, c := range map[string]struct {
		e    ending
		want charge
	}{
		"reported":                    {ending{kind: events, complete: true, usage: final(5, 7)}, charge{tokens: 12, rule: "reported"}},
		"reported over the hold":      {ending{kind: unary, complete: true, usage: final(5, 5000)}, charge{tokens: 5005, rule: "reported"}},
		"underreported":               {ending{kind: unary, complete: true, usage: final(5, 2), counts: seen}, charge{tokens: 160, flagged: true, rule: "underreported"}},
		"just enough reported":        {ending{kind: unary, complete: true, usage: final(5, 3), counts: seen}, charge{tokens: 8, rule: "reported"}},
		"error document":              {ending{kind: unary, complete: true, refused: true}, charge{release: true, rule: "error_answer"}},
		"error document with usage":   {ending{kind: unary, complete: true, refused: true, usage: final(5, 0)}, charge{tokens: 5, rule: "reported"}},
		"complete without usage":      {ending{kind: events, complete: true, counts: seen, hidden: true}, charge{tokens: 160, rule: "counted"}},
		"broken stream":               {ending{kind: events, counts: seen}, charge{tokens: 160, rule: "broken"}},
		"broken, more was reported":   {ending{kind: events, counts: seen, usage: llm.Usage{Input: 200, Output: 20, Seen: true}}, charge{tokens: 220, rule: "broken"}},
		"broken, less was reported":   {ending{kind: events, counts: seen, usage: llm.Usage{Input: 1, Output: 1, Seen: true}}, charge{tokens: 160, rule: "broken"}},
		"broken, beyond the hold":     {ending{kind: events, counts: llm.Counts{Text: 5000}}, charge{tokens: 1000, rule: "broken"}},
		"broken with hidden thoughts": {ending{kind: events, counts: seen, hidden: true}, charge{tokens: 1000, rule: "held"}},
		"unreadable frames count":     {ending{kind: events, unparsed: 40}, charge{tokens: 90, rule: "broken"}},
		"unreached":                   {ending{unreached: true}, charge{release: true, rule: "unreached"}},
		"nothing came back":           {ending{}, charge{tokens: 1000, rule: "held"}},
		"broken document":             {ending{kind: unary}, charge{tokens: 1000, rule: "held"}},
		"not read":                    {ending{kind: opaque}, charge{tokens: 1000, rule: "held"}},
	} {
		c.e.hold, c.e.prompt = 1000, 50
		if got := c.e.settle(); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// What is counted by us never exceeds the hold, and is never less than what was
// seen, up to the hold.
func TestSettleBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 2000)
		e := ending{
			hold: n.Draw(t, "hold"), prompt: n.Draw(t, "prompt"), unreached: rapid.Bool().Draw(t, "unreached"),
			kind: answerKind(rapid.IntRange(0, 3).Draw(t, "kind")), complete: rapid.Bool().Draw(t, "complete"), refused: rapid.Bool().Draw(t, "refused"),
			usage:  llm.Usage{Input: n.Draw(t, "in"), Output: n.Draw(t, "out"), Seen: rapid.Bool().Draw(t, "seen")},
			counts: llm.Counts{Text: n.Draw(t, "text"), Other: n.Draw(t, "other")}, hidden: rapid.Bool().Draw(t, "hidden"),
		}
		e.usage.Final = e.usage.Seen && rapid.Bool().Draw(t, "final")
		c := e.settle()
		if c.release {
			if c.tokens != 0 || !e.unreached && !e.refused {
				t.Fatalf("%+v released: %+v", e, c)
			}
			return
		}
		if c.rule == "reported" {
			return
		}
		if c.tokens > e.hold || c.tokens < min(e.hold, e.prompt+e.counts.Text+e.counts.Other) {
			t.Fatalf("%+v is charged %+v", e, c)
		}
	})
}
