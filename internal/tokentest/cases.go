package tokentest

import (
	"strings"
	"testing"
	"time"
)

// The classes of cases.
const (
	Algorithm = "algorithm"
	Header    = "header"
	Claims    = "claims"
	Encoding  = "encoding"
	KeySet    = "keyset"
	Control   = "control" // accepted: shows that the others fail for their own reason
)

// The wire codes that cases expect.
const (
	invalidToken = "auth.invalid_token"
	expiredToken = "auth.expired_token"
)

// Case is one token and what is expected of it by a verifier that has the
// issuer's Config and JWKS.
type Case struct {
	Name       string
	Class      string
	Token      string
	Recognized bool   // whether it counts as ours at all
	WantCode   string // "" means accepted
}

// Cases returns the cases of an EdDSA issuer for the time now, which must not be
// further than Lifetime from the time of use. Every token that its name does not
// say is signed otherwise has a good signature of the issuer over its own bytes,
// so that only the fault it is named after can refuse it.
func (i *Issuer) Cases(t testing.TB, now time.Time) []Case {
	t.Helper()
	l := &list{issuer: i, now: now, other: NewKey(t, "EdDSA", i.Key.Kid), ec: NewKey(t, "ES256", i.Key.Kid)}
	l.controls()
	l.algorithms()
	l.signatures()
	l.headers()
	l.headerForms()
	l.missingAndMistyped()
	l.times()
	l.names()
	l.claimForms()
	l.encodings()
	l.shapes()
	l.keys()
	return l.cases
}

// list collects the cases.
type list struct {
	issuer *Issuer
	now    time.Time
	other  *Key // another issuer's key under the same kid
	ec     *Key // another issuer's key of another type under the same kid
	cases  []Case
}

// add appends a case that is recognised and refused as invalid.
func (l *list) add(class, name, token string) {
	l.cases = append(l.cases, Case{Name: name, Class: class, Token: token, Recognized: true, WantCode: invalidToken})
}

// foreign appends a case that is refused, and not recognised.
func (l *list) foreign(class, name, token string) {
	l.cases = append(l.cases, Case{Name: name, Class: class, Token: token, WantCode: invalidToken})
}

// control appends a case that is accepted.
func (l *list) control(name, token string) {
	l.cases = append(l.cases, Case{Name: name, Class: Control, Token: token, Recognized: true})
}

// with returns the good claims as JSON, with one changed; nil removes it.
func (l *list) with(name string, v any) string {
	c := l.issuer.Claims(l.now, "developer", "acme")
	if c[name] = v; v == nil {
		delete(c, name)
	}
	return string(marshal(c))
}

// payload returns the good claims as JSON.
func (l *list) payload() string { return l.with("jti", "0198-token") }

// prefixed returns the good claims with members put before them, as text.
func (l *list) prefixed(members string) string { return "{" + members + "," + l.payload()[1:] }

// suffixed returns the good claims with members put behind them, as text.
func (l *list) suffixed(members string) string {
	return strings.TrimSuffix(l.payload(), "}") + "," + members + "}"
}

// good returns a good token.
func (l *list) good() string { return l.issuer.Sign(l.issuer.Header(), l.payload()) }

// header returns a good header with members put behind it, as text.
func (l *list) header(members string) string {
	return strings.TrimSuffix(l.issuer.Header(), "}") + "," + members + "}"
}

func (l *list) controls() {
	for _, typ := range []string{"JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"} {
		l.control("typ "+typ, l.issuer.Sign(l.headerWithout("typ", `"typ":"`+typ+`"`), l.payload()))
	}
	l.control("no typ", l.issuer.Sign(l.headerWithout("typ", ""), l.payload()))
	l.control("no kid", l.issuer.Sign(l.headerWithout("kid", ""), l.payload()))
	l.control("x5t thumbprints", l.issuer.Sign(l.header(`"x5t":"AAAA","x5t#S256":"AAAA"`), l.payload()))
	l.control("aud array", l.issuer.Sign(l.issuer.Header(), l.with("aud", []string{"other", l.issuer.Audience})))
	l.control("no nbf", l.issuer.Sign(l.issuer.Header(), l.with("nbf", nil)))
	l.control("no iat", l.issuer.Sign(l.issuer.Header(), l.with("iat", nil)))
	l.control("no project", l.issuer.Sign(l.issuer.Header(), l.with("project_id", nil)))
	l.control("sub with spaces inside", l.issuer.Sign(l.issuer.Header(), l.with("sub", "alice of acme")))
	l.control("unknown claim", l.issuer.Sign(l.issuer.Header(), l.with("realm_access", map[string]any{"roles": []string{"a"}})))
	l.control("escaped names", l.issuer.Sign(l.issuer.Header(), strings.Replace(l.payload(), `"iss"`, `"\u0069ss"`, 1)))
	l.control("expired within the leeway", l.issuer.Sign(l.issuer.Header(), l.withTimes(-600, -600, -59)))
	l.control("not yet valid within the leeway", l.issuer.Sign(l.issuer.Header(), l.withTimes(60, 60, 600)))
}

// headerWithout returns the good header without one member, and with members.
func (l *list) headerWithout(name, members string) string {
	all := []string{`"alg":"` + l.issuer.Key.Alg + `"`, `"kid":"` + l.issuer.Key.Kid + `"`, `"typ":"at+jwt"`}
	var kept []string
	for _, m := range all {
		if !strings.HasPrefix(m, `"`+name+`"`) {
			kept = append(kept, m)
		}
	}
	if members != "" {
		kept = append(kept, members)
	}
	return "{" + strings.Join(kept, ",") + "}"
}
