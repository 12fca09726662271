package apierr

import "slices"

// Code names one kind of error. The set is closed: see Codes.
type Code string

// The codes, by the part of the system that speaks.
const (
	ValidationMalformed            Code = "validation.malformed"
	ValidationInvalid              Code = "validation.invalid"
	ValidationMethodNotAllowed     Code = "validation.method_not_allowed"
	ValidationTimeout              Code = "validation.timeout"
	ValidationTooLarge             Code = "validation.too_large"
	ValidationUnsupportedMediaType Code = "validation.unsupported_media_type"
	ValidationUpgrade              Code = "validation.upgrade"

	AuthMissingToken       Code = "auth.missing_token"
	AuthInvalidToken       Code = "auth.invalid_token"
	AuthExpiredToken       Code = "auth.expired_token"
	AuthInvalidCredentials Code = "auth.invalid_credentials"
	AuthForbidden          Code = "auth.forbidden"
	AuthUnavailable        Code = "auth.unavailable"

	ResourceNotFound        Code = "resource.not_found"
	StateConflict           Code = "state.conflict"
	StatePreconditionFailed Code = "state.precondition_failed"

	BudgetInsufficient Code = "budget.insufficient"
	BudgetUnavailable  Code = "budget.unavailable"
	RateLimitExceeded  Code = "rate_limit.exceeded"
	PolicyUnavailable  Code = "policy.unavailable"

	UpstreamInvalidResponse Code = "upstream.invalid_response"
	UpstreamUnavailable     Code = "upstream.unavailable"
	UpstreamTimeout         Code = "upstream.timeout"

	Internal Code = "internal.error"
)

// GRPC is a status code of gRPC by its number on the wire. It is kept here so
// that naming an error links no transport.
type GRPC uint32

// The gRPC codes in use (grpc/statuscodes.md).
const (
	InvalidArgument    GRPC = 3
	DeadlineExceeded   GRPC = 4
	NotFound           GRPC = 5
	PermissionDenied   GRPC = 7
	ResourceExhausted  GRPC = 8
	FailedPrecondition GRPC = 9
	Aborted            GRPC = 10
	Unimplemented      GRPC = 12
	InternalError      GRPC = 13
	Unavailable        GRPC = 14
	Unauthenticated    GRPC = 16
)

// Info is what the table knows of a code.
type Info struct {
	HTTP      int    // status, unless the error carries another (Options.Status)
	GRPC      GRPC   // status of a gRPC answer
	Title     string // short and constant, RFC 9457 section 3.1.3
	Message   string // the default message
	Retryable bool   // the same request may succeed later, unchanged

	fixed      bool // the message can't be replaced
	dependency bool // details always name retryable
}

// badToken is said of every token that is not accepted, so that a caller can't
// learn from the answer what was wrong with a guess.
const badToken = "The token is missing or not valid."

var table = map[Code]Info{
	ValidationMalformed:            {HTTP: 400, GRPC: InvalidArgument, Title: "Malformed request", Message: "The request is malformed."},
	ValidationInvalid:              {HTTP: 422, GRPC: InvalidArgument, Title: "Invalid request", Message: "The request is well-formed, but not valid."},
	ValidationMethodNotAllowed:     {HTTP: 405, GRPC: Unimplemented, Title: "Method not allowed", Message: "The method is not allowed here."},
	ValidationTimeout:              {HTTP: 408, GRPC: DeadlineExceeded, Title: "Request timeout", Message: "The request was not complete in time.", Retryable: true},
	ValidationTooLarge:             {HTTP: 413, GRPC: ResourceExhausted, Title: "Request too large", Message: "The request is too large."},
	ValidationUnsupportedMediaType: {HTTP: 415, GRPC: InvalidArgument, Title: "Unsupported media type", Message: "The media type of the body is not supported."},
	ValidationUpgrade:              {HTTP: 426, GRPC: Unimplemented, Title: "Protocol not supported", Message: "The protocol or upgrade is not supported."},

	AuthMissingToken:       {HTTP: 401, GRPC: Unauthenticated, Title: "Not authenticated", Message: badToken, fixed: true},
	AuthInvalidToken:       {HTTP: 401, GRPC: Unauthenticated, Title: "Not authenticated", Message: badToken, fixed: true},
	AuthExpiredToken:       {HTTP: 401, GRPC: Unauthenticated, Title: "Not authenticated", Message: badToken, fixed: true},
	AuthInvalidCredentials: {HTTP: 401, GRPC: Unauthenticated, Title: "Not authenticated", Message: "The credentials are not valid.", fixed: true},
	AuthForbidden:          {HTTP: 403, GRPC: PermissionDenied, Title: "Forbidden", Message: "The policy does not allow this request."},
	AuthUnavailable:        {HTTP: 503, GRPC: Unavailable, Title: "Authentication unavailable", Message: "The caller can't be verified at the moment.", Retryable: true, dependency: true},

	ResourceNotFound:        {HTTP: 404, GRPC: NotFound, Title: "Not found", Message: "There is no such resource."},
	StateConflict:           {HTTP: 409, GRPC: Aborted, Title: "Conflict", Message: "The request conflicts with the present state."},
	StatePreconditionFailed: {HTTP: 412, GRPC: FailedPrecondition, Title: "Precondition failed", Message: "The resource has changed meanwhile."},

	BudgetInsufficient: {HTTP: 409, GRPC: ResourceExhausted, Title: "Budget insufficient", Message: "The budget does not cover this request."},
	BudgetUnavailable:  {HTTP: 503, GRPC: Unavailable, Title: "Budget unavailable", Message: "The budget can't be checked at the moment.", Retryable: true, dependency: true},
	RateLimitExceeded:  {HTTP: 429, GRPC: ResourceExhausted, Title: "Too many requests", Message: "The rate limit is exceeded.", Retryable: true},
	PolicyUnavailable:  {HTTP: 503, GRPC: Unavailable, Title: "Policy unavailable", Message: "The policy can't be evaluated at the moment.", Retryable: true, dependency: true},

	UpstreamInvalidResponse: {HTTP: 502, GRPC: Unavailable, Title: "Invalid upstream response", Message: "The upstream's answer can't be passed on."},
	UpstreamUnavailable:     {HTTP: 503, GRPC: Unavailable, Title: "Upstream unavailable", Message: "The upstream is not available.", Retryable: true},
	UpstreamTimeout:         {HTTP: 504, GRPC: DeadlineExceeded, Title: "Upstream timeout", Message: "The upstream did not answer in time.", Retryable: true},

	Internal: {HTTP: 500, GRPC: InternalError, Title: "Internal error", Message: "An internal error occurred.", fixed: true},
}

// Codes lists all codes in alphabetical order.
func Codes() []Code {
	codes := make([]Code, 0, len(table))
	for c := range table {
		codes = append(codes, c)
	}
	slices.Sort(codes)
	return codes
}

// Valid reports whether c is in the table.
func (c Code) Valid() bool {
	_, ok := table[c]
	return ok
}

// Info returns the row of c, or that of Internal when c is in no row.
func (c Code) Info() Info {
	if row, ok := table[c]; ok {
		return row
	}
	return table[Internal]
}
