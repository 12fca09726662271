package proxy

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/budget"
	"gatehouse/internal/config"
	"gatehouse/internal/live"
	"gatehouse/internal/snapshot"
	"gatehouse/proxy/llm"
)

// state is where an exchange stands, and with it which messages may follow. Any
// other message ends the stream with an error, which Envoy turns into a refusal
// before the answer has begun and into a broken answer after.
type state uint8

const (
	// opened: nothing has come. request_headers follow; or response_headers,
	// where Envoy answered before the request got here: a denial of Check, a body
	// over the limit, no gate.
	opened state = iota

	// headed: the request's headers were answered. request_body follows, as one
	// message, also where its end_of_stream is false (trailers); or
	// response_headers, of Envoy's own reply to an upload that never ended.
	headed

	// confirmed: the hold is made, and Envoy has the credential and the mark.
	// response_headers follow: the upstream's, or Envoy's own.
	confirmed

	// withheld: a JSON answer. Its headers are not answered until all of it is
	// here: response_body until its end, which may be response_trailers. No time-out
	// of Envoy's applies.
	withheld

	// streaming: an answer of events; response_body until its end, or
	// response_trailers. Each is answered at once.
	streaming

	// passing: what is not read, replies of Envoy's own among it; response_body until
	// its end, or response_trailers.
	passing

	// over: the last reply was sent. What still comes was under way before Envoy
	// had it, and is let lie until the stream ends.
	over
)

// exchange is one request and its answer: one stream.
type exchange struct {
	s         *Server
	stream    pb.ExternalProcessor_ProcessServer
	requestID string
	key       string // the client's idempotency key, "" without

	once    sync.Once     // of the access log's word
	logged  chan struct{} // closed when the access log has told how the request ended
	reached bool          // what it told: bytes went upstream. To be read after logged is closed

	mu     sync.Mutex // guards all below; one message, or one cut, at a time
	state  state
	event  Event
	ticket ticket
	snap   *snapshot.Snapshot
	route  *snapshot.Route
	doom   *denial     // it was cut before there was a reply to say so in
	timer  *time.Timer // ends the longest stream; nil until it is confirmed
	plan   plan
	held   hold
	sent   bool // the confirmation was; from here on the upstream may have the request
	ending ending
	answer answer
}

// hold is what the ledger holds for an exchange.
type hold struct {
	tenant string
	key    budget.Key
	tokens int64
	owed   bool // the ledger waits for a settlement
	fixed  bool // it can't be raised
}

// Errors that end a stream before its last reply. Envoy takes each for a refusal.
var (
	errOrder = status.Error(codes.FailedPrecondition, "a message out of order")
	errLeft  = status.Error(codes.Canceled, "the stream ended before its last reply")
	errPanic = status.Error(codes.Internal, "internal error")
)

// Process serves one exchange, from Envoy's first message to the stream's end.
func (s *Server) Process(stream pb.ExternalProcessor_ProcessServer) (err error) {
	x := &exchange{s: s, stream: stream, logged: make(chan struct{})}
	x.event.Start = s.opts.Now()
	defer x.finish(&err)
	for {
		m, err := stream.Recv()
		if err != nil {
			return errLeft // finish knows whether it was
		}
		if err := x.take(m); err != nil {
			return err
		}
	}
}

