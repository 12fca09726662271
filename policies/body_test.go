package policies

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bodyInput is a POST whose route asks for the body.
func bodyInput(contentType, body string, headers ...Header) *Input {
	in := typicalInput()
	in.Headers = headers
	if contentType != "" {
		in.Headers = append(in.Headers, Header{"Content-Type", contentType})
	}
	in.BodyWanted, in.Body = true, []byte(body)
	return in
}

func TestBodyThatCannotBeReadIsDeniedBeforeRego(t *testing.T) {
	t.Parallel()
	// This policy would allow whatever it can't see.
	e := compileText(t, "data.p.allow", "package p\n\nallow if not input.parsed_body.evil\n")
	const jsonType, evil = "application/json", `{"evil": true}`
	deep := strings.Repeat(`[`, maxBodyDepth+1) + strings.Repeat(`]`, maxBodyDepth+1)
	truncated := bodyInput(jsonType, evil)
	truncated.BodyTruncated = true
	truncatedEmpty := bodyInput(jsonType, "")
	truncatedEmpty.BodyTruncated = true
	tests := []struct {
		name string
		in   *Input
		want Class
	}{
		{"length says more", bodyInput(jsonType, evil, Header{"content-length", "15"}), BodyTruncated},
		{"flagged", truncated, BodyTruncated},
		{"flagged and empty", truncatedEmpty, BodyTruncated},
		{"length, but no body", bodyInput(jsonType, "", Header{"content-length", "14"}), BodyMissing},
		{"chunked, but no body", bodyInput("", "", Header{"transfer-encoding", "chunked"}), BodyMissing},
		{"length is no number", bodyInput(jsonType, evil, Header{"content-length", "-1"}), BodyMalformed},
		{"length is empty", bodyInput(jsonType, evil, Header{"content-length", ""}), BodyMalformed},
		{"length is signed", bodyInput(jsonType, evil, Header{"content-length", "+14"}), BodyMalformed},
		{"length is huge", bodyInput(jsonType, evil, Header{"content-length", "99999999999999999999"}), BodyMalformed},
		{"two lengths", bodyInput(jsonType, evil, Header{"content-length", "14"}, Header{"Content-Length", "14"}), BodyMalformed},
		{"length says less", bodyInput(jsonType, evil, Header{"content-length", "13"}), BodyMalformed},
		{"gzip", bodyInput(jsonType, evil, Header{"Content-Encoding", "gzip"}), BodyEncoded},
		{"identity and gzip", bodyInput(jsonType, evil, Header{"content-encoding", "identity, gzip"}), BodyEncoded},
		{"identity, then gzip", bodyInput(jsonType, evil, Header{"content-encoding", "identity"}, Header{"content-encoding", "gzip"}), BodyEncoded},
		{"no type", bodyInput("", evil), BodyType},
		{"two types", bodyInput(jsonType, evil, Header{"content-type", "text/plain"}), BodyType},
		{"text", bodyInput("text/plain", evil), BodyType},
		{"almost JSON", bodyInput("application/jsonx", evil), BodyType},
		{"JSON in a parameter", bodyInput("text/plain; a=application/json", evil), BodyType},
		{"type is broken", bodyInput("application/json; charset", evil), BodyType},
		{"UTF-16", bodyInput("application/json; charset=utf-16", evil), BodyType},
		{"multipart", bodyInput("multipart/form-data; boundary=x", evil), BodyType},
		{"gRPC", bodyInput("application/grpc", evil), BodyType},
		{"not JSON", bodyInput(jsonType, `{"evil": tru`), BodyMalformed},
		{"two values", bodyInput(jsonType, `{} {"evil": true}`), BodyMalformed},
		{"name twice", bodyInput(jsonType, `{"evil": true, "evil": false}`), BodyMalformed},
		{"escaped name twice", bodyInput(jsonType, `{"evil": true, "\u0065vil": false}`), BodyMalformed},
		{"lone surrogate", bodyInput(jsonType, `{"a": "\ud800"}`), BodyMalformed},
		{"invalid UTF-8", bodyInput(jsonType, "{\"a\": \"\xff\"}"), BodyMalformed},
		{"byte order mark", bodyInput(jsonType, "\ufeff"+evil), BodyMalformed},
		{"deep", bodyInput(jsonType, deep), BodyMalformed},
		{"number beyond a float", bodyInput(jsonType, `1e999999999`), BodyMalformed},
		{"number of many digits", bodyInput(jsonType, strings.Repeat("9", maxNumberBytes+1)), BodyMalformed},
		{"NaN", bodyInput(jsonType, `NaN`), BodyMalformed},
		{"white space", bodyInput(jsonType, "  \n"), BodyMalformed},
		{"large", bodyInput(jsonType, `"`+strings.Repeat("a", maxBodyBytes)+`"`), BodyMalformed},
		{"form with a bad escape", bodyInput("application/x-www-form-urlencoded", "evil=%zz"), BodyMalformed},
		{"form with a semicolon", bodyInput("application/x-www-form-urlencoded", "a=1;evil=1"), BodyMalformed},
		{"large form", bodyInput("application/x-www-form-urlencoded", strings.Repeat("a&", maxQueryMembers)), BodyMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := e.Decide(t.Context(), tt.in)
			if d.Class != tt.want || d.Allowed || d.RuleID != string(tt.want) {
				t.Errorf("got %+v (cause %v)", d, d.Cause)
			}
		})
	}
}

