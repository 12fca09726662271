package inflight

import "errors"

// MaxKey is how long an idempotency key may be, in bytes.
const MaxKey = 255

// ErrKey says that a key is no key: empty, too long, or with other than visible
// ASCII in it.
var ErrKey = errors.New("an idempotency key is 1 to 255 visible ASCII characters")

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
