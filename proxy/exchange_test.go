package proxy_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/budget"
	"gatehouse/internal/live"
	"gatehouse/proxy"
)

const (
	chatBody   = `{"model":"gpt-x","messages":[{"role":"user","content":"hello there"}]}`
	streamBody = `{"model":"gpt-x","stream":true,"messages":[{"role":"user","content":"hello there"}]}`
)

func TestOneStream(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, m := h.confirmed("chat", streamBody)
	b := m.GetRequestBody().GetResponse()
	sent := string(b.GetBodyMutation().GetBody())
	for _, want := range []string{`"stream_options":{"include_usage":true}`, `1000`} {
		if !strings.Contains(sent, want) {
			t.Errorf("upstream gets %s, want %s in it", sent, want)
		}
	}
	if got := mutated(b.GetHeaderMutation(), "authorization"); got != "Bearer sk-provider" {
		t.Errorf("authorization %q", got)
	}
	if got := mutated(b.GetHeaderMutation(), "accept-encoding"); got != "identity" {
		t.Errorf("accept-encoding %q", got)
	}
	if held(m) != "true" {
		t.Errorf("the guard looks for %v", m.GetDynamicMetadata())
	}
	wantHold := int64(len(streamBody)) + 1000
	if u := h.ledger.usage(); u.Reserved != wantHold {
		t.Errorf("%d tokens are held, want %d", u.Reserved, wantHold)
	}
	p.upstream("200", "text/event-stream; charset=utf-8")
	p.chunk(sse(openaiDelta("DROP TA")), false)
	p.chunk(sse(openaiDelta("BLE users; bye"), openaiStop, openaiUsage, "[DONE]"), false)
	p.chunk("", true)
	head, text := p.said()
	if head != "head" || strings.Contains(text, "DROP TABLE users;") || !strings.Contains(text, "bye") || !strings.Contains(text, "[DONE]") {
		t.Errorf("the client got %s %s", head, text)
	}
	if strings.Contains(text, `"usage":{`) {
		t.Errorf("the client did not ask for usage: %s", text)
	}
	e := p.end()
	if e.Outcome != proxy.Complete || e.Charged != 12 || e.Settled != "reported" || e.Found == 0 {
		t.Errorf("event %+v", e)
	}
	if u := h.ledger.usage(); u.Used != 12 || u.Reserved != 0 {
		t.Errorf("ledger %+v", u)
	}
}

func TestOneDocument(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	p, _ := h.confirmed("chat", chatBody)
	p.upstream("200", "application/json")
	answer := openaiAnswer("first; <script>alert(1)</script>", `{"prompt_tokens":5,"completion_tokens":7}`)
	p.chunk(answer[:40], false)
	p.chunk(answer[40:], false)
	p.chunk("", true)
	head, text := p.said()
	if head != "head" || strings.Contains(text, "<script>") || !strings.Contains(text, "first;") {
		t.Errorf("the client got %s %s", head, text)
	}
	if e := p.end(); e.Outcome != proxy.Complete || e.Charged != 12 {
		t.Errorf("event %+v", e)
	}
}

