package llm

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

func TestDenialBodies(t *testing.T) {
	t.Parallel()
	budget := Denial{Code: "budget.insufficient", Message: "The \"budget\" is used up.", RequestID: "r-1",
		Details: jsontext.Value(`{"available": 5, "resets_at": "2026-01-01T00:00:00Z"}`)}
	plain := Denial{Code: "internal.error", Message: "m"}
	for _, tc := range []struct {
		format Format
		denial Denial
		want   string
	}{
		{OpenAI, budget, `{"error":{"message":"The \"budget\" is used up.","type":"insufficient_quota","param":null,"code":"insufficient_quota","error_code":"budget.insufficient","details":{"available":5,"resets_at":"2026-01-01T00:00:00Z"},"request_id":"r-1"}}`},
		{OpenAI, plain, `{"error":{"message":"m","type":"server_error","param":null,"code":"service_unavailable","error_code":"internal.error","request_id":""}}`},
		{Anthropic, budget, `{"type":"error","error":{"type":"rate_limit_error","message":"The \"budget\" is used up.","error_code":"budget.insufficient","details":{"available":5,"resets_at":"2026-01-01T00:00:00Z"}},"request_id":"r-1"}`},
		{Anthropic, plain, `{"type":"error","error":{"type":"api_error","message":"m","error_code":"internal.error"},"request_id":""}`},
	} {
		got, err := AppendDenial(nil, tc.format, tc.denial)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %v\n got %s\nwant %s", tc.format, err, got, tc.want)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	d := Denial{Code: "auth.forbidden", Message: "Revoked.\n", RequestID: "r"}
	for f, want := range map[Format]string{
		OpenAI:    `data: {"error":{"message":"Revoked.\n","type":"invalid_request_error","param":null,"code":"permission_denied","error_code":"auth.forbidden","request_id":"r"}}` + "\n\n",
		Anthropic: "event: error\n" + `data: {"type":"error","error":{"type":"permission_error","message":"Revoked.\n","error_code":"auth.forbidden"},"request_id":"r"}` + "\n\n",
	} {
		got, err := AppendCut([]byte("data: x\n\n"), f, d)
		if err != nil || string(got) != "data: x\n\n"+want {
			t.Errorf("%s: %v\n got %s\nwant %s", f, err, got, want)
		}
		heard := listen(t, f, StreamOptions{}, string(got[9:]), 1000)
		if diff := cmp.Diff([]EventKind{EventError}, heard.kinds); diff != "" {
			t.Errorf("%s: our own stream reads it as (-want +got):\n%s", f, diff)
		}
	}
}

func TestDenialsAreAlwaysJSON(t *testing.T) {
	t.Parallel()
	for _, d := range []Denial{
		{},
		{Code: "a\"b", Message: "\xff\x00\u2028", RequestID: "\n"},
		{Details: jsontext.Value(`{"a":`)},
		{Details: jsontext.Value(`["no object"]`)},
		{Details: jsontext.Value("{\"a\":\n1}")},
	} {
		for _, f := range []Format{OpenAI, Anthropic} {
			body, err := AppendDenial(nil, f, d)
			if err != nil || !json.Valid(body) || strings.Contains(string(body), "\n") {
				t.Errorf("%s %+v: %q %v, want one line of JSON", f, d, body, err)
			}
			a := mustAnswer(t, f, string(body))
			if a.Err == nil {
				t.Errorf("%s %+v: %s is no error document", f, d, body)
			}
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"budget.insufficient": true, "auth.forbidden": true, "auth.expired_token": true, "validation.invalid": true,
		"validation.too_large": true, "resource.not_found": true, "upstream.invalid_response": true, "": true,
		"rate_limit.exceeded": false, "budget.unavailable": false, "policy.unavailable": false, "auth.unavailable": false,
		"upstream.unavailable": false, "upstream.timeout": false, "state.conflict": false, "internal.error": false, "validation.timeout": false,
	} {
		if got := (Denial{Code: code}).NoRetry(); got != want {
			t.Errorf("%q: no retry %v, want %v", code, got, want)
		}
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]reply{
		"validation.invalid":  {"invalid_request_error", "invalid_request", "invalid_request_error"},
		"auth.missing_token":  {"invalid_request_error", "invalid_api_key", "authentication_error"},
		"rate_limit.exceeded": {"requests", "rate_limit_exceeded", "rate_limit_error"},
		"budget.unavailable":  {"server_error", "service_unavailable", "api_error"},
		"auth.unavailable":    {"server_error", "service_unavailable", "api_error"},
		"upstream.timeout":    {"server_error", "timeout", "timeout_error"},
		"unknown":             {"server_error", "service_unavailable", "api_error"},
	} {
		if got := replyTo(code); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}

func TestUnknownFormatSaysNothing(t *testing.T) {
	t.Parallel()
	if b, err := AppendDenial(nil, "gemini", Denial{}); err == nil || b != nil {
		t.Errorf("denial %s %v, want an error", b, err)
	}
	if b, err := AppendCut(nil, "gemini", Denial{}); err == nil || b != nil {
		t.Errorf("cut %s %v, want an error", b, err)
	}
}
