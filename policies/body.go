package policies

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Limits of a body that a policy reads.
const (
	maxBodyBytes = 1 << 20
	maxBodyDepth = 64
)

// bodyFault says why a body can't be shown to a policy.
type bodyFault struct {
	class Class
	cause error
}

// readBody checks and parses the body before Rego runs, as a policy can't tell
// a body that says nothing from one that it does not see. The term is nil where
// there is no body or the policy has no use for it parsed.
func (e *Engine) readBody(in *Input) (*ast.Term, *bodyFault) {
	if !e.readsBody || !in.BodyWanted {
		return nil, nil
	}
	if f := framing(in); f != nil {
		return nil, f
	}
	if len(in.Body) == 0 || !e.parsesBody {
		return nil, nil
	}
	return parseBody(in)
}

// framing reports a body that is not whole or not plain.
func framing(in *Input) *bodyFault {
	length, announced, err := announcedLength(in.Headers)
	switch {
	case err != nil:
		return &bodyFault{BodyMalformed, err}
	case encoded(in.Headers):
		return &bodyFault{class: BodyEncoded}
	case in.BodyTruncated, len(in.Body) > 0 && length > int64(len(in.Body)):
		return &bodyFault{class: BodyTruncated}
	case announced && len(in.Body) == 0:
		return &bodyFault{class: BodyMissing}
	case length >= 0 && length < int64(len(in.Body)):
		return &bodyFault{BodyMalformed, fmt.Errorf("content-length %d, but %d bytes", length, len(in.Body))}
	case len(in.Body) > maxBodyBytes:
		return &bodyFault{BodyMalformed, fmt.Errorf("body of %d bytes, more than %d", len(in.Body), maxBodyBytes)}
	case !utf8.Valid(in.Body):
		return &bodyFault{BodyMalformed, errors.New("body is not valid UTF-8")}
	}
	return nil
}

// announcedLength reads what the headers say of a body: its length, -1 if they
// give none, and whether there must be one.
func announcedLength(headers []Header) (length int64, announced bool, err error) {
	chunked := len(valuesOf(headers, "transfer-encoding")) > 0
	switch lengths := valuesOf(headers, "content-length"); len(lengths) {
	case 0:
		return -1, chunked, nil
	case 1:
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil {
			return 0, false, fmt.Errorf("content-length: %w", err)
		}
		return int64(n), n > 0 || chunked, nil
	default:
		return 0, false, errors.New("more than one content-length")
	}
}

// encoded reports whether any content coding other than identity was applied.
func encoded(headers []Header) bool {
	for _, v := range valuesOf(headers, "content-encoding") {
		if !strings.EqualFold(strings.TrimSpace(v), "identity") {
			return true
		}
	}
	return false
}

func parseBody(in *Input) (*ast.Term, *bodyFault) {
	kind, err := bodyKind(in.Headers)
	if err != nil {
		return nil, &bodyFault{BodyType, err}
	}
	if kind == "application/x-www-form-urlencoded" {
		return parseForm(string(in.Body))
	}
	value, offset, err := parseJSON(in.Body, maxBodyDepth)
	if err != nil {
		return nil, &bodyFault{BodyMalformed, fmt.Errorf("byte %d: %w", offset, err)}
	}
	return ast.NewTerm(value), nil
}

// bodyKind returns the media type of a body that can be parsed: JSON in UTF-8
// or a form.
func bodyKind(headers []Header) (string, error) {
	types := valuesOf(headers, "content-type")
	if len(types) != 1 {
		return "", fmt.Errorf("%d content-type headers, not 1", len(types))
	}
	kind, params, err := mime.ParseMediaType(types[0])
	if err != nil {
		return "", fmt.Errorf("content-type: %w", err)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return "", fmt.Errorf("content-type: charset %q", charset)
	}
	json := kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
	if !json && kind != "application/x-www-form-urlencoded" {
		return "", fmt.Errorf("content-type: %q", kind)
	}
	return kind, nil
}

func parseForm(body string) (*ast.Term, *bodyFault) {
	if strings.Count(body, "&") >= maxQueryMembers {
		return nil, &bodyFault{BodyMalformed, fmt.Errorf("form of more than %d members", maxQueryMembers)}
	}
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, &bodyFault{BodyMalformed, err}
	}
	return valuesTerm(values), nil
}

// valuesOf returns the values of every header called name, which is lower case.
func valuesOf(headers []Header, name string) []string {
	var values []string
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			values = append(values, h.Value)
		}
	}
	return values
}
