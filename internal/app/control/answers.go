package control

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"gatehouse/control/httpapi"
	"gatehouse/internal/apierr"
	"gatehouse/proxy/sanitize"
)

// answers lets the API do with a text what sidecars do, by the very same code.
type answers struct{}

func (answers) SanitizeText(s httpapi.Suspect) (httpapi.Sanitized, error) {
	scanner, err := scannerFor(s)
	if err != nil {
		return httpapi.Sanitized{}, err
	}
	text, found, blocked := scanner.Text(s.Text)
	out := httpapi.Sanitized{Text: text, Blocked: blocked}
	for _, f := range found {
		out.Findings = append(out.Findings, httpapi.Finding{
			Class: f.Class.String(), Rule: f.Rule, Action: f.Action.String(), Offset: f.Offset, Length: f.Length, Fenced: f.Fenced,
		})
	}
	return out, nil
}

// scannerFor makes the scanner that a request asks for. The document has the names
// of contexts, classes and actions, so that only an origin can be wrong.
func scannerFor(s httpapi.Suspect) (*sanitize.Scanner, error) {
	c := sanitize.Config{Actions: map[sanitize.Class]sanitize.Action{}, ImageOrigins: s.Origins}
	var err error
	if c.Context, err = sanitize.ParseContext(s.Context); err != nil {
		return nil, fmt.Errorf("the document lets pass: %w", err)
	}
	for name, action := range s.Actions {
		class, err := sanitize.ParseClass(name)
		do, actionErr := sanitize.ParseAction(action)
		if err := cmp.Or(err, actionErr); err != nil {
			return nil, fmt.Errorf("the document lets pass: %w", err)
		}
		c.Actions[class] = do
	}
	scanner, err := sanitize.New(c)
	if err != nil {
		return nil, apierr.Unfit(err, apierr.Field{Pointer: "/image_origins", Code: "invalid", Message: err.Error()})
	}
	return scanner, nil
}

func (answers) ParseAnswer(kind, text string, lenient bool) (json.RawMessage, error) {
	k, err := sanitize.ParseKind(kind)
	if err != nil {
		return nil, fmt.Errorf("the document lets pass: %w", err)
	}
	answer, err := sanitize.Parse(k, text, sanitize.Options{Lenient: lenient})
	if bad, ok := errors.AsType[*sanitize.InvalidError](err); ok {
		faults := make([]apierr.Field, 0, len(bad.Faults))
		for _, f := range bad.Faults {
			faults = append(faults, apierr.Field(f))
		}
		return nil, apierr.Unfit(err, faults...)
	}
	if err != nil {
		return nil, err
	}
	return json.RawMessage(answer.JSON), nil
}
