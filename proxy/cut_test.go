package proxy

import (
	"cmp"
	"log/slog"
	"strings"
	"testing"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"gatehouse/internal/config"
	"gatehouse/internal/snapshot"
	"gatehouse/proxy/llm"
)

// sent is a stream that only takes replies.
type sent struct {
	pb.ExternalProcessor_ProcessServer
	replies []*pb.ProcessingResponse
}

func (s *sent) Send(m *pb.ProcessingResponse) error {
	s.replies = append(s.replies, m)
	return nil
}

// An exchange that was cut before its body came is refused without a look at it:
// nothing is held, and no probe is taken.
func TestCutBeforeTheBody(t *testing.T) {
	t.Parallel()
	stream := &sent{}
	x := &exchange{s: New(Options{Log: slog.New(slog.DiscardHandler)}), stream: stream, state: headed}
	x.cut(forbidden(ClassCut, "blocked", "blocked"))
	if len(stream.replies) != 0 {
		t.Fatalf("a reply that nobody waits for: %v", stream.replies)
	}
	err := x.take(&pb.ProcessingRequest{Request: &pb.ProcessingRequest_RequestBody{RequestBody: &pb.HttpBody{Body: []byte(`{"model":"m"}`)}}})
	if err != nil || len(stream.replies) != 1 || stream.replies[0].GetImmediateResponse().GetStatus().GetCode() != 403 {
		t.Errorf("got %v, %v", stream.replies, err)
	}
	if x.event.Refusal.Rule != "blocked" {
		t.Errorf("event %+v", x.event)
	}
	x.cut(forbidden(ClassCut, "again", "again"))
	if len(stream.replies) != 1 {
		t.Errorf("a second reply: %v", stream.replies)
	}
}

// No cut comes after the last reply, in no state, and each has its own.
func TestCutInEachState(t *testing.T) {
	t.Parallel()
	for s, want := range map[state]bool{opened: false, headed: false, confirmed: true, withheld: true, passing: true, over: false} {
		stream := &sent{}
		x := &exchange{s: New(Options{Log: slog.New(slog.DiscardHandler)}), stream: stream, state: s}
		x.answer.buf = []byte("waits")
		x.s.take(len(x.answer.buf))
		x.cut(forbidden(ClassCut, "blocked", "blocked"))
		if (len(stream.replies) == 1) != want || (x.state == over) != (want || s == over) {
			t.Errorf("in state %d: %v, then in state %d", s, stream.replies, x.state)
		}
		if want && (x.event.Outcome != Cut || x.s.waiting.Load() != 0) {
			t.Errorf("in state %d: outcome %s, %d bytes wait", s, x.event.Outcome, x.s.waiting.Load())
		}
	}
}

// handled is an exchange of a route of its own on a stream that only takes replies.
func handled(s state, llmRoute config.LLM) (*exchange, *sent) {
	stream := &sent{}
	route := &snapshot.Route{Route: config.Route{Name: "r", MaxStream: time.Hour, LLM: &llmRoute}, Format: llm.OpenAI}
	x := &exchange{
		s: New(Options{Log: slog.New(slog.DiscardHandler), Now: time.Now, Observe: func(*Event) {}}), stream: stream,
		state: s, route: route, logged: make(chan struct{}),
	}
	x.answer.seen = true
	return x, stream
}

// A stream that is cut ends with the provider's own last event.
func TestCutOfAStream(t *testing.T) {
	t.Parallel()
	x, stream := handled(confirmed, config.LLM{})
	if err := x.openStream(); err != nil {
		t.Fatal(err)
	}
	x.cut(forbidden(ClassCut, "blocked", "blocked"))
	last := stream.replies[len(stream.replies)-1].GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
	if len(stream.replies) != 2 || !last.GetEndOfStream() || !strings.HasPrefix(string(last.GetBody()), `data: {"error":`) {
		t.Errorf("got %v", stream.replies)
	}
}

// What has ended is not cut, holds no bytes, and no timer.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	x, stream := handled(withheld, config.LLM{UnaryCap: 100})
	x.startClock()
	if err := x.withhold([]byte(`{"choices"`), false); err != nil || x.s.waiting.Load() != 10 {
		t.Fatalf("%v, %d bytes wait", err, x.s.waiting.Load())
	}
	err := error(errLeft)
	x.finish(&err)
	if err != errLeft {
		t.Errorf("the stream ends with %v", err)
	}
	if n := x.s.waiting.Load(); n != 0 || x.timer.Stop() {
		t.Errorf("%d bytes wait, or the timer runs", n)
	}
	x.cut(forbidden(ClassCut, "late", "late"))
	if len(stream.replies) != 0 {
		t.Errorf("a reply after the end: %v", stream.replies)
	}
}

