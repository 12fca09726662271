package proxy

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"gatehouse/budget"
	"gatehouse/internal/apierr"
	"gatehouse/internal/breaker"
	"gatehouse/internal/config"
	"gatehouse/internal/inflight"
	"gatehouse/internal/request"
	"gatehouse/internal/snapshot"
	"gatehouse/policies"
	"gatehouse/proxy/llm"
)

// plan is what an exchange will do, as its request says.
type plan struct {
	model     string
	stream    bool
	prompt    int64 // upper bound of the prompt's tokens
	output    int64 // the limit per choice that the upstream gets
	full      int64 // all that the request can use
	hidden    llm.Hidden
	hideUsage bool // the client did not ask for usage in the stream
}

// requestHead finds out what was let pass, and by which configuration. A request
// without a body is at its end: it is free, or refused.
func (x *exchange) requestHead(m *corev3.Metadata, h *pb.HttpHeaders) error {
	headers := h.GetHeaders()
	x.requestID, x.key = header(headers, "x-request-id"), header(headers, "idempotency-key")
	x.event.RequestID, x.event.DecisionID = x.requestID, rand.Text()
	if d := x.locate(m); d != nil {
		return x.refuse(d)
	}
	if d := x.acceptable(headers, h.GetEndOfStream()); d != nil {
		return x.refuse(d)
	}
	if err := x.s.enter(x); err != nil {
		return x.refuse(fault("exchange_twice", err))
	}
	// From here on a change of the live data finds this exchange.
	if refusal, refused := x.refusedBy(x.s.opts.Live.State()); refused {
		return x.refuse(forbidden(ClassCut, refusal.Rule, "The request was refused: "+refusal.Reason+"."))
	}
	if x.route.LLM.Kind == config.LLMFree {
		return x.free()
	}
	x.state = headed
	return x.send(requestHead(nil))
}

// locate finds the revision and the route that Check decided by.
func (x *exchange) locate(m *corev3.Metadata) *denial {
	t, err := readTicket(m)
	if err != nil {
		return fault("no_ticket", err)
	}
	x.ticket = t
	e := &x.event
	e.CheckID, e.Revision, e.Route, e.Principal = t.decision, t.revision, t.route, t.principal
	snap, ok := x.s.opts.Table.Lookup(t.revision)
	if !ok {
		return fault("unknown_revision", nil)
	}
	route, ok := snap.Route(t.route, t.shape)
	if !ok || route.LLM == nil {
		return fault("unknown_route", nil)
	}
	x.snap, x.route = snap, route
	e.Listener, e.Mode = route.Match.Listener, string(route.Mode)
	return nil
}

// acceptable refuses bodies that no reader of the format would take, before they
// are read.
func (x *exchange) acceptable(h *corev3.HeaderMap, end bool) *denial {
	free := x.route.LLM.Kind == config.LLMFree
	switch {
	case free && !end:
		return malformed(apierr.ValidationMalformed, "body_not_expected", "The request must have no body.")
	case free:
		return nil
	case end:
		return malformed(apierr.ValidationMalformed, "body_missing", "The request must have a body.")
	case !plain(header(h, "content-encoding")):
		return malformed(apierr.ValidationUnsupportedMediaType, "body_encoded", "The body must not be compressed.")
	case !isJSON(mediaType(header(h, "content-type"))) || !isUTF8(header(h, "content-type")):
		return malformed(apierr.ValidationUnsupportedMediaType, "body_type", "The body must be application/json, in UTF-8.")
	}
	return nil
}

// free confirms a request that has no body and nothing to pay, on its headers.
func (x *exchange) free() error {
	for _, step := range []func(*llm.Request) *denial{x.unused, x.reachable} {
		if d := step(nil); d != nil && !x.observed(d) {
			return x.refuse(d)
		}
	}
	x.event.Outcome = Free
	x.state, x.sent = confirmed, true
	x.startClock()
	m := &mutation{}
	x.credential(m)
	r := requestHead(m)
	r.DynamicMetadata = confirmation(x.mark())
	return x.send(r)
}

// requestBody holds what the request can cost, and lets it go on:
//
//	read       strict JSON, in the format of the upstream
//	permit     model, structure and members that the route takes
//	decide     the policy's second answer
//	unused     the idempotency key is in no request under way
//	reserve    the hold
//	reachable  the upstream's breaker, last, so that no probe is lost
//	confirm    body, credential and mark, in one reply
func (x *exchange) requestBody(body []byte) error {
	if x.doom != nil {
		return x.refuse(x.doom)
	}
	if !x.s.take(len(body)) {
		return x.refuse(fault("overloaded", errors.New("too many bytes of bodies wait")))
	}
	defer x.s.giveBack(len(body))
	r, err := llm.Parse(x.format(), body)
	if err != nil {
		return x.refuse(unreadable(err))
	}
	for _, step := range []func(*llm.Request) *denial{x.permit, x.decide, x.unused, x.reserve, x.reachable} {
		if d := step(r); d != nil && !x.observed(d) {
			return x.refuse(d)
		}
	}
	return x.confirm(r)
}

