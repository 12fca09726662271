package llm

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Denial is a refusal of ours, to be said in the provider's form.
type Denial struct {
	Code      string         // ours: "budget.insufficient", …
	Message   string         // for the caller
	RequestID string         // "" where none exists
	Details   jsontext.Value // an object, or nil
}

// NoRetry reports whether the answer must carry "x-should-retry: false". The
// official clients repeat 408, 409, 429 and every 5xx twice unless it stands
// there; what a repetition can't change must not be repeated, and an answer that
// was blocked was paid for.
func (d Denial) NoRetry() bool {
	switch d.Code {
	case "rate_limit.exceeded", "state.conflict", "validation.timeout", "internal.error",
		"upstream.unavailable", "upstream.timeout":
		return false
	}
	return !strings.HasSuffix(d.Code, ".unavailable")
}

// ShouldRetry is the header that NoRetry speaks of. Only lower case "false"
// counts for the clients.
const ShouldRetry = "x-should-retry"

// AppendDenial appends the body of a refusal, a JSON document. Clients that
// read the provider's own errors show its message; error_code, request_id and
// details stand beside the provider's members.
func AppendDenial(dst []byte, f Format, d Denial) ([]byte, error) {
	dl, err := f.dialect()
	if err != nil {
		return dst, err
	}
	return dl.denial(dst, d), nil
}

// AppendCut appends the last event of a stream that we end. Nothing may follow:
// clients stop at an error event, and an end mark would tell the others that the
// answer is complete.
func AppendCut(dst []byte, f Format, d Denial) ([]byte, error) {
	dl, err := f.dialect()
	if err != nil {
		return dst, err
	}
	return AppendFrame(dst, Frame{Event: dl.errorEvent(), HasData: true, Data: dl.denial(nil, d)}), nil
}

// reply is how a provider would say one of our codes.
type reply struct{ openaiType, openaiCode, anthropicType string }

// replies by our code, or by its first part.
var replies = map[string]reply{
	"validation":                {"invalid_request_error", "invalid_request", "invalid_request_error"},
	"auth":                      {"invalid_request_error", "invalid_api_key", "authentication_error"},
	"auth.forbidden":            {"invalid_request_error", "permission_denied", "permission_error"},
	"auth.unavailable":          {"server_error", "service_unavailable", "api_error"},
	"resource":                  {"invalid_request_error", "not_found", "not_found_error"},
	"state":                     {"invalid_request_error", "conflict", "invalid_request_error"},
	"budget.insufficient":       {"insufficient_quota", "insufficient_quota", "rate_limit_error"},
	"rate_limit":                {"requests", "rate_limit_exceeded", "rate_limit_error"},
	"upstream.timeout":          {"server_error", "timeout", "timeout_error"},
	"upstream.invalid_response": {"server_error", "invalid_response", "api_error"},
}

// replyTo finds the reply to a code; what has none is a fault of the server.
func replyTo(code string) reply {
	if r, ok := replies[code]; ok {
		return r
	}
	family, _, _ := strings.Cut(code, ".")
	if r, ok := replies[family]; ok {
		return r
	}
	return reply{"server_error", "service_unavailable", "api_error"}
}

func (openai) errorEvent() string { return "" }

func (openai) denial(dst []byte, d Denial) []byte {
	r := replyTo(d.Code)
	dst = append(dst, `{"error":{"message":`...)
	dst = quote(dst, d.Message)
	dst = quote(append(dst, `,"type":`...), r.openaiType)
	dst = append(dst, `,"param":null`...)
	dst = quote(append(dst, `,"code":`...), r.openaiCode)
	dst = d.ours(dst)
	dst = quote(append(dst, `,"request_id":`...), d.RequestID)
	return append(dst, "}}"...)
}

func (anthropic) denial(dst []byte, d Denial) []byte {
	dst = append(dst, `{"type":"error","error":{"type":`...)
	dst = quote(dst, replyTo(d.Code).anthropicType)
	dst = quote(append(dst, `,"message":`...), d.Message)
	dst = d.ours(dst)
	dst = quote(append(dst, `},"request_id":`...), d.RequestID)
	return append(dst, '}')
}

// ours appends our own code and the details, if they are an object.
func (d Denial) ours(dst []byte) []byte {
	dst = quote(append(dst, `,"error_code":`...), d.Code)
	if d.Details.Kind() != '{' || !d.Details.IsValid() {
		return dst
	}
	details := d.Details.Clone()
	if err := details.Compact(); err != nil {
		return dst
	}
	return append(append(dst, `,"details":`...), details...)
}

// quote appends a JSON string; what is not UTF-8 is replaced.
func quote(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\ufffd")) // INVARIANT: valid, so no error
	return dst
}
