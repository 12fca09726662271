package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/envoytest"
	"gatehouse/internal/tokentest"
)

// Every bad token, in every slot, inbound and outbound, through the real
// Envoy: the upstream is not reached, and outbound nothing falls back to the
// workload.
func TestBadTokensReachNothing(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{Tenant: "acme"})
	cases := s.issuer.Cases(t, time.Now())
	bad := 0
	for _, c := range cases {
		if c.WantCode != "" {
			bad++
		}
		for _, slot := range slots() {
			if reaches(c, slot) {
				s.tokenCase(c, slot)
			}
		}
	}
	if bad < 100 {
		t.Errorf("%d bad tokens, want at least 100", bad)
	}
}

// reaches reports whether a case can be tried here: not the edges of the clock,
// which the verifier's own tests set, and in headers no space around the
// value, which HTTP says is not part of it (RFC 9110, 5.5), and no line end,
// which Envoy drops or takes for the end of the line before we see the value.
func reaches(c tokentest.Case, p slotPlace) bool {
	if strings.Contains(c.Name, "leeway") {
		return false
	}
	return p.query != "" || (strings.TrimSpace(c.Token) == c.Token && !strings.ContainsAny(c.Token, "\r\n"))
}

// slot is a place in which a token may stand.
type slotPlace struct{ name, query, header string }

func slots() []slotPlace {
	return []slotPlace{
		{name: "authorization", header: "authorization: Bearer %s\n"},
		{name: "lower-case scheme", header: "authorization: bearer %s\n"},
		{name: "x-api-key", header: "x-api-key: %s\n"},
		{name: "api-key", header: "api-key: %s\n"},
		{name: "x-goog-api-key", header: "x-goog-api-key: %s\n"},
		{name: "query", query: "?key=%s"},
	}
}

func (p slotPlace) request(method, path, host, token string) string {
	query, header := "", ""
	if p.query != "" {
		query = fmt.Sprintf(p.query, url.QueryEscape(token))
	} else {
		header = fmt.Sprintf(p.header, token)
	}
	return fmt.Sprintf("%s %s%s HTTP/1.1\nhost: %s\n%sconnection: close\n\n", method, path, query, host, header)
}

func (s *stack) tokenCase(c tokentest.Case, p slotPlace) {
	s.t.Helper()
	what := c.Class + "/" + c.Name + " in " + p.name
	before := s.app.Count()
	in := envoytest.Raw(s.t, s.inbound, p.request("GET", "/p/1", s.inbound, c.Token))
	out := envoytest.Raw(s.t, s.outbound, p.request("GET", "/tools/1", s.outbound, c.Token))
	if c.WantCode == "" {
		if in.Status != 200 || out.Status != 200 {
			s.t.Errorf("%s: a good token was refused: %d, %d %s", what, in.Status, out.Status, in.Body)
		}
		return
	}
	if in.Status == 200 || in.Status == 0 && !unsendable(c.Token) {
		s.t.Errorf("%s: inbound got %d", what, in.Status)
	}
	reached := s.app.Count() - before
	if c.Recognized && reached > 0 {
		s.t.Errorf("%s: reached the upstream %d times", what, reached)
	}
	if code := errorCode([]byte(in.Body)); c.Recognized && in.Status == 401 && code != c.WantCode {
		s.t.Errorf("%s: inbound code %s, want %s", what, code, c.WantCode)
	}
	if !c.Recognized && (in.Status == 200 || reached > 1) {
		s.t.Errorf("%s: not a token of ours, inbound %d, reached %d times", what, in.Status, reached)
	}
}

// unsendable: Envoy closes on bytes that no header may have.
func unsendable(token string) bool {
	return strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' })
}

func TestTokenPlacement(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	a, b := s.issuer.Token("developer", "org1"), s.issuer.Token("observer", "org1")
	foreign := "sk-live-1234"
	otherIssuer := tokentest.NewIssuer(t, "other", "https://elsewhere.test", "x").Token("admin", "org1")
	cases := []struct {
		name    string
		headers string
		query   string
		in, out int
	}{
		{"two slots", "authorization: Bearer " + a + "\nx-api-key: " + b + "\n", "", 400, 400},
		{"the same token twice", "authorization: Bearer " + a + "\nx-api-key: " + a + "\n", "", 400, 400},
		{"two headers", "authorization: Bearer " + a + "\nauthorization: Bearer " + b + "\n", "", 401, 401},
		{"two x-api-key", "x-api-key: " + a + "\nx-api-key: " + b + "\n", "", 400, 400},
		{"foreign then ours in one header", "authorization: Bearer " + foreign + "\nauthorization: Bearer " + a + "\n", "", 401, 401},
		{"another issuer's then ours", "authorization: Bearer " + otherIssuer + "\nauthorization: Bearer " + a + "\n", "", 401, 401},
		{"query and header", "authorization: Bearer " + a + "\n", "?key=" + b, 400, 400},
		{"query twice", "", "?key=" + a + "&key=" + b, 400, 400},
		{"query escaped", "", "?%6bey=" + a, 400, 400},
		{"two spaces", "authorization: Bearer  " + a + "\n", "", 401, 401},
		{"tab", "authorization: Bearer\t" + a + "\n", "", 400, 400},
		{"no scheme", "authorization: " + a + "\n", "", 200, 200},
		{"another scheme", "authorization: Basic " + a + "\n", "", 401, 401},
		{"scheme in x-api-key", "x-api-key: Bearer " + a + "\n", "", 401, 401},
		{"another issuer's", "authorization: Bearer " + otherIssuer + "\n", "", 401, 200},
		{"foreign beside ours", "authorization: Bearer " + a + "\nx-api-key: " + foreign + "\n", "", 200, 200},
		{"a slot over 8 KiB", "x-api-key: " + strings.Repeat("k", 8193) + "\n", "", 401, 401},
	}
	for _, c := range cases {
		for _, side := range []struct {
			address, path string
			want          int
		}{{s.inbound, "/p/1", c.in}, {s.outbound, "/tools/1", c.out}} {
			before := s.app.Count()
			got := envoytest.Raw(t, side.address, fmt.Sprintf("GET %s%s HTTP/1.1\nhost: a\n%sconnection: close\n\n", side.path, c.query, c.headers))
			if got.Status != side.want {
				t.Errorf("%s at %s: got %d %s, want %d", c.name, side.path, got.Status, got.Body, side.want)
			}
			if reached := s.app.Count() - before; reached != 0 && side.want != 200 {
				t.Errorf("%s at %s: reached the upstream", c.name, side.path)
			}
		}
	}
}

