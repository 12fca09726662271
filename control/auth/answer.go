package auth

import (
	"context"
	"errors"
	"time"

	"gatehouse/internal/apierr"
)

// away reports whether an error says nothing but that something can't be asked
// now, or not in the caller's time.
func away(err error) bool {
	for _, e := range []error{ErrUnavailable, errBusy, errStale, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// failure is the answer to an error of a dependency: never a "no".
func failure(err error) error {
	if away(err) {
		return unavailable(err)
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: err})
}

func unavailable(cause error) error {
	return apierr.New(apierr.AuthUnavailable, apierr.Options{Cause: cause})
}

// refused is the one answer to credentials that are not accepted. cause is for
// the log alone.
func refused(cause string) error {
	return apierr.New(apierr.AuthInvalidCredentials, apierr.Options{Cause: errors.New(cause)})
}

// locked is the answer while an account is locked, whatever the password.
func locked(wait time.Duration) error {
	return apierr.New(apierr.RateLimitExceeded, apierr.Options{Cause: lockedFor(wait)})
}

// lockedFor says for how long. The API takes the header Retry-After from it.
type lockedFor time.Duration

// Error is for the log.
func (l lockedFor) Error() string { return "account is locked for " + time.Duration(l).String() }

// RetryAfter is the wait in whole seconds, rounded up.
func (l lockedFor) RetryAfter() time.Duration {
	return (time.Duration(l) + time.Second - 1).Truncate(time.Second)
}