// permit asks the route.
func (x *exchange) permit(r *llm.Request) *denial {
	l := x.route.LLM
	x.plan = plan{
		model: r.Model, stream: r.Stream, prompt: r.PromptBound, hidden: r.Hidden,
		hideUsage: r.Stream && !r.IncludeUsage, output: l.MaxOutputTokens,
	}
	x.event.Model, x.event.Streamed = r.Model, r.Stream
	switch {
	case !printable(r.Model):
		return malformed(apierr.ValidationInvalid, "model_name", "The model's name holds characters that no name has.")
	case r.Limited && r.MaxOutput == 0: // servers exist that take it for no limit
		return malformed(apierr.ValidationInvalid, "output_limit", "The output limit must be at least 1.")
	case l.Parser != "" && r.Stream:
		return unsuited("stream_not_possible", "This route checks whole answers: ask without stream.")
	case !x.route.MatchesModel(r.Model):
		return forbidden(ClassModel, "model_not_allowed", "The model is not allowed here.")
	}
	if members := x.unlisted(r); len(members) > 0 {
		return unbounded(members)
	}
	return nil
}

// unlisted returns the members that make the cost unknown and that the route
// does not list. Where nothing is limited they change nothing.
func (x *exchange) unlisted(r *llm.Request) []llm.Unbounded {
	if x.route.Budget == config.BudgetNone {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.Unbounded), func(u llm.Unbounded) bool {
		return slices.Contains(x.route.LLM.Unbounded, u.Name)
	})
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// decide asks the policy set a second time, now that the request is known, and
// takes the obligations of both answers. Those that can't be met are a denial.
func (x *exchange) decide(r *llm.Request) *denial {
	if d := x.oblige(x.ticket.obligations); d != nil {
		return d
	}
	if !x.snap.Policy.AsksLLM() {
		return nil
	}
	answer := x.snap.Policy.DecideLLM(x.stream.Context(), &policies.LLMInput{
		Principal: x.ticket.principal, Route: x.route.Name, Listener: x.route.Match.Listener, Model: r.Model,
		Stream: r.Stream, Tools: r.Tools, MaxOutputTokens: r.Output(x.plan.output), EstimatedTokens: r.Hold(x.plan.output),
	})
	if !answer.Allowed {
		d := forbidden(ClassPolicy, answer.RuleID, answer.Reason)
		d.Cause = answer.Cause
		if !x.snap.Set.Policy.ShowReasons {
			d.err = apierr.New(apierr.AuthForbidden, apierr.Options{Details: []apierr.Detail{apierr.Text("decision_id", x.event.DecisionID)}})
		}
		return d
	}
	return x.oblige(answer.Obligations)
}

// oblige takes obligations that narrow what the route allows.
func (x *exchange) oblige(obligations map[string]any) *denial {
	o, err := policies.ReadLLMObligations(obligations)
	if err != nil {
		d := forbidden(ClassPolicy, "obligation_unreadable", "The policy asks for what can't be done.")
		d.Cause = err
		return d
	}
	if o.MaxOutputTokens > 0 {
		x.plan.output = min(x.plan.output, o.MaxOutputTokens)
	}
	if o.Models != nil && !snapshot.MatchesAny(o.Models, x.plan.model) {
		return forbidden(ClassPolicy, "model_not_allowed", "The policy does not allow the model.")
	}
	return nil
}

// reserve holds the tokens. On a route without a budget they are held in no
// limit, so that what is used is known, and nobody waits for a ledger that is
// away.
func (x *exchange) reserve(r *llm.Request) *denial {
	x.plan.full = r.Hold(x.plan.output)
	unlimited := x.route.Budget == config.BudgetNone
	tenant := x.tenant()
	switch {
	case tenant == "" && unlimited, x.s.opts.Ledger == nil && unlimited:
		return nil
	case tenant == "":
		return insufficient(&budget.Denial{Reason: budget.ReasonNoLimit, Requested: x.plan.full})
	case x.s.opts.Ledger == nil:
		return budgetAway(errors.New("there is no control service"))
	case x.plan.full > budget.MaxTokens:
		return unsuited("hold_too_large", "The request asks for more tokens than can be held.")
	}
	h := x.hold(unlimited)
	a, err := x.s.opts.Ledger.Reserve(x.stream.Context(), tenant, h)
	switch {
	case unlimited && (err != nil || a.Verdict != budget.Held):
		return nil // nothing is recorded, and nothing is limited either
	case errors.Is(err, budget.ErrUnknown):
		return insufficient(&budget.Denial{Reason: budget.ReasonNoLimit, Requested: x.plan.full})
	case err != nil:
		return budgetAway(err)
	case a.Verdict == budget.Held:
		x.held = hold{tenant: tenant, key: h.Key, tokens: h.Tokens, owed: true}
		x.event.Held = h.Tokens
		return nil
	case a.Verdict == budget.Refused && a.Denial != nil:
		return insufficient(a.Denial)
	}
	return budgetAway(errors.New("the ledger answered " + string(a.Verdict)))
}

