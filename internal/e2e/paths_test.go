package e2e

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/internal/envoytest"
)

// Every form of path: what Check decided on is what the upstream got, or the
// request was refused. want is the path at both, "" a refusal.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev := s.issuer.Token("developer", "org1")
	cases := []struct{ sent, want string }{
		{"/p/a", "/p/a"},
		{"/p", "/p"},
		{"/p/", "/p/"},
		{"/p/a/../b", "/p/b"},
		{"/p/a/%2e%2e/b", "/p/b"},
		{"/p/a/%2E./b", "/p/b"},
		{`/p/a/..\b`, "/p/b"},
		{"/p/a//b", "/p/a/b"},
		{`/p/a\b`, "/p/a/b"},
		{"/p/a/./b", "/p/a/b"},
		{"//p/x", "/p/x"},
		{"/p/%61", "/p/a"},
		{"/p/a/%7e", "/p/a/~"},
		{"/p/a%2e%2e/b", "/p/a../b"},
		{"/p/a/...", "/p/a/..."},
		{"/p/a%20b", "/p/a%20b"},
		{"/p/a%3f/b", "/p/a%3f/b"},
		{"/p/100%25", "/p/100%25"},
		{"/p/caf%C3%A9", "/p/caf%C3%A9"},
		{"/p/a?x=/../y", "/p/a?x=/../y"},
		{"/p/a?x=1;y=2", "/p/a?x=1;y=2"},
		{"http://evil/p/a", "/p/a"},

		{"/p/a%2fb", ""},
		{"/p/a%2Fb", ""},
		{"/p/a%5cb", ""},
		{"/p/a%5Cb", ""},
		{"/p/a%00b", ""},
		{"/p/a%0ab", ""},
		{"/p/a%7fb", ""},
		{"/p/a#frag", ""},
		{"/p/a%23", "/p/a%23"},
		{"/p/a/..;/b", "/p/b"},
		{"/p/a;x=1/b", ""},
		{"/p/a/;/b", ""},
		{"/p/a%3bx=1/b", ""},
		{"/p/a/%252e%252e/b", ""},
		{"/p/a/%252fb", ""},
		{"/p/a/%25252fb", ""},
		{"/p/a%zz", ""},
		{"/p/a%", ""},
		{"/p/a%2", ""},
		{"/p/%c0%ae%c0%ae/b", ""},
		{"/p/%e0%80%af", ""},
		{"/p/%ff", ""},
		{"/p/a?x=%zz", ""},
		{"/p/a?x=%", ""},
		{"/p/../../etc", ""},
		{"/../p/a", "/p/a"},
		{"/P/a", ""},
		{"/px", ""},
		{"/p%2e", ""},
		{"*", ""},
		{"p/a", ""},
		{"/p/\xc3\xa9", ""},
		{"/p/\x01", ""},
		{"/p/" + strings.Repeat("a", 60<<10), ""},
	}
	for _, c := range cases {
		before := s.app.Count()
		a := envoytest.Raw(t, s.inbound, fmt.Sprintf("GET %s HTTP/1.1\nhost: a\nauthorization: Bearer %s\nconnection: close\n\n", c.sent, dev))
		reached := s.app.Count() - before
		switch {
		case c.want == "" && (reached != 0 || a.Status == 200):
			t.Errorf("%.80q: got %d, the upstream saw %q", c.sent, a.Status, s.app.Last().Target)
		case c.want == "" && a.Status != 0 && errorCode([]byte(a.Body)) == "":
			t.Errorf("%.80q: %d without our error body: %.100s", c.sent, a.Status, a.Body)
		case c.want != "" && (reached != 1 || s.app.Last().Target != c.want):
			t.Errorf("%q: got %d %s, the upstream saw %q, want %q", c.sent, a.Status, a.Body, s.app.Last().Target, c.want)
		case c.want != "" && !strings.Contains(s.log.String(), fmt.Sprintf("%q:%q", "path", strings.SplitN(c.want, "?", 2)[0])):
			t.Errorf("%q: Check did not decide on %q", c.sent, c.want)
		}
	}
}

