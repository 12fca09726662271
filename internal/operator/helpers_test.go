package operator

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/api/v1/client"
)

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

// doer answers calls without a network, so that time can be faked.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func answer(status int, kind, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))}
}

func clientOf(t *testing.T, d doer) *Client {
	t.Helper()
	api, err := client.NewClientWithResponses("http://api.test", client.WithHTTPClient(d))
	noError(t, err)
	tail, err := client.NewClient("http://api.test", client.WithHTTPClient(d))
	noError(t, err)
	return &Client{api: api, tail: tail}
}

// sessions is an API that knows sessions, and ends one whose refresh token
// comes twice.
type sessions struct {
	*httptest.Server

	mu      sync.Mutex // guards all below
	good    string     // the refresh token that is good
	refused bool       // a used one came
	calls   []string
}

func newSessions(t *testing.T) *sessions {
	s := &sessions{good: "r0"}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.URL.Path+" "+r.Header.Get("authorization"))
	w.Header().Set("content-type", "application/json")
	var body client.RefreshRequest
	_ = json.NewDecoder(r.Body).Decode(&body)
	switch {
	case r.URL.Path == "/api/v1/auth/logout":
		w.WriteHeader(http.StatusNoContent)
		return
	case r.URL.Path == "/api/v1/auth/refresh" && (body.RefreshToken != s.good || s.refused):
		s.refused = true
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error_code": "auth.invalid_credentials", "message": "No.", "request_id": "q1"}`)
		return
	}
	s.good += "'"
	_ = json.NewEncoder(w).Encode(client.Token{AccessToken: "a-" + s.good, TokenType: "Bearer", ExpiresIn: 600, RefreshToken: &s.good, Role: "admin", TenantId: "*"})
}
