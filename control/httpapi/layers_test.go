package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"gatehouse/control/httpapi/spec"
	"gatehouse/internal/apierr"
)

func TestRequestID(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for id, kept := range map[string]bool{
		"a-B_3.x": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "é": false, "a,b": false,
	} {
		a := h.do("GET", "/health", "", "", "X-Request-Id", id)
		if got := a.header.Get("X-Request-Id"); (got == id) != kept || got == "" {
			t.Errorf("X-Request-Id %q: got %q, kept should be %t", id, got, kept)
		}
	}
	if a, b := h.do("GET", "/health", "", ""), h.do("GET", "/health", "", ""); a.header.Get("X-Request-Id") == b.header.Get("X-Request-Id") {
		t.Error("two requests got the same id")
	}
}

func TestOneEventPerRequest(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	h.do("GET", "/api/v1/users?limit=7&cursor=secret", "admin", "", "Traceparent", parent, "X-Request-Id", "r1")
	h.do("GET", "/api/v1/stats", "admin", "", "X-Request-Id", "r2", "Traceparent", "00-x")
	h.do("GET", "/no/such", "", "", "X-Request-Id", "r3")
	events := h.events()
	if len(events) != 3 {
		t.Fatalf("%d events, want 3: %s", len(events), h.log)
	}
	first := map[string]any{
		"level": "INFO", "msg": "request", "request_id": "r1", "method": "GET", "path": "/api/v1/users", "address": "192.0.2.1",
		"operation": "listUsers", "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
		"subject": "admin", "tenant": "org1", "role": "admin", "status": float64(422), "error_code": "validation.invalid",
		"duration_ms": float64(0),
	}
	for _, name := range []string{"time", "error", "response_bytes"} {
		delete(events[0], name)
	}
	if diff := cmp.Diff(first, events[0]); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if _, ok := events[1]["trace_id"]; ok {
		t.Errorf("a traceparent that is not valid was told on: %v", events[1])
	}
	if events[2]["operation"] != nil || events[2]["status"] != float64(404) {
		t.Errorf("unknown path: %v", events[2])
	}
	want := []string{"listUsers Unprocessable Entity", "getStats OK", " Not Found"}
	if diff := cmp.Diff(want, h.metrics.seen); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.do("POST", "/api/v1/auth/login", "", `{"username":"ada","password":"hunter2hunter2"}`)
	h.do("POST", "/api/v1/auth/refresh", "", `{"refresh_token":"bad"}`)
	h.do("GET", "/api/v1/users?cursor=topsecret", "expired", "")
	for _, secret := range []string{"hunter2", "topsecret", "Bearer expired"} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log has %q: %s", secret, h.log)
		}
	}
	if len(h.events()) != 3 {
		t.Errorf("%d events, want 3", len(h.events()))
	}
}

