package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/envoytest"
	"gatehouse/internal/fakellm"
)

// halves is a provider that sends half of a JSON answer, and no more.
type halves struct {
	*httptest.Server
	ended chan struct{} // one for each client that is gone
}

func newHalves(t *testing.T) *halves {
	h := &halves{ended: make(chan struct{}, 16)}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *halves) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that its client is gone
	w.Header().Set("content-type", "application/json")
	_, _ = io.WriteString(w, `{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"half of`)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
	h.ended <- struct{}{}
}

// phase is where an answer stands.
type phase struct {
	name, base, model string
	stream            bool
	words             int64 // that the provider has served by then
}

// phases of an answer: none, a part of one that is withheld, and a stream.
func phases() []phase {
	return []phase{
		{"before the provider answers", "openai", "hang", false, 0},
		{"in the middle of a JSON answer", "half", "words-5", false, 0},
		{"in a stream", "openai", "slow-1000-20", true, 3},
		{"in a stream of Anthropic's", "anthropic", "slow-1000-20", true, 3},
	}
}

func (p phase) body() string {
	if p.base == "anthropic" {
		return prompt(p.model, p.stream, `"max_tokens":`+strconv.Itoa(llmOutput))
	}
	return prompt(p.model, p.stream)
}

func (p phase) hold() int64 { return int64(len(p.body())) + llmOutput }

// newPhases is a mesh with a provider more, whose answers are halves.
func newPhases(t *testing.T) (*llmMesh, *halves) {
	t.Helper()
	h := newHalves(t)
	l := newLLM(t, func(set string) string {
		set = strings.Replace(set, "\nlimits:\n", fmt.Sprintf("\n  half: {url: %q, format: openai}\nlimits:\n", h.URL), 1)
		return set + "  - {name: half, match: {listener: outbound, base: /half, path: /v1/chat/completions, methods: [POST]}, upstream: half, permission: task.create, llm: {max_output_tokens: 500}}\n"
	})
	l.limit(1_000_000)
	return l, h
}

// visit is a call that somebody else reads to its end.
type visit struct {
	phase
	id    string // of the request; "" where only halves have seen it
	leave context.CancelFunc
	end   chan reading
}

// reading is what a client got.
type reading struct {
	status int
	header http.Header
	text   string
	err    error
	at     time.Time
}

// visit sends a call, and returns when it is in its phase.
func (l *llmMesh) visit(p phase, headers ...string) *visit {
	l.t.Helper()
	ctx, leave := context.WithCancel(l.t.Context())
	v := &visit{phase: p, leave: leave, end: make(chan reading, 1)}
	known, begun := l.provider.Ledger().Requests, l.node.processed()
	go func() { v.end <- l.read(ctx, p, headers...) }()
	envoytest.Eventually(l.t, p.name, func() bool {
		if p.base == "half" {
			return l.node.processed() >= begun+withheldAfter
		}
		v.id = l.speaking(known, p.words)
		return v.id != ""
	})
	return v
}

// withheldAfter is how many messages the Exchange has of a request whose answer
// has begun: the headers and bodies of both.
const withheldAfter = 4

// processed is how many messages Envoy has sent to the Exchange.
func (n *member) processed() int {
	n.t.Helper()
	return max(0, n.stat("outbound.ext_proc.stream_msgs_sent"))
}

// speaking finds a request that was not known before, of whose answer so many
// words were served.
func (l *llmMesh) speaking(known map[string]fakellm.Entry, words int64) string {
	for id, e := range l.provider.Ledger().Requests {
		if _, old := known[id]; !old && e.Open > 0 && e.Served >= words {
			return id
		}
	}
	return ""
}

func (l *llmMesh) read(ctx context.Context, p phase, headers ...string) (r reading) {
	c, err := l.send(ctx, p.base, p.body(), headers...)
	if err != nil {
		return reading{err: err, at: time.Now()}
	}
	text, err := c.rest()
	return reading{c.resp.StatusCode, c.resp.Header, text, err, time.Now()}
}

// wantGone demands that the provider's call has ended soon after it was no more
// wanted, and before its own end.
func (l *llmMesh) wantGone(v *visit, h *halves, since time.Time) {
	l.t.Helper()
	ctx, cancel := context.WithDeadline(l.t.Context(), since.Add(gone))
	defer cancel()
	if v.id != "" {
		if e, err := l.provider.Ended(ctx, v.id); err != nil || e.Finished != 0 {
			l.t.Errorf("%s: the provider goes on: %+v, %v", v.name, e, err)
		}
		return
	}
	select {
	case <-h.ended:
	case <-ctx.Done():
		l.t.Errorf("%s: the provider goes on", v.name)
	}
}

// wantCharged demands that what was charged since covers what the provider
// billed, and does not exceed the holds. An answer that was not read is the hold.
func (l *llmMesh) wantCharged(before int64, visits ...*visit) {
	l.t.Helper()
	var least, most int64
	for _, v := range visits {
		most += v.hold()
		if !v.stream {
			least += v.hold()
			continue
		}
		least += l.provider.Entry(v.id).Billed
	}
	if used := l.settled().Used - before; used < least || used > most {
		l.t.Errorf("charged %d, want %d to %d", used, least, most)
	}
}