// unused refuses a request whose idempotency key is in flight. The key is free
// again when the exchange ends.
func (x *exchange) unused(*llm.Request) *denial {
	if x.key == "" || x.s.opts.Keys == nil {
		return nil
	}
	if err := inflight.CheckKey(x.key); err != nil {
		return malformed(apierr.ValidationMalformed, "idempotency_key_malformed", err.Error())
	}
	if x.s.opts.Keys.Enter(inflight.Scope(&x.ticket.principal, x.route.Name, x.key), x.requestID, x.route.MaxStream+holdGrace) {
		return nil
	}
	return deny(ClassConflict, "idempotency_key_in_flight", "A request with this idempotency key is under way.", apierr.StateConflict, apierr.Options{
		Message: "A request with this idempotency key is under way.", Details: []apierr.Detail{apierr.Text("reason", "in_flight")},
	})
}

// reachable asks the upstream's breaker.
func (x *exchange) reachable(*llm.Request) *denial {
	b := x.route.Upstream.Breaker
	if b == nil || x.s.opts.Breakers == nil {
		return nil
	}
	ok, after := x.s.opts.Breakers.Allow(x.route.Route.Upstream, breaker.Config(*b), x.requestID)
	if ok {
		return nil
	}
	return deny(ClassBreaker, "breaker_open", "The upstream has failed several times in a row.", apierr.UpstreamUnavailable, apierr.Options{
		Details: []apierr.Detail{apierr.Number("retry_after_ms", after.Milliseconds())},
	})
}

// tenant is whose budget pays: the principal's, or for one that crosses tenants
// the tenant that the sidecar serves.
func (x *exchange) tenant() string {
	if t := x.ticket.principal.Tenant; t != request.AnyTenant {
		return t
	}
	return x.s.opts.Live.Binding().Tenant
}

func (x *exchange) hold(unlimited bool) budget.Hold {
	p := &x.ticket.principal
	return budget.Hold{
		Key:     budget.Key{Origin: budget.Inline, ID: x.requestID, Attempt: 1},
		Project: p.Project, Tokens: x.firstHold(), Unlimited: unlimited, TTL: x.route.MaxStream + holdGrace,
		BodyHash: sha256.Sum256([]byte(x.event.DecisionID)), // no two exchanges share a hold
		Model:    x.plan.model, Subject: short(p.Subject), Decision: x.event.DecisionID,
	}
}

// short cuts a text to what the ledger keeps.
func short(s string) string {
	const most = 64
	s = strings.ToValidUTF8(s, "\ufffd")
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// confirm lets the request go on.
//
// INVARIANT: this reply alone carries the credential and the mark, and it is
// sent only after the ledger said that the tokens are held, or that none need be.
func (x *exchange) confirm(r *llm.Request) error {
	body, err := llm.Rewrite(r, llm.Changes{MaxOutput: x.plan.output, IncludeUsage: true})
	if err != nil {
		return x.refuse(fault("rewrite", err))
	}
	m := &mutation{}
	m.set("content-length", number(len(body))) // Envoy refuses a body of another length
	m.set("accept-encoding", "identity")       // what is compressed can't be read
	x.credential(m)
	reply := requestBody(m, body)
	reply.DynamicMetadata = confirmation(x.mark())
	x.state, x.sent = confirmed, true
	x.startClock()
	return x.send(reply)
	// Dying here leaves a hold and a request that may be upstream: the hold stays
	// charged until the next process of this sidecar has reported.
}

// mark is the value that the guard looks for; which one is for the access log.
func (x *exchange) mark() string {
	if x.observes() {
		return "observed"
	}
	return "true"
}

// credential adds the upstream's, in the header that its format reads. A request
// that only mode observe let pass gets none.
func (x *exchange) credential(m *mutation) {
	secret, found := x.s.opts.Credentials[x.route.Upstream.Credential]
	switch {
	case !found || x.ticket.withheld:
	case x.format() == llm.Anthropic:
		m.set("x-api-key", string(secret))
	default:
		m.set("authorization", "Bearer "+string(secret))
	}
}

// startClock ends the exchange when its longest time is over.
func (x *exchange) startClock() {
	x.timer = time.AfterFunc(x.route.MaxStream, func() {
		x.cut(deny(ClassCut, "max_stream", "The answer took longer than the route allows.", apierr.UpstreamTimeout, apierr.Options{
			Message: "The answer took longer than allowed.",
		}))
	})
}

// format is the wire format of the route's upstream, "" before it is known.
func (x *exchange) format() llm.Format {
	if x.route == nil {
		return ""
	}
	return x.route.Format
}
