package httpapi

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

func defaults(o *Options) { o.Limits = Limits{} }

// passed counts the requests that a limit lets through.
func (h *harness) passed(n int, path, token string) int {
	h.t.Helper()
	passed := 0
	for range n {
		a := h.do("GET", path, token, "")
		if a.status != http.StatusTooManyRequests {
			passed++
			continue
		}
		h.want(a, http.StatusTooManyRequests, apierr.RateLimitExceeded)
		if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 {
			h.t.Errorf("Retry-After %q, want seconds", a.header.Get("Retry-After"))
		}
	}
	return passed
}

func TestLimitsByRole(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	for _, tt := range []struct {
		path, token string
		want        int
	}{
		{"/api/v1/users", "admin", 100},
		{"/api/v1/stats", "operator", 50},
		{"/api/v1/stats", "developer", 30},
		{"/api/v1/stats", "observer", 20},
		{"/", "anonymous", 5},
		{"/", "", 5},
		{"/health", "", 60},
		{"/api/v1/stats", "admin-all", 60}, // the probe's, below the role's 100
		{"/readyz", "", 130},
		{"/.well-known/jwks.json", "", 130},
	} {
		if got := h.passed(130, tt.path, tt.token); got != tt.want {
			t.Errorf("%s as %q: %d passed, want %d", tt.path, tt.token, got, tt.want)
		}
	}
	h.advance(time.Minute)
	if got := h.passed(130, "/api/v1/stats", "observer"); got != 20 {
		t.Errorf("a minute later %d passed, want 20", got)
	}
}

func TestLimitHeaders(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	a := h.do("GET", "/api/v1/users", "admin", "")
	for name, want := range map[string]string{
		"Ratelimit-Policy": `"role_admin";q=100;w=60`, "Ratelimit": `"role_admin";r=99;t=1`, "X-Ratelimit-Limit": "100", "Retry-After": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestBadTokensAreStrangers slows guessing, and does not cost those with good
// tokens anything.
func TestBadTokensAreStrangers(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	for i, token := range []string{"expired", "bad", "bad", "expired", "bad"} {
		if a := h.do("GET", "/api/v1/users", token, ""); a.status != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d, want 401", i, a.status)
		}
	}
	h.want(h.do("GET", "/api/v1/users", "bad", ""), http.StatusTooManyRequests, apierr.RateLimitExceeded)
	h.want(h.do("GET", "/", "", ""), http.StatusTooManyRequests, apierr.RateLimitExceeded)
	h.want(h.do("GET", "/api/v1/users", "admin", ""), http.StatusOK, "")
}

func TestTokens(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct {
		header string
		status int
		code   apierr.Code
	}{
		{"Bearer admin", 200, ""}, {"bearer  admin", 200, ""},
		{"Bearer bad", 401, apierr.AuthInvalidToken}, {"Bearer expired", 401, apierr.AuthExpiredToken},
		{"Bearer keyless", 503, apierr.AuthUnavailable},
		{"Bearer", 401, apierr.AuthInvalidToken}, {"admin", 401, apierr.AuthInvalidToken},
		{"Basic YTpi", 401, apierr.AuthInvalidToken}, {"Bearer admin, Bearer admin", 401, apierr.AuthInvalidToken},
	} {
		a := h.do("GET", "/api/v1/users", "", "", "Authorization", tt.header)
		h.want(a, tt.status, tt.code)
		if got := a.header.Get("WWW-Authenticate"); (got == realm) != (tt.status == 401) {
			t.Errorf("%q: WWW-Authenticate %q", tt.header, got)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/users", http.NoBody)
	r.Header["Authorization"] = []string{"Bearer admin", "Bearer admin"}
	h.want(h.send(r, ""), http.StatusUnauthorized, apierr.AuthInvalidToken)
	// A token counts where none is needed, but not where none is looked at.
	h.want(h.do("GET", "/", "bad", ""), http.StatusUnauthorized, apierr.AuthInvalidToken)
	h.want(h.do("GET", "/health", "bad", ""), http.StatusOK, "")
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := network(netip.MustParseAddr(text)); got != want {
			t.Errorf("network(%s) = %s, want %s", text, got, want)
		}
	}
	if got := network(peer("@")); got != "invalid IP" {
		t.Errorf("a peer without address is %q", got)
	}
}

func TestLimitsValidate(t *testing.T) {
	t.Parallel()
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Limits){
		func(l *Limits) { l.Admin = 0 }, func(l *Limits) { l.Operator = -1 }, func(l *Limits) { l.Developer = maxLimit + 1 },
		func(l *Limits) { l.Observer = 0 }, func(l *Limits) { l.Anonymous = 0 }, func(l *Limits) { l.Probe = 0 }, func(l *Limits) { l.Sessions = 0 }, func(l *Limits) { l.FailedLogins = 0 },
		func(l *Limits) { l.Budget = 0 }, func(l *Limits) { l.Breaker = 0 },
	} {
		l := DefaultLimits()
		change(&l)
		if l.Validate() == nil {
			t.Errorf("%+v is taken", l)
		}
	}
	if got := DefaultLimits().of(request.Role("other")); got != 5 {
		t.Errorf("an unknown role has %d, want the least", got)
	}
}

func TestFailedLogins(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	const bad = `{"username":"ada","password":"wrong"}`
	for range 30 {
		h.want(h.do("POST", "/api/v1/auth/login", "", goodLogin), http.StatusOK, "")
	}
	for i := range 20 { // of all kinds together
		path, body := "/api/v1/auth/login", bad
		switch i % 3 {
		case 1:
			path, body = "/api/v1/auth/refresh", `{"refresh_token":"bad"}`
		case 2:
			path, body = "/api/v1/auth/token", `{"client_id":"c","client_secret":"bad"}`
		}
		h.want(h.do("POST", path, "", body), http.StatusUnauthorized, apierr.AuthInvalidCredentials)
	}
	attempts := h.auth.attempts
	h.want(h.do("POST", "/api/v1/auth/login", "", goodLogin), http.StatusTooManyRequests, apierr.RateLimitExceeded)
	if h.auth.attempts != attempts {
		t.Error("an attempt over the limit was made")
	}
	h.advance(time.Minute)
	h.want(h.do("POST", "/api/v1/auth/login", "", goodLogin), http.StatusOK, "")
}

// TestSessionsAreCounted counts what succeeds, of all kinds together.
func TestSessionsAreCounted(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	const tokenOf = `{"client_id":"c","client_secret":"good"}`
	for i := range 120 {
		path, body := "/api/v1/auth/login", goodLogin
		switch i % 3 {
		case 1:
			path, body = "/api/v1/auth/refresh", `{"refresh_token":"r_1"}`
		case 2:
			path, body = "/api/v1/auth/token", tokenOf
		}
		h.want(h.do("POST", path, "", body), http.StatusOK, "")
	}
	a := h.do("POST", "/api/v1/auth/token", "", tokenOf)
	h.want(a, http.StatusTooManyRequests, apierr.RateLimitExceeded)
	if a.text(t, "details", "limit") != "sessions" || a.header.Get("Retry-After") != "1" {
		t.Errorf("above: %s, Retry-After %q", a.body, a.header.Get("Retry-After"))
	}
	if h.auth.attempts != 120 {
		t.Errorf("%d attempts were made, want 120", h.auth.attempts)
	}
	for range 30 { // are refused, but are no failures
		h.do("POST", "/api/v1/auth/token", "", tokenOf)
	}
	h.advance(time.Minute)
	h.want(h.do("POST", "/api/v1/auth/token", "", tokenOf), http.StatusOK, "")
}

// TestLogoutsAreCounted where they bring a token, which is refused from then on:
// on the limit of its principal. Others pass.
func TestLogoutsAreCounted(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	logout := func(token string) answer {
		return h.do("POST", "/api/v1/auth/logout", token, `{"refresh_token":"r_1"}`)
	}
	for range 30 {
		h.want(logout("developer"), http.StatusNoContent, "")
	}
	a := logout("developer")
	h.want(a, http.StatusTooManyRequests, apierr.RateLimitExceeded)
	if a.header.Get("Retry-After") == "" || len(h.store.revoked) != 30 {
		t.Errorf("above: %d tokens are refused, Retry-After %q", len(h.store.revoked), a.header.Get("Retry-After"))
	}
	h.want(h.do("GET", "/api/v1/stats", "developer", ""), http.StatusTooManyRequests, apierr.RateLimitExceeded)
	for _, token := range []string{"", "bad", "expired"} {
		for range 50 {
			h.want(logout(token), http.StatusNoContent, "")
		}
	}
}

// TestFailuresOfOthersDontCount keeps a database that is away from locking
// people out.
func TestFailuresOfOthersDontCount(t *testing.T) {
	t.Parallel()
	h := newHarness(t, defaults)
	h.auth.err = unavailable(nil)
	for range 30 {
		h.want(h.do("POST", "/api/v1/auth/login", "", goodLogin), http.StatusServiceUnavailable, apierr.Internal)
	}
}

// TestParallelGuesses shows that guesses under way count.
func TestParallelGuesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, defaults)
		hold := make(chan struct{})
		h.auth.hold = hold
		var limited atomic.Int64
		for range 200 {
			go func() {
				if a := h.do("POST", "/api/v1/auth/login", "", `{"username":"ada","password":"wrong"}`); a.status == http.StatusTooManyRequests {
					limited.Add(1)
				}
			}()
		}
		synctest.Wait() // those over the limit are answered while the others wait
		if h.auth.attempts != 20 || limited.Load() != 180 {
			t.Errorf("of 200 guesses %d were tried and %d refused, want 20 and 180", h.auth.attempts, limited.Load())
		}
		close(hold)
	})
}

