package apierr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

func TestTable(t *testing.T) {
	t.Parallel()
	type row struct {
		HTTP       int
		GRPC       codes.Code
		Retryable  bool
		Fixed      bool
		Dependency bool
	}
	want := map[Code]row{
		"validation.malformed":              {400, codes.InvalidArgument, false, false, false},
		"validation.invalid":                {422, codes.InvalidArgument, false, false, false},
		"validation.method_not_allowed":     {405, codes.Unimplemented, false, false, false},
		"validation.timeout":                {408, codes.DeadlineExceeded, true, false, false},
		"validation.too_large":              {413, codes.ResourceExhausted, false, false, false},
		"validation.unsupported_media_type": {415, codes.InvalidArgument, false, false, false},
		"validation.upgrade":                {426, codes.Unimplemented, false, false, false},
		"auth.missing_token":                {401, codes.Unauthenticated, false, true, false},
		"auth.invalid_token":                {401, codes.Unauthenticated, false, true, false},
		"auth.expired_token":                {401, codes.Unauthenticated, false, true, false},
		"auth.invalid_credentials":          {401, codes.Unauthenticated, false, true, false},
		"auth.forbidden":                    {403, codes.PermissionDenied, false, false, false},
		"auth.unavailable":                  {503, codes.Unavailable, true, false, true},
		"resource.not_found":                {404, codes.NotFound, false, false, false},
		"state.conflict":                    {409, codes.Aborted, false, false, false},
		"state.precondition_failed":         {412, codes.FailedPrecondition, false, false, false},
		"budget.insufficient":               {409, codes.ResourceExhausted, false, false, false},
		"budget.unavailable":                {503, codes.Unavailable, true, false, true},
		"rate_limit.exceeded":               {429, codes.ResourceExhausted, true, false, false},
		"policy.unavailable":                {503, codes.Unavailable, true, false, true},
		"upstream.invalid_response":         {502, codes.Unavailable, false, false, false},
		"upstream.unavailable":              {503, codes.Unavailable, true, false, false},
		"upstream.timeout":                  {504, codes.DeadlineExceeded, true, false, false},
		"internal.error":                    {500, codes.Internal, false, true, false},
	}
	got := make(map[Code]row)
	for _, c := range Codes() {
		i := c.Info()
		got[c] = row{i.HTTP, codes.Code(i.GRPC), i.Retryable, i.fixed, i.dependency}
		if i.Title == "" || strings.HasSuffix(i.Title, ".") {
			t.Errorf("%s: title %q, want a short text without a full stop", c, i.Title)
		}
		if !strings.HasSuffix(i.Message, ".") {
			t.Errorf("%s: message %q, want a sentence", c, i.Message)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}

// wire is the shape that callers rely on.
type wire struct {
	Type      string         `json:"type"`
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Detail    string         `json:"detail"`
	ErrorCode Code           `json:"error_code"`
	Message   string         `json:"message"`
	Details   map[string]any `json:"details"`
	RequestID string         `json:"request_id"`
}

func decode(t *testing.T, body []byte) wire {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	var w wire
	if err := d.Decode(&w); err != nil {
		t.Fatalf("body %s: %v", body, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("body %s: text after the object", body)
	}
	return w
}

func TestRoundTripOfEveryCode(t *testing.T) {
	t.Parallel()
	for _, c := range Codes() {
		e := New(c, Options{Details: []Detail{Text("decision_id", "d-1")}})
		var details map[string]any
		if c != Internal {
			details = map[string]any{"decision_id": "d-1"}
		}
		if c.Info().dependency {
			details["retryable"] = true
		}
		want := wire{ErrorCode: c, Message: c.Info().Message, Details: details, RequestID: "r-1"}
		if d := cmp.Diff(want, decode(t, e.Body("r-1"))); d != "" {
			t.Errorf("%s body (-want +got):\n%s", c, d)
		}
		want = wire{
			Type: "urn:gatehouse:error:" + string(c), Title: c.Info().Title, Status: c.Info().HTTP,
			Detail: c.Info().Message, ErrorCode: c, Details: details, RequestID: "r-1",
		}
		if d := cmp.Diff(want, decode(t, e.Problem("r-1"))); d != "" {
			t.Errorf("%s problem (-want +got):\n%s", c, d)
		}
	}
}

func TestBodyIsStable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  *Error
		id   string
		want string
	}{
		{"plain", New(AuthForbidden, Options{}), "r",
			`{"error_code":"auth.forbidden","message":"The policy does not allow this request.","request_id":"r"}`},
		{"no request id", New(ValidationTooLarge, Options{Status: 431}), "",
			`{"error_code":"validation.too_large","message":"The request is too large.","request_id":""}`},
		{"details in order", New(RateLimitExceeded, Options{Details: []Detail{
			Text("kind", "requests"), Number("retry_after_ms", 12), Bool("b", false), Bool("a", true)}}), "r",
			`{"error_code":"rate_limit.exceeded","message":"The rate limit is exceeded.","details":{"kind":"requests","retry_after_ms":12,"b":false,"a":true},"request_id":"r"}`},
		{"dependency with details", New(PolicyUnavailable, Options{Details: []Detail{Bool("retryable", false), Text("x", "y")}}), "r",
			`{"error_code":"policy.unavailable","message":"The policy can't be evaluated at the moment.","details":{"retryable":true,"x":"y"},"request_id":"r"}`},
		{"fields", New(ValidationInvalid, Options{Details: []Detail{Fields([]Field{{"/a", "required", "m"}, {"/b", "type", "n"}})}}), "r",
			`{"error_code":"validation.invalid","message":"The request is well-formed, but not valid.","details":{"errors":[{"pointer":"/a","code":"required","message":"m"},{"pointer":"/b","code":"type","message":"n"}]},"request_id":"r"}`},
		{"no HTML escaping, controls escaped", New(ValidationMalformed, Options{Message: "<a & \"b\">\x00\n"}), "r",
			`{"error_code":"validation.malformed","message":"<a & \"b\">\u0000\n","request_id":"r"}`},
	} {
		if got := string(tc.err.Body(tc.id)); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

func TestFieldsAreBounded(t *testing.T) {
	t.Parallel()
	e := New(ValidationInvalid, Options{Details: []Detail{Fields(make([]Field, maxFields+1))}})
	got := len(decode(t, e.Body("")).Details["errors"].([]any))
	if got != maxFields {
		t.Errorf("%d fields rendered, want %d", got, maxFields)
	}
}

func TestCauseIsNeverRendered(t *testing.T) {
	t.Parallel()
	const secret = "dsn=postgres-secret"
	for _, c := range Codes() {
		e := New(c, Options{Cause: errors.New(secret)})
		if s := string(e.Body("")) + string(e.Problem("")); strings.Contains(s, secret) {
			t.Errorf("%s renders its cause: %s", c, s)
		}
		if !strings.Contains(e.Error(), secret) {
			t.Errorf("%s: %q, want the cause for the log", c, e.Error())
		}
	}
}

func TestFixedTexts(t *testing.T) {
	t.Parallel()
	for _, c := range []Code{AuthMissingToken, AuthInvalidToken, AuthExpiredToken} {
		e := New(c, Options{Message: "kid 7 unknown"})
		if e.Message() != badToken {
			t.Errorf("%s: message %q, want %q", c, e.Message(), badToken)
		}
	}
	e := New(Internal, Options{Message: "x", Details: []Detail{Text("a", "b")}})
	want := `{"error_code":"internal.error","message":"An internal error occurred.","request_id":"r"}`
	if got := string(e.Body("r")); got != want {
		t.Errorf("internal:\n got %s\nwant %s", got, want)
	}
	if got := New(AuthForbidden, Options{Message: "Not today."}).Message(); got != "Not today." {
		t.Errorf("message %q, want the given one", got)
	}
}

func TestStatusOverride(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{0: 409, 200: 409, 399: 409, 600: 409, 429: 429, 400: 400, 599: 599} {
		if got := New(BudgetInsufficient, Options{Status: status}).HTTP(); got != want {
			t.Errorf("status %d gives %d, want %d", status, got, want)
		}
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	known := New(StateConflict, Options{})
	var typedNil *Error
	for _, tc := range []struct {
		name string
		err  error
		want Code
	}{
		{"own", known, StateConflict},
		{"wrapped", fmt.Errorf("commit: %w", known), StateConflict},
		{"joined", errors.Join(io.EOF, known), StateConflict},
		{"foreign", io.ErrUnexpectedEOF, Internal},
		{"nil", nil, Internal},
		{"typed nil", typedNil, Internal},
	} {
		if got := From(tc.err); got.Code() != tc.want {
			t.Errorf("%s: code %s, want %s", tc.name, got.Code(), tc.want)
		}
	}
	if !errors.Is(From(io.ErrUnexpectedEOF), io.ErrUnexpectedEOF) {
		t.Error("the foreign error is lost, want it as the cause")
	}
}

func TestUnknownCodeIsInternal(t *testing.T) {
	t.Parallel()
	e := New("auth.typo", Options{Message: "m", Status: 404, Cause: io.EOF})
	if e.Code() != Internal || e.HTTP() != 500 || e.GRPC() != InternalError || e.Retryable() {
		t.Errorf("got %s %d, want internal.error 500", e.Code(), e.HTTP())
	}
	if !errors.Is(e, io.EOF) || !strings.Contains(e.Error(), "auth.typo") {
		t.Errorf("%q, want the code and the cause in the log text", e.Error())
	}
	if Code("auth.typo").Valid() || !AuthForbidden.Valid() {
		t.Error("Valid does not follow the table")
	}
	if Code("auth.typo").Info() != Internal.Info() {
		t.Error("an unknown code has a row of its own, want that of internal.error")
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"":                         JSONType,
		"*/*":                      JSONType,
		"application/json":         JSONType,
		"application/*":            JSONType,
		"application/problem+json": ProblemType,
		"text/html, Application/Problem+JSON ; q=0.1":               ProblemType,
		"application/problem+json;charset=utf-8":                    ProblemType,
		"application/problem+json;q=1.000":                          ProblemType,
		"application/problem+json;q=0":                              JSONType,
		"application/problem+json; Q=0.000":                         JSONType,
		"application/problem+json;q=x":                              JSONType,
		"application/problem+json;q=NaN":                            JSONType,
		"application/problem+json;q=-1":                             JSONType,
		"application/problem+jsonx":                                 JSONType,
		"application/problem+json" + strings.Repeat(" ", maxAccept): JSONType,
	} {
		e := New(ResourceNotFound, Options{})
		got, body := e.Render(accept, "r")
		if got != want {
			t.Errorf("Accept %.60q gives %s, want %s", accept, got, want)
		}
		if w := decode(t, body); (w.Type != "") != (want == ProblemType) {
			t.Errorf("Accept %.60q: body %s does not fit its type", accept, body)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add("plain", "d", "r")
	f.Add("\xff\x00<", "\u2028", "\x7f\xc0")
	f.Fuzz(func(t *testing.T, message, detail, id string) {
		e := New(ValidationMalformed, Options{Message: message, Details: []Detail{Text(detail, message)}})
		for _, body := range [][]byte{e.Body(id), e.Problem(id)} {
			if !utf8.Valid(body) || !json.Valid(body) {
				t.Errorf("body %q is not valid JSON in UTF-8", body)
			}
		}
		if got, want := decode(t, e.Body(id)).RequestID, strings.ToValidUTF8(id, "\ufffd"); utf8.ValidString(id) && got != want {
			t.Errorf("request id %q, want %q", got, want)
		}
	})
}

func BenchmarkDenial(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		e := New(AuthForbidden, Options{Details: []Detail{Text("decision_id", "d-0123456789")}})
		if _, body := e.Render("application/json", "r-0123456789"); len(body) == 0 {
			b.Fatal("no body")
		}
	}
}

func TestDetails(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*Error{
		"":                   New(AuthForbidden, Options{}),
		`{"a":"b"}`:          New(AuthForbidden, Options{Details: []Detail{Text("a", "b")}}),
		`{"retryable":true}`: New(BudgetUnavailable, Options{}),
	} {
		if got := string(e.Details()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
