package proxy

import (
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/proxy/llm"
	"gatehouse/proxy/sanitize"
)

// answer is what has come back.
type answer struct {
	seen   bool // something did, from the upstream or from Envoy
	local  bool // it is Envoy's own
	status int
	buf    []byte       // of a withheld one
	events *eventStream // of a stream
}

// responseHead finds out what the answer is. The headers of what must be read as
// a whole are not answered before it is.
func (x *exchange) responseHead(from origin, h *pb.HttpHeaders) error {
	a, end := &x.answer, h.GetEndOfStream()
	a.seen, a.local = true, from.local
	a.status, _ = strconv.Atoi(header(h.GetHeaders(), ":status"))
	x.ending.unreached = from.unreached
	if !a.local && a.status >= 500 {
		x.learn(true)
	}
	if a.local || x.event.Outcome == Free {
		return x.begin(passing, end) // Envoy says its own in the format's form
	}
	contentType := header(h.GetHeaders(), "content-type")
	kind := mediaType(contentType)
	// A text that its reader takes for one of another charset was not judged.
	readable := plain(header(h.GetHeaders(), "content-encoding")) && (!x.judged() || isUTF8(contentType))
	switch {
	case end:
		x.ending.kind = opaque
		return x.begin(passing, true)
	case readable && kind == "text/event-stream" && (x.route.LLM.Parser == "" || x.observes()):
		return x.openStream()
	case readable && isJSON(kind):
		x.ending.kind = unary
		return x.begin(withheld, false)
	}
	x.ending.kind = opaque
	if d := unfit("answer_type", "The upstream's answer is of a type or encoding that can't be read.", nil); x.judged() && !x.observed(d) {
		return x.refuse(d)
	}
	return x.begin(passing, false)
}

// learn tells the upstream's breaker how it answered, where the access log will
// tell of what we answered in its place.
func (x *exchange) learn(failed bool) {
	if x.s.opts.Breakers != nil {
		x.s.opts.Breakers.Done(x.requestID, failed)
	}
}

// judged reports whether the route looks into texts.
func (x *exchange) judged() bool { return x.route.Sanitizers != nil || x.route.LLM.Parser != "" }

// begin takes up an answer; one without a body is passed on at once.
func (x *exchange) begin(s state, end bool) error {
	x.state = s
	if s == withheld && !end {
		return nil
	}
	return x.sendHead(nil, end)
}

// openStream lets a stream of events begin.
func (x *exchange) openStream() error {
	x.ending.kind = events
	var err error
	if x.answer.events, err = newEventStream(x.format(), x.plan.hideUsage, x.route.Sanitizers, x.observes()); err != nil {
		return x.refuse(fault("format_unknown", err))
	}
	return x.begin(streaming, false)
}

// responseBody takes in a part of the answer.
func (x *exchange) responseBody(body []byte, end bool) error {
	switch x.state {
	case withheld:
		return x.withhold(body, end)
	case streaming:
		return x.relay(body, end)
	}
	return x.sendBody(body, end)
}

// responseTrailers is the end of an answer that has trailers. What is held back
// goes before them. Where texts are judged they don't go on: they could carry any.
func (x *exchange) responseTrailers(trailers *corev3.HeaderMap) error {
	var err error
	switch x.state {
	case withheld:
		err = x.whole(false)
	case streaming:
		err = x.lastEvents(false)
	}
	if err != nil || x.state == over {
		return err
	}
	x.state = over
	m := &mutation{}
	if x.route != nil && x.judged() && !x.observes() {
		m.removeAll(trailers)
	}
	return x.send(responseTrailers(m))
}

// withhold gathers an answer that is judged as a whole.
func (x *exchange) withhold(body []byte, end bool) error {
	a := &x.answer
	if int64(len(a.buf)+len(body)) > x.route.LLM.UnaryCap {
		d := unfit("answer_too_large", "The upstream's answer is larger than the route allows.", nil)
		if !x.observed(d) {
			return x.refuse(d)
		}
		return x.unread(body, end)
	}
	if !x.s.take(len(body)) {
		return x.refuse(fault("overloaded", nil))
	}
	a.buf = append(a.buf, body...)
	if !end {
		return nil
	}
	return x.whole(true)
}

