package httpapi

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/apierr"
)

// names are the breakers of a list, and the states.
func (a answer) names(t testing.TB) string {
	t.Helper()
	items, _ := a.member(t, "items").([]any)
	var out []string
	for _, item := range items {
		b, _ := item.(map[string]any)
		out = append(out, b["policy_set"].(string)+"/"+b["name"].(string)+" "+b["state"].(string))
	}
	return strings.Join(out, ", ")
}

func TestBreakers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct{ token, query, want string }{
		{"admin-all", "", "far/app open, main/app open, main/db closed"},
		{"observer", "", "main/app open, main/db closed"},
		{"observer", "?policy_set=far", ""},
		{"observer", "?policy_set=main&state=closed", "main/db closed"},
		{"admin-all", "?state=open", "far/app open, main/app open"},
	} {
		got := h.do("GET", breakersPath+tt.query, tt.token, "")
		h.want(got, http.StatusOK, "")
		if names := got.names(t); names != tt.want {
			t.Errorf("%s of %s: got %s, want %s", tt.query, tt.token, names, tt.want)
		}
	}
	got := h.do("GET", breakersPath+"/app", "developer", "")
	h.want(got, http.StatusOK, "")
	want := map[string]any{
		"policy_set": "main", "name": "app", "state": "open", "consecutive_failures": 5.0, "total_failures": 12.0, "total_calls": 3400.0,
		"opened_at": "2026-01-02T03:04:05Z", "next_probe_at": "2026-01-02T03:04:35Z", "failure_threshold": 5.0, "recovery_timeout_ms": 30000.0,
		"sidecars": map[string]any{"called": 3.0, "open": 2.0, "half_open": 1.0}, "updated_at": "2026-01-02T03:04:05Z", "version": 3.0,
	}
	if diff := cmp.Diff(want, got.member(t)); diff != "" {
		t.Errorf("a breaker (-want +got):\n%s", diff)
	}
	if got := h.do("GET", breakersPath+"/db", "developer", ""); got.member(t, "opened_at") != nil || got.member(t, "next_probe_at") != nil {
		t.Errorf("a closed one has %s", got.body)
	}
}

// TestBreakerPages: a cursor is of the list and the filter that gave it.
func TestBreakerPages(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	first := h.do("GET", breakersPath+"?limit=1&state=open", "admin-all", "")
	h.want(first, http.StatusOK, "")
	link := strings.TrimSuffix(strings.TrimPrefix(first.header.Get("Link"), "<"), `>; rel="next"`)
	second := h.do("GET", link, "admin-all", "")
	h.want(second, http.StatusOK, "")
	if names := second.names(t); names != "main/app open" {
		t.Errorf("the second part of %s is %s", link, names)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"?state=closed&cursor=", "?cursor=", "?state=open&policy_set=main&cursor="} {
		h.want(h.do("GET", breakersPath+query+u.Query().Get("cursor"), "admin-all", ""), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	}
}

func TestBreakerFaults(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct {
		method, path string
		status       int
		code         apierr.Code
	}{
		{"GET", breakersPath + "?state=half_open", 422, apierr.ValidationInvalid},
		{"GET", breakersPath + "?policy_set=A", 422, apierr.ValidationInvalid},
		{"GET", breakersPath + "?name=app", 422, apierr.ValidationInvalid},
		{"GET", breakersPath + "/app", 422, apierr.ValidationInvalid}, // of two policy sets
		{"GET", breakersPath + "/APP", 404, apierr.ResourceNotFound},
		{"GET", breakersPath + "/other", 404, apierr.ResourceNotFound},
		{"GET", breakersPath + "/db?policy_set=far", 404, apierr.ResourceNotFound},
		{"GET", breakersPath + "/reset_all", 404, apierr.ResourceNotFound}, // a name as good as any
		{"POST", breakersPath + "/app/reset", 422, apierr.ValidationInvalid},
		{"POST", breakersPath + "/other/reset", 404, apierr.ResourceNotFound},
		{"POST", breakersPath + "/app", 405, apierr.ValidationMethodNotAllowed},
	} {
		got := h.do(tt.method, tt.path, "admin-all", "")
		h.want(got, tt.status, tt.code)
		if errors, _ := got.member(t, "details", "errors").([]any); tt.path == breakersPath+"/app" && tt.method == "GET" {
			if first, _ := errors[0].(map[string]any); first["pointer"] != "/query/policy_set" || first["code"] != "required" {
				t.Errorf("got %v", errors)
			}
		}
	}
	if len(h.store.by) != 0 {
		t.Errorf("changes were made: %v", h.store.by)
	}
	h.want(h.do("GET", breakersPath+"/far", "", ""), http.StatusUnauthorized, apierr.AuthMissingToken)
}

func TestResetBreaker(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for range 2 { // it can be repeated
		got := h.do("POST", breakersPath+"/app/reset?policy_set=far", "admin-all", "")
		h.want(got, http.StatusOK, "")
		if got.text(t, "state") != "closed" || got.text(t, "policy_set") != "far" {
			t.Errorf("got %s", got.body)
		}
	}
	if names := h.do("GET", breakersPath, "admin-all", "").names(t); names != "far/app closed, main/app open, main/db closed" {
		t.Errorf("afterwards: %s", names)
	}
	got := h.do("POST", breakersPath+"/reset_all?policy_set=main", "admin-all", "")
	h.want(got, http.StatusOK, "")
	if got.member(t, "reset") != 2.0 {
		t.Errorf("of main: %s", got.body)
	}
	if got := h.do("POST", breakersPath+"/reset_all", "admin-all", ""); got.member(t, "reset") != 3.0 {
		t.Errorf("of all: %s", got.body)
	}
	if len(h.store.by) != 4 {
		t.Errorf("changes by %v, want 4", h.store.by)
	}
}

// TestResetsAreLimited: five a minute, of one breaker or all, besides the role's.
func TestResetsAreLimited(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	for i := range 5 {
		path := breakersPath + []string{"/db/reset", "/reset_all"}[i%2]
		h.want(h.do("POST", path, "admin-all", ""), http.StatusOK, "")
	}
	got := h.do("POST", breakersPath+"/reset_all", "admin-all", "")
	h.want(got, http.StatusTooManyRequests, apierr.RateLimitExceeded)
	if limit := got.text(t, "details", "limit"); limit != "breaker" {
		t.Errorf("refused by the limit %s", limit)
	}
	h.want(h.do("GET", breakersPath, "admin-all", ""), http.StatusOK, "")
}

// TestBreakersAway: a store that is away is 503.
func TestBreakersAway(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.store.err = apierr.New(apierr.Internal, apierr.Options{Status: http.StatusServiceUnavailable})
	for _, tt := range [][2]string{{"GET", ""}, {"GET", "/db"}, {"POST", "/db/reset"}, {"POST", "/reset_all"}} {
		h.want(h.do(tt[0], breakersPath+tt[1], "admin-all", ""), http.StatusServiceUnavailable, apierr.Internal)
	}
}
