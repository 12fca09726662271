package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/apierr"
)

const (
	sanitizePath = "/api/v1/llm/sanitize"
	parsePath    = "/api/v1/llm/parse/"
)

// answers answers as it is told, and notes what it was asked.
type answers struct {
	mu      sync.Mutex // guards what is below
	asked   []Suspect
	parsed  []string // kind, text and lenient
	safe    Sanitized
	value   string
	refusal error
}

func newAnswers() *answers {
	return &answers{safe: Sanitized{Text: "safe"}, value: `{"decision":"approve"}`}
}

func (a *answers) SanitizeText(s Suspect) (Sanitized, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, s)
	return a.safe, a.refusal
}

func (a *answers) ParseAnswer(kind, text string, lenient bool) (json.RawMessage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parsed = append(a.parsed, fmt.Sprint(kind, " ", text, " ", lenient))
	return json.RawMessage(a.value), a.refusal
}

// document is a body of JSON.
func document(t *testing.T, members map[string]any) string {
	t.Helper()
	b, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSanitizeText(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.answers.safe = Sanitized{Text: "a ", Blocked: true, Findings: []Finding{
		{Class: "destructive_sql", Rule: "drop", Action: "block", Offset: 2, Length: 16, Fenced: true},
	}}
	got := h.do("POST", sanitizePath, "developer", `{"text":"a DROP TABLE users;","context":"markdown","actions":{"destructive_sql":"block","control":"off"},
		"image_origins":["https://a.example","http://b.example:8080"]}`)
	h.want(got, http.StatusOK, "")
	want := map[string]any{
		"text": "a ", "blocked": true, "findings": []any{map[string]any{
			"class": "destructive_sql", "rule": "drop", "action": "block", "offset": 2.0, "length": 16.0, "fenced": true,
		}},
	}
	if diff := cmp.Diff(want, got.member(t)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	h.answers.safe = Sanitized{Text: ""}
	got = h.do("POST", sanitizePath, "operator", `{"text":"","context":"prose"}`)
	h.want(got, http.StatusOK, "")
	if diff := cmp.Diff(map[string]any{"text": "", "blocked": false, "findings": []any{}}, got.member(t)); diff != "" {
		t.Errorf("nothing (-want +got):\n%s", diff)
	}
	asked := []Suspect{
		{
			Text: "a DROP TABLE users;", Context: "markdown", Actions: map[string]string{"destructive_sql": "block", "control": "off"},
			Origins: []string{"https://a.example", "http://b.example:8080"},
		},
		{Context: "prose", Actions: map[string]string{}},
	}
	if diff := cmp.Diff(asked, h.answers.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestParseAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, kind := range []string{"synthesis", "patterns", "consensus"} {
		got := h.do("POST", parsePath+kind, "developer", `{"text":"see {}","lenient":true}`)
		h.want(got, http.StatusOK, "")
		if diff := cmp.Diff(map[string]any{"kind": kind, "value": map[string]any{"decision": "approve"}}, got.member(t)); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	}
	h.answers.value = `[1, {"a": null}]` // any value
	h.want(h.do("POST", parsePath+"patterns", "developer", `{"text":"x"}`), http.StatusOK, "")
	want := []string{"synthesis see {} true", "patterns see {} true", "consensus see {} true", "patterns x false"}
	if diff := cmp.Diff(want, h.answers.parsed); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	h.want(h.do("POST", parsePath+"haiku", "developer", `{"text":"x"}`), http.StatusNotFound, apierr.ResourceNotFound)
}

// TestAnswerRefusals: what is wrong with the text comes back as it is, a defect as
// nothing but one.
func TestAnswerRefusals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.answers.refusal = apierr.Unfit(nil,
		apierr.Field{Pointer: "/action_plan/0/priority", Code: "out_of_range", Message: "want 1 to 100"},
		apierr.Field{Pointer: "", Code: "no_json", Message: "there is no complete JSON value in the text"})
	got := h.do("POST", parsePath+"synthesis", "developer", `{"text":"x"}`)
	h.want(got, http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	want := []any{
		map[string]any{"pointer": "/action_plan/0/priority", "code": "out_of_range", "message": "want 1 to 100"},
		map[string]any{"pointer": "", "code": "no_json", "message": "there is no complete JSON value in the text"},
	}
	if diff := cmp.Diff(want, got.member(t, "details", "errors")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	h.answers.refusal = errors.New("a defect")
	for path, body := range map[string]string{parsePath + "synthesis": `{"text":"x"}`, sanitizePath: `{"text":"x","context":"prose"}`} {
		got := h.do("POST", path, "developer", body)
		h.want(got, http.StatusInternalServerError, apierr.Internal)
		if strings.Contains(got.body, "defect") {
			t.Errorf("%s tells its cause: %s", path, got.body)
		}
	}
}

func TestAnswerFaults(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	body := func(text string, more map[string]any) string {
		m := map[string]any{"text": text}
		maps.Copy(m, more)
		return document(t, m)
	}
	prose := map[string]any{"context": "prose"}
	for _, tt := range []struct{ path, body, pointer, code string }{
		{sanitizePath, `{"context":"prose"}`, "/text", "required"},
		{sanitizePath, `{"text":"x"}`, "/context", "required"},
		{sanitizePath, body("x", map[string]any{"context": "html"}), "/context", "not_allowed"},
		{sanitizePath, body("x", map[string]any{"context": "prose", "actions": map[string]any{"sql": "off"}}), "/actions/sql", "not_allowed"},
		{sanitizePath, body("x", map[string]any{"context": "prose", "actions": map[string]any{"control": "delete"}}), "/actions/control", "not_allowed"},
		{sanitizePath, body("x", map[string]any{"context": "prose", "image_origins": "https://a.example"}), "/image_origins", "type"},
		{sanitizePath, body("x", map[string]any{"context": "prose", "image_origins": []string{"ftp://a.example"}}), "/image_origins/0", "pattern"},
		{sanitizePath, body("x", map[string]any{"context": "prose", "image_origins": make([]string, 65)}), "/image_origins/0", "too_short"},
		{sanitizePath, body("x", map[string]any{"context": "prose", "lenient": true}), "/lenient", "unknown"},
		{sanitizePath, body("a\x00b", prose), "/text", "pattern"},
		{sanitizePath, body(strings.Repeat("a", maxText+1), prose), "/text", "too_long"},
		{sanitizePath, body(strings.Repeat("é", maxText/2+1), prose), "/text", "too_long"}, // bytes count
		{parsePath + "consensus", `{}`, "/text", "required"},
		{parsePath + "consensus", body("x", prose), "/context", "unknown"},
		{parsePath + "consensus", `{"text":"x","lenient":"yes"}`, "/lenient", "type"},
		{parsePath + "consensus", body(strings.Repeat("é", maxText/2+1), nil), "/text", "too_long"},
	} {
		got := h.do("POST", tt.path, "developer", tt.body)
		h.want(got, http.StatusUnprocessableEntity, apierr.ValidationInvalid)
		errs, _ := got.member(t, "details", "errors").([]any)
		first, _ := errs[0].(map[string]any)
		if first["pointer"] != tt.pointer || first["code"] != tt.code {
			t.Errorf("%s %.80s: got %v, want %s %s first", tt.path, tt.body, errs[:min(len(errs), 3)], tt.pointer, tt.code)
		}
	}
	for _, path := range []string{sanitizePath, parsePath + "consensus"} {
		most := document(t, map[string]any{"text": strings.Repeat("a", maxText), "context": "prose"})
		if path != sanitizePath {
			most = document(t, map[string]any{"text": strings.Repeat("é", maxText/2)})
		}
		h.want(h.do("POST", path, "developer", most), http.StatusOK, "")
		h.want(h.do("POST", path, "developer", `{"text":"`+strings.Repeat(" ", 512<<10)), http.StatusRequestEntityTooLarge, apierr.ValidationTooLarge)
		h.want(h.do("POST", path, "observer", `{"text":"x"}`), http.StatusForbidden, apierr.AuthForbidden)
	}
	if len(h.answers.asked)+len(h.answers.parsed) != 2 {
		t.Errorf("%d and %d texts were looked at, want those two that were good", len(h.answers.asked), len(h.answers.parsed))
	}
}
