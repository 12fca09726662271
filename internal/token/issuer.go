package token

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
)

// anyWord in an issuer's list stands for every tenant but AnyTenant, and for
// every role but admin.
const anyWord = "any"

// issuer is one configured issuer, checked. It is immutable.
type issuer struct {
	config.Issuer
	known  []string // claim names of which no look-alike may be present
	source *source
}

func newIssuer(c config.Issuer) (*issuer, error) {
	is := &issuer{Issuer: c, known: []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}}
	for _, name := range []string{c.Claims.Role, c.Claims.Tenant, c.Claims.Project, c.Claims.Agent, c.Claims.Run} {
		if !slices.Contains(is.known, name) {
			is.known = append(is.known, name)
		}
	}
	if err := errors.Join(checkNames(c), checkAlgorithms(c), checkRoles(c.Roles), foldedApart(is.known)); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", c.Name, err)
	}
	return is, nil
}

func checkNames(c config.Issuer) error {
	needed := []string{c.Name, c.Issuer, c.Audience, c.Claims.Role, c.Claims.Tenant, c.Claims.Project, c.Claims.Agent, c.Claims.Run}
	if slices.Contains(needed, "") || slices.Contains(c.Tenants, "") {
		return errors.New("name, issuer, audience, tenants and claim names must not be empty")
	}
	return nil
}

func checkAlgorithms(c config.Issuer) error {
	if c.Symmetric {
		if !slices.Equal(c.Algorithms, []string{hs256}) || c.JWKS.URL != "" {
			return errors.New("a symmetric issuer has the algorithm HS256 only, and its keys in a file")
		}
		return nil
	}
	if len(c.Algorithms) == 0 {
		return errors.New("no algorithms")
	}
	for _, alg := range c.Algorithms {
		if a, ok := algorithmOf(alg); !ok || a.kty == ktyOct {
			return fmt.Errorf("algorithm %q is not supported", alg)
		}
	}
	return nil
}

func checkRoles(roles []string) error {
	for _, r := range roles {
		if r != anyWord && !request.Role(r).Valid() {
			return fmt.Errorf("unknown role %q", r)
		}
	}
	return nil
}

// dates are the times of a token in Unix seconds.
type dates struct {
	expires   int64
	issued    int64 // iat, 0 if there is none
	notBefore int64 // the later of nbf and iat, 0 if there is neither
}

const leewaySeconds = int64(Leeway / time.Second)

// begun and live compare whole seconds, which is exact: both bounds are integers.
func (d dates) begun(now time.Time) bool { return d.notBefore-leewaySeconds <= now.Unix() }
func (d dates) live(now time.Time) bool  { return d.expires+leewaySeconds > now.Unix() }

// check says whether a verified token may be used now. Only here can a token be
// Expired: before the signature is known to be good, nothing is said about it.
func (d dates) check(now time.Time) error {
	if !d.begun(now) {
		return invalid("nbf or iat lies in the future")
	}
	if !d.live(now) {
		return &Error{Code: Expired, Cause: "exp has passed"}
	}
	return nil
}

// principal reads the claims of a token whose iss is this issuer's. It is pure:
// the dates are read, not compared with the clock.
func (is *issuer) principal(claims value) (request.Principal, dates, error) {
	if _, found := claims.lookalike(is.known); found {
		return request.Principal{}, dates{}, invalid("claim in another case")
	}
	r := &claimReader{claims: claims}
	p := request.Principal{
		Kind: request.KindToken, Issuer: is.Name,
		Subject: r.required("sub"),
		Role:    request.Role(r.required(is.Claims.Role)),
		Tenant:  r.required(is.Claims.Tenant),
		Project: r.optional(is.Claims.Project),
		Agent:   r.optional(is.Claims.Agent),
		Run:     r.optional(is.Claims.Run),
		TokenID: r.optional("jti"),
	}
	r.audience(is.Audience)
	d := r.dates()
	p.Expires = time.Unix(d.expires, 0)
	if d.issued != 0 {
		p.Issued = time.Unix(d.issued, 0)
	}
	if r.cause == "" {
		r.cause = is.mayNotAssert(p)
	}
	if r.cause != "" {
		return request.Principal{}, dates{}, invalid(r.cause)
	}
	return p, d, nil
}

// mayNotAssert says what p claims beyond the issuer's lists, "" if nothing.
func (is *issuer) mayNotAssert(p request.Principal) string {
	switch {
	case !p.Role.Valid():
		return "role is none of the five"
	case !listed(is.Roles, string(p.Role), string(request.RoleAdmin)):
		return "the issuer may not assert this role"
	case !listed(is.Tenants, p.Tenant, request.AnyTenant):
		return "the issuer may not assert this tenant"
	}
	return ""
}

// listed reports whether list names s, or has anyWord and s is not the one
// value that anyWord leaves out.
func listed(list []string, s, leftOut string) bool {
	return slices.Contains(list, s) || s != leftOut && slices.Contains(list, anyWord)
}

// claimReader reads claims and remembers the first fault.
type claimReader struct {
	claims value
	cause  string
}

func (r *claimReader) fail(cause string) {
	if r.cause == "" {
		r.cause = cause
	}
}

// required reads a non-empty bounded string.
func (r *claimReader) required(name string) string {
	s := r.optional(name)
	if s == "" {
		r.fail("required claim is missing or empty: " + name)
	}
	return s
}

// optional reads a bounded string; an absent one and an empty one are both "".
func (r *claimReader) optional(name string) string {
	v, ok := r.claims.get(name)
	if !ok {
		return ""
	}
	if v.kind != kindString || v.text != "" && !boundedText(v.text) {
		r.fail("claim is not a bounded string: " + name)
		return ""
	}
	return v.text
}

// audience wants aud to be want, or an array of strings with want among them.
func (r *claimReader) audience(want string) {
	aud, _ := r.claims.get("aud")
	if aud.kind == kindString && aud.text == want {
		return
	}
	if list, ok := aud.strings(); !ok || !slices.Contains(list, want) {
		r.fail("aud is not the configured audience")
	}
}

func (r *claimReader) dates() dates {
	exp, ok := r.date("exp")
	nbf, _ := r.date("nbf")
	iat, _ := r.date("iat")
	d := dates{expires: exp, issued: iat, notBefore: max(nbf, iat)}
	if !ok || d.expires <= d.notBefore {
		r.fail("exp is missing or not after nbf and iat")
	}
	return d
}

// Bounds of a date: the digits are counted first, so that reading cannot overflow.
const (
	maxDateDigits = 13
	maxDate       = 1 << 40
)

// date reads an integer of 0 to maxDate, written without sign, fraction or
// exponent. Absent is 0, false.
func (r *claimReader) date(name string) (int64, bool) {
	v, ok := r.claims.get(name)
	if !ok {
		return 0, false
	}
	if v.kind != kindNumber || len(v.text) > maxDateDigits || strings.ContainsAny(v.text, "-.eE") {
		r.fail("claim is not an integer date: " + name)
		return 0, false
	}
	var n int64
	for _, digit := range []byte(v.text) {
		n = n*10 + int64(digit-'0')
	}
	if n >= maxDate {
		r.fail("date is out of range: " + name)
		return 0, false
	}
	return n, true
}