// take takes one message in, by the state.
func (x *exchange) take(m *pb.ProcessingRequest) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.state == over {
		return nil
	}
	if x.state == opened && !configured(m.GetProtocolConfig()) {
		return x.refuse(fault("stream_mode", errors.New("Envoy sends bodies in another mode than it was told to")))
	}
	switch r := m.GetRequest().(type) {
	case *pb.ProcessingRequest_RequestHeaders:
		if x.state == opened {
			return x.requestHead(m.GetMetadataContext(), r.RequestHeaders)
		}
	case *pb.ProcessingRequest_RequestBody:
		if x.state == headed {
			return x.requestBody(r.RequestBody.GetBody())
		}
	case *pb.ProcessingRequest_ResponseHeaders:
		switch x.state {
		case opened, headed:
			return x.foreign(originOf(m.GetAttributes()), r.ResponseHeaders.GetEndOfStream())
		case confirmed:
			return x.responseHead(originOf(m.GetAttributes()), r.ResponseHeaders)
		}
	case *pb.ProcessingRequest_ResponseBody:
		if x.answering() {
			return x.responseBody(r.ResponseBody.GetBody(), r.ResponseBody.GetEndOfStream())
		}
	case *pb.ProcessingRequest_ResponseTrailers:
		if x.answering() {
			return x.responseTrailers(r.ResponseTrailers.GetTrailers())
		}
	}
	return fmt.Errorf("%w: %T in state %d", errOrder, m.GetRequest(), x.state)
}

// decisionHeader tells the caller which record says why.
const decisionHeader = "x-gatehouse-decision-id"

func (x *exchange) answering() bool {
	return x.state == withheld || x.state == streaming || x.state == passing
}

// foreign lets a reply pass that is Envoy's or Check's own: there is no exchange.
// An upstream that answers what was never confirmed is not to be believed.
func (x *exchange) foreign(from origin, end bool) error {
	if from.upstream {
		return x.refuse(fault("not_confirmed", errors.New("an upstream answered a request that was not confirmed")))
	}
	x.event.Outcome = Foreign
	x.state = passing
	return x.sendHead(nil, end)
}

// send sends a reply. An error means that the stream is gone.
func (x *exchange) send(r *pb.ProcessingResponse) error { return x.stream.Send(r) }

// sendHead answers the response's headers. Without a body that is the last reply.
func (x *exchange) sendHead(m *mutation, end bool) error {
	if end {
		x.state = over
	}
	return x.send(responseHead(m))
}

// sendBody passes a part of the answer on.
func (x *exchange) sendBody(body []byte, end bool) error {
	if x.event.FirstEvent == 0 && len(body) > 0 {
		x.event.FirstEvent = x.s.opts.Now().Sub(x.event.Start)
	}
	if end {
		x.state = over
	}
	return x.send(responseBody(body, end))
}

// observes reports whether the route is one in mode observe.
func (x *exchange) observes() bool { return x.route != nil && x.route.Mode == config.Observe }

// observed reports whether a refusal is only recorded, and records it. What policy
// would have refused gets no credential, as with Check.
func (x *exchange) observed(d *denial) bool {
	if d.always || !x.observes() {
		return false
	}
	x.event.Would = append(x.event.Would, &d.Refusal)
	x.ticket.withheld = x.ticket.withheld || d.Class == ClassModel || d.Class == ClassPolicy
	return true
}

// refuse replaces the answer. It may be sent until the answer's headers are, also
// while Envoy waits for nothing; it ends the upstream's call.
func (x *exchange) refuse(d *denial) error {
	x.event.Refusal = &d.Refusal
	if x.event.Outcome == "" {
		x.event.Outcome = Refused
		if x.state >= confirmed {
			x.event.Outcome = Cut
		}
	}
	if x.answer.seen && !x.answer.local {
		x.learn(false) // a failure was told of before
	}
	body, noRetry := d.body(x.format(), x.requestID)
	m := &mutation{}
	m.set("content-type", "application/json")
	m.set(decisionHeader, x.event.DecisionID) // instead of Check's, which allowed it
	if noRetry {
		m.set(llm.ShouldRetry, "false")
	}
	x.drop()
	x.state = over
	return x.send(immediate(d.err.HTTP(), m, body, d.Rule))
}

// cut ends the exchange from outside: the principal may no more, or the time is
// over. Before there is an answer it is refused, and a stream of events gets the
// provider's own final error. What is passed on unread is broken off.
func (x *exchange) cut(d *denial) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch x.state {
	case opened, headed:
		x.doom = d // said with the next reply
	case streaming:
		x.logSend(x.endStream(nil, d))
	case confirmed, withheld, passing:
		x.event.Outcome = Cut
		x.logSend(x.refuse(d))
	}
}

