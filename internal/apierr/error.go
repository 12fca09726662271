// Package apierr owns the closed set of error codes and how an error looks to
// a caller: {error_code, message, details?, request_id}, or the same as an
// RFC 9457 problem. It refuses to show anything else: a wrapped cause is for
// logs only, details hold only the types made here, and an error that is not
// an *Error is internal.error with a fixed text.
//
// The table is constant and an Error does not change once made, so all of it
// is safe for concurrent use.
package apierr

import (
	"errors"
	"fmt"
)

// Error is an error with a code. Make it with New.
type Error struct {
	code    Code
	message string
	details []Detail
	status  int
	cause   error
}

// Options are the parts of an error beyond its code; the zero value takes the
// table's.
type Options struct {
	Message string   // shown to the caller; ignored where the table's text is fixed
	Details []Detail // shown to the caller in this order; ignored for Internal
	Status  int      // HTTP status, 400 to 599; others are ignored
	Cause   error    // for logs; never rendered
}

// New makes an error. A code that is not in the table becomes Internal.
func New(code Code, o Options) *Error {
	row, known := table[code]
	if !known {
		return unknownCode(code, o.Cause)
	}
	e := &Error{code: code, message: row.Message, details: o.Details, status: row.HTTP, cause: o.Cause}
	if o.Message != "" && !row.fixed {
		e.message = o.Message
	}
	if o.Status >= 400 && o.Status <= 599 {
		e.status = o.Status
	}
	if code == Internal {
		e.details = nil
	}
	return e
}

func unknownCode(code Code, cause error) *Error {
	err := fmt.Errorf("unknown error code %q", string(code))
	return New(Internal, Options{Cause: errors.Join(err, cause)})
}

// From returns the *Error that err is or wraps; any other error, nil included,
// becomes Internal with err as its cause.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		return e
	}
	return New(Internal, Options{Cause: err})
}

// Error is the text for logs; it names the cause. Callers get Body.
func (e *Error) Error() string {
	if e.cause == nil {
		return string(e.code) + ": " + e.message
	}
	return string(e.code) + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Code returns the code, which is always in the table.
func (e *Error) Code() Code { return e.code }

// Message returns the text shown to the caller.
func (e *Error) Message() string { return e.message }

// HTTP returns the HTTP status.
func (e *Error) HTTP() int { return e.status }

// GRPC returns the gRPC status.
func (e *Error) GRPC() GRPC { return e.code.Info().GRPC }

// Retryable reports whether the same request may succeed later, unchanged.
func (e *Error) Retryable() bool { return e.code.Info().Retryable }