// Whatever is refused before the hold is confirmed has no mark and no credential,
// leaves nothing held, and says why in the provider's form.
func TestRefusedBeforeTheUpstream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		route, body string
		limit       int64
		away        error
		want        string // status
		code        string
		class       proxy.Class
	}{
		"not JSON":           {"chat", `{"model":`, 10_000, nil, "400", "validation.malformed", proxy.ClassRequest},
		"twice a name":       {"chat", `{"model":"gpt-x","model":"gpt-y","messages":[]}`, 10_000, nil, "400", "validation.malformed", proxy.ClassRequest},
		"no model":           {"chat", `{"messages":[]}`, 10_000, nil, "422", "validation.invalid", proxy.ClassRequest},
		"control character":  {"chat", `{"model":"gpt-\u0000","messages":[]}`, 10_000, nil, "422", "validation.invalid", proxy.ClassRequest},
		"model":              {"chat", `{"model":"o1","messages":[]}`, 10_000, nil, "403", "auth.forbidden", proxy.ClassModel},
		"unbounded":          {"chat", `{"model":"gpt-x","messages":[],"prediction":{"type":"content","content":"x"}}`, 10_000, nil, "422", "validation.invalid", proxy.ClassBudget},
		"exhausted":          {"chat", chatBody, 1000, nil, "429", "budget.insufficient", proxy.ClassBudget},
		"no limit":           {"chat", chatBody, 0, nil, "429", "budget.insufficient", proxy.ClassBudget},
		"ledger away":        {"chat", chatBody, 10_000, budget.ErrUnavailable, "503", "budget.unavailable", proxy.ClassBudget},
		"stream of a parser": {"synthesis", streamBody, 10_000, nil, "422", "validation.invalid", proxy.ClassRequest},
		"four choices":       {"chat", `{"model":"gpt-x","n":4,"messages":[]}`, 3900, nil, "429", "budget.insufficient", proxy.ClassBudget},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			if c.limit > 0 {
				h.ledger.limit(c.limit)
			}
			h.ledger.away = c.away
			p := h.open()
			p.head(h.ticket(c.route), false)
			p.recv()
			p.body(c.body)
			m := p.recv()
			r := m.GetImmediateResponse()
			if r == nil || m.GetDynamicMetadata() != nil {
				t.Fatalf("got %v", m)
			}
			if got := int(r.GetStatus().GetCode()); got != atoi(c.want) || !strings.Contains(string(r.GetBody()), `"error_code":"`+c.code+`"`) {
				t.Errorf("got %d %s, want %s %s", got, r.GetBody(), c.want, c.code)
			}
			if !strings.Contains(string(r.GetBody()), `"error":{"message"`) {
				t.Errorf("the body has not the provider's form: %s", r.GetBody())
			}
			retry := mutated(r.GetHeaders(), "x-should-retry")
			if want := map[bool]string{true: "", false: "false"}[c.away != nil]; retry != want {
				t.Errorf("x-should-retry %q, want %q", retry, want)
			}
			if !strings.HasPrefix(r.GetDetails(), "gatehouse_") {
				t.Errorf("details %q", r.GetDetails())
			}
			e := p.end()
			if e.Outcome != proxy.Refused || e.Refusal.Class != c.class {
				t.Errorf("event %+v, refusal %+v", e, e.Refusal)
			}
			if c.limit > 0 {
				if u := h.ledger.usage(); u.Used != 0 || u.Reserved != 0 {
					t.Errorf("ledger %+v", u)
				}
			}
		})
	}
}

func atoi(s string) (n int) {
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}

// What Check did not let pass, or Envoy configured otherwise, is refused on the
// headers.
func TestRefusedOnTheHeaders(t *testing.T) {
	t.Parallel()
	without := func(names ...string) func(map[string]any) {
		return func(m map[string]any) {
			for _, n := range names {
				delete(m, n)
			}
		}
	}
	for name, c := range map[string]struct {
		route string
		edit  func(map[string]any)
		end   bool
		pairs []string
		want  int
	}{
		"no principal":     {"chat", without("principal"), false, nil, 503},
		"no decision":      {"chat", without("decision_id"), false, nil, 503},
		"plain route":      {"chat", func(m map[string]any) { m["nohold"] = true }, false, nil, 503},
		"unknown route":    {"none", nil, false, nil, 503},
		"another shape":    {"chat", func(m map[string]any) { m["shape"] = "0000" }, false, nil, 503},
		"unknown revision": {"chat", func(m map[string]any) { m["revision"] = "0000" }, false, nil, 503},
		"no body":          {"chat", nil, true, nil, 400},
		"compressed":       {"chat", nil, false, []string{"content-type", "application/json", "content-encoding", "gzip"}, 415},
		"form":             {"chat", nil, false, []string{"content-type", "multipart/form-data"}, 415},
		"free with a body": {"models", nil, false, nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p := h.open()
			edit := c.edit
			if edit == nil {
				edit = func(map[string]any) {}
			}
			p.head(h.ticket(c.route, edit), c.end, c.pairs...)
			m := p.recv()
			if got := int(m.GetImmediateResponse().GetStatus().GetCode()); got != c.want || m.GetDynamicMetadata() != nil {
				t.Errorf("got %v, want %d", m, c.want)
			}
			p.end()
			if h.ledger.granted != 0 {
				t.Error("the ledger was asked")
			}
		})
	}
}

func TestAnotherModeIsRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.open()
	p.send(&pb.ProcessingRequest{MetadataContext: h.ticket("chat"), Request: &pb.ProcessingRequest_RequestHeaders{RequestHeaders: &pb.HttpHeaders{}}})
	if m := p.recv(); m.GetImmediateResponse().GetStatus().GetCode() != 503 {
		t.Errorf("got %v", m)
	}
}

