package demo

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"gatehouse/internal/demoapp"
	"gatehouse/internal/devstack"
)

// breaking is a stack whose upstream fails on demand, and is left alone after so
// many requests.
func breaking(t *testing.T, after int) *probe {
	t.Helper()
	app := demoapp.New()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if app.Total() >= int64(after) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"error_code": "upstream.unavailable"}`))
			return
		}
		app.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	key, err := devstack.NewKey("k")
	noError(t, err)
	return &probe{client: http.DefaultClient, key: key, ready: devstack.Ready{Inbound: srv.URL}}
}

func TestFailOften(t *testing.T) {
	t.Parallel()
	for after, want := range map[int]string{flakyFailures: "after 5 failures", flakyFailures + 1: "after 6 failures"} {
		if note, err := failOften(t.Context(), breaking(t, after)); note != want || err != nil {
			t.Errorf("open after %d: %q, %v", after, note, err)
		}
	}
	_, err := failOften(t.Context(), breaking(t, flakyFailures-1))
	wantFault(t, "too early", outcome{fault: err}, "request 5 was answered 503 upstream.unavailable")
	_, err = failOften(t.Context(), breaking(t, flakyFailures+lateResults))
	wantFault(t, "never", outcome{fault: err}, "does not open")
}

// One that passes may be the one that tries: two show that the breaker is closed.
func TestRecoveredTakesTwo(t *testing.T) {
	t.Parallel()
	p := breaking(t, 2)
	_, err := recovered(t.Context(), p)
	noError(t, err)
	if a, err := flaky(http.StatusOK)(t.Context(), p); err != nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("after it: %s, %v; want both passed, and no other", a, err)
	}
}

func TestSeeBreaker(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	const path = "GET /api/v1/circuit-breakers/" + flakyUpstream
	u.replies[path] = reaction{200, `{"consecutive_failures": 5, "sidecars": {"called": 2, "open": 1}}`}
	if a, err := seeBreaker(t.Context(), u.probe); err != nil || a.note != "1 of 2 sidecars, 5 failures in a row" {
		t.Errorf("%q, %v", a.note, err)
	}
	u.replies[path] = reaction{403, `{"error_code": "auth.forbidden"}`}
	_, err := seeBreaker(t.Context(), u.probe)
	wantFault(t, "refused", outcome{fault: err}, "auth.forbidden")
}
