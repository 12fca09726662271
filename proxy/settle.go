package proxy

import (
	"gatehouse/budget"
	"gatehouse/proxy/llm"
)

// underreport is how many visible bytes may stand behind one reported token. A
// token of text is a few bytes long, so that a report of less is no report.
const underreport = 32

// answerKind is what an upstream's answer is, by its content type.
type answerKind uint8

// The kinds of answers.
const (
	noAnswer answerKind = iota // none came
	unary                      // one JSON document
	events                     // a stream of events
	opaque                     // neither: nothing is known of what it cost
)

// ending is all that the charge of an exchange depends on.
type ending struct {
	hold   int64 // tokens held
	ahead  int64 // tokens beyond an adaptive hold that the upstream could use
	prompt int64 // upper bound of the prompt's tokens

	unreached bool       // it is proven that no byte went upstream
	kind      answerKind // of the upstream's own answer
	complete  bool       // the provider said that this was all, and we saw it
	refused   bool       // the provider's own error document, complete
	usage     llm.Usage
	counts    llm.Counts
	unparsed  int64 // bytes in frames that were not understood
	hidden    bool  // the client may not see all tokens that are billed
}

// charge is what an exchange is charged.
type charge struct {
	release bool // nothing was used
	tokens  int64
	flagged bool   // the report can't be true
	rule    string // which row of the table decided; for records
}

// settle says what an exchange is charged. The first row that applies decides.
// What the provider reports may exceed the hold: the ledger shows that as
// overrun. All else stays within what the request can be billed, which is the
// hold, and more than it only where it is adaptive.
func (e *ending) settle() charge {
	switch {
	case e.unreached:
		return charge{release: true, rule: "unreached"}
	case e.reported() && e.usage.Output < e.counts.Text/underreport:
		return charge{tokens: e.counted(), flagged: true, rule: "underreported"}
	case e.reported():
		// More than the ledger takes for one request can't be true.
		return charge{tokens: min(e.usage.Total(), budget.MaxTokens), flagged: e.usage.Total() > budget.MaxTokens, rule: "reported"}
	case e.refused && !e.usage.Seen:
		return charge{release: true, rule: "error_answer"}
	case e.complete && e.kind != opaque:
		return charge{tokens: e.counted(), rule: "counted"}
	case e.kind == events && !e.hidden:
		return charge{tokens: e.counted(), rule: "broken"}
	}
	return charge{tokens: e.hold, rule: "held"}
}

// reported says whether the provider's last word on its usage was seen.
func (e *ending) reported() bool { return e.complete && e.usage.Final }

// counted bounds what was billed by what was seen: a token is a byte at least.
// Usage on the way only raises it.
func (e *ending) counted() int64 {
	seen := e.prompt + e.counts.Text + e.counts.Other + e.unparsed
	return min(max(seen, e.usage.Total()), e.hold+e.ahead)
}