func TestFree(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.open()
	p.head(h.ticket("models"), true)
	m := p.recv()
	if held(m) != "true" || mutated(m.GetRequestHeaders().GetResponse().GetHeaderMutation(), "authorization") != "Bearer sk-provider" {
		t.Fatalf("got %v", m)
	}
	p.upstream("200", "application/json")
	p.chunk(`{"data":[]}`, true)
	if _, text := p.said(); text != `{"data":[]}` {
		t.Errorf("got %s", text)
	}
	if e := p.end(); e.Outcome != proxy.Free || h.ledger.granted != 0 {
		t.Errorf("event %+v", e)
	}
}

// A stream that begins with a response is Envoy's or Check's own reply.
func TestForeign(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.open()
	p.local("413", "request_payload_too_large", 0, 0)
	p.chunk(`{"error_code":"validation.too_large"}`, true)
	if head, text := p.said(); head != "head" || text != `{"error_code":"validation.too_large"}` {
		t.Errorf("got %s %s", head, text)
	}
	if e := p.end(); e.Outcome != proxy.Foreign {
		t.Errorf("event %+v", e)
	}
}

// Messages out of order end the stream with an error in each state, never cleanly.
func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	body := &pb.ProcessingRequest{ProtocolConfig: modes(), Request: &pb.ProcessingRequest_RequestBody{RequestBody: &pb.HttpBody{}}}
	answer := &pb.ProcessingRequest{ProtocolConfig: modes(), Request: &pb.ProcessingRequest_ResponseBody{ResponseBody: &pb.HttpBody{}}}
	trailers := &pb.ProcessingRequest{ProtocolConfig: modes(), Request: &pb.ProcessingRequest_RequestTrailers{RequestTrailers: &pb.HttpTrailers{}}}
	empty := &pb.ProcessingRequest{ProtocolConfig: modes()}
	for name, c := range map[string]struct {
		upTo func(*harness) *player
		m    *pb.ProcessingRequest
	}{
		"body first":            {func(h *harness) *player { return h.open() }, body},
		"answer first":          {func(h *harness) *player { return h.open() }, answer},
		"nothing first":         {func(h *harness) *player { return h.open() }, empty},
		"trailers of a request": {func(h *harness) *player { return upTo(h, "headed") }, trailers},
		"answer before":         {func(h *harness) *player { return upTo(h, "headed") }, answer},
		"body twice":            {func(h *harness) *player { return upTo(h, "confirmed") }, body},
		"answer without head":   {func(h *harness) *player { return upTo(h, "confirmed") }, answer},
		"body in the answer":    {func(h *harness) *player { return upTo(h, "streaming") }, body},
		"body while withheld":   {func(h *harness) *player { return upTo(h, "withheld") }, body},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p := c.upTo(h)
			p.send(c.m)
			if _, err := p.stream.Recv(); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("got %v, want an error", err)
			}
			h.server.Close()
			h.event()
		})
	}
}

// upTo takes an exchange to a state.
func upTo(h *harness, state string) *player {
	h.t.Helper()
	p := h.open()
	if state == "opened" {
		return p
	}
	p.head(h.ticket("chat"), false)
	p.recv()
	if state == "headed" {
		return p
	}
	p.body(streamBody)
	p.recv()
	switch state {
	case "withheld":
		p.upstream("200", "application/json")
		p.chunk(`{"id"`, false)
	case "streaming":
		p.upstream("200", "text/event-stream")
		p.recv()
		p.chunk(sse(openaiDelta("hello ")), false)
		p.recv()
	}
	return p
}

// The handler never ends a stream cleanly before its last reply: Envoy would let
// the rest pass unseen.
func TestNeverACleanEnd(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"opened", "headed", "confirmed", "withheld", "streaming"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p := upTo(h, state)
			h.server.Close() // nobody waits for the access log
			check(t, p.stream.CloseSend())
			for {
				_, err := p.stream.Recv()
				if errors.Is(err, io.EOF) {
					t.Fatal("the stream ended cleanly")
				}
				if err != nil {
					break
				}
			}
			if e := h.event(); e.Outcome == proxy.Complete {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// A client that leaves in any state leaves no hold behind.
func TestCancelledInEachState(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{"confirmed": "held", "withheld": "held", "streaming": "held"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p := upTo(h, state)
			h.server.Close()
			e := p.end()
			if e.Settled != want || e.Charged == 0 {
				t.Errorf("event %+v", e)
			}
			if u := h.ledger.usage(); u.Reserved != 0 || u.Used != e.Charged {
				t.Errorf("ledger %+v, charged %d", u, e.Charged)
			}
			if h.server.Open() != 0 {
				t.Error("the exchange is still open")
			}
		})
	}
}

