package httpapi

import (
	"context"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

// The document gives tenants the tenancy all, so that only callers of all
// tenants get here.
const tenantsPath = "/api/v1/tenants"

// ListTenants lists all tenants.
func (a *api) ListTenants(ctx context.Context, r apiv1.ListTenantsRequestObject) (apiv1.ListTenantsResponseObject, error) {
	l, err := a.list(tenantsPath, request.AnyTenant, nil, r.Params.Limit, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Tenants.Tenants(ctx, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	var out apiv1.ListTenants200JSONResponse
	out.Body.Items, err = shown(callOf(ctx), page.Items, func(t account.Tenant) string { return t.ID }, showTenant)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// CreateTenant makes a tenant.
func (a *api) CreateTenant(ctx context.Context, r apiv1.CreateTenantRequestObject) (apiv1.CreateTenantResponseObject, error) {
	t, err := a.opts.Tenants.CreateTenant(ctx, callOf(ctx).principal, account.Tenant{ID: r.Body.Id, Name: r.Body.Name})
	if err != nil {
		return nil, err
	}
	return apiv1.CreateTenant201JSONResponse{
		Body:    showTenant(t),
		Headers: apiv1.CreateTenant201ResponseHeaders{ETag: etag(t.Version), Location: tenantsPath + "/" + t.ID},
	}, nil
}

// GetTenant returns one tenant.
func (a *api) GetTenant(ctx context.Context, r apiv1.GetTenantRequestObject) (apiv1.GetTenantResponseObject, error) {
	t, err := a.opts.Tenants.Tenant(ctx, r.TenantId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetTenant200JSONResponse{
		Body: showTenant(t), Headers: apiv1.GetTenant200ResponseHeaders{ETag: etag(t.Version)},
	}, nil
}

// UpdateTenant changes the name.
func (a *api) UpdateTenant(ctx context.Context, r apiv1.UpdateTenantRequestObject) (apiv1.UpdateTenantResponseObject, error) {
	c := callOf(ctx)
	if err := c.match.needed(); err != nil {
		return nil, err
	}
	t, err := a.matchedTenant(ctx, r.TenantId)
	if err != nil {
		return nil, err
	}
	t.Name = r.Body.Name
	now, err := a.opts.Tenants.UpdateTenant(ctx, c.principal, t)
	if err != nil {
		return nil, err
	}
	return apiv1.UpdateTenant200JSONResponse{
		Body: showTenant(now), Headers: apiv1.UpdateTenant200ResponseHeaders{ETag: etag(now.Version)},
	}, nil
}

// DeleteTenant deletes a tenant.
func (a *api) DeleteTenant(ctx context.Context, r apiv1.DeleteTenantRequestObject) (apiv1.DeleteTenantResponseObject, error) {
	c := callOf(ctx)
	t, err := a.matchedTenant(ctx, r.TenantId)
	if err != nil {
		return nil, err
	}
	t.Version = c.match.version(t.Version)
	if err := a.opts.Tenants.DeleteTenant(ctx, c.principal, t); err != nil {
		return nil, err
	}
	return apiv1.DeleteTenant204Response{}, nil
}

// SuspendTenant refuses all tokens of a tenant.
func (a *api) SuspendTenant(ctx context.Context, r apiv1.SuspendTenantRequestObject) (apiv1.SuspendTenantResponseObject, error) {
	t, err := a.setSuspended(ctx, r.TenantId, true)
	if err != nil {
		return nil, err
	}
	return apiv1.SuspendTenant200JSONResponse{
		Body: showTenant(t), Headers: apiv1.SuspendTenant200ResponseHeaders{ETag: etag(t.Version)},
	}, nil
}

// ResumeTenant accepts them again.
func (a *api) ResumeTenant(ctx context.Context, r apiv1.ResumeTenantRequestObject) (apiv1.ResumeTenantResponseObject, error) {
	t, err := a.setSuspended(ctx, r.TenantId, false)
	if err != nil {
		return nil, err
	}
	return apiv1.ResumeTenant200JSONResponse{
		Body: showTenant(t), Headers: apiv1.ResumeTenant200ResponseHeaders{ETag: etag(t.Version)},
	}, nil
}

// setSuspended changes nothing where nothing is to change, so that it can be
// repeated, and leaves no second row in the audit log.
func (a *api) setSuspended(ctx context.Context, id string, suspended bool) (account.Tenant, error) {
	c := callOf(ctx)
	t, err := a.matchedTenant(ctx, id)
	if err != nil || t.Suspended == suspended {
		return t, err
	}
	t.Suspended = suspended
	return a.opts.Tenants.SuspendTenant(ctx, c.principal, t)
}

// matchedTenant returns a tenant in the version that the caller names.
func (a *api) matchedTenant(ctx context.Context, id string) (account.Tenant, error) {
	t, err := a.opts.Tenants.Tenant(ctx, id)
	if err != nil {
		return account.Tenant{}, err
	}
	return t, callOf(ctx).match.holds(t.Version)
}

func showTenant(t account.Tenant) apiv1.Tenant {
	return apiv1.Tenant{
		Id: t.ID, Name: t.Name, Suspended: t.Suspended,
		CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(), Version: t.Version,
	}
}