// Bytes are given back once, on each way out.
func TestWaitingBytes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step func(x *exchange) error
		rule string // of the refusal, "" without
		full bool   // there is no room from the beginning
	}{
		"a request that can't be read": {func(x *exchange) error { return x.requestBody([]byte("{")) }, "body_unreadable", false},
		"a request without room":       {func(x *exchange) error { return x.requestBody([]byte("{")) }, "overloaded", true},
		"a whole answer":               {func(x *exchange) error { return x.withhold([]byte(`{"choices":[]}`), true) }, "", false},
		"an answer without room":       {func(x *exchange) error { return x.withhold([]byte(`{"choices":[]}`), true) }, "overloaded", true},
		"an answer over the cap": {func(x *exchange) error {
			return cmp.Or(x.withhold(make([]byte, 60), false), x.withhold(make([]byte, 60), false))
		}, "answer_too_large", false},
	} {
		x, stream := handled(withheld, config.LLM{UnaryCap: 100})
		before := int64(0)
		if c.full {
			before = maxWaiting
			x.s.waiting.Store(before)
		}
		if err := c.step(x); err != nil || len(stream.replies) == 0 {
			t.Fatalf("%s: %v, %v", name, err, stream.replies)
		}
		rule := ""
		if x.event.Refusal != nil {
			rule = x.event.Refusal.Rule
		}
		if n := x.s.waiting.Load(); n != before || rule != c.rule {
			t.Errorf("%s: %d bytes wait, want %d; refused for %q", name, n, before, rule)
		}
	}
}

// In mode observe nothing of an answer over the cap is held, and none is lost.
func TestObservedOverTheCap(t *testing.T) {
	t.Parallel()
	x, stream := handled(withheld, config.LLM{UnaryCap: 100})
	x.route.Mode = config.Observe
	for range 3 {
		if err := x.responseBody(make([]byte, 60), false); err != nil {
			t.Fatal(err)
		}
	}
	var got int
	for _, m := range stream.replies {
		got += len(m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetBody())
	}
	if len(stream.replies) != 3 || got != 180 || x.s.waiting.Load() != 0 || x.state != passing || len(x.event.Would) != 1 {
		t.Errorf("%d bytes in %d replies, %d wait, state %d", got, len(stream.replies), x.s.waiting.Load(), x.state)
	}
}

// A blocked answer has one reply, though its trailers were still to come.
func TestTrailersAfterTheRefusal(t *testing.T) {
	t.Parallel()
	x, stream := handled(withheld, config.LLM{UnaryCap: 100, Parser: "synthesis"})
	if err := x.withhold([]byte(`{"choices":[]}`), false); err != nil {
		t.Fatal(err)
	}
	if err := x.responseTrailers(nil); err != nil || len(stream.replies) != 1 || stream.replies[0].GetImmediateResponse() == nil {
		t.Errorf("%v, %v", err, stream.replies)
	}
}

// Rows of the table that only a broken provider reaches.
func TestSettleOddEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		e    ending
		want charge
	}{
		"final, but not complete":         {ending{kind: events, usage: llm.Usage{Input: 1, Output: 1, Seen: true, Final: true}}, charge{tokens: 50, rule: "broken"}},
		"an error with figures":           {ending{kind: unary, complete: true, refused: true, usage: llm.Usage{Input: 60, Seen: true}}, charge{tokens: 60, rule: "counted"}},
		"complete, but nothing was read":  {ending{kind: opaque, complete: true}, charge{tokens: 1000, rule: "held"}},
		"beyond an adaptive hold":         {ending{kind: events, ahead: 500, counts: llm.Counts{Text: 1200}}, charge{tokens: 1250, rule: "broken"}},
		"beyond all of an adaptive hold":  {ending{kind: events, ahead: 500, counts: llm.Counts{Text: 9000}}, charge{tokens: 1500, rule: "broken"}},
		"adaptive, and nothing was seen":  {ending{ahead: 500}, charge{tokens: 1000, rule: "held"}},
		"unreached, whatever was counted": {ending{kind: events, unreached: true, counts: llm.Counts{Text: 10}}, charge{release: true, rule: "unreached"}},
	} {
		c.e.hold, c.e.prompt = 1000, 50
		if got := c.e.settle(); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// Each field has its own rules; none where the route names none.
func TestRulesByField(t *testing.T) {
	t.Parallel()
	judged := rules(t)
	for name, c := range map[string]struct {
		rules  *snapshot.Sanitizers
		member string
		passes bool
	}{
		"content":             {&snapshot.Sanitizers{Content: judged.Content}, "content", false},
		"refusal":             {&snapshot.Sanitizers{Content: judged.Content}, "refusal", false},
		"reasoning, unjudged": {&snapshot.Sanitizers{Content: judged.Content}, "reasoning", true},
		"reasoning":           {&snapshot.Sanitizers{Reasoning: judged.Reasoning}, "reasoning", false},
		"content, unjudged":   {&snapshot.Sanitizers{Reasoning: judged.Reasoning}, "content", true},
	} {
		out, d := through(t, c.rules, chunkOf(0, c.member, "DROP TABLE users;")+stopOf(0))
		if d != nil || strings.Contains(out, "DROP TABLE users;") != c.passes {
			t.Errorf("%s: %v, the client got %s", name, d, out)
		}
	}
}
