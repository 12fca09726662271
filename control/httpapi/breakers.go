package httpapi

import (
	"context"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// A breaker is of a policy set, which is of no one tenant: the store knows whose
// sidecars follow which set, and nothing here can hold it to that.
const breakersPath = "/api/v1/circuit-breakers"

// ListBreakers lists the breakers that the caller's requests may meet.
func (a *api) ListBreakers(ctx context.Context, r apiv1.ListBreakersRequestObject) (apiv1.ListBreakersResponseObject, error) {
	c, p := callOf(ctx), r.Params
	var f mesh.BreakerFilter
	set(&f.PolicySet, p.PolicySet)
	if p.State != nil {
		f.Phase = mesh.BreakerPhase(*p.State)
	}
	query := map[string][]string{}
	add(query, "policy_set", p.PolicySet)
	add(query, "state", (*string)(p.State))
	l, err := a.filtered(breakersPath, c.tenant, query, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Breakers.Breakers(ctx, c.tenant, f, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	out := apiv1.ListBreakers200JSONResponse{Body: apiv1.BreakerList{Items: each(page.Items, showBreaker)}}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// GetBreaker returns one breaker.
func (a *api) GetBreaker(ctx context.Context, r apiv1.GetBreakerRequestObject) (apiv1.GetBreakerResponseObject, error) {
	b, err := a.breaker(ctx, callOf(ctx).tenant, r.Params.PolicySet, r.BreakerName)
	if err != nil {
		return nil, err
	}
	return apiv1.GetBreaker200JSONResponse(showBreaker(b)), nil
}

// ResetBreaker closes one breaker. It can be repeated: what has opened meanwhile
// is closed again.
func (a *api) ResetBreaker(ctx context.Context, r apiv1.ResetBreakerRequestObject) (apiv1.ResetBreakerResponseObject, error) {
	b, err := a.breaker(ctx, request.AnyTenant, r.Params.PolicySet, r.BreakerName)
	if err != nil {
		return nil, err
	}
	now, err := a.opts.Breakers.ResetBreaker(ctx, callOf(ctx).principal, b.PolicySet, b.Name)
	if err != nil {
		return nil, err
	}
	return apiv1.ResetBreaker200JSONResponse(showBreaker(now)), nil
}

// ResetBreakers closes all breakers, or those of one policy set.
func (a *api) ResetBreakers(ctx context.Context, r apiv1.ResetBreakersRequestObject) (apiv1.ResetBreakersResponseObject, error) {
	var of string
	set(&of, r.Params.PolicySet)
	n, err := a.opts.Breakers.ResetBreakers(ctx, callOf(ctx).principal, of)
	if err != nil {
		return nil, err
	}
	return apiv1.ResetBreakers200JSONResponse{Reset: int64(n)}, nil
}

// breaker finds the breaker of a name, which more than one policy set may have.
func (a *api) breaker(ctx context.Context, tenant string, of *string, name string) (mesh.Breaker, error) {
	f := mesh.BreakerFilter{Name: name}
	set(&f.PolicySet, of)
	page, err := a.opts.Breakers.Breakers(ctx, tenant, f, "", 2)
	switch {
	case err != nil:
		return mesh.Breaker{}, err
	case len(page.Items) == 0:
		return mesh.Breaker{}, apierr.Missing()
	case len(page.Items) > 1:
		return mesh.Breaker{}, apierr.Unfit(nil, apierr.Field{Pointer: "/query/policy_set", Code: "required", Message: "which policy set's?"})
	}
	return page.Items[0], nil
}

func showBreaker(b mesh.Breaker) apiv1.Breaker {
	return apiv1.Breaker{
		PolicySet: b.PolicySet, Name: b.Name, State: apiv1.BreakerState(b.Phase),
		ConsecutiveFailures: b.Consecutive, TotalFailures: b.Failures, TotalCalls: b.Calls,
		OpenedAt: known(b.OpenedAt), NextProbeAt: known(b.NextProbe),
		FailureThreshold: int64(b.Threshold), RecoveryTimeoutMs: b.Recovery.Milliseconds(),
		Sidecars:  apiv1.BreakerSidecars{Called: int64(b.Called), Open: int64(b.Open), HalfOpen: int64(b.HalfOpen)},
		UpdatedAt: b.UpdatedAt.UTC(), Version: b.Version,
	}
}
