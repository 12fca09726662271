package proxy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	procconf "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"gatehouse/budget"
	"gatehouse/internal/live"
	"gatehouse/internal/request"
	"gatehouse/proxy"
)

// Each mode that differs is one that Envoy was not told to work in.
func TestEachModeMatters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*pb.ProtocolConfiguration{
		"streamed request": {RequestBodyMode: procconf.ProcessingMode_STREAMED, ResponseBodyMode: procconf.ProcessingMode_FULL_DUPLEX_STREAMED},
		"no request":       {ResponseBodyMode: procconf.ProcessingMode_FULL_DUPLEX_STREAMED},
		"buffered answer":  {RequestBodyMode: procconf.ProcessingMode_BUFFERED, ResponseBodyMode: procconf.ProcessingMode_BUFFERED},
		"no answer":        {RequestBodyMode: procconf.ProcessingMode_BUFFERED},
	} {
		h := newHarness(t)
		p := h.open()
		p.send(&pb.ProcessingRequest{ProtocolConfig: c, MetadataContext: h.ticket("chat"), Request: &pb.ProcessingRequest_RequestHeaders{RequestHeaders: &pb.HttpHeaders{
			Headers: headerMap("x-request-id", "req-1", "content-type", "application/json"),
		}}})
		if m := p.recv(); m.GetImmediateResponse().GetStatus().GetCode() != 503 {
			t.Errorf("%s: got %v", name, m)
		}
	}
}

// Nobody who is refused already is asked for a body; mode observe lets them go on.
func TestRefusedByTheLiveData(t *testing.T) {
	t.Parallel()
	for route, want := range map[string]bool{"chat": false, "models": false, "watched": true} {
		h := newHarness(t)
		h.live.SetState(&live.State{Epoch: 2, Suspended: map[string]struct{}{"org1": {}}})
		p := h.open()
		p.head(h.ticket(route), route == "models")
		m := p.recv()
		if got := m.GetRequestHeaders() != nil; got != want {
			t.Errorf("%s: got %v", route, m)
		}
		if !want && m.GetImmediateResponse().GetStatus().GetCode() != 403 {
			t.Errorf("%s: got %v", route, m)
		}
	}
}

// What a policy obliges to narrows the request, by whichever of its answers.
func TestObligations(t *testing.T) {
	t.Parallel()
	const allow = "package gatehouse\nauthz := {\"allowed\": true, \"rule_id\": \"r\", \"reason\": \"r\"}\n"
	llm := func(obligations string) string {
		return allow + `llm := {"allowed": true, "rule_id": "r", "reason": "r", "obligations": ` + obligations + "}\n"
	}
	for name, c := range map[string]struct {
		rego   string
		ticket map[string]any
		want   string // in the body that goes upstream; "" for a refusal
	}{
		"none":                     {allow, nil, ":1000"},
		"less output":              {allow, map[string]any{"max_output_tokens": 10}, ":10,"},
		"more output":              {allow, map[string]any{"max_output_tokens": 5000}, ":1000,"},
		"another's":                {allow, map[string]any{"note": "x"}, ":1000,"},
		"the model":                {allow, map[string]any{"allowed_models": []any{"gpt-*"}}, ":1000,"},
		"another model":            {allow, map[string]any{"allowed_models": []any{"o1"}}, ""},
		"no model":                 {allow, map[string]any{"allowed_models": []any{}}, ""},
		"unreadable":               {allow, map[string]any{"max_output_tokens": "many"}, ""},
		"second: less output":      {llm(`{"max_output_tokens": 20}`), nil, ":20,"},
		"second: more than first":  {llm(`{"max_output_tokens": 20}`), map[string]any{"max_output_tokens": 10}, ":10,"},
		"second: another model":    {llm(`{"allowed_models": ["o1"]}`), nil, ""},
		"second: unreadable":       {llm(`{"allowed_models": "all"}`), nil, ""},
		"second allows, first not": {llm(`{"allowed_models": ["gpt-*"]}`), map[string]any{"allowed_models": []any{"o1"}}, ""},
	} {
		h := newHarnessWith(t, map[string]string{"authz.rego": c.rego})
		h.ledger.limit(10_000)
		p := h.open()
		p.head(h.ticket("chat", func(m map[string]any) {
			if c.ticket != nil {
				m["obligations"] = c.ticket
			}
		}), false)
		p.recv()
		p.body(chatBody)
		m := p.recv()
		sent := string(m.GetRequestBody().GetResponse().GetBodyMutation().GetBody())
		if c.want == "" {
			if m.GetImmediateResponse().GetStatus().GetCode() != 403 || h.ledger.granted != 0 {
				t.Errorf("%s: got %v", name, m)
			}
			continue
		}
		if !strings.Contains(sent, `"max_completion_tokens"`+c.want) {
			t.Errorf("%s: upstream gets %s, want %s in it", name, sent, c.want)
		}
	}
}

