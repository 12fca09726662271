// Package token recognises, verifies and caches the bearer tokens of the
// configured issuers (JWS compact serialization, RFC 7515; claims, RFC 7519;
// access token profile, RFC 9068), and holds the issuers' key sets (RFC 7517).
//
// Recognition is lenient, so that nothing that means to be our token passes for
// somebody else's; verification is strict. A gate of our own parses the token
// once, and what it read is what is verified and used: the library sees only
// the signed bytes, one key and one algorithm, both chosen by us.
//
// It refuses JWE, unknown header members, ambiguous JSON, key hints inside the
// token (jku, x5u, jwk, x5c), and every algorithm that the issuer does not list.
// It fails closed: without keys, or with keys that are too old, the answer is
// Unavailable.
//
// A Verifier belongs to one revision of the configuration; Keys outlive
// revisions. Both are safe for concurrent use. Verifying touches neither disk
// nor network, except that a token with an unknown kid may wait up to
// unknownKidWait for a fetch that is made anyway.
package token

import "time"

// MaxTokenBytes is the size of the largest token; a larger one is refused
// before anything else is looked at.
const MaxTokenBytes = 8192

// Leeway is the clock difference to an issuer that exp, nbf and iat tolerate.
const Leeway = 60 * time.Second

// Code is the wire code of a refusal.
type Code string

// The codes of this package.
const (
	Invalid     Code = "auth.invalid_token" // 401, whatever is wrong with the token
	Expired     Code = "auth.expired_token" // 401, good in all but exp
	Unavailable Code = "auth.unavailable"   // 503, no usable keys of the issuer
)

// Error says why a token was refused. Cause is for the log only: callers answer
// every Invalid alike. It never quotes the token.
type Error struct {
	Code  Code
	Cause string
}

// Error returns the code and the cause.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Cause }

func invalid(cause string) error { return &Error{Code: Invalid, Cause: cause} }

func unavailable(cause string) error { return &Error{Code: Unavailable, Cause: cause} }