func TestTraceparent(t *testing.T) {
	t.Parallel()
	id, parent := strings.Repeat("a", 32), strings.Repeat("b", 16)
	for text, want := range map[string]trace{
		"00-" + id + "-" + parent + "-01":                      {id, parent},
		"cc-" + id + "-" + parent + "-01-later":                {id, parent},
		"00-" + id + "-" + parent + "-01-x":                    {},
		"ff-" + id + "-" + parent + "-01":                      {},
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": {},
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":     {},
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":     {},
		"00-" + id[1:] + "-" + parent + "-01":                  {},
		"":                                                     {},
	} {
		if got := readTrace(text); got != want {
			t.Errorf("readTrace(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestPanicIsAnInternalError(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.do("GET", "/api/v1/stats", "panic", "")
	h.want(a, http.StatusInternalServerError, apierr.Internal)
	if strings.Contains(a.body, "secret") {
		t.Errorf("the answer shows the panic: %s", a.body)
	}
	e := h.events()[0]
	if text, _ := e["error"].(string); e["level"] != "ERROR" || !strings.Contains(text, "a defect with a secret") {
		t.Errorf("the log does not tell of the panic: %v", e)
	}
}

// TestPanicAfterTheAnswerBegan cuts the connection: half an answer must not
// pass for a whole one.
func TestPanicAfterTheAnswerBegan(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := &api{opts: h.options().withDefaults()}
	handler := a.begin(a.record(a.rescue(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		panic("late")
	}))))
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("recovered %v, want http.ErrAbortHandler", v)
		}
		if !strings.Contains(h.log.String(), "late") {
			t.Errorf("the log does not tell of the panic: %s", h.log)
		}
	}()
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	t.Error("the handler returned")
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, path := range []string{"/health", "/no/such", "/api/v1/users"} {
		a := h.do("GET", path, "", "")
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Strict-Transport-Security": "",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	if got := h.do("GET", "https://api/health", "", "").header.Get("Strict-Transport-Security"); got == "" {
		t.Error("no Strict-Transport-Security over TLS")
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	const origin = "https://console.example"
	h := newHarness(t, func(o *Options) { o.CORSOrigins = []string{origin} })
	a := h.do("GET", "/api/v1/users", "", "", "Origin", origin)
	h.want(a, http.StatusUnauthorized, apierr.AuthMissingToken) // readable by the page all the same
	if got := a.header.Get("Access-Control-Allow-Origin"); got != origin {
		t.Errorf("Access-Control-Allow-Origin %q, want %q", got, origin)
	}
	r := httptest.NewRequestWithContext(t.Context(), "OPTIONS", "/api/v1/users", nil)
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", "PATCH")
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent || !strings.Contains(w.Header().Get("Access-Control-Allow-Methods"), "PATCH") {
		t.Errorf("preflight: %d, %v", w.Code, w.Header())
	}
	for _, other := range []string{"https://console.example.evil", "http://console.example", "null", "*", ""} {
		a := h.do("OPTIONS", "/api/v1/users", "", "", "Origin", other, "Access-Control-Request-Method", "PATCH")
		h.want(a, http.StatusMethodNotAllowed, apierr.ValidationMethodNotAllowed)
		if a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Vary") != "Origin" {
			t.Errorf("origin %q: got %v", other, a.header)
		}
	}
	if a := newHarness(t).do("GET", "/health", "", "", "Origin", origin); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("an origin is let in without configuration")
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, path := range []string{"/no", "/api/v1", "/api/v1/", "/api/v1/users/", "//health", "/api/v1/../health", "/api/v1/users/x/y", "/health/"} {
		h.want(h.do("GET", path, "admin", ""), http.StatusNotFound, apierr.ResourceNotFound)
	}
	for _, tt := range []struct{ method, path, allow string }{
		{"PUT", "/api/v1/users", "GET, HEAD, POST"},
		{"DELETE", "/health", "GET, HEAD"},
		{"GET", "/api/v1/auth/login", "POST"},
		{"OPTIONS", "/api/v1/tenants/org1", "DELETE, GET, HEAD, PATCH"},
		{"TRACE", "/", "GET, HEAD"},
	} {
		a := h.do(tt.method, tt.path, "", "")
		h.want(a, http.StatusMethodNotAllowed, apierr.ValidationMethodNotAllowed)
		if got := a.header.Get("Allow"); got != tt.allow {
			t.Errorf("%s %s: Allow %q, want %q", tt.method, tt.path, got, tt.allow)
		}
	}
	// An id that nothing can have names nothing, and no store is asked for it.
	h.store.err = errors.New("asked")
	for _, id := range []string{"x", strings.ToUpper("8f14e45f-ceea-467f-a1d6-91a1b5c8f001"), "a%2Fb", "%00"} {
		h.want(h.do("GET", "/api/v1/users/"+id, "admin", ""), http.StatusNotFound, apierr.ResourceNotFound)
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if a := h.do("HEAD", "/health", "", ""); a.status != http.StatusOK {
		t.Errorf("HEAD /health: %d", a.status)
	}
	if a := h.do("HEAD", "/api/v1/users", "", ""); a.status != http.StatusUnauthorized || a.body != "" {
		t.Errorf("HEAD without a token: %d %q", a.status, a.body)
	}
}

func TestProblem(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.do("GET", "/api/v1/users", "", "", "Accept", "application/problem+json, */*;q=0.1")
	h.want(a, http.StatusUnauthorized, apierr.AuthMissingToken)
	if got := a.header.Get("Content-Type"); got != apierr.ProblemType || a.member(t, "status") != float64(401) {
		t.Errorf("got %s %s", got, a.body)
	}
}

const goodLogin = `{"username":"ada","password":"` + goodPassword + `"}`