func (x *exchange) logSend(err error) {
	if err != nil {
		x.s.opts.Log.Debug("exchange: a cut came too late", "request_id", x.requestID, "error", err)
	}
}

// refusedBy asks the live data. What Check said of the principal never changes.
func (x *exchange) refusedBy(state *live.State) (live.Refusal, bool) {
	if x.observes() {
		return live.Refusal{}, false
	}
	p := x.ticket.principal
	return state.Refuse(&p, x.snap.FromControl(p.Issuer))
}

// log takes in what the access log tells, the first time. It waits for nobody:
// the access log is one stream for all requests.
func (x *exchange) log(reached bool) {
	x.once.Do(func() {
		x.reached = reached
		close(x.logged)
	})
}

// finish ends the exchange, whatever ended its stream: what was held is settled.
//
// INVARIANT: the handler returns no nil before the last reply was sent. Envoy
// would let the rest of the request or answer pass unseen.
func (x *exchange) finish(err *error) {
	p := recover()
	x.mu.Lock()
	if p != nil {
		x.s.opts.Log.Error("exchange panicked", "request_id", x.requestID, "panic", p, "stack", string(debug.Stack()))
		*err = errPanic
		x.event.Refusal = &Refusal{Class: ClassFault, Rule: "panic"}
	}
	last := x.state == over
	x.state = over // a cut that comes now does nothing
	if x.timer != nil {
		x.timer.Stop()
	}
	x.drop()
	x.progress()
	x.mu.Unlock()
	if last && *err == errLeft {
		*err = nil
	}
	if x.s.opts.Keys != nil {
		x.s.opts.Keys.Leave(x.requestID)
	}
	x.settle()
	x.s.leave(x)
	x.event.Duration = x.s.opts.Now().Sub(x.event.Start)
	if x.event.Outcome == "" {
		x.event.Outcome = x.outcome(last)
	}
	x.s.opts.Observe(&x.event)
}

func (x *exchange) outcome(last bool) Outcome {
	switch {
	case x.answer.local:
		return Local
	case x.ending.unreached:
		return Unreached
	case x.ending.refused:
		return ErrorSent
	case last:
		return Complete
	}
	return Broken
}

// settle gives the ledger its settlement. An exchange that ended while nothing
// had come back, or with a reply of Envoy's that does not say so, may not have
// reached the upstream: only the access log can say.
//
// Dying before leaves the hold: a later process of this sidecar has control
// charge it in full.
func (x *exchange) settle() {
	if !x.held.owed {
		return
	}
	x.held.owed = false
	x.ending.hold, x.ending.ahead, x.ending.prompt = x.held.tokens, x.plan.full-x.held.tokens, x.plan.prompt
	switch {
	case !x.sent:
		x.ending.unreached = true
	case !x.answer.seen, x.answer.local && !x.ending.unreached:
		x.ending.unreached = !x.awaitEvidence()
	}
	c := x.ending.settle()
	x.event.Charged, x.event.Settled, x.event.Flagged = c.tokens, c.rule, c.flagged
	settlement := budget.Settlement{Key: x.held.key, Action: budget.Commit, Tokens: c.tokens, Flagged: c.flagged}
	if c.release {
		settlement = budget.Settlement{Key: x.held.key, Action: budget.Release}
	}
	x.s.opts.Ledger.Settle(x.held.tenant, settlement)
}

// awaitEvidence waits for the access log, and reports whether the upstream was
// reached, or may have been.
func (x *exchange) awaitEvidence() bool {
	late := time.NewTimer(evidenceWait)
	defer late.Stop()
	select {
	case <-x.logged:
		return x.reached
	case <-late.C:
	case <-x.s.closing:
	}
	return true
}
