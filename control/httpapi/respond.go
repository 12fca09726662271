package httpapi

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"gatehouse/internal/apierr"
)

// realm says how to authenticate (RFC 6750, 3), the same for everybody.
const realm = `Bearer realm="gatehouse"`

// fail answers with an error: the one place where one is rendered.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r.Context())
	c.err = classify(err)
	h := w.Header()
	setErrorHeaders(h, c.err)
	contentType, body := c.err.Render(r.Header.Get("Accept"), c.id)
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(c.err.HTTP())
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the caller has gone; the log has the error
	}
}

func setErrorHeaders(h http.Header, e *apierr.Error) {
	// What a handler had set belongs to the answer that is not given.
	h.Del("ETag")
	h.Del("Location")
	h.Del("Link")
	if e.HTTP() == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", realm)
	}
	if wait := retryAfter(e); wait > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
}

// retryAfter is how long a caller should wait: as the error says, or a second
// where the service can't serve at the moment.
func retryAfter(e *apierr.Error) time.Duration {
	if w, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](e); ok {
		return max(w.RetryAfter(), time.Second)
	}
	if e.HTTP() == http.StatusServiceUnavailable || e.HTTP() == http.StatusTooManyRequests {
		return time.Second
	}
	return 0
}

// classify gives every error a code. A store that did not answer in the
// request's time is away; any other error without a code is a defect.
func classify(err error) *apierr.Error {
	e := apierr.From(err)
	if e.Code() != apierr.Internal || e.HTTP() != http.StatusInternalServerError {
		return e
	}
	for _, late := range []error{context.DeadlineExceeded, context.Canceled, os.ErrDeadlineExceeded} {
		if errors.Is(err, late) {
			return unavailable(err)
		}
	}
	return e
}

// unavailable says that a dependency is away or slow.
func unavailable(cause error) *apierr.Error {
	return apierr.New(apierr.Internal, apierr.Options{Status: http.StatusServiceUnavailable, Cause: cause})
}

func malformed(message string) error {
	return apierr.New(apierr.ValidationMalformed, apierr.Options{Message: message})
}

// forbidden says which rule refuses. The rules of this API are no secret.
func forbidden(rule, reason string) error {
	return apierr.New(apierr.AuthForbidden, apierr.Options{
		Details: []apierr.Detail{apierr.Text("rule_id", rule), apierr.Text("reason", reason)},
	})
}
