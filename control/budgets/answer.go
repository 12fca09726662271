package budgets

import (
	"context"
	"errors"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/apierr"
)

// answer gives an error of the ledger its code.
func answer(err error) error {
	switch {
	case err == nil:
		return nil
	case away(err):
		return apierr.New(apierr.BudgetUnavailable, apierr.Options{Cause: err})
	case errors.Is(err, budget.ErrUnknown):
		return apierr.New(apierr.ResourceNotFound, apierr.Options{Cause: err})
	case errors.Is(err, budget.ErrExists):
		return apierr.Conflict("already_exists", nil)
	case errors.Is(err, budget.ErrVersion):
		return apierr.New(apierr.StatePreconditionFailed, apierr.Options{})
	case errors.Is(err, budget.ErrInvalid):
		return invalid(err)
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: err})
}

// away reports whether an error says nothing but that the ledger can't be asked
// now, or not in the caller's time.
func away(err error) bool {
	for _, e := range []error{budget.ErrUnavailable, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// invalid points at what a caller can have got wrong though it is of the
// document's form.
func invalid(err error) error {
	var f apierr.Field
	switch {
	case errors.Is(err, budget.ErrPosition):
		f = apierr.Field{Pointer: "/query/cursor", Code: "cursor", Message: "is not one of this list"}
	case errors.Is(err, budget.ErrZone):
		f = apierr.Field{Pointer: "/time_zone", Code: "not_allowed", Message: "there is no such time zone"}
	default:
		f = apierr.Field{Code: "not_allowed", Message: "the ledger can't keep this"}
	}
	return apierr.Unfit(err, f)
}

// refusal is the error of an answer that does not say that tokens were held.
func refusal(a budget.Answer) error {
	switch a.Verdict {
	case budget.Held, budget.Settled:
		return nil
	case budget.KeyReused:
		return apierr.Conflict("key_reused", nil)
	case budget.Refused:
		return denied(a.Denial)
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: errors.New("the ledger's verdict " + string(a.Verdict) + " is not known")})
}

// denied says why nothing was held. Figures are of the limit that was too small,
// where one was.
func denied(d *budget.Denial) error {
	if d == nil {
		return apierr.New(apierr.Internal, apierr.Options{Cause: errors.New("the ledger denied without a reason")})
	}
	if d.Reason == budget.ReasonUnknownProject {
		return apierr.New(apierr.ResourceNotFound, apierr.Options{})
	}
	details := []apierr.Detail{apierr.Text("reason", string(d.Reason)), apierr.Number("requested", d.Requested)}
	if d.Reason == budget.ReasonExhausted {
		details = append(details, apierr.Number("available", d.Available), apierr.Number("limit", d.Limit), apierr.Text("limit_id", d.LimitID))
	}
	if d.ResetsAt != nil {
		details = append(details, apierr.Text("resets_at", d.ResetsAt.UTC().Format(time.RFC3339)))
	}
	return apierr.New(apierr.BudgetInsufficient, apierr.Options{Details: details})
}

// unsettled is the error of a settlement that was not done.
func unsettled(o budget.Outcome) error {
	switch o {
	case budget.Done:
		return nil
	case budget.NotFound:
		return apierr.New(apierr.ResourceNotFound, apierr.Options{})
	case budget.AlreadyCommitted, budget.AlreadyReleased, budget.AlreadyExpired:
		return apierr.Conflict(string(o), nil)
	case budget.NeverHeld:
		return apierr.Conflict("invalid_transition", nil)
	}
	return apierr.New(apierr.Internal, apierr.Options{Cause: errors.New("the ledger's outcome " + string(o) + " is not known")})
}
