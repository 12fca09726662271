package httpapi

import (
	"context"
	"slices"

	apiv1 "gatehouse/api/v1"
	"gatehouse/budget"
)

const budgetLimitsPath = budgetPath + "/limits"

// defaultZone is the document's, of a limit.
const defaultZone = "UTC"

// ListBudgetLimits lists the limits of a tenant, to a caller of a project those
// of the project.
func (a *api) ListBudgetLimits(ctx context.Context, r apiv1.ListBudgetLimitsRequestObject) (apiv1.ListBudgetLimitsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.one(p.TenantId)
	if err != nil {
		return nil, err
	}
	l, err := a.list(budgetLimitsPath, tenant, p.TenantId, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Budgets.BudgetLimits(ctx, tenant, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	items := slices.DeleteFunc(page.Items, func(l budget.Limit) bool { return c.configures(l.Project) != nil })
	var out apiv1.ListBudgetLimits200JSONResponse
	out.Body.Items, err = shown(c, items, func(l budget.Limit) string { return l.Tenant }, showBudgetLimit)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// CreateBudgetLimit makes a limit of a project, or of a tenant.
func (a *api) CreateBudgetLimit(ctx context.Context, r apiv1.CreateBudgetLimitRequestObject) (apiv1.CreateBudgetLimitResponseObject, error) {
	c := callOf(ctx)
	l := budget.Limit{Window: budget.Window(r.Body.Window), Zone: defaultZone, Tokens: r.Body.Tokens}
	set(&l.Project, r.Body.ProjectId)
	set(&l.Zone, r.Body.TimeZone)
	var err error
	if l.Tenant, err = c.named(&r.Body.TenantId); err != nil {
		return nil, err
	}
	if err = c.configures(l.Project); err != nil {
		return nil, err
	}
	made, err := a.opts.Budgets.CreateBudgetLimit(ctx, c.principal, l)
	if err != nil {
		return nil, err
	}
	return apiv1.CreateBudgetLimit201JSONResponse{
		Body:    showBudgetLimit(made),
		Headers: apiv1.CreateBudgetLimit201ResponseHeaders{ETag: etag(made.Version), Location: budgetLimitsPath + "/" + made.ID},
	}, nil
}

// GetBudgetLimit returns one limit.
func (a *api) GetBudgetLimit(ctx context.Context, r apiv1.GetBudgetLimitRequestObject) (apiv1.GetBudgetLimitResponseObject, error) {
	l, err := a.budgetLimit(ctx, r.Params.TenantId, r.LimitId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetBudgetLimit200JSONResponse{
		Body: showBudgetLimit(l), Headers: apiv1.GetBudgetLimit200ResponseHeaders{ETag: etag(l.Version)},
	}, nil
}

// UpdateBudgetLimit changes how many tokens a limit allows.
func (a *api) UpdateBudgetLimit(ctx context.Context, r apiv1.UpdateBudgetLimitRequestObject) (apiv1.UpdateBudgetLimitResponseObject, error) {
	c := callOf(ctx)
	if err := c.match.needed(); err != nil {
		return nil, err
	}
	l, err := a.matchedBudgetLimit(ctx, r.Params.TenantId, r.LimitId)
	if err != nil {
		return nil, err
	}
	l.Tokens = r.Body.Tokens
	now, err := a.opts.Budgets.UpdateBudgetLimit(ctx, c.principal, l)
	if err != nil {
		return nil, err
	}
	return apiv1.UpdateBudgetLimit200JSONResponse{
		Body: showBudgetLimit(now), Headers: apiv1.UpdateBudgetLimit200ResponseHeaders{ETag: etag(now.Version)},
	}, nil
}

// DeleteBudgetLimit closes a limit.
func (a *api) DeleteBudgetLimit(ctx context.Context, r apiv1.DeleteBudgetLimitRequestObject) (apiv1.DeleteBudgetLimitResponseObject, error) {
	c := callOf(ctx)
	l, err := a.matchedBudgetLimit(ctx, r.Params.TenantId, r.LimitId)
	if err != nil {
		return nil, err
	}
	l.Version = c.match.version(l.Version)
	if err := a.opts.Budgets.DeleteBudgetLimit(ctx, c.principal, l); err != nil {
		return nil, err
	}
	return apiv1.DeleteBudgetLimit204Response{}, nil
}

// matchedBudgetLimit returns a limit in the version that the caller names.
func (a *api) matchedBudgetLimit(ctx context.Context, tenant *string, id string) (budget.Limit, error) {
	l, err := a.budgetLimit(ctx, tenant, id)
	if err != nil {
		return budget.Limit{}, err
	}
	return l, callOf(ctx).match.holds(l.Version)
}

func (a *api) budgetLimit(ctx context.Context, asked *string, id string) (budget.Limit, error) {
	c := callOf(ctx)
	tenant, err := c.one(asked)
	if err != nil {
		return budget.Limit{}, err
	}
	l, err := a.opts.Budgets.BudgetLimit(ctx, tenant, id)
	if err != nil {
		return budget.Limit{}, err
	}
	if err := c.sees(l.Tenant); err != nil {
		return budget.Limit{}, err
	}
	return l, c.configures(l.Project)
}

func showBudgetLimit(l budget.Limit) apiv1.BudgetLimit {
	return apiv1.BudgetLimit{
		Id: l.ID, TenantId: l.Tenant, ProjectId: l.Project, Window: apiv1.BudgetWindow(l.Window), TimeZone: l.Zone, Tokens: l.Tokens,
		CreatedAt: l.CreatedAt.UTC(), UpdatedAt: l.UpdatedAt.UTC(), ClosedAt: known(l.ClosedAt), Version: l.Version,
	}
}
