package proxy

import (
	"errors"
	"strconv"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/apierr"
	"gatehouse/proxy/llm"
	"gatehouse/proxy/sanitize"
)

// denial is a refusal, and what the caller is told.
type denial struct {
	Refusal
	err    *apierr.Error
	always bool // carried out in mode observe too
}

func deny(class Class, rule, reason string, code apierr.Code, o apierr.Options) *denial {
	err := apierr.New(code, o)
	return &denial{Refusal: Refusal{Class: class, Rule: rule, Reason: reason, Code: string(err.Code()), Cause: o.Cause}, err: err}
}

// inAnyMode makes a denial one that mode observe carries out too.
func (d *denial) inAnyMode() *denial {
	d.always = true
	return d
}

// fault refuses because Envoy or this process is not as it must be.
func fault(rule string, cause error) *denial {
	return deny(ClassFault, rule, "the request can't be decided", apierr.PolicyUnavailable, apierr.Options{Cause: cause}).inAnyMode()
}

// malformed refuses a request that can't be read.
func malformed(code apierr.Code, rule, reason string) *denial {
	return deny(ClassRequest, rule, reason, code, apierr.Options{Message: reason}).inAnyMode()
}

// unsuited refuses a request that can be read, but not carried out as the route
// says.
func unsuited(rule, reason string) *denial {
	return deny(ClassRequest, rule, reason, apierr.ValidationInvalid, apierr.Options{Message: reason})
}

// unreadable refuses a body that proxy/llm refuses.
func unreadable(err error) *denial {
	e, ok := errors.AsType[*llm.Error](err)
	if !ok {
		return fault("format_unknown", err)
	}
	code := map[llm.Kind]apierr.Code{llm.Malformed: apierr.ValidationMalformed, llm.TooLarge: apierr.ValidationTooLarge}[e.Kind]
	if code == "" {
		code = apierr.ValidationInvalid
	}
	return deny(ClassRequest, "body_unreadable", e.Error(), code, apierr.Options{
		Message: e.Error(), Details: []apierr.Detail{fieldsOf(e)}, Cause: err,
	}).inAnyMode()
}

func fieldsOf(e *llm.Error) apierr.Detail {
	fields := make([]apierr.Field, len(e.Faults))
	for i, f := range e.Faults {
		fields[i] = apierr.Field{Pointer: f.Pointer, Code: f.Code, Message: f.Message}
	}
	return apierr.Fields(fields)
}

// unbounded refuses members whose cost the request does not bound.
func unbounded(members []llm.Unbounded) *denial {
	fields := make([]apierr.Field, len(members))
	for i, m := range members {
		fields[i] = apierr.Field{Pointer: m.Pointer, Code: "unbounded", Message: "Nothing bounds what this costs (" + m.Name + ")."}
	}
	return deny(ClassBudget, "unbounded_member", "nothing bounds what a member of the request costs", apierr.ValidationInvalid, apierr.Options{
		Message: "The request has members whose cost is not bounded.", Details: []apierr.Detail{apierr.Fields(fields)},
	})
}

func forbidden(class Class, rule, reason string) *denial {
	return deny(class, rule, reason, apierr.AuthForbidden, apierr.Options{Message: reason})
}

// budgetAway refuses because nobody can be asked for a hold. The status is one
// that clients repeat.
func budgetAway(cause error) *denial {
	return deny(ClassBudget, "budget_unavailable", "the budget can't be asked", apierr.BudgetUnavailable, apierr.Options{Cause: cause})
}

// insufficient refuses a hold that the ledger denied. 429 with the provider's
// own code is what its clients understand.
func insufficient(d *budget.Denial) *denial {
	details := []apierr.Detail{
		apierr.Text("reason", string(d.Reason)),
		apierr.Number("available", d.Available), apierr.Number("requested", d.Requested), apierr.Number("limit", d.Limit),
	}
	message := "No budget applies to this request."
	if d.Reason == budget.ReasonExhausted {
		message = "The token budget is exhausted: " + strconv.FormatInt(d.Requested, 10) + " tokens are needed, " +
			strconv.FormatInt(d.Available, 10) + " of " + strconv.FormatInt(d.Limit, 10) + " are available."
	}
	if d.ResetsAt != nil {
		details = append(details, apierr.Text("resets_at", d.ResetsAt.UTC().Format(time.RFC3339)))
	}
	return deny(ClassBudget, "budget_"+string(d.Reason), message, apierr.BudgetInsufficient, apierr.Options{
		Message: message, Details: details, Status: 429,
	})
}

// unfit refuses an answer that can't be read, or must not be passed on.
func unfit(rule, reason string, cause error, details ...apierr.Detail) *denial {
	return deny(ClassAnswer, rule, reason, apierr.UpstreamInvalidResponse, apierr.Options{Message: reason, Details: details, Cause: cause})
}

// blocked refuses an answer for a finding whose action is to block.
func blocked(fs []sanitize.Finding) *denial {
	rule := "blocked"
	for _, f := range fs {
		if f.Action == sanitize.Block {
			rule = f.Class.String()
		}
	}
	return unfit("sanitize_"+rule, "The answer was blocked: it holds "+rule+".", nil, apierr.Text("class", rule))
}

// offSchema refuses an answer that is not of the structure that the route names.
func offSchema(kind string, err error) *denial {
	var fields []apierr.Field
	if e, ok := errors.AsType[*sanitize.InvalidError](err); ok {
		for _, f := range e.Faults {
			fields = append(fields, apierr.Field{Pointer: f.Pointer, Code: f.Code, Message: f.Message})
		}
	}
	d := unfit("schema_"+kind, "The answer is not a valid "+kind+".", err, apierr.Fields(fields))
	d.Class = ClassSchema
	return d
}

// body renders the denial as the provider of a format would, or in our own form
// where no format is known.
func (d *denial) body(format llm.Format, requestID string) (body []byte, noRetry bool) {
	said := d.said(requestID)
	body, err := llm.AppendDenial(nil, format, said)
	if err != nil {
		return d.err.Body(requestID), false
	}
	return body, said.NoRetry()
}

func (d *denial) said(requestID string) llm.Denial {
	return llm.Denial{Code: string(d.err.Code()), Message: d.err.Message(), RequestID: requestID, Details: d.err.Details()}
}