// Why a policy refused is told only where its set says so.
func TestReasonsAreShownWhereTheyMay(t *testing.T) {
	t.Parallel()
	const rego = "package gatehouse\nauthz := {\"allowed\": true, \"rule_id\": \"r\", \"reason\": \"r\"}\nllm := {\"allowed\": false, \"rule_id\": \"r\", \"reason\": \"a secret reason\"}\n"
	for set, shown := range map[string]bool{testSet: false, testSet + "policy: {show_reasons: true}\n": true} {
		h := newHarnessOf(t, set, map[string]string{"authz.rego": rego})
		p, m := h.ask("req-1", "chat", chatBody)
		body := string(m.GetImmediateResponse().GetBody())
		if strings.Contains(body, "a secret reason") != shown {
			t.Errorf("shown %v: the client got %s", shown, body)
		}
		e := p.end()
		if e.Refusal.Reason != "a secret reason" || (!shown && !strings.Contains(body, e.DecisionID)) {
			t.Errorf("shown %v: refusal %+v, the client got %s", shown, e.Refusal, body)
		}
	}
}

// Who pays, and for what, is what Check said; and a refusal names its record.
func TestTheHold(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(10_000)
	subject := strings.Repeat("s", 61) + "\u00e9\u00e9"
	crossing := func(m map[string]any) {
		p := m["principal"].(map[string]any)
		p["tenant"], p["subject"] = "*", subject
	}
	p := h.open()
	p.head(h.ticket("chat", crossing), false)
	p.recv()
	p.body(chatBody)
	if m := p.recv(); held(m) != "true" {
		t.Fatalf("got %v", m)
	}
	got := h.ledger.last
	if got.Project != "proj1" || got.Subject != strings.Repeat("s", 61)+"\u00e9" || got.TTL != 40*time.Minute || got.Unlimited || got.Model != "gpt-x" {
		t.Errorf("hold %+v", got)
	}
	h.server.Logged("req-1", false)
	e := p.end()
	if u := h.ledger.usage(); e.Held == 0 || u.Reserved != 0 {
		t.Errorf("event %+v, ledger %+v", e, u)
	}
	// Another exchange is another hold, though it asks for the same.
	if _, m := h.ask("req-2", "chat", chatBody); held(m) != "true" || h.ledger.last.BodyHash == got.BodyHash {
		t.Errorf("two exchanges share the hash %x", got.BodyHash)
	}
}

// Nobody's tokens are nobody's to hold, and without a ledger none are.
func TestNobodyPays(t *testing.T) {
	t.Parallel()
	nobody := func(m map[string]any) { m["principal"].(map[string]any)["tenant"] = "" }
	noLedger := func(o *proxy.Options) { o.Ledger = nil }
	for name, c := range map[string]struct {
		route  string
		ticket func(map[string]any)
		edit   func(*proxy.Options)
		want   int
	}{
		"no tenant":            {"chat", nobody, func(*proxy.Options) {}, 429},
		"no tenant, unlimited": {"unpaid", nobody, func(*proxy.Options) {}, 0},
		"no ledger":            {"chat", func(map[string]any) {}, noLedger, 503},
		"no ledger, unlimited": {"unpaid", func(map[string]any) {}, noLedger, 0},
	} {
		h := newHarness(t, c.edit)
		p := h.open()
		p.head(h.ticket(c.route, c.ticket), false)
		p.recv()
		p.body(chatBody)
		m := p.recv()
		if got := int(m.GetImmediateResponse().GetStatus().GetCode()); got != c.want || (c.want == 0) != (held(m) == "true") || h.ledger.granted != 0 {
			t.Errorf("%s: got %v", name, m)
		}
	}
}

