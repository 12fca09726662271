package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Error is an answer that refuses.
type Error struct {
	Status    int
	Code      string
	Message   string
	RequestID string
	Details   Details
}

// Details are the members of an error's details that tools look at.
type Details struct {
	Reason string  `json:"reason"`
	RuleID string  `json:"rule_id"`
	Errors []Field `json:"errors"`
}

// Field is one fault of what was sent.
type Field struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error says what was refused and each fault of it, one a line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)", strings.TrimSuffix(e.Message, "."), e.Code)
	if e.Details.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Details.Reason)
	}
	for _, f := range e.Details.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", f.Pointer, f.Message)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, "\n  request %s", e.RequestID)
	}
	return b.String()
}

// Reason is details.reason.
func (e *Error) Reason() string { return e.Details.Reason }

// response is what all generated answers have.
type response interface {
	StatusCode() int
	GetBody() []byte
}

// Answer is the result of a call of the generated client: what ok takes from
// its answer, or else why there is nothing to take: an *Error where the API
// refused.
func Answer[R response, T any](r R, err error, ok func(R) *T) (*T, error) {
	if err != nil {
		return nil, err
	}
	if v := ok(r); v != nil {
		return v, nil
	}
	return nil, refusal(r)
}

// Done is Answer for calls without a result.
func Done[R response](r R, err error) error {
	if err == nil && r.StatusCode() >= http.StatusBadRequest {
		err = refusal(r)
	}
	return err
}

func refusal(r response) error {
	var body struct {
		Code      string  `json:"error_code"`
		Message   string  `json:"message"`
		RequestID string  `json:"request_id"`
		Details   Details `json:"details"`
	}
	if json.Unmarshal(r.GetBody(), &body) != nil || body.Code == "" {
		return fmt.Errorf("answered with status %d, and not as control's API does; is the address right?", r.StatusCode())
	}
	return &Error{Status: r.StatusCode(), Code: body.Code, Message: body.Message, RequestID: body.RequestID, Details: body.Details}
}

// Unreachable reports whether err is that nobody answered: the network, the
// name, or the certificate of the API is not what it should be.
func Unreachable(err error) bool {
	_, ok := errors.AsType[*url.Error](err)
	return ok && !errors.Is(err, context.Canceled)
}

// Unauthorized reports whether the API refused who calls (401), or what the
// caller may do (403).
func Unauthorized(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// IsCode reports whether err is an answer with a code.
func IsCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}