// unread passes on what waits, and all that follows it.
func (x *exchange) unread(body []byte, end bool) error {
	x.state = passing
	if err := x.sendHead(nil, false); err != nil {
		return err
	}
	all := append(x.answer.buf, body...)
	x.drop()
	return x.sendBody(all, end)
}

// drop gives up what waits.
func (x *exchange) drop() {
	x.s.giveBack(len(x.answer.buf))
	x.answer.buf = nil
}

// whole judges a complete answer and releases it. end says that nothing follows
// it, trailers neither.
func (x *exchange) whole(end bool) error {
	defer x.drop()
	body := x.answer.buf
	clean, d := x.judge(body)
	if d != nil && !x.observed(d) {
		return x.refuse(d)
	}
	if d == nil {
		body = clean
	}
	if err := x.sendHead(nil, false); err != nil {
		return err
	}
	return x.sendBody(body, end)
}

// judge reads a JSON answer: what it cost, whether it is what the route wants,
// and its texts.
func (x *exchange) judge(body []byte) ([]byte, *denial) {
	a, err := llm.ParseAnswer(x.format(), body)
	if err != nil {
		if !x.judged() {
			return body, nil
		}
		return nil, unfit("answer_unreadable", "The upstream's answer can't be read.", err)
	}
	x.account(a)
	if kind := x.route.LLM.Parser; kind != "" && !x.failed(a) {
		if d := parses(kind, a.Texts); d != nil {
			return nil, d
		}
	}
	if x.route.Sanitizers == nil {
		return body, nil
	}
	return x.clean(a)
}

// failed reports whether the answer is an error and nothing else, to a client too.
func (x *exchange) failed(a *llm.Answer) bool {
	answers := func(t llm.Text) bool { return t.Key.Field == llm.FieldContent || t.Key.Field == llm.FieldToolInput }
	return a.Err != nil && (x.answer.status >= 400 || !slices.ContainsFunc(a.Texts, answers))
}

// account notes what the answer says of its cost.
func (x *exchange) account(a *llm.Answer) {
	e := &x.ending
	e.complete, e.usage, e.counts = true, a.Usage, a.Counts
	e.refused = a.Err != nil && x.answer.status >= 400
	x.event.Usage = a.Usage
}

// parses holds each choice's text against the structure that the route names.
func parses(name string, texts []llm.Text) *denial {
	kind, err := sanitize.ParseKind(name)
	if err != nil {
		return fault("parser_unknown", err)
	}
	said := map[int]*strings.Builder{}
	for _, t := range texts {
		if t.Key.Field == llm.FieldContent {
			b := said[t.Key.Choice]
			if b == nil {
				b = &strings.Builder{}
				said[t.Key.Choice] = b
			}
			b.WriteString(t.Value)
		}
	}
	if len(said) == 0 {
		said[0] = &strings.Builder{}
	}
	for _, b := range said {
		if _, err := sanitize.Parse(kind, b.String(), sanitize.Options{}); err != nil {
			return offSchema(name, err)
		}
	}
	return nil
}

// clean judges the texts of a whole answer.
func (x *exchange) clean(a *llm.Answer) ([]byte, *denial) {
	texts := make([]string, len(a.Texts))
	for i, t := range a.Texts {
		texts[i] = t.Value
		sc := scannerOf(x.route.Sanitizers, t.Key.Field)
		if sc == nil {
			continue
		}
		var findings []sanitize.Finding
		var stop bool
		texts[i], findings, stop = sc.Text(t.Value)
		x.event.found(findings)
		if stop {
			return nil, blocked(findings)
		}
	}
	body, err := a.Append(nil, texts, !x.observes())
	if err != nil {
		return nil, unfit("answer_unwritable", "The answer was blocked: what was found in it can't be made harmless.", err)
	}
	return body, nil
}