// TestOpenAttemptsStay sweeps while an attempt is under way: it still counts,
// and its end finds it.
func TestOpenAttemptsStay(t *testing.T) {
	t.Parallel()
	f := newFailures(1)
	f.max = 1
	if ok, _ := f.begin(seeded, "a"); !ok {
		t.Fatal("no room")
	}
	if ok, _ := f.begin(seeded.Add(time.Hour), "b"); ok {
		t.Error("an attempt under way was forgotten")
	}
	f.end("a", true)
	if ok, _ := f.begin(seeded.Add(2*time.Hour), "b"); !ok {
		t.Error("no room after its end")
	}
}

func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	f := newFailures(1)
	f.max = 2
	for _, from := range []string{"a", "b"} {
		if ok, _ := f.begin(seeded, from); !ok {
			t.Fatalf("%s: no room", from)
		}
		f.end(from, from == "a")
	}
	if ok, wait := f.begin(seeded, "c"); ok || wait <= 0 {
		t.Errorf("a third address: %t, %v, want a refusal with a wait", ok, wait)
	}
	if ok, wait := f.begin(seeded.Add(10*time.Second), "a"); ok || wait != 50*time.Second {
		t.Errorf("a second attempt: %t, %v, want a refusal for 50 s", ok, wait)
	}
	if ok, _ := f.begin(seeded.Add(time.Minute), "c"); !ok {
		t.Error("no room after a minute")
	}
	if ok, _ := f.begin(seeded.Add(-time.Hour), "c"); ok {
		t.Error("an attempt under way does not count after the clock went back")
	}
}
