package rollout

import (
	"context"
	"errors"

	"gatehouse/internal/apierr"
)

// statusAway is the HTTP status of an answer without a database, or a key.
const statusAway = 503

// answer gives an error its code. Those that have one keep it.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return apierr.New(apierr.ResourceNotFound, apierr.Options{})
	case errors.Is(err, ErrAmbiguous):
		return apierr.Conflict("ambiguous", nil)
	case errors.Is(err, ErrPosition):
		return apierr.Unfit(nil, apierr.Field{Pointer: "/query/cursor", Code: "cursor", Message: "is not one of this list"})
	case errors.Is(err, errBusy):
		return apierr.New(apierr.PolicyUnavailable, apierr.Options{Message: "Other policy sets are being checked. Try again later.", Cause: err})
	case away(err):
		return apierr.New(apierr.Internal, apierr.Options{Status: statusAway, Cause: err})
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: err})
}

// away reports whether an error says nothing but that something can't be had
// now, or not in the caller's time.
func away(err error) bool {
	for _, e := range []error{ErrUnavailable, errSealed, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
