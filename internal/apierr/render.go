package apierr

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Content types of the two forms.
const (
	JSONType    = "application/json"
	ProblemType = "application/problem+json"
)

// maxFields bounds the faults that one error lists.
const maxFields = 100

// maxAccept bounds the bytes of an Accept header that are read.
const maxAccept = 4096

// Detail is one member of an error's details. Its value is text, a number, a
// truth value or a list of faults, so that nothing else can slip into an answer.
type Detail struct {
	name   string
	kind   detailKind
	text   string
	number int64
	fields []Field
}

type detailKind uint8

const (
	kindText detailKind = iota
	kindNumber
	kindBool
	kindFields
)

// Field is one fault of a request's body.
type Field struct {
	Pointer string // JSON pointer, RFC 6901
	Code    string
	Message string
}

// Text is a detail with a string; invalid UTF-8 is replaced when rendered.
func Text(name, value string) Detail { return Detail{name: name, kind: kindText, text: value} }

// Number is a detail with an integer.
func Number(name string, value int64) Detail {
	return Detail{name: name, kind: kindNumber, number: value}
}

// Bool is a detail with a truth value.
func Bool(name string, value bool) Detail {
	d := Detail{name: name, kind: kindBool}
	if value {
		d.number = 1
	}
	return d
}

// Fields is the detail "errors", which lists faults; those after the first 100
// are left out.
func Fields(fields []Field) Detail {
	return Detail{name: "errors", kind: kindFields, fields: fields[:min(len(fields), maxFields)]}
}

// Body renders {error_code, message, details?, request_id}, in this order.
func (e *Error) Body(requestID string) []byte {
	b := make([]byte, 0, e.sizeHint(requestID))
	b = append(b, '{')
	b = appendMember(b, "error_code", string(e.code))
	b = appendMember(append(b, ','), "message", e.message)
	return e.appendTail(b, requestID)
}

// Problem renders the error as application/problem+json (RFC 9457) with the
// extension members error_code, details and request_id.
func (e *Error) Problem(requestID string) []byte {
	b := make([]byte, 0, e.sizeHint(requestID)+160)
	b = append(b, '{')
	b = appendMember(b, "type", "urn:gatehouse:error:"+string(e.code))
	b = appendMember(append(b, ','), "title", e.code.Info().Title)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(e.status), 10)
	b = appendMember(append(b, ','), "detail", e.message)
	b = appendMember(append(b, ','), "error_code", string(e.code))
	return e.appendTail(b, requestID)
}

// Render renders the form that the request's Accept header asks for: a problem
// when it names application/problem+json with q above 0, JSON otherwise.
func (e *Error) Render(accept, requestID string) (contentType string, body []byte) {
	if wantsProblem(accept) {
		return ProblemType, e.Problem(requestID)
	}
	return JSONType, e.Body(requestID)
}

// Details renders the details as a JSON object, nil where there are none.
func (e *Error) Details() []byte {
	const name = `,"details":`
	b := e.appendDetails(nil)
	if len(b) == 0 {
		return nil
	}
	return b[len(name):]
}

func (e *Error) sizeHint(requestID string) int {
	n := 96 + len(e.code) + len(e.message) + len(requestID)
	for i := range e.details {
		n += 32 + len(e.details[i].name) + len(e.details[i].text) + 128*len(e.details[i].fields)
	}
	return n
}

// appendTail closes the object with the members that both forms share.
func (e *Error) appendTail(b []byte, requestID string) []byte {
	b = e.appendDetails(b)
	b = appendMember(append(b, ','), "request_id", requestID)
	return append(b, '}')
}

// appendDetails renders the details. Whether a dependency's error is retryable
// is for the table to say, so a detail of that name is left out there.
func (e *Error) appendDetails(b []byte) []byte {
	row := e.code.Info()
	if len(e.details) == 0 && !row.dependency {
		return b
	}
	b = append(b, `,"details":{`...)
	start := len(b)
	if row.dependency {
		b = append(b, `"retryable":`...)
		b = strconv.AppendBool(b, row.Retryable)
	}
	for i := range e.details {
		if row.dependency && e.details[i].name == "retryable" {
			continue
		}
		if len(b) > start {
			b = append(b, ',')
		}
		b = e.details[i].append(b)
	}
	return append(b, '}')
}

func (d *Detail) append(b []byte) []byte {
	b = append(appendString(b, d.name), ':')
	switch d.kind {
	case kindNumber:
		return strconv.AppendInt(b, d.number, 10)
	case kindBool:
		return strconv.AppendBool(b, d.number != 0)
	case kindFields:
		return appendFields(b, d.fields)
	default:
		return appendString(b, d.text)
	}
}

func appendFields(b []byte, fields []Field) []byte {
	b = append(b, '[')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(append(b, '{'), "pointer", f.Pointer)
		b = appendMember(append(b, ','), "code", f.Code)
		b = appendMember(append(b, ','), "message", f.Message)
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendMember(b []byte, name, value string) []byte {
	return appendString(append(appendString(b, name), ':'), value)
}

// appendString quotes s. The error only tells that invalid UTF-8 was replaced,
// which is what is wanted.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// wantsProblem reports whether accept (RFC 9110, 12.5.1) names the problem
// type with q above 0. Wildcards don't: plain JSON is the default form.
func wantsProblem(accept string) bool {
	if len(accept) > maxAccept {
		return false
	}
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), ProblemType) && positiveQuality(params) {
			return true
		}
	}
	return false
}

// positiveQuality reports whether params hold no q, or one above 0.
func positiveQuality(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		q, err := strconv.ParseFloat(value, 64)
		return err == nil && q > 0 && q <= 1
	}
	return true
}
