package inflight

import (
	"errors"

	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
)

// MaxKey is how long an idempotency key may be, in bytes.
const MaxKey = 255

// ErrKey says that a key is no key: empty, too long, or with other than visible
// ASCII in it.
var ErrKey = errors.New("an idempotency key is 1 to 255 visible ASCII characters")

// Scope is what a key is told apart by: whose it is, and the route. Nobody can take
// another's key.
func Scope(p *request.Principal, route, key string) string {
	return ratelimit.Key(p.Tenant, string(p.Kind), p.Issuer, p.Subject, route, key) // each part preceded by its length
}

// CheckKey checks the value of an Idempotency-Key header.
func CheckKey(s string) error {
	if s == "" || len(s) > MaxKey {
		return ErrKey
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return ErrKey
		}
	}
	return nil
}
