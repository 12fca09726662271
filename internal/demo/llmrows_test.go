package demo

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gatehouse/internal/devstack"
	"gatehouse/internal/fakellm"
)

// unguarded is a stack in which nobody stands before the provider of models, and
// whose control says what it is told to.
type unguarded struct {
	*probe
	refuse  *reaction           // instead of the provider, where not nil
	replies map[string]reaction // of control, by method and path
	asked   []string            // what control was asked, but for logins
	calls   int                 // of models
}

func newUnguarded(t *testing.T) *unguarded {
	t.Helper()
	u := &unguarded{replies: map[string]reaction{}}
	provider := fakellm.New(fakellm.Options{OpenAIKey: "t", AnthropicKey: "t"})
	outbound := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u.refuse != nil {
			w.WriteHeader(u.refuse.status)
			_, _ = w.Write([]byte(u.refuse.body))
			return
		}
		u.calls++
		id := fmt.Sprint("call-", u.calls)
		r.Header.Set("x-request-id", id)
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		r.URL.Path = "/" + path
		provider.ServeHTTP(named{w, id}, r)
	}))
	ledger := httptest.NewServer(provider.Control())
	control := httptest.NewServer(http.HandlerFunc(u.control))
	t.Cleanup(func() { outbound.CloseClientConnections(); outbound.Close(); ledger.Close(); control.Close() })
	u.probe = &probe{client: http.DefaultClient, tokens: map[string]string{}, ready: devstack.Ready{
		API: control.URL, Outbound: outbound.URL, LLMLedger: ledger.URL + "/_fake/ledger",
	}}
	return u
}

func (u *unguarded) control(w http.ResponseWriter, r *http.Request) {
	said, asked := welcome, r.Method+" "+r.URL.Path
	if r.URL.Path != loginPath {
		u.asked = append(u.asked, asked)
		said = u.replies[asked]
	}
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(max(said.status, 100))
	_, _ = w.Write([]byte(said.body))
}

// named gives an answer the request's id, as Envoy does.
type named struct {
	http.ResponseWriter
	id string
}

func (n named) WriteHeader(status int) {
	n.Header().Set("x-request-id", n.id)
	n.ResponseWriter.WriteHeader(status)
}

func (n named) Unwrap() http.ResponseWriter { return n.ResponseWriter }

const (
	transactionsPath = "/api/v1/budget/transactions"
	limitsPath       = "/api/v1/budget/limits"
	statePath        = "/api/v1/budget/state"
	limitID          = "8f14e45f-ceea-467f-a1d6-91a1b5c8f005"
)

// settles lets the ledger say what one call came to, at two limits.
func (u *unguarded) settles(held, charged int64) {
	entry := fmt.Sprintf(`{"kind": "reserve", "reserved": %d}, {"kind": "commit", "reserved": %d, "used": %d}`, held, -held, charged)
	u.replies["GET "+transactionsPath] = reaction{200, `{"items": [` + entry + ", " + entry + "]}"}
}

func (u *unguarded) makesLimits() {
	u.replies["POST "+limitsPath] = reaction{201, `{"id": "` + limitID + `"}`}
	u.replies["PATCH "+limitsPath+"/"+limitID] = reaction{200, `{}`}
	u.replies["DELETE "+limitsPath+"/"+limitID] = reaction{204, ""}
}

// usage lets control say the state of limits: id, limit, ceiling, used, reserved,
// available.
func (u *unguarded) usage(limits ...[6]any) {
	items := make([]string, len(limits))
	for i, l := range limits {
		items[i] = fmt.Sprintf(`{"limit_id": %q, "limit": %d, "ceiling": %d, "used": %d, "reserved": %d, "available": %d}`, l[:]...)
	}
	u.replies["GET "+statePath] = reaction{200, `{"items": [` + strings.Join(items, ",") + `]}`}
}

func TestSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"choices": [{"message": {"content": "a b"}}]}`: "a b",
		`{"content": [{"text": "a"}, {"text": " b"}]}`:   "a b",
		"data: {\"choices\": [{\"delta\": {\"content\": \"a\"}}]}\n\ndata:{\"choices\": [{\"delta\": {\"content\": \" b\"}}]}\n\ndata: [DONE]\n\n": "a b",
		"event: content_block_delta\ndata: {\"delta\": {\"text\": \"a b\"}}\n\n":                                                                   "a b",
		`{"choices": []}`: "", "": "", "{": "", "data: {\n": "",
	} {
		if got := said(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// With nobody between, what must be neutralised is not, and what must be refused
// passes: each of these rows must fail.
func TestModelRowsNeedSomebodyBetween(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	checked := 0
	for _, r := range llmRows() {
		if !strings.HasPrefix(r.what, "SQL") && !strings.HasPrefix(r.what, "a script") && r.want.status == http.StatusOK {
			continue
		}
		checked++
		a, err := r.send(t.Context(), u.probe)
		if a.status != http.StatusOK {
			t.Errorf("%s: %s, %v: the provider did not answer", r.what, a, err)
		}
		if fault := errors.Join(err, r.want.compare(outcome{answer: a, reached: 1})); fault == nil {
			t.Errorf("%s: %q holds though nobody looks", r.what, a.text)
		}
	}
	if checked != 5 {
		t.Errorf("%d rows, want 5", checked)
	}
}

func TestHarmlessAnswersAreWhole(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	q := prompt{base: openai, model: "words-3", most: 10}
	if _, err := harmless(q, "DROP", "word3")(t.Context(), u.probe); err != nil {
		t.Error(err)
	}
	_, err := harmless(q, "DROP", "word4")(t.Context(), u.probe)
	wantFault(t, "cut", outcome{fault: err}, `ends with "word4"`)
}

func TestPaid(t *testing.T) {
	t.Parallel()
	for _, base := range []string{openai, anthropic} {
		for _, stream := range []bool{false, true} {
			u := newUnguarded(t)
			q := prompt{base: base, model: "words-40", most: 100, stream: stream}
			const billed = 43 // and three words asked
			u.settles(500, billed)
			a, err := paid(q)(t.Context(), u.probe)
			if err != nil || a.note != "held 500, settled to 43; the provider counted 43" || !strings.HasSuffix(a.text, "word40") {
				t.Errorf("%+v: %q, %q, %v", q, a.note, a.text, err)
			}
			for _, wrong := range [][2]int64{{500, billed - 1}, {500, billed + 1}, {billed, billed}} {
				u.settles(wrong[0], wrong[1])
				_, err := paid(q)(t.Context(), u.probe)
				wantFault(t, fmt.Sprint(wrong), outcome{fault: err}, fmt.Sprintf("held %d, settled to %d", wrong[0], wrong[1]))
			}
		}
	}
}

func TestLeaksAreSeen(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	req, err := http.NewRequest(http.MethodGet, u.ready.Outbound+"/openai/v1/models", nil)
	noError(t, err)
	req.Header.Set("x-api-key", "a token")
	resp, err := u.client.Do(req)
	noError(t, err)
	_ = resp.Body.Close()
	_, err = paid(prompt{base: openai, model: "words-1", most: 10})(t.Context(), u.probe)
	wantFault(t, "a leak", outcome{fault: err}, "the provider saw x-api-key")
}

func TestACallThatIsNeverSettledIsSeen(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	u.replies["GET "+transactionsPath] = reaction{200, `{"items": [{"kind": "reserve", "reserved": 500}]}`}
	a, err := u.ask(t.Context(), prompt{base: openai, model: "words-1", most: 10})
	noError(t, err)
	c, err := u.admin(t.Context())
	noError(t, err)
	if held, _, done, err := journal(t.Context(), c, "call-1"); held != 500 || done || err != nil {
		t.Errorf("held %d, settled %v, %v; want 500 and not settled", held, done, err)
	}
	u.replies["GET "+transactionsPath] = reaction{403, `{"error_code": "auth.forbidden"}`}
	_, err = u.settled(t.Context(), a)
	wantFault(t, "refused", outcome{fault: err}, "auth.forbidden")
}

func TestRefusedModelCalls(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	q := prompt{base: openai, model: "words-1", most: 10}
	u.refuse = &reaction{429, `{"error": {"message": "m", "error_code": "budget.insufficient"}}`}
	for _, send := range []sender{modelSays(q), paid(q), harmless(q, "x", "y")} {
		if a, err := send(t.Context(), u.probe); a.String() != "429 budget.insufficient" || err != nil {
			t.Errorf("got %s, %v", a, err)
		}
	}
	u.refuse = &reaction{502, "<html>"}
	_, err := modelSays(q)(t.Context(), u.probe)
	wantFault(t, "a page", outcome{fault: err}, "the refusal's body")
}

func TestRefusalsPointAtTheFault(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	send := pointed(prompt{base: synthesis, model: "synthesis-bad", most: 10}, "/a/0")
	u.refuse = &reaction{502, `{"error": {"error_code": "upstream.invalid_response", "details": {"errors": [{"pointer": "/a/0", "message": "m"}, {"pointer": "/b", "message": "n"}]}}}`}
	if a, err := send(t.Context(), u.probe); a.note != "/a/0: m; /b: n" || err != nil {
		t.Errorf("got %q, %v", a.note, err)
	}
	for _, details := range []string{`{"errors": [{"pointer": "/a/01", "message": "m"}]}`, `{}`} {
		u.refuse = &reaction{502, `{"error": {"error_code": "upstream.invalid_response", "details": ` + details + `}}`}
		_, err := send(t.Context(), u.probe)
		wantFault(t, details, outcome{fault: err}, "expected /a/0")
	}
}

func TestListOfModels(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	u.refuse = &reaction{200, `{"data": [{"id": "words-10"}]}`}
	if a, err := listModels(t.Context(), u.probe); a.note != "1, such as words-10" || err != nil {
		t.Errorf("got %q, %v", a.note, err)
	}
	u.refuse = &reaction{200, `{"data": []}`}
	_, err := listModels(t.Context(), u.probe)
	wantFault(t, "none", outcome{fault: err}, "empty")
}
