package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// The SQL states that are told apart
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
	checkViolation      = "23514"
	serialization       = "40001"
	deadlock            = "40P01"
	readOnly            = "25006" // the server became a standby
	lockNotAvailable    = "55P03"
	queryCanceled       = "57014" // statement_timeout
)

// awayClasses are the classes of states that say that the server can't serve:
// no connection, out of resources, stopping or starting, broken.
func awayClasses() []string { return []string{"08", "53", "57", "58", "XX"} }

// Away reports whether err says that the database can't be asked now: it is
// gone, slow, full, read-only, or the caller's time is over. The same request
// may succeed later. Nothing is known of what was asked for.
func Away(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return slices.Contains([]string{readOnly, lockNotAvailable, queryCanceled, serialization, deadlock}, e.Code) ||
			slices.ContainsFunc(awayClasses(), func(class string) bool { return strings.HasPrefix(e.Code, class) })
	}
	for _, gone := range []error{
		context.DeadlineExceeded, context.Canceled, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, puddle.ErrClosedPool,
	} {
		if errors.Is(err, gone) {
			return true
		}
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return connecting || network || pgconn.SafeToRetry(err)
}

// raced reports whether the server undid a transaction on account of others.
func raced(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == serialization || e.Code == deadlock)
}

// Violated returns the name of the constraint that err says was violated.
func Violated(err error) (constraint string, kind Violation) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return "", NoViolation
	}
	switch e.Code {
	case uniqueViolation:
		return e.ConstraintName, Taken
	case foreignKeyViolation:
		return e.ConstraintName, Dangling
	case checkViolation:
		return e.ConstraintName, OutOfBounds
	}
	return "", NoViolation
}

// Violation is a kind of constraint.
type Violation int

// The kinds of violations.
const (
	NoViolation Violation = iota
	Taken                 // a name that must be unique is in use
	Dangling              // a reference to what is not there, or from what is
	OutOfBounds           // a check
)
