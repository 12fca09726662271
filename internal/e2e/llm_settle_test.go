package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"gatehouse/internal/envoytest"
)

// charge is what a settlement is expected to be.
type charge int

const (
	billed  charge = iota // what the provider counted, to the token
	nothing               // the hold was released
	counted               // the prompt's bound and the visible bytes
	whole                 // the hold
	visible               // as counted, of what came before the break: between what was billed and the hold
)

// settlement is a row of the table: a call, and what it is charged.
type settlement struct {
	name, base, model string
	stream            bool
	status            int // 0 for any
	want              charge
}

func settlements() []settlement {
	return []settlement{
		{"reported, JSON", "openai", "words-10", false, 200, billed},
		{"reported, stream", "openai", "words-10", true, 200, billed},
		{"reported, JSON, Anthropic", "anthropic", "words-10", false, 200, billed},
		{"reported, stream, Anthropic", "anthropic", "words-10", true, 200, billed},
		{"cached prompt", "openai", "cached-10", true, 200, billed},
		{"cached prompt, Anthropic", "anthropic", "cached-10", true, 200, billed},
		{"hidden reasoning", "openai", "reasoning-20", true, 200, billed},
		{"usage twice", "openai", "two-usage", true, 200, billed},
		{"CRLF", "openai", "crlf", true, 200, billed},
		{"error document", "openai", "error-429", false, 429, nothing},
		{"error document, stream", "openai", "error-500", true, 500, nothing},
		{"error document, Anthropic", "anthropic", "error-529", false, 529, nothing},
		{"upstream breaks a stream off, no thoughts are hidden", "openai", "gpt-4o/cut-5", true, 0, visible},
		{"a stream ends in the provider's error", "openai", "gpt-4o/late-error-5", true, 200, visible},
		{"usage on the way, then broken", "openai", "gpt-4o/early-usage", true, 0, visible},
		{"no usage, JSON", "openai", "nousage-20", false, 200, counted},
		{"no usage, stream", "openai", "nousage-20", true, 200, counted},
		{"low usage", "openai", "lowusage-40", false, 200, counted},
		{"low usage, stream", "anthropic", "lowusage-30", true, 200, counted},
		{"upstream breaks a stream off, thoughts may be hidden", "openai", "cut-5", true, 0, whole}, // 503 where the break overtakes the headers
		{"upstream breaks a document off", "openai", "cut-5", false, 503, whole},
		{"HTML instead of an error", "raw", "html-500", false, 500, whole},
		{"HTML on a judged route", "openai", "html-500", false, 502, whole},
		{"octets", "raw", "octet", false, 200, whole},
		{"compressed", "openai", "gzip", false, 502, whole},
		{"connection closed before headers", "openai", "refuse", false, 503, whole},
		{"no connection", "gone", "words-10", false, 503, nothing},
		{"time-out", "raw", "hang", false, 504, whole},
	}
}

// The table of settlements, row by row, on a real Envoy. What the provider bills
// is its own count, of words; what we charge is the ledger's.
func TestSettlements(t *testing.T) {
	l := newLLM(t)
	l.limit(1_000_000)
	for _, c := range settlements() {
		t.Run(c.name, func(t *testing.T) { l.settles(t, c) })
	}
	if leaks := l.provider.Leaks(); len(leaks) > 0 {
		t.Errorf("the provider saw %+v", leaks)
	}
}

// settles makes the call and holds its charge against what is expected.
func (l *llmMesh) settles(t *testing.T, c settlement) {
	before := l.settled().Used
	more := []string{}
	if c.base == "anthropic" {
		more = append(more, `"max_tokens":200`)
	}
	body := prompt(c.model, c.stream, more...)
	status, text, id := l.ask(c.base, body)
	if c.status != 0 && status != c.status {
		t.Errorf("status %d, want %d: %.300s", status, c.status, text)
	}
	if status >= 500 && c.base != "raw" && !strings.Contains(text, `"error":{`) {
		t.Errorf("not the provider's form: %s", text)
	}
	hold := int64(len(body)) + llmOutput
	if c.base == "anthropic" {
		hold = int64(len(body)) + 200
	}
	e := l.provider.Entry(id)
	want := map[charge]int64{
		billed: e.Billed, nothing: 0, whole: hold, counted: int64(len(body)) + int64(len(said(text))),
	}[c.want]
	envoytest.Eventually(t, "settled", func() bool { return l.usage().Reserved == 0 })
	if got := l.usage().Used - before; c.want == visible {
		if got < int64(len(body)) || got >= hold {
			t.Errorf("charged %d, want what was visible; the hold was %d", got, hold)
		}
	} else if got != want {
		t.Errorf("charged %d, want %d; the provider: %+v; the client got %.400s", got, want, e, text)
	}
	if got := l.usage().Used - before; got < e.Billed {
		t.Errorf("charged %d, the provider billed %d", got, e.Billed)
	}
}