func TestCancelledWhileTheLedgerIsAsked(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.asked = make(chan struct{})
	p := h.open()
	p.head(h.ticket("chat"), false)
	p.recv()
	p.body(chatBody)
	<-h.ledger.asked
	if e := p.end(); e.Held != 0 || e.Outcome != proxy.Refused {
		t.Errorf("event %+v", e)
	}
}

// The access log alone proves that nothing went upstream.
func TestEvidence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reached bool
		charged int64
	}{"not reached": {false, 0}, "reached": {true, int64(len(streamBody)) + 1000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p := upTo(h, "confirmed")
			h.server.Logged("another", false)
			h.server.Logged("req-1", c.reached)
			if e := p.end(); e.Charged != c.charged {
				t.Errorf("event %+v, want %d charged", e, c.charged)
			}
		})
	}
}

func TestLocalReply(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		details         string
		flags, attempts int
		released        bool
	}{
		"connect refused":  {"upstream_reset_before_response_started{remote_connection_failure}", 32, 1, true},
		"no healthy":       {"no_healthy_upstream", 2, 1, true},
		"overflow":         {"upstream_reset_before_response_started{overflow}", 128, 1, true},
		"guard":            {"rbac_access_denied_matched_policy[none]", 0, 0, true},
		"too large":        {"request_payload_too_large", 0, 0, true},
		"reset":            {"upstream_reset_before_response_started{connection_termination}", 64, 1, false},
		"time-out":         {"response_timeout", 4, 1, false},
		"idle":             {"stream_idle_timeout", 65536, 1, false},
		"a second attempt": {"upstream_reset_before_response_started{remote_connection_failure}", 32, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p := upTo(h, "confirmed")
			p.local("503", c.details, c.flags, c.attempts)
			p.chunk(`{"error":{"message":"the upstream is unavailable"}}`, true)
			if head, text := p.said(); head != "head" || text != `{"error":{"message":"the upstream is unavailable"}}` {
				t.Errorf("the client got %s %s", head, text)
			}
			h.server.Logged("req-1", true) // what the reply itself proves, nothing disproves
			e := p.end()
			if released := e.Charged == 0; released != c.released || e.Outcome != proxy.Local {
				t.Errorf("event %+v, want released %v", e, c.released)
			}
		})
	}
}

// A principal that is blocked loses its exchanges in each state.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"headed", "confirmed", "withheld", "streaming"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.ledger.limit(10_000)
			p := upTo(h, state)
			h.live.SetState(&live.State{Epoch: 2, Suspended: map[string]struct{}{"org1": {}}})
			if state == "headed" {
				h.server.Recheck()
				p.body(chatBody)
			} else {
				h.server.Recheck()
			}
			_, text := p.said()
			if !strings.Contains(text, `"error_code":"auth.forbidden"`) || strings.Contains(text, "[DONE]") {
				t.Errorf("the client got %s", text)
			}
			h.server.Close()
			e := p.end()
			if e.Refusal == nil || e.Refusal.Class != proxy.ClassCut || e.Refusal.Rule != live.RuleTenantSuspended {
				t.Errorf("event %+v, refusal %+v", e, e.Refusal)
			}
			if u := h.ledger.usage(); u.Reserved != 0 {
				t.Errorf("ledger %+v", u)
			}
		})
	}
}

func TestPanicEndsItsStreamOnly(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *proxy.Options) { o.Ledger = panicky{o.Ledger} })
	h.ledger.limit(10_000)
	p := h.open()
	p.head(h.ticket("chat"), false)
	p.recv()
	p.body(`{"model":"gpt-panic","messages":[]}`)
	if _, err := p.stream.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	if e := h.event(); e.Refusal == nil || e.Refusal.Rule != "panic" {
		t.Errorf("event %+v", e)
	}
	if _, m := h.confirmed("chat", chatBody); held(m) != "true" {
		t.Error("the server is gone")
	}
}

// panicky is a ledger that panics at one model.
type panicky struct{ proxy.Ledger }

func (p panicky) Reserve(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error) {
	if h.Model == "gpt-panic" {
		panic("a fault of the program")
	}
	return p.Ledger.Reserve(ctx, tenant, h)
}
