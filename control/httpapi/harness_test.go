package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/apierr"
)

// contract is the document as another library reads it.
var contract = sync.OnceValues(func() (routers.Router, error) {
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
	doc, err := openapi3.NewLoader().LoadFromData(apiv1.Spec())
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	return legacy.NewRouter(doc)
})

// harness is the handler over fakes.
type harness struct {
	t       testing.TB
	handler http.Handler
	store   *store
	answers *answers
	auth    *auth
	log     *bytes.Buffer
	metrics *metrics

	mu  sync.Mutex // guards now
	now time.Time
}

type metrics struct {
	mu          sync.Mutex
	seen        []string
	tails, most int
}

func (m *metrics) APIRequest(operation string, status int, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, operation+" "+http.StatusText(status))
}

func (m *metrics) DecisionTails(open int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tails, m.most = open, max(m.most, open)
}

// unlimited is for tests of other things than limits.
func unlimited() Limits {
	const n = maxLimit
	return Limits{Admin: n, Operator: n, Developer: n, Observer: n, Anonymous: n, Probe: n, Sessions: n, FailedLogins: n, Budget: n, Breaker: n}
}

func newHarness(t testing.TB, change ...func(*Options)) *harness {
	t.Helper()
	s := &store{}
	s.seed()
	h := &harness{t: t, store: s, answers: newAnswers(), auth: &auth{store: s}, log: &bytes.Buffer{}, metrics: &metrics{}, now: seeded}
	o := h.options()
	for _, f := range change {
		f(&o)
	}
	var err error
	if h.handler, err = New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harness) options() Options {
	return Options{
		Auth: h.auth, Users: h.store, Clients: h.store, Tenants: h.store, Projects: h.store, Counts: h.store,
		Agents: h.store, Governance: h.store, Revocations: h.store, Sidecars: h.store, Policies: h.store, Decisions: h.store, Budgets: h.store, Breakers: h.store,
		Answers:  h.answers,
		Database: h.store, Metrics: h.metrics, Log: slog.New(slog.NewJSONHandler(&lockedWriter{w: h.log}, nil)),
		Now: h.clock, Version: "v1.2.3", Limits: unlimited(), CursorKey: bytes.Repeat([]byte{7}, minCursorKey),
	}
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (h *harness) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *harness) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// member returns a member of the body, by its path.
func (a answer) member(t testing.TB, path ...string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (a answer) text(t testing.TB, path ...string) string {
	t.Helper()
	s, _ := a.member(t, path...).(string)
	return s
}

// patience is how long do waits for an answer to end: a tail has its own time.
const patience = 30 * time.Second

// do sends a request as the holder of token; header is name, value and so on.
func (h *harness) do(method, target, token, body string, header ...string) answer {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return h.send(r, body)
}

// send sends a request and holds it and its answer against the document: every
// answer, and every request that was taken.
func (h *harness) send(r *http.Request, body string) answer {
	h.t.Helper()
	w := httptest.NewRecorder()
	sent := r.Clone(r.Context())
	h.handler.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Result().Header, body: w.Body.String()}
	h.conforms(sent, body, a)
	return a
}

func (h *harness) conforms(r *http.Request, body string, a answer) {
	h.t.Helper()
	if a.header.Get("X-Request-Id") == "" {
		h.t.Errorf("%s %s: no X-Request-Id", r.Method, r.URL)
	}
	router, err := contract()
	if err != nil {
		h.t.Fatal(err)
	}
	if a.status >= 400 {
		h.isError(a)
	}
	route, params, err := router.FindRoute(r)
	if err != nil || r.URL.Path != "/" && strings.HasSuffix(r.URL.Path, "/") { // the library drops a closing slash
		return
	}
	r.Body = io.NopCloser(strings.NewReader(body))
	in := &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: params,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if a.status < 400 {
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			h.t.Errorf("%s %s was taken, against the document: %v", r.Method, r.URL, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: a.status, Header: a.header, Options: in.Options}
	out.SetBodyBytes([]byte(a.body))
	if r.Method == http.MethodHead {
		return
	}
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		h.t.Errorf("%s %s answered %d %s against the document: %v", r.Method, r.URL, a.status, a.body, err)
	}
}

// isError checks what all errors share.
func (h *harness) isError(a answer) {
	h.t.Helper()
	if a.body == "" { // the answer to HEAD
		return
	}
	if a.text(h.t, "request_id") != a.header.Get("X-Request-Id") || !apierr.Code(a.text(h.t, "error_code")).Valid() {
		h.t.Errorf("status %d: body %s with X-Request-Id %q is no error of ours", a.status, a.body, a.header.Get("X-Request-Id"))
	}
}

// want checks the status, and the code of an error.
func (h *harness) want(a answer, status int, code apierr.Code) {
	h.t.Helper()
	if a.status != status {
		h.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if code != "" {
		if got := a.text(h.t, "error_code"); got != string(code) {
			h.t.Fatalf("error_code %q, want %q: %s", got, code, a.body)
		}
	}
}

// events are the lines of the log.
func (h *harness) events() []map[string]any {
	h.t.Helper()
	var out []map[string]any
	for line := range strings.Lines(h.log.String()) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}