// odd is a ledger that answers all the same.
type odd struct {
	proxy.Ledger
	answer budget.Answer
	err    error
}

func (o odd) Reserve(context.Context, string, budget.Hold) (budget.Answer, error) {
	return o.answer, o.err
}

// Only a hold that was made lets a request go on where tokens are limited; where
// they are not, whatever the ledger says does.
func TestWhateverTheLedgerAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ledger odd
		want   int
	}{
		"away":                     {odd{err: budget.ErrUnavailable}, 503},
		"unknown tenant":           {odd{err: budget.ErrUnknown}, 429},
		"nothing":                  {odd{}, 503},
		"refused":                  {odd{answer: budget.Answer{Verdict: budget.Refused, Request: budget.Request{Denial: &budget.Denial{Reason: budget.ReasonExhausted}}}}, 429},
		"refused without a reason": {odd{answer: budget.Answer{Verdict: budget.Refused}}, 503},
		"another word":             {odd{answer: budget.Answer{Verdict: "maybe"}}, 503},
	} {
		h := newHarness(t, func(o *proxy.Options) { c.ledger.Ledger = o.Ledger; o.Ledger = c.ledger })
		p, m := h.ask("req-1", "chat", chatBody)
		if got := int(m.GetImmediateResponse().GetStatus().GetCode()); got != c.want || m.GetDynamicMetadata() != nil {
			t.Errorf("%s: got %v", name, m)
		}
		if e := p.end(); e.Held != 0 || e.Settled != "" {
			t.Errorf("%s: event %+v", name, e)
		}
		p, m = h.ask("req-2", "unpaid", chatBody)
		if held(m) != "true" {
			t.Errorf("%s, unlimited: got %v", name, m)
		}
		h.server.Logged("req-2", true)
		if e := p.end(); e.Held != 0 || e.Settled != "" {
			t.Errorf("%s, unlimited: event %+v", name, e)
		}
	}
}

// Where nothing is limited, no member's cost has to be bounded.
func TestUnboundedWhereNothingIsLimited(t *testing.T) {
	t.Parallel()
	const body = `{"model":"gpt-x","messages":[],"prediction":{"type":"content","content":"x"}}`
	for set, want := range map[string]bool{
		testSet: false,
		strings.Replace(testSet, "llm: {max_output_tokens: 1000}}", "llm: {max_output_tokens: 1000, unbounded: [prediction]}}", 1): true,
	} {
		h := newHarnessOver(t, set)
		h.ledger.limit(10_000)
		if _, m := h.ask("req-1", "raw", body); (held(m) == "true") != want {
			t.Errorf("got %v", m)
		}
		if _, m := h.ask("req-2", "unpaid", body); held(m) != "true" {
			t.Errorf("unlimited: got %v", m)
		}
	}
}

// The confirmation replaces what the client sent, in the header that its provider
// reads, and says how long the body has become.
func TestTheConfirmation(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.ledger.limit(100_000)
	for route, want := range map[string]map[string]string{
		"chat":     {"authorization": "Bearer sk-provider", "x-api-key": ""},
		"messages": {"authorization": "", "x-api-key": "sk-ant-provider"},
	} {
		body := chatBody
		if route == "messages" {
			body = `{"model":"claude-x","max_tokens":5,"messages":[]}`
		}
		_, m := h.ask(route, route, body)
		r := m.GetRequestBody().GetResponse()
		if got := mutated(r.GetHeaderMutation(), "content-length"); atoi(got) != len(r.GetBodyMutation().GetBody()) {
			t.Errorf("%s: content-length %s of %s", route, got, r.GetBodyMutation().GetBody())
		}
		for name, value := range want {
			if got := mutated(r.GetHeaderMutation(), name); got != value {
				t.Errorf("%s: %s is %q, want %q", route, name, got, value)
			}
		}
		for _, set := range r.GetHeaderMutation().GetSetHeaders() {
			if set.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
				t.Errorf("%s: %s stands beside the client's", route, set.GetHeader().GetKey())
			}
		}
	}
}