// What leaves the sidecar: no token, no key where the upstream has a
// credential, the app's own key where it has none.
func TestWhatIsRemovedAndAdded(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev := s.issuer.Token("developer", "org1")

	s.get(s.outbound + "/tools/v1?key=sk-foreign&a=b")
	got := s.app.Last()
	if got.Target != "/v1?a=b" || got.Header.Get("authorization") != "Bearer tools-secret" {
		t.Errorf("workload on a route with a credential: %s %v", got.Target, got.Header)
	}
	for name := range got.Header {
		if strings.HasPrefix(strings.ToLower(name), "x-gatehouse-") {
			t.Errorf("outbound requests carry no identity, got %s", name)
		}
	}
	s.get(s.outbound+"/tools/v1", "x-api-key", "sk-foreign", "authorization", "Bearer sk-other")
	got = s.app.Last()
	if got.Header.Get("x-api-key") != "" || got.Header.Get("authorization") != "Bearer tools-secret" {
		t.Errorf("foreign keys on a route with a credential: %v", got.Header)
	}
	s.get(s.outbound+"/open/v1?key=sk-q", "x-api-key", "sk-foreign")
	got = s.app.Last()
	if got.Header.Get("x-api-key") != "sk-foreign" || got.Target != "/v1?key=sk-q" {
		t.Errorf("a foreign key on a route without a credential must pass: %s %v", got.Target, got.Header)
	}
	s.get(s.outbound+"/open/v1?key="+dev, "x-api-key", "sk-foreign")
	got = s.app.Last()
	if got.Header.Get("x-api-key") != "sk-foreign" || strings.Contains(got.Target, dev) {
		t.Errorf("our token must go, the foreign key pass: %s %v", got.Target, got.Header)
	}
	s.get(s.inbound+"/forward/1", bearer(dev)...)
	if got = s.app.Last(); got.Header.Get("authorization") != "Bearer "+dev {
		t.Errorf("forward_token: the app must get the token")
	}
	if a := s.get(s.outbound+"/work/1", bearer(dev)...); a.Status != 400 {
		t.Errorf("a token on a workload route: got %d, want 400", a.Status)
	}
	s.get(s.inbound+"/healthz", append(bearer(dev), "x-api-key", "k", "api-key", "k", "x-goog-api-key", "k")...)
	got = s.app.Last()
	for _, name := range []string{"authorization", "x-api-key", "api-key", "x-goog-api-key"} {
		if got.Header.Get(name) != "" {
			t.Errorf("exempt route: %s reached the upstream", name)
		}
	}
}

// Taking the token out of the query leaves all else in it as it was sent: what
// the policy saw is what the upstream gets, in order and byte for byte.
func TestQueryWithoutItsToken(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev := s.issuer.Token("developer", "org1")
	for _, c := range []struct{ sent, want string }{
		{"key=T", ""},
		{"key=T&", ""},
		{"b=%26x&key=T&a=%3D+y", "?b=%26x&a=%3D+y"},
		{"x=1&x=2&key=T&a&x=0", "?x=1&x=2&a&x=0"},
		{"z=%2525&key=T", "?z=%2525"},
		{"a==b&key=T", "?a==b"},
		{"=v&key=T&&", "?=v&&"},
		{"key=T&next=/a/../b?c", "?next=/a/../b?c"},
	} {
		query := strings.Replace(c.sent, "T", dev, 1)
		for path, want := range map[string]string{s.inbound + "/p/1": "/p/1", s.outbound + "/open/1": "/1", s.outbound + "/open": "/", s.outbound + "/tools/1": "/1"} {
			before := s.app.Count()
			a := s.get(path + "?" + query)
			if got := s.app.Last().Target; a.Status != 200 || s.app.Count() != before+1 || got != want+c.want {
				t.Errorf("%s?%s: %d, the upstream got %s, want %s", path, c.sent, a.Status, strings.ReplaceAll(got, dev, "T"), want+c.want)
			}
		}
	}
	s.get(s.outbound + "/tools/1?b=1&key=sk-1&a=2&key=sk-2")
	if got := s.app.Last().Target; got != "/1?b=1&a=2" {
		t.Errorf("foreign keys on a route with a credential: %s", got)
	}
	s.get(s.outbound + "/open/1?key=sk-1&b=1&key=" + dev + "&a=2")
	if got := s.app.Last().Target; got != "/1?key=sk-1&b=1&a=2" {
		t.Errorf("a foreign key beside the token: %s", got)
	}
	before := s.app.Count()
	for _, query := range []string{"x=1;key=" + dev, "key=" + dev + ";x=1", "x=1;k%65y=sk-1"} {
		s.refused(query, before, s.get(s.outbound+"/tools/1?"+query), 400, "validation.malformed")
	}
}

// newIssuerKeys is the key set of some other issuer.
func newIssuerKeys(t testing.TB) []byte {
	return tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse").JWKS()
}
