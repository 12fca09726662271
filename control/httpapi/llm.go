package httpapi

import (
	"context"
	"fmt"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/apierr"
)

// maxText bounds the bytes of one text: characters, which the document counts,
// have up to four.
const maxText = 64 << 10

// SanitizeText makes a text safe.
func (a *api) SanitizeText(_ context.Context, r apiv1.SanitizeTextRequestObject) (apiv1.SanitizeTextResponseObject, error) {
	if err := checkText(r.Body.Text); err != nil {
		return nil, err
	}
	q := Suspect{Text: r.Body.Text, Context: string(r.Body.Context), Actions: map[string]string{}}
	if r.Body.Actions != nil {
		for class, action := range *r.Body.Actions {
			q.Actions[class] = string(action)
		}
	}
	set(&q.Origins, r.Body.ImageOrigins)
	safe, err := a.opts.Answers.SanitizeText(q)
	if err != nil {
		return nil, err
	}
	return apiv1.SanitizeText200JSONResponse{Text: safe.Text, Findings: each(safe.Findings, showFinding), Blocked: safe.Blocked}, nil
}

func showFinding(f Finding) apiv1.SanitizeFinding {
	return apiv1.SanitizeFinding{
		Class: apiv1.SanitizeClass(f.Class), Rule: f.Rule, Action: apiv1.SanitizeAction(f.Action),
		Offset: int64(f.Offset), Length: int64(f.Length), Fenced: f.Fenced,
	}
}

// ParseAnswer checks a text against one of the structures of agents.
func (a *api) ParseAnswer(_ context.Context, r apiv1.ParseAnswerRequestObject) (apiv1.ParseAnswerResponseObject, error) {
	if err := checkText(r.Body.Text); err != nil {
		return nil, err
	}
	lenient := false
	set(&lenient, r.Body.Lenient)
	value, err := a.opts.Answers.ParseAnswer(string(r.Kind), r.Body.Text, lenient)
	if err != nil {
		return nil, err
	}
	return apiv1.ParseAnswer200JSONResponse{Kind: r.Kind, Value: value}, nil
}

func checkText(text string) error {
	if len(text) <= maxText {
		return nil
	}
	return apierr.Unfit(nil, apierr.Field{Pointer: "/text", Code: "too_long", Message: fmt.Sprintf("want at most %d bytes", maxText)})
}