func TestBodies(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	large := `{"username":"` + strings.Repeat("a", spec.DefaultBody) + `","password":"x"}`
	for _, tt := range []struct {
		name, body string
		header     []string
		status     int
		code       apierr.Code
	}{
		{"good", goodLogin, nil, 200, ""},
		{"with charset", goodLogin, []string{"Content-Type", "application/json; charset=UTF-8"}, 200, ""},
		{"identity", goodLogin, []string{"Content-Encoding", "identity"}, 200, ""},
		{"no type", goodLogin, []string{"Content-Type", ""}, 415, apierr.ValidationUnsupportedMediaType},
		{"other type", goodLogin, []string{"Content-Type", "text/json"}, 415, apierr.ValidationUnsupportedMediaType},
		{"other charset", goodLogin, []string{"Content-Type", "application/json; charset=utf-16"}, 415, apierr.ValidationUnsupportedMediaType},
		{"form", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, apierr.ValidationUnsupportedMediaType},
		{"compressed", goodLogin, []string{"Content-Encoding", "gzip"}, 415, apierr.ValidationUnsupportedMediaType},
		{"malformed", `{`, nil, 400, apierr.ValidationMalformed},
		{"trailing", goodLogin + `{}`, nil, 400, apierr.ValidationMalformed},
		{"invalid", `{"username":"ada","username":"bob","passwort":1}`, nil, 422, apierr.ValidationInvalid},
		{"too large", large, nil, 413, apierr.ValidationTooLarge},
	} {
		a := h.do("POST", "/api/v1/auth/login", "", tt.body, tt.header...)
		if a.status != tt.status || tt.code != "" && a.text(t, "error_code") != string(tt.code) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, a.status, a.body, tt.status, tt.code)
		}
	}
	a := h.do("POST", "/api/v1/auth/login", "", `{"username":"ada","username":"bob","passwort":1}`)
	faults, _ := a.member(t, "details", "errors").([]any)
	if len(faults) != 3 {
		t.Errorf("faults %v, want three at once", faults)
	}
}

// slow ends as a body does whose sender is not in time.
type slow struct{ err error }

func (s slow) Read([]byte) (int, error) { return 0, s.err }
func (s slow) Close() error             { return nil }

func TestBodiesThatDontCome(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct {
		body   io.ReadCloser
		status int
		code   apierr.Code
	}{
		{slow{os.ErrDeadlineExceeded}, 408, apierr.ValidationTimeout},
		{slow{io.ErrUnexpectedEOF}, 400, apierr.ValidationMalformed},
		{io.NopCloser(bytes.NewReader(make([]byte, spec.DefaultBody+1))), 413, apierr.ValidationTooLarge}, // length not announced
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/auth/login", http.NoBody)
		r.Body, r.ContentLength = tt.body, -1
		r.Header.Set("Content-Type", "application/json")
		h.want(h.send(r, ""), tt.status, tt.code)
	}
}

// TestSlowStore gives a store that does not answer the request's time, and
// then the form of a dependency that is away.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.store.block = true
		a := h.do("GET", "/api/v1/users", "admin", "")
		h.want(a, http.StatusServiceUnavailable, apierr.Internal)
		if a.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q, want 1", a.header.Get("Retry-After"))
		}
	})
}

func TestErrorsOfStores(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct {
		err    error
		status int
		code   apierr.Code
	}{
		{unavailable(errors.New("dial tcp: refused")), 503, apierr.Internal},
		{errors.New("column secret_column does not exist"), 500, apierr.Internal},
		{conflict("in_use"), 409, apierr.StateConflict},
	} {
		h.store.err = tt.err
		a := h.do("POST", "/api/v1/users", "admin", `{"username":"eve","password":"a long enough password","role":"observer","tenant_id":"org1"}`)
		h.want(a, tt.status, tt.code)
		if strings.Contains(a.body, "secret_column") || strings.Contains(a.body, "dial") {
			t.Errorf("the answer shows the cause: %s", a.body)
		}
	}
}

// TestEachOperationFailsInOurForm fails the store under every operation.
func TestEachOperationFailsInOurForm(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ops, about := describedOperations(t)
	alone := map[string]bool{"getRoot": true, "getDocument": true, "getHealth": true, "getHealthV1": true, "login": true, "refresh": true, "issueToken": true, "sanitizeText": true, "parseAnswer": true}
	for id, op := range ops {
		path, body := target(op, about[id], "org1")
		h.store.seed()
		h.store.err = unavailable(errors.New("away"))
		a := h.do(op.Method, path, "admin-all", body, "If-Match", "*")
		if want := map[bool]int{true: about[id].success(), false: 503}[alone[id]]; a.status != want {
			t.Errorf("%s with a store that is away: %d %s, want %d", id, a.status, a.body, want)
		}
	}
}
