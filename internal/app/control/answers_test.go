package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	apiv1 "gatehouse/api/v1"
	"gatehouse/control/httpapi"
	"gatehouse/internal/apierr"
	"gatehouse/proxy/sanitize"
)

func TestTextsAreMadeSafeAsBySidecars(t *testing.T) {
	t.Parallel()
	got, err := answers{}.SanitizeText(httpapi.Suspect{
		Text: "a DROP TABLE users; ![b](https://a.example/x) \x1b", Context: "markdown",
		Actions: map[string]string{"ansi_escape": "redact"}, Origins: []string{"https://a.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := httpapi.Sanitized{
		Text: "a DROP(!) TABLE users; ![b](https://a.example/x) (redacted)",
		Findings: []httpapi.Finding{
			{Class: "destructive_sql", Rule: "drop", Action: "defang", Offset: 2, Length: 16},
			{Class: "ansi_escape", Rule: "terminal_escape", Action: "redact", Offset: 46, Length: 1},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err = answers{}.SanitizeText(httpapi.Suspect{Text: "a DROP TABLE users;", Context: "tool_call"})
	if err != nil || !got.Blocked || got.Text != "a " {
		t.Errorf("a call: got %+v, %v", got, err)
	}
}

func TestAnswersAreParsedAsBySidecars(t *testing.T) {
	t.Parallel()
	value, err := answers{}.ParseAnswer("consensus", `So: {"decision": "approve", "confidence": 1, "reasoning": "", "more": 2}`, true)
	if want := `{"decision":"approve","confidence":1,"reasoning":""}`; err != nil || string(value) != want {
		t.Errorf("got %s, %v, want %s", value, err, want)
	}
	_, err = answers{}.ParseAnswer("consensus", `{"decision": "maybe", "confidence": 2}`, false)
	bad, ok := errors.AsType[*apierr.Error](err)
	if !ok || bad.HTTP() != http.StatusUnprocessableEntity {
		t.Fatalf("got %v, want validation.invalid", err)
	}
}

func TestOriginsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := answers{}.SanitizeText(httpapi.Suspect{Context: "prose", Origins: []string{"https://a/b"}})
	if bad, ok := errors.AsType[*apierr.Error](err); !ok || bad.HTTP() != http.StatusUnprocessableEntity {
		t.Errorf("got %v, want validation.invalid", err)
	}
}

// TestNamesBeyondTheDocument: what the document refuses is a defect here.
func TestNamesBeyondTheDocument(t *testing.T) {
	t.Parallel()
	for _, s := range []httpapi.Suspect{
		{Context: "html"},
		{Context: "prose", Actions: map[string]string{"sql": "off"}},
		{Context: "prose", Actions: map[string]string{"control": "delete"}},
	} {
		if _, err := (answers{}).SanitizeText(s); err == nil || apierr.From(err).HTTP() != http.StatusInternalServerError {
			t.Errorf("%+v: got %v, want a defect", s, err)
		}
	}
	if _, err := (answers{}).ParseAnswer("haiku", "", false); err == nil || apierr.From(err).HTTP() != http.StatusInternalServerError {
		t.Errorf("got %v, want a defect", err)
	}
}

// TestDocumentHasTheNames holds the document's lists against the scanner's.
func TestDocumentHasTheNames(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Enum []string `json:"enum"`
				Max  int      `json:"maxProperties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(apiv1.Spec(), &doc); err != nil {
		t.Fatal(err)
	}
	classes := sanitize.DefaultActions(sanitize.Prose)
	if got := doc.Components.Schemas["SanitizeActions"].Max; got != len(classes) {
		t.Errorf("there may be %d actions, want one for each of %d classes", got, len(classes))
	}
	for schema, known := range map[string]func(string) error{
		"SanitizeClass":   func(n string) error { _, err := sanitize.ParseClass(n); return err },
		"SanitizeContext": func(n string) error { _, err := sanitize.ParseContext(n); return err },
		"SanitizeAction":  func(n string) error { _, err := sanitize.ParseAction(n); return err },
		"AnswerKind":      func(n string) error { _, err := sanitize.ParseKind(n); return err },
	} {
		names := doc.Components.Schemas[schema].Enum
		for _, name := range names {
			if err := known(name); err != nil {
				t.Errorf("%s: %v", schema, err)
			}
		}
		err := known("")
		if err == nil || !strings.HasSuffix(err.Error(), "one of "+strings.Join(names, ", ")) {
			t.Errorf("%s: the document lists %v: %v", schema, names, err)
		}
	}
}
