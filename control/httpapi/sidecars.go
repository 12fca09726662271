package httpapi

import (
	"context"
	"time"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// The document gives sidecars the tenancy all: one that is registered is
// trusted with what its tenant's callers do, and decides for them.
const sidecarsPath = "/api/v1/mesh/sidecars"

// connectedWithin is how long ago a connected sidecar has reported at most:
// three times what it takes between two reports.
const connectedWithin = 15 * time.Second

// ListSidecars lists the registered sidecars, revoked ones too.
func (a *api) ListSidecars(ctx context.Context, r apiv1.ListSidecarsRequestObject) (apiv1.ListSidecarsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.within(p.TenantId)
	if err != nil {
		return nil, err
	}
	l, err := a.list(sidecarsPath, tenant, p.TenantId, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Sidecars.Sidecars(ctx, tenant, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	var out apiv1.ListSidecars200JSONResponse
	show := func(s mesh.Sidecar) apiv1.Sidecar { return showSidecar(s, c.start) }
	out.Body.Items, err = shown(c, page.Items, func(s mesh.Sidecar) string { return s.Tenant }, show)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// RegisterSidecar makes a registration. Its answer is the only one that has the
// credential.
func (a *api) RegisterSidecar(ctx context.Context, r apiv1.RegisterSidecarRequestObject) (apiv1.RegisterSidecarResponseObject, error) {
	c := callOf(ctx)
	s := mesh.Sidecar{Name: r.Body.Name, Tenant: r.Body.TenantId, PolicySet: r.Body.PolicySet, Role: request.RoleDeveloper}
	set(&s.Project, r.Body.ProjectId)
	set(&s.Agent, r.Body.AgentId)
	set(&s.Shared, r.Body.Shared)
	setRole(&s.Role, r.Body.Role)
	if err := c.grants(s.Role, s.Tenant); err != nil {
		return nil, err
	}
	made, credential, err := a.opts.Sidecars.RegisterSidecar(ctx, c.principal, s)
	if err != nil {
		return nil, err
	}
	return apiv1.RegisterSidecar201JSONResponse{
		Body:    showRegistered(made, credential, c.start),
		Headers: apiv1.RegisterSidecar201ResponseHeaders{ETag: etag(made.Version), Location: sidecarsPath + "/" + made.ID},
	}, nil
}

// GetSidecar returns one sidecar.
func (a *api) GetSidecar(ctx context.Context, r apiv1.GetSidecarRequestObject) (apiv1.GetSidecarResponseObject, error) {
	s, err := a.sidecar(ctx, r.SidecarId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetSidecar200JSONResponse{
		Body: showSidecar(s, callOf(ctx).start), Headers: apiv1.GetSidecar200ResponseHeaders{ETag: etag(s.Version)},
	}, nil
}

// UpdateSidecar changes what is given.
func (a *api) UpdateSidecar(ctx context.Context, r apiv1.UpdateSidecarRequestObject) (apiv1.UpdateSidecarResponseObject, error) {
	c := callOf(ctx)
	if err := c.match.needed(); err != nil {
		return nil, err
	}
	s, err := a.changeableSidecar(ctx, r.SidecarId)
	if err != nil {
		return nil, err
	}
	set(&s.Project, r.Body.ProjectId)
	set(&s.Agent, r.Body.AgentId)
	set(&s.PolicySet, r.Body.PolicySet)
	set(&s.Shared, r.Body.Shared)
	setRole(&s.Role, r.Body.Role)
	if err := c.grants(s.Role, s.Tenant); err != nil {
		return nil, err
	}
	now, err := a.opts.Sidecars.UpdateSidecar(ctx, c.principal, s)
	if err != nil {
		return nil, err
	}
	return apiv1.UpdateSidecar200JSONResponse{
		Body: showSidecar(now, c.start), Headers: apiv1.UpdateSidecar200ResponseHeaders{ETag: etag(now.Version)},
	}, nil
}

// RotateSidecar gives a sidecar a new credential.
func (a *api) RotateSidecar(ctx context.Context, r apiv1.RotateSidecarRequestObject) (apiv1.RotateSidecarResponseObject, error) {
	c := callOf(ctx)
	s, err := a.changeableSidecar(ctx, r.SidecarId)
	if err != nil {
		return nil, err
	}
	s.Version = c.match.version(s.Version)
	now, credential, err := a.opts.Sidecars.RotateSidecar(ctx, c.principal, s)
	if err != nil {
		return nil, err
	}
	return apiv1.RotateSidecar200JSONResponse{
		Body:    showRegistered(now, credential, c.start),
		Headers: apiv1.RotateSidecar200ResponseHeaders{ETag: etag(now.Version)},
	}, nil
}

// RevokeSidecar refuses a sidecar's credential from now on.
func (a *api) RevokeSidecar(ctx context.Context, r apiv1.RevokeSidecarRequestObject) (apiv1.RevokeSidecarResponseObject, error) {
	c := callOf(ctx)
	s, err := a.changeableSidecar(ctx, r.SidecarId)
	if err != nil {
		return nil, err
	}
	s.Version = c.match.version(s.Version)
	if err := a.opts.Sidecars.RevokeSidecar(ctx, c.principal, s); err != nil {
		return nil, err
	}
	return apiv1.RevokeSidecar204Response{}, nil
}

// changeableSidecar returns a sidecar in the version that the caller names.
func (a *api) changeableSidecar(ctx context.Context, id string) (mesh.Sidecar, error) {
	s, err := a.sidecar(ctx, id)
	if err != nil {
		return mesh.Sidecar{}, err
	}
	return s, callOf(ctx).match.holds(s.Version)
}

func (a *api) sidecar(ctx context.Context, id string) (mesh.Sidecar, error) {
	c := callOf(ctx)
	s, err := a.opts.Sidecars.Sidecar(ctx, c.tenant, id)
	if err != nil {
		return mesh.Sidecar{}, err
	}
	return s, c.sees(s.Tenant)
}

func setRole(to *request.Role, given *apiv1.Role) {
	if given != nil {
		*to = request.Role(*given)
	}
}

func showSidecar(s mesh.Sidecar, now time.Time) apiv1.Sidecar {
	out := apiv1.Sidecar{
		Id: s.ID, TenantId: s.Tenant, ProjectId: s.Project, AgentId: s.Agent, Name: s.Name, Role: apiv1.Role(s.Role),
		Shared: s.Shared, PolicySet: s.PolicySet, Revoked: s.Revoked,
		CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC(), Version: s.Version,
	}
	if s.Last.At.IsZero() {
		return out
	}
	last := s.Last
	out.Connected = !s.Revoked && now.Sub(last.At) <= connectedWithin
	out.LastSeenAt, out.Revision, out.Generation = known(last.At), &last.Revision, &last.Generation
	out.LiveEpoch, out.SkewMs, out.Build = &last.LiveEpoch, new(last.Skew.Milliseconds()), &last.Build
	if no := last.Refused; no != (mesh.Refusal{}) {
		out.Refused = &apiv1.SidecarRefusal{Generation: no.Generation, Revision: no.Revision, Reason: no.Reason, At: no.At.UTC()}
	}
	return out
}

func showRegistered(s mesh.Sidecar, c mesh.Credential, now time.Time) apiv1.SidecarRegistered {
	keys := make([]apiv1.RevisionKey, 0, len(c.Keys))
	for _, k := range c.Keys {
		keys = append(keys, apiv1.RevisionKey{KeyId: k.ID, PublicKey: k.Public})
	}
	return apiv1.SidecarRegistered{
		Sidecar: showSidecar(s, now), Credential: apiv1.SidecarCredential{Credential: c.Secret, RevisionKeys: keys},
	}
}