// A client may leave whenever it wants: the provider's call ends, and nothing
// stays reserved.
func TestLeavingInEachPhase(t *testing.T) {
	l, h := newPhases(t)
	for _, p := range phases() {
		before := l.settled().Used
		v := l.visit(p)
		if u := l.usage(); u.Reserved != p.hold() {
			t.Errorf("%s: %d are reserved, want %d", p.name, u.Reserved, p.hold())
		}
		left := time.Now()
		v.leave()
		l.wantGone(v, h, left)
		<-v.end
		l.wantCharged(before, v)
		t.Logf("%s: settled after %v", p.name, time.Since(left))
	}
}

// A caller whose tokens are revoked is cut off wherever its answers stand, and is
// told so.
func TestRevocationInEachPhase(t *testing.T) {
	l, h := newPhases(t)
	var visits []*visit
	for _, p := range phases() {
		visits = append(visits, l.visit(p))
	}
	begin := time.Now()
	l.revokeSubject(l.control, "developer")
	for _, v := range visits {
		r := <-v.end
		if took := r.at.Sub(begin); r.err != nil || took > promise {
			t.Errorf("%s: ended after %v with %v, want within %v", v.name, took, r.err, promise)
		}
		l.wantGone(v, h, r.at)
		if llmCode(r.text) != "auth.forbidden" || !strings.Contains(r.text, "The request was ended: the token is revoked.") {
			t.Errorf("%s: got %d %.500s, want auth.forbidden", v.name, r.status, r.text)
		}
		if v.stream {
			l.wantBroken(v, r)
		} else if r.status != 403 || r.header.Get("x-should-retry") != "false" {
			t.Errorf("%s: got %d, x-should-retry %q", v.name, r.status, r.header.Get("x-should-retry"))
		}
	}
	l.wantCharged(0, visits...)
}

// wantBroken demands a stream that has no end of the provider's.
func (l *llmMesh) wantBroken(v *visit, r reading) {
	l.t.Helper()
	if r.status != 200 || said(r.text) == "" || strings.Contains(r.text, "[DONE]") || strings.Contains(r.text, "message_stop") {
		l.t.Errorf("%s: got %d %.500s, want a stream without its end", v.name, r.status, r.text)
	}
}

// What mode observe lets pass runs as it would without us, and is recorded: no
// budget, no role, no harmless text, no revocation. Credentials of ours go only
// with those who may.
func TestObservedExchanges(t *testing.T) {
	l := newLLM(t)
	admin := l.login(l.control.url(), "admin").token
	asAdmin := bearer(admin)
	if status, text, _ := l.ask("watched", prompt("words-5", false), asAdmin...); status != 200 || said(text) != "word1 word2 word3 word4 word5" {
		t.Errorf("without a budget: %d %s", status, text)
	}
	l.limit(1_000_000)
	if status, text, _ := l.ask("watched", prompt("words-5", false)); status != 401 || llmCode(text) != "" {
		t.Errorf("a role that may not: %d %s, want the provider's own 401", status, text)
	}
	if u := l.settled(); u.Used != 0 {
		t.Errorf("charged %d for no answer", u.Used)
	}
	own := []string{"authorization", "Bearer " + openaiKey, "x-api-key", l.token}
	for who, headers := range map[string][]string{"a role that may": asAdmin, "a key of its own": own} {
		for _, stream := range []bool{false, true} {
			before := l.settled().Used
			status, text, id := l.ask("watched", prompt("sql", stream), headers...)
			if status != 200 || said(text) != "Sure, run this: DROP TABLE users; and then tell me." {
				t.Errorf("%s: %d %s", who, status, text)
			}
			if used := l.settled().Used - before; used != l.provider.Billed(id) {
				t.Errorf("%s: charged %d, the provider billed %d", who, used, l.provider.Billed(id))
			}
		}
	}
	l.observedToItsEnd(own)
	l.wantRecorded("watched", "budget_no_limit")
	if leaks := l.provider.Leaks(); len(leaks) > 0 {
		t.Errorf("the provider saw %+v", leaks)
	}
}

// observedToItsEnd: a revocation that cuts another stream of the same caller lets
// an observed one go on, until its client leaves.
func (l *llmMesh) observedToItsEnd(headers []string) {
	l.t.Helper()
	before := l.settled().Used
	p := phase{"observed", "watched", "slow-1000-20", true, 3}
	watched := l.visit(p, headers...)
	cut := l.visit(phases()[2])
	l.revokeSubject(l.control, "developer")
	if r := <-cut.end; llmCode(r.text) != "auth.forbidden" {
		l.t.Errorf("an enforced stream: got %d %.500s", r.status, r.text)
	}
	served := l.provider.Served(watched.id)
	_, err := l.provider.Await(l.t.Context(), watched.id, func(e fakellm.Entry) bool { return e.Open == 0 || e.Served > served+10 })
	must(l.t, err)
	if e := l.provider.Entry(watched.id); e.Open == 0 {
		l.t.Errorf("an observed stream was ended: %+v", e)
	}
	watched.leave()
	l.wantGone(watched, nil, time.Now())
	<-watched.end
	l.wantCharged(before, watched, cut)
}

// wantRecorded waits for a record of what a route let pass.
func (l *llmMesh) wantRecorded(route, rule string) {
	l.t.Helper()
	conn := l.connect()
	defer conn.Close(l.t.Context())
	envoytest.Eventually(l.t, rule+" is recorded", func() bool {
		var n int
		must(l.t, conn.QueryRow(l.t.Context(), `SELECT count(*) FROM decisions
			WHERE record->>'route' = $1 AND record->>'rule_id' = $2 AND (record->>'would_deny')::bool`, route, rule).Scan(&n))
		return n > 0
	})
}
