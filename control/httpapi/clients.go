package httpapi

import (
	"context"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

const clientsPath = "/api/v1/clients"

// ListClients lists the clients that the caller may see.
func (a *api) ListClients(ctx context.Context, r apiv1.ListClientsRequestObject) (apiv1.ListClientsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.within(p.TenantId)
	if err != nil {
		return nil, err
	}
	l, err := a.list(clientsPath, tenant, p.TenantId, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Clients.Clients(ctx, tenant, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	var out apiv1.ListClients200JSONResponse
	out.Body.Items, err = shown(c, page.Items, func(cl account.Client) string { return cl.Tenant }, showClient)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// CreateClient makes a client in a tenant that the caller may act in. Its
// answer is the only one that has the secret.
func (a *api) CreateClient(ctx context.Context, r apiv1.CreateClientRequestObject) (apiv1.CreateClientResponseObject, error) {
	c := callOf(ctx)
	cl := account.Client{Name: r.Body.Name, Role: request.Role(r.Body.Role), Tenant: r.Body.TenantId}
	set(&cl.Project, r.Body.ProjectId)
	set(&cl.Agent, r.Body.Agent)
	if err := c.sees(cl.Tenant); err != nil {
		return nil, err
	}
	if err := c.grants(cl.Role, cl.Tenant); err != nil {
		return nil, err
	}
	made, secret, err := a.opts.Clients.CreateClient(ctx, c.principal, cl)
	if err != nil {
		return nil, err
	}
	return apiv1.CreateClient201JSONResponse{
		Body:    showSecret(made, secret),
		Headers: apiv1.CreateClient201ResponseHeaders{ETag: etag(made.Version), Location: clientsPath + "/" + made.ID},
	}, nil
}

// GetClient returns one client.
func (a *api) GetClient(ctx context.Context, r apiv1.GetClientRequestObject) (apiv1.GetClientResponseObject, error) {
	cl, err := a.client(ctx, r.ClientId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetClient200JSONResponse{
		Body: showClient(cl), Headers: apiv1.GetClient200ResponseHeaders{ETag: etag(cl.Version)},
	}, nil
}

// UpdateClient changes what is given. Who is above the caller can't be changed
// by it, nor be made.
func (a *api) UpdateClient(ctx context.Context, r apiv1.UpdateClientRequestObject) (apiv1.UpdateClientResponseObject, error) {
	c := callOf(ctx)
	if err := c.match.needed(); err != nil {
		return nil, err
	}
	cl, err := a.changeableClient(ctx, r.ClientId)
	if err != nil {
		return nil, err
	}
	set(&cl.Name, r.Body.Name)
	set(&cl.Project, r.Body.ProjectId)
	set(&cl.Agent, r.Body.Agent)
	set(&cl.Disabled, r.Body.Disabled)
	if r.Body.Role != nil {
		cl.Role = request.Role(*r.Body.Role)
	}
	if err := c.grants(cl.Role, cl.Tenant); err != nil {
		return nil, err
	}
	now, err := a.opts.Clients.UpdateClient(ctx, c.principal, cl)
	if err != nil {
		return nil, err
	}
	return apiv1.UpdateClient200JSONResponse{
		Body: showClient(now), Headers: apiv1.UpdateClient200ResponseHeaders{ETag: etag(now.Version)},
	}, nil
}

// DeleteClient deletes a client.
func (a *api) DeleteClient(ctx context.Context, r apiv1.DeleteClientRequestObject) (apiv1.DeleteClientResponseObject, error) {
	c := callOf(ctx)
	cl, err := a.changeableClient(ctx, r.ClientId)
	if err != nil {
		return nil, err
	}
	cl.Version = c.match.version(cl.Version)
	if err := a.opts.Clients.DeleteClient(ctx, c.principal, cl); err != nil {
		return nil, err
	}
	return apiv1.DeleteClient204Response{}, nil
}

// changeableClient returns a client that the caller may change, in the version
// that it names.
func (a *api) changeableClient(ctx context.Context, id string) (account.Client, error) {
	c := callOf(ctx)
	cl, err := a.client(ctx, id)
	if err != nil {
		return account.Client{}, err
	}
	if err := c.reaches(cl.Role); err != nil {
		return account.Client{}, err
	}
	return cl, c.match.holds(cl.Version)
}

func (a *api) client(ctx context.Context, id string) (account.Client, error) {
	c := callOf(ctx)
	cl, err := a.opts.Clients.Client(ctx, c.tenant, id)
	if err != nil {
		return account.Client{}, err
	}
	return cl, c.sees(cl.Tenant)
}

func showClient(cl account.Client) apiv1.Client {
	return apiv1.Client{
		Id: cl.ID, Name: cl.Name, Role: apiv1.Role(cl.Role), TenantId: cl.Tenant, ProjectId: cl.Project, Agent: cl.Agent,
		Disabled: cl.Disabled, CreatedAt: cl.CreatedAt.UTC(), UpdatedAt: cl.UpdatedAt.UTC(), Version: cl.Version,
	}
}

func showSecret(cl account.Client, secret string) apiv1.ClientCreated {
	return apiv1.ClientCreated{
		Id: cl.ID, Name: cl.Name, Role: apiv1.Role(cl.Role), TenantId: cl.Tenant, ProjectId: cl.Project, Agent: cl.Agent,
		Disabled: cl.Disabled, CreatedAt: cl.CreatedAt.UTC(), UpdatedAt: cl.UpdatedAt.UTC(), Version: cl.Version,
		ClientSecret: secret,
	}
}
