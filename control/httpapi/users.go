package httpapi

import (
	"context"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

const usersPath = "/api/v1/users"

// ListUsers lists the users that the caller may see.
func (a *api) ListUsers(ctx context.Context, r apiv1.ListUsersRequestObject) (apiv1.ListUsersResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.within(p.TenantId)
	if err != nil {
		return nil, err
	}
	l, err := a.list(usersPath, tenant, p.TenantId, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Users.Users(ctx, tenant, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	var out apiv1.ListUsers200JSONResponse
	out.Body.Items, err = shown(c, page.Items, func(u account.User) string { return u.Tenant }, showUser)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// CreateUser makes a user in a tenant that the caller may act in.
func (a *api) CreateUser(ctx context.Context, r apiv1.CreateUserRequestObject) (apiv1.CreateUserResponseObject, error) {
	c := callOf(ctx)
	u := account.User{Username: r.Body.Username, Role: request.Role(r.Body.Role), Tenant: r.Body.TenantId}
	set(&u.Project, r.Body.ProjectId)
	if err := c.sees(u.Tenant); err != nil {
		return nil, err
	}
	if err := c.grants(u.Role, u.Tenant); err != nil {
		return nil, err
	}
	made, err := a.opts.Users.CreateUser(ctx, c.principal, u, r.Body.Password)
	if err != nil {
		return nil, err
	}
	return apiv1.CreateUser201JSONResponse{
		Body:    showUser(made),
		Headers: apiv1.CreateUser201ResponseHeaders{ETag: etag(made.Version), Location: usersPath + "/" + made.ID},
	}, nil
}

// GetUser returns one user.
func (a *api) GetUser(ctx context.Context, r apiv1.GetUserRequestObject) (apiv1.GetUserResponseObject, error) {
	u, err := a.user(ctx, r.UserId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetUser200JSONResponse{
		Body: showUser(u), Headers: apiv1.GetUser200ResponseHeaders{ETag: etag(u.Version)},
	}, nil
}

// UpdateUser changes what is given. Who is above the caller can't be changed
// by it, nor be made.
func (a *api) UpdateUser(ctx context.Context, r apiv1.UpdateUserRequestObject) (apiv1.UpdateUserResponseObject, error) {
	c := callOf(ctx)
	if err := c.match.needed(); err != nil {
		return nil, err
	}
	u, err := a.changeableUser(ctx, r.UserId)
	if err != nil {
		return nil, err
	}
	set(&u.Project, r.Body.ProjectId)
	set(&u.Disabled, r.Body.Disabled)
	if r.Body.Role != nil {
		u.Role = request.Role(*r.Body.Role)
	}
	if err := c.grants(u.Role, u.Tenant); err != nil {
		return nil, err
	}
	var password string
	set(&password, r.Body.Password)
	now, err := a.opts.Users.UpdateUser(ctx, c.principal, u, password)
	if err != nil {
		return nil, err
	}
	return apiv1.UpdateUser200JSONResponse{
		Body: showUser(now), Headers: apiv1.UpdateUser200ResponseHeaders{ETag: etag(now.Version)},
	}, nil
}

// DeleteUser deletes a user.
func (a *api) DeleteUser(ctx context.Context, r apiv1.DeleteUserRequestObject) (apiv1.DeleteUserResponseObject, error) {
	c := callOf(ctx)
	u, err := a.changeableUser(ctx, r.UserId)
	if err != nil {
		return nil, err
	}
	u.Version = c.match.version(u.Version)
	if err := a.opts.Users.DeleteUser(ctx, c.principal, u); err != nil {
		return nil, err
	}
	return apiv1.DeleteUser204Response{}, nil
}

// changeableUser returns a user that the caller may change, in the version that
// it names.
func (a *api) changeableUser(ctx context.Context, id string) (account.User, error) {
	c := callOf(ctx)
	u, err := a.user(ctx, id)
	if err != nil {
		return account.User{}, err
	}
	if err := c.reaches(u.Role); err != nil {
		return account.User{}, err
	}
	return u, c.match.holds(u.Version)
}

func (a *api) user(ctx context.Context, id string) (account.User, error) {
	c := callOf(ctx)
	u, err := a.opts.Users.User(ctx, c.tenant, id)
	if err != nil {
		return account.User{}, err
	}
	return u, c.sees(u.Tenant)
}

func showUser(u account.User) apiv1.User {
	return apiv1.User{
		Id: u.ID, Username: u.Username, Role: apiv1.Role(u.Role), TenantId: u.Tenant, ProjectId: u.Project,
		Disabled: u.Disabled, CreatedAt: u.CreatedAt.UTC(), UpdatedAt: u.UpdatedAt.UTC(), Version: u.Version,
	}
}