func TestTheRefusal(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p, m := h.ask("req-1", "chat", chatBody)
	r := m.GetImmediateResponse()
	e := p.end()
	if got := mutated(r.GetHeaders(), "x-gatehouse-decision-id"); got == "" || got != e.DecisionID || got == e.CheckID {
		t.Errorf("the caller is sent to the record %q, the event's is %q", got, e.DecisionID)
	}
	if body := string(r.GetBody()); !strings.Contains(body, "No budget applies") {
		t.Errorf("without a limit: %s", body)
	}
	h.ledger.limit(10)
	_, m = h.ask("req-2", "chat", chatBody)
	if body := string(m.GetImmediateResponse().GetBody()); !strings.Contains(body, "exhausted") {
		t.Errorf("over the limit: %s", body)
	}
}

// Who has to wait is told until when.
func TestTheRefusalSaysUntilWhen(t *testing.T) {
	t.Parallel()
	resets := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, denial := range map[string]*budget.Denial{
		`"resets_at":"2030-01-02T03:04:05Z"`: {Reason: budget.ReasonExhausted, ResetsAt: &resets},
		`"reason":"exhausted"`:               {Reason: budget.ReasonExhausted},
	} {
		h := newHarness(t, func(o *proxy.Options) {
			o.Ledger = odd{o.Ledger, budget.Answer{Verdict: budget.Refused, Request: budget.Request{Denial: denial}}, nil}
		})
		_, m := h.ask("req-1", "chat", chatBody)
		if body := string(m.GetImmediateResponse().GetBody()); !strings.Contains(body, want) || strings.Contains(body, "resets_at") != (denial.ResetsAt != nil) {
			t.Errorf("got %s, want %s in it", body, want)
		}
	}
}

// All that Check says of the principal is taken over: a revocation may name any of
// it.
func TestThePrincipal(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.open()
	p.head(h.ticket("models", func(m map[string]any) {
		m["principal"] = map[string]any{
			"kind": "token", "role": "developer", "subject": "s", "tenant": "org1", "project": "p", "issuer": "main",
			"agent": "a", "run": "r", "token_id": "t", "issued": 1_700_000_000,
		}
	}), true)
	p.recv()
	e := p.end()
	want := request.Principal{
		Kind: request.KindToken, Role: "developer", Subject: "s", Tenant: "org1", Project: "p", Issuer: "main",
		Agent: "a", Run: "r", TokenID: "t", Issued: time.Unix(1_700_000_000, 0),
	}
	if diff := cmp.Diff(want, e.Principal); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}
}

// An answer that takes longer than its route allows is ended, wherever it stands.
func TestLongestStream(t *testing.T) {
	t.Parallel()
	h := newHarnessOver(t, strings.Replace(testSet, "llm: {max_output_tokens: 1000}}", "max_stream: 1s, llm: {max_output_tokens: 1000}}", 1))
	h.ledger.limit(10_000)
	p, _ := h.confirmed("raw", streamBody)
	if status, text := p.said(); status != "504" || !strings.Contains(text, `"error_code":"upstream.timeout"`) {
		t.Errorf("the client got %s %s", status, text)
	}
	h.server.Logged("req-1", true)
	if e := p.end(); e.Outcome != proxy.Cut || e.Refusal.Rule != "max_stream" || e.Settled != "held" {
		t.Errorf("event %+v, refusal %+v", e, e.Refusal)
	}
}