// relay reads a part of a stream of events and passes on what it comes to.
func (x *exchange) relay(body []byte, end bool) error {
	s := x.answer.events
	out, d := s.write(body)
	x.event.found(s.takeFindings())
	if d == nil {
		d = x.grow()
	}
	switch {
	case d != nil:
		return x.endStream(out, d)
	case end:
		return x.lastEvents(true, out...)
	case len(out) == 0:
		return nil // nothing to say yet
	}
	return x.sendBody(out, false)
}

// lastEvents ends a stream that the upstream ended: what was held back is clean
// now.
func (x *exchange) lastEvents(end bool, before ...byte) error {
	s := x.answer.events
	out, d := s.close(before)
	x.event.found(s.takeFindings())
	if d != nil {
		return x.endStream(out, d)
	}
	return x.sendBody(out, end)
}

// endStream cuts a stream: the provider's own final error, and its end, at which
// Envoy resets the upstream.
func (x *exchange) endStream(before []byte, d *denial) error {
	x.event.Outcome, x.event.Refusal = Cut, &d.Refusal
	last, err := llm.AppendCut(before, x.format(), d.said(x.requestID))
	if err != nil {
		last = before
	}
	return x.sendBody(last, true)
}

// progress notes what a stream of events has said of its cost.
func (x *exchange) progress() {
	if x.answer.events == nil {
		return
	}
	p := x.answer.events.stream.Progress()
	e := &x.ending
	e.usage, e.counts, e.unparsed = p.Usage, p.Counts, p.Unparsed
	e.complete = !p.Failed && (p.Done || p.Ended && (p.Usage.Final || x.answer.events.ended))
	e.hidden = p.Hidden == llm.HiddenSome || x.plan.hidden != llm.HiddenNone
	if would := x.answer.events.would; would != nil {
		x.observed(would)
	}
	x.event.Usage = p.Usage
}

// firstHold is how much is held at first.
func (x *exchange) firstHold() int64 {
	if x.adaptive() {
		return min(x.plan.full, x.plan.prompt+adaptiveStep)
	}
	return x.plan.full
}

// adaptiveStep is how many tokens of output an adaptive hold begins with.
const adaptiveStep = 1024

// adaptive reports whether the hold grows with the answer: only where every
// token that is billed can be seen, and tokens are limited at all.
func (x *exchange) adaptive() bool {
	return x.route.LLM.Hold == config.HoldAdaptive && x.route.Budget != config.BudgetNone && x.plan.stream && x.plan.hidden == llm.HiddenNone
}

// grow raises an adaptive hold when half of it has been used. Refused, the stream
// is cut: what the provider was ahead is overrun. In mode observe it goes on, and
// nobody is asked again.
func (x *exchange) grow() *denial {
	if !x.held.owed || x.held.fixed || !x.adaptive() || x.held.tokens >= x.plan.full {
		return nil
	}
	total := x.wanted()
	if total <= x.held.tokens {
		return nil
	}
	if err := x.s.opts.Ledger.TopUp(x.stream.Context(), x.held.tenant, x.held.key, total); err != nil {
		return x.overdrawn(err)
	}
	x.held.tokens, x.event.Held = total, total
	return nil
}

// wanted is how much is to be held by what was seen: twice the output from the
// half of it on. A model that hides tokens after all may use all of it.
func (x *exchange) wanted() int64 {
	p := x.answer.events.stream.Progress()
	seen, room := p.Counts.Text+p.Counts.Other, x.held.tokens-x.plan.prompt
	switch {
	case p.Hidden == llm.HiddenSome:
		return x.plan.full
	case 2*seen < room:
		return x.held.tokens
	}
	return min(x.plan.full, x.plan.prompt+max(2*room, 2*seen+adaptiveStep))
}

// overdrawn is the denial for a hold that could not be raised.
func (x *exchange) overdrawn(cause error) *denial {
	x.held.fixed = true
	d := deny(ClassCut, "top_up_refused", "The token budget is exhausted.", apierr.BudgetInsufficient, apierr.Options{
		Message: "The token budget is exhausted.", Cause: cause, Status: 429,
	})
	if x.observed(d) {
		return nil
	}
	return d
}
