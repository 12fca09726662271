package httpapi

import (
	"context"
	"net/url"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
)

const projectsPath = "/api/v1/projects"

// ListProjects lists the projects that the caller may see.
func (a *api) ListProjects(ctx context.Context, r apiv1.ListProjectsRequestObject) (apiv1.ListProjectsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.within(p.TenantId)
	if err != nil {
		return nil, err
	}
	l, err := a.list(projectsPath, tenant, p.TenantId, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Projects.Projects(ctx, tenant, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	var out apiv1.ListProjects200JSONResponse
	out.Body.Items, err = shown(c, page.Items, func(p account.Project) string { return p.Tenant }, showProject)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// CreateProject makes a project in a tenant that the caller may act in.
func (a *api) CreateProject(ctx context.Context, r apiv1.CreateProjectRequestObject) (apiv1.CreateProjectResponseObject, error) {
	c := callOf(ctx)
	if err := c.sees(r.Body.TenantId); err != nil {
		return nil, err
	}
	p, err := a.opts.Projects.CreateProject(ctx, c.principal, account.Project{
		ID: r.Body.Id, Tenant: r.Body.TenantId, Name: r.Body.Name,
	})
	if err != nil {
		return nil, err
	}
	location := projectsPath + "/" + p.ID + "?" + url.Values{"tenant_id": {p.Tenant}}.Encode()
	return apiv1.CreateProject201JSONResponse{
		Body: showProject(p), Headers: apiv1.CreateProject201ResponseHeaders{ETag: etag(p.Version), Location: location},
	}, nil
}

// GetProject returns one project.
func (a *api) GetProject(ctx context.Context, r apiv1.GetProjectRequestObject) (apiv1.GetProjectResponseObject, error) {
	p, err := a.project(ctx, r.Params.TenantId, r.ProjectId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetProject200JSONResponse{
		Body: showProject(p), Headers: apiv1.GetProject200ResponseHeaders{ETag: etag(p.Version)},
	}, nil
}

// UpdateProject changes the name.
func (a *api) UpdateProject(ctx context.Context, r apiv1.UpdateProjectRequestObject) (apiv1.UpdateProjectResponseObject, error) {
	c := callOf(ctx)
	if err := c.match.needed(); err != nil {
		return nil, err
	}
	p, err := a.project(ctx, r.Params.TenantId, r.ProjectId)
	if err != nil {
		return nil, err
	}
	if err := c.match.holds(p.Version); err != nil {
		return nil, err
	}
	p.Name = r.Body.Name
	now, err := a.opts.Projects.UpdateProject(ctx, c.principal, p)
	if err != nil {
		return nil, err
	}
	return apiv1.UpdateProject200JSONResponse{
		Body: showProject(now), Headers: apiv1.UpdateProject200ResponseHeaders{ETag: etag(now.Version)},
	}, nil
}

// DeleteProject deletes a project.
func (a *api) DeleteProject(ctx context.Context, r apiv1.DeleteProjectRequestObject) (apiv1.DeleteProjectResponseObject, error) {
	c := callOf(ctx)
	p, err := a.project(ctx, r.Params.TenantId, r.ProjectId)
	if err != nil {
		return nil, err
	}
	if err := c.match.holds(p.Version); err != nil {
		return nil, err
	}
	p.Version = c.match.version(p.Version)
	if err := a.opts.Projects.DeleteProject(ctx, c.principal, p); err != nil {
		return nil, err
	}
	return apiv1.DeleteProject204Response{}, nil
}

// project finds a project by its tenant and name: the name alone is unique in
// its tenant only.
func (a *api) project(ctx context.Context, asked *string, id string) (account.Project, error) {
	c := callOf(ctx)
	tenant, err := c.one(asked)
	if err != nil {
		return account.Project{}, err
	}
	p, err := a.opts.Projects.Project(ctx, tenant, id)
	if err != nil {
		return account.Project{}, err
	}
	return p, c.sees(p.Tenant)
}

func showProject(p account.Project) apiv1.Project {
	return apiv1.Project{
		Id: p.ID, TenantId: p.Tenant, Name: p.Name,
		CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(), Version: p.Version,
	}
}