// Every form of header that two readers could take for different things.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev := s.issuer.Token("developer", "org1")
	auth := "authorization: Bearer " + dev + "\n"
	cases := []struct {
		name, request string
		want          int               // 0 accepts any refusal, also a closed connection
		check         func(seen) string // of what reached the upstream
	}{
		{"spoofed role", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-gatehouse-role: admin\nX-GATEHOUSE-Tenant: other\n", 200, func(u seen) string {
			if u.Header.Get("x-gatehouse-role") != "developer" || u.Header.Get("x-gatehouse-tenant") != "org1" {
				return fmt.Sprint(u.Header)
			}
			return ""
		}},
		{"spoofed unknown name of ours", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-gatehouse-budget: 1\n", 200, absent("x-gatehouse-budget")},
		{"spoofed on a public route", "GET /status HTTP/1.1\nhost: a\nx-gatehouse-subject: root\nx-gatehouse-role: admin\n", 200, func(u seen) string {
			if u.Header.Get("x-gatehouse-subject") != "" || u.Header.Get("x-gatehouse-role") != "anonymous" {
				return fmt.Sprint(u.Header)
			}
			return ""
		}},
		{"spoofed on an exempt route", "GET /healthz HTTP/1.1\nhost: a\nx-gatehouse-role: admin\n", 200, absent("x-gatehouse-role")},
		{"x-envoy headers", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-envoy-original-path: /admin\nx-envoy-internal: true\nx-envoy-auth-partial-body: true\nx-envoy-retry-on: 5xx\nx-envoy-upstream-rq-timeout-ms: 1\n", 200,
			func(u seen) string {
				u.Header.Del("x-envoy-external-address") // Envoy's own word on the peer
				return anyPrefix(u, "x-envoy-")
			}},
		{"x-forwarded headers", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-forwarded-for: 10.0.0.1\nx-forwarded-host: evil\nx-forwarded-user: root\n", 200, func(u seen) string {
			if strings.Contains(u.Header.Get("x-forwarded-for"), "10.0.0.1") {
				return u.Header.Get("x-forwarded-for")
			}
			u.Header.Del("x-forwarded-for") // Envoy's own
			u.Header.Del("x-forwarded-proto")
			return anyPrefix(u, "x-forwarded-")
		}},
		{"another path or method for the app", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-original-url: /admin\nx-rewrite-url: /admin\nx-http-method-override: DELETE\nforwarded: for=10.0.0.1\nx-real-ip: 10.0.0.1\n", 200, func(u seen) string {
			for _, name := range []string{"x-original-url", "x-rewrite-url", "x-http-method-override", "forwarded", "x-real-ip"} {
				if u.Header.Get(name) != "" {
					return name
				}
			}
			return ""
		}},
		{"x-request-id", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-request-id: mine\n", 200, func(u seen) string {
			if id := u.Header.Get("x-request-id"); id == "mine" || id == "" {
				return id
			}
			return ""
		}},
		{"hop-by-hop names our header", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "connection: close, x-gatehouse-role\n", 200, func(u seen) string {
			if u.Header.Get("x-gatehouse-role") != "developer" {
				return "role: " + u.Header.Get("x-gatehouse-role")
			}
			return ""
		}},
		{"hop-by-hop names the token", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "connection: close, authorization\n", 401, nil},
		{"underscore", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x_gatehouse_role: admin\n", 400, nil},
		{"content-type twice", "POST /p/1 HTTP/1.1\nhost: a\n" + auth + "content-type: a/b\ncontent-type: c/d\ncontent-length: 0\n", 400, nil},
		{"idempotency-key twice", "POST /p/1 HTTP/1.1\nhost: a\n" + auth + "idempotency-key: 1\nidempotency-key: 2\ncontent-length: 0\n", 400, nil},
		{"host twice", "GET /p/1 HTTP/1.1\nhost: a\nhost: b\n" + auth, 400, nil},
		{"host missing", "GET /p/1 HTTP/1.1\n" + auth, 400, nil},
		{"host with user information", "GET /p/1 HTTP/1.1\nhost: root@a\n" + auth, 400, nil},
		{"host with port and trailing dot", "GET /p/1 HTTP/1.1\nhost: a.:80\n" + auth, 200, nil},
		{"obs-text in a security header", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-api-key: k\xe9y\n", 400, nil},
		{"obs-text in another header", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-note: caf\xe9\n", 200, nil},
		{"empty token slot", "GET /p/1 HTTP/1.1\nhost: a\nauthorization:\n", 401, nil},
		{"empty bearer", "GET /p/1 HTTP/1.1\nhost: a\nauthorization: Bearer \n", 401, nil},
		{"CL and TE", "POST /p/1 HTTP/1.1\nhost: a\n" + auth + "content-length: 4\ntransfer-encoding: chunked\n", 0, nil},
		{"TE not chunked", "POST /p/1 HTTP/1.1\nhost: a\n" + auth + "transfer-encoding: xchunked\n", 0, nil},
		{"two CL", "POST /p/1 HTTP/1.1\nhost: a\n" + auth + "content-length: 0\ncontent-length: 5\n", 0, nil},
		{"TRACE", "TRACE /p/1 HTTP/1.1\nhost: a\n" + auth, 405, nil},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\nhost: a:443\n" + auth, 0, nil},
		{"mixed-case method", "gEt /p/1 HTTP/1.1\nhost: a\n" + auth, 0, nil},
		{"method that is none", "G@T /p/1 HTTP/1.1\nhost: a\n" + auth, 0, nil},
		{"OPTIONS not listed", "OPTIONS /p/1 HTTP/1.1\nhost: a\n" + auth, 405, nil},
		{"websocket", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "connection: upgrade\nupgrade: websocket\n", 426, nil},
		{"HTTP/1.0", "GET /p/1 HTTP/1.0\nhost: a\n" + auth, 426, nil},
		{"headers over 32 KiB", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + "x-big: " + strings.Repeat("b", 40<<10) + "\n", 431, nil},
		{"more than 100 headers", "GET /p/1 HTTP/1.1\nhost: a\n" + auth + strings.Repeat("x-n: 1\n", 120), 431, nil},
		{"body over the cap", "POST /p/1 HTTP/1.1\nhost: a\n" + auth + "content-length: 2000000\n", 413, nil},
		{"body over the route's", "POST /upload HTTP/1.1\nhost: a\n" + auth + "content-length: 70000\n", 413, nil},
	}
	for _, c := range cases {
		before := s.app.Count()
		request := c.request
		if !strings.Contains(request, "connection:") {
			request += "connection: close\n"
		}
		body := ""
		if strings.Contains(c.name, "over the route's") {
			body = strings.Repeat("x", 70000)
		}
		a := envoytest.Raw(t, s.inbound, request+"\n"+body)
		reached := s.app.Count() - before
		if (c.want != 0 && a.Status != c.want) || (c.want == 0 && a.Status == 200) {
			t.Errorf("%s: got %d %.120s, want %d", c.name, a.Status, a.Body, c.want)
		}
		if c.want != 200 && reached != 0 {
			t.Errorf("%s: reached the upstream: %+v", c.name, s.app.Last())
		}
		if a.Status >= 400 && errorCode([]byte(a.Body)) == "" {
			t.Errorf("%s: %d without our error body: %q", c.name, a.Status, a.Body)
		}
		if c.check != nil && reached == 1 {
			if why := c.check(s.app.Last()); why != "" {
				t.Errorf("%s: the upstream got %s", c.name, why)
			}
		}
	}
}

func absent(name string) func(seen) string {
	return func(u seen) string { return u.Header.Get(name) }
}

func anyPrefix(u seen, prefix string) string {
	for name := range u.Header {
		if strings.HasPrefix(strings.ToLower(name), prefix) {
			return name
		}
	}
	return ""
}