func TestBodyAsThePolicySeesIt(t *testing.T) {
	t.Parallel()
	e := compileText(t, "data.p.allow", readsAll)
	tests := []struct {
		name string
		in   *Input
		want any
	}{
		{"JSON", bodyInput("application/json; charset=UTF-8", `{"a": ["b", null, true, {}]}`), map[string]any{"a": []any{"b", nil, true, map[string]any{}}}},
		{"JSON of a kind of its own", bodyInput("application/problem+json", `"x"`), "x"},
		{"length fits", bodyInput("application/json", `"x"`, Header{"content-length", "3"}), "x"},
		{"identity", bodyInput("application/json", `"x"`, Header{"content-encoding", "identity"}), "x"},
		{"chunked", bodyInput("application/json", `"x"`, Header{"transfer-encoding", "chunked"}), "x"},
		{"depth at the limit", bodyInput("application/json", strings.Repeat("[", 2)+strings.Repeat("]", 2)), []any{[]any{}}},
		{"form", bodyInput("application/x-www-form-urlencoded", "a=1&b=x+y&a=2"), map[string]any{"a": []any{"1", "2"}, "b": []any{"x y"}}},
		{"no body", bodyInput("", ""), nil},
		{"length 0", bodyInput("application/json", "", Header{"content-length", "0"}), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, documentOf(t, e, tt.in)["parsed_body"]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBodyMattersOnlyWhereItIsReadAndWanted(t *testing.T) {
	t.Parallel()
	indifferent := compileText(t, "data.p.allow", "package p\n\nallow if input.route\n")
	reader := compileText(t, "data.p.allow", "package p\n\nallow if input.parsed_body == null\n")
	in := bodyInput("text/plain", "\xff", Header{"content-encoding", "gzip"})
	if d := indifferent.Decide(t.Context(), in); !d.Allowed {
		t.Errorf("a policy that does not read the body: got %+v", d)
	}
	in.BodyWanted = false
	if d := reader.Decide(t.Context(), in); !d.Allowed {
		t.Errorf("a route that does not ask for the body: got %+v", d)
	}
}

func TestRawBodyNeedsNoType(t *testing.T) {
	t.Parallel()
	e := compileText(t, "data.p.allow", "package p\n\nallow if input.attributes.request.http.body == \"hello\"\n")
	if d := e.Decide(t.Context(), bodyInput("text/plain", "hello")); !d.Allowed {
		t.Errorf("got %+v", d)
	}
	if d := e.Decide(t.Context(), bodyInput("text/plain", "hello\xff")); d.Class != BodyMalformed {
		t.Errorf("invalid UTF-8: got %+v", d)
	}
}

// Over lengths, framings and types: a policy that allows what has no evil in it
// must never allow an evil body, however it is sent.
func TestNoFramingHidesABody(t *testing.T) {
	t.Parallel()
	e := compileText(t, "data.p.allow", "package p\n\nallow if not input.parsed_body.evil\n")
	// The JSON text has a member evil as a form, too.
	for _, body := range []string{`{"&evil&": 1, "evil": 2}`, "evil=1"} {
		for _, shown := range []int{0, 1, len(body) - 1, len(body)} {
			for _, framing := range framings(len(body)) {
				for _, kind := range []string{"", "application/json", "APPLICATION/JSON", "application/x-www-form-urlencoded", "text/plain", "application/vnd.a+json"} {
					in := bodyInput(kind, body[:shown], framing...)
					in.BodyTruncated = shown < len(body) // what Envoy says of a partial body
					if d := e.Decide(t.Context(), in); d.Allowed {
						t.Errorf("%q cut to %d, %v, %q: allowed", body, shown, framing, kind)
					}
				}
			}
		}
	}
}

func framings(n int) [][]Header {
	return [][]Header{
		nil,
		{{"content-length", fmt.Sprint(n)}},
		{{"transfer-encoding", "chunked"}},
		{{"content-length", fmt.Sprint(n)}, {"content-encoding", "gzip"}},
		{{"content-length", "0"}},
	}
}