// A client that leaves is charged what it may have cost.
func TestClientLeaves(t *testing.T) {
	l := newLLM(t)
	l.limit(1_000_000)
	body := prompt("slow-400-20", true)
	c := l.begin("openai", body)
	if _, err := c.events.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.leave()
	e, err := l.provider.Ended(t.Context(), c.requestID)
	must(t, err)
	u := l.settled()
	if u.Used < e.Billed || u.Used > int64(len(body))+llmOutput {
		t.Errorf("charged %d; the provider billed %d, the hold was %d", u.Used, e.Billed, len(body)+llmOutput)
	}
	if e.Completion > 100 {
		t.Errorf("the upstream went on: %+v", e)
	}

	// While nothing has come back, only the access log can tell: here, that the
	// provider was reached.
	before, open := u.Used, l.provider.Totals().Open
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = l.send(ctx, "openai", prompt("hang", false))
	}()
	envoytest.Eventually(t, "the provider has the request", func() bool { return l.provider.Totals().Open > open })
	if u := l.usage(); u.Reserved == 0 || u.Used != before {
		t.Errorf("while the provider thinks: %+v", u)
	}
	leave()
	<-gone
	if got, want := l.settled().Used-before, int64(len(prompt("hang", false)))+llmOutput; got != want {
		t.Errorf("charged %d for a call that may go on, want %d", got, want)
	}
}

// Denials on the way in: the provider is not reached, nothing is charged, and the
// answer has the provider's form.
func TestHeldBeforeTheProvider(t *testing.T) {
	l := newLLM(t)
	l.askTwice(`package gatehouse.llm

default allowed := true

allowed := false if input.model == "words-66"
`)
	want := func(what string, base, body string, status int, code string, headers ...string) {
		t.Helper()
		calls := l.provider.Totals().Calls
		got, text, _ := l.ask(base, body, headers...)
		if got != status || llmCode(text) != code {
			t.Errorf("%s: got %d %s, want %d %s", what, got, text, status, code)
		}
		if l.provider.Totals().Calls != calls {
			t.Errorf("%s: the provider was reached", what)
		}
	}
	want("without a limit", "openai", prompt("words-10", false), 429, "budget.insufficient")
	l.limit(2000)
	body := prompt("words-10", false, `"n":4`)
	want("four outputs over the limit", "openai", body, 429, "budget.insufficient")
	want("not JSON", "openai", `{"model":`, 400, "validation.malformed")
	want("duplicate", "openai", `{"model":"words-1","model":"words-2","messages":[]}`, 400, "validation.malformed")
	want("a server's tool", "anthropic", prompt("words-1", false, `"max_tokens":5`, `"tools":[{"type":"web_search_20250305","name":"web_search"}]`), 422, "validation.invalid")
	want("a model that the policy does not allow", "openai", prompt("words-66", false), 403, "auth.forbidden")
	want("no limit of the output", "openai", prompt("words-1", false, `"max_tokens":0`), 422, "validation.invalid")
	want("a stream of a route that checks whole answers", "synthesis", prompt("synthesis-ok", true), 422, "validation.invalid")
	want("no body", "openai", "", 400, "validation.malformed")
	want("compressed", "openai", prompt("words-1", false), 415, "validation.unsupported_media_type", "content-encoding", "gzip")
	want("a form", "openai", prompt("words-1", false), 415, "validation.unsupported_media_type", "content-type", "multipart/form-data")
	want("a key that is none", "openai", prompt("words-1", false), 400, "validation.malformed", "idempotency-key", "a b")
	if a := l.node.do("GET", l.node.outbound+"/openai/v1/models", "{}", bearer(l.token)...); a.Status != 400 || l.provider.Totals().Calls != 0 {
		t.Errorf("a body where nothing is to pay: %d %s", a.Status, a.Body)
	}
	if u := l.settled(); u.Used != 0 {
		t.Errorf("charged %d for nothing", u.Used)
	}
	// Without a limit on the way: recorded, not limited.
	if status, text, _ := l.ask("unpaid", prompt("words-400", false)); status != 200 {
		t.Errorf("budget: none: %d %s", status, text)
	}
	if u := l.settled(); u.Used != 0 {
		t.Errorf("budget: none charged %d", u.Used)
	}
	// n holds n outputs: it fits exactly, and one less does not.
	l.settled()
	c := l.begin("openai", prompt("slow-50-100", true, `"n":2`))
	if u := l.usage(); u.Reserved != int64(len(prompt("slow-50-100", true, `"n":2`)))+2*llmOutput {
		t.Errorf("n=2 holds %d", u.Reserved)
	}
	c.leave()
}

// No credential of the client's reaches the provider, and models cost nothing.
func TestFreeRoute(t *testing.T) {
	l := newLLM(t)
	a := l.node.get(l.node.outbound+"/openai/v1/models", bearer(l.token)...)
	if a.Status != http.StatusOK || !strings.Contains(a.Body, "words-") {
		t.Errorf("got %d %.200s", a.Status, a.Body)
	}
	if leaks := l.provider.Leaks(); len(leaks) > 0 {
		t.Errorf("the provider saw %+v", leaks)
	}
}
