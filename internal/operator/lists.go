package operator

import (
	"context"

	"gatehouse/api/v1/client"
)

// Users are all users of a tenant, "" for those that the caller may see.
func (c *Client) Users(ctx context.Context, tenant string) ([]client.User, error) {
	p := client.ListUsersParams{TenantId: optional(tenant)}
	return All(func(limit int, cursor *string) ([]client.User, *string, error) {
		p.Limit, p.Cursor = &limit, cursor
		r, err := c.api.ListUsersWithResponse(ctx, &p)
		list, err := Answer(r, err, func(r *client.ListUsersResponse) *client.UserList { return r.JSON200 })
		if err != nil {
			return nil, nil, err
		}
		return list.Items, list.Next, nil
	})
}

// Agents are all agents of a tenant, "" for those that the caller may see.
func (c *Client) Agents(ctx context.Context, tenant string) ([]client.Agent, error) {
	p := client.ListAgentsParams{TenantId: optional(tenant)}
	return All(func(limit int, cursor *string) ([]client.Agent, *string, error) {
		p.Limit, p.Cursor = &limit, cursor
		r, err := c.api.ListAgentsWithResponse(ctx, &p)
		list, err := Answer(r, err, func(r *client.ListAgentsResponse) *client.AgentList { return r.JSON200 })
		if err != nil {
			return nil, nil, err
		}
		return list.Items, list.Next, nil
	})
}

// Tenants are all tenants.
func (c *Client) Tenants(ctx context.Context) ([]client.Tenant, error) {
	var p client.ListTenantsParams
	return All(func(limit int, cursor *string) ([]client.Tenant, *string, error) {
		p.Limit, p.Cursor = &limit, cursor
		r, err := c.api.ListTenantsWithResponse(ctx, &p)
		list, err := Answer(r, err, func(r *client.ListTenantsResponse) *client.TenantList { return r.JSON200 })
		if err != nil {
			return nil, nil, err
		}
		return list.Items, list.Next, nil
	})
}

// PolicySets are all policy sets.
func (c *Client) PolicySets(ctx context.Context) ([]client.PolicySet, error) {
	var p client.ListPolicySetsParams
	return All(func(limit int, cursor *string) ([]client.PolicySet, *string, error) {
		p.Limit, p.Cursor = &limit, cursor
		r, err := c.api.ListPolicySetsWithResponse(ctx, &p)
		list, err := Answer(r, err, func(r *client.ListPolicySetsResponse) *client.PolicySetList { return r.JSON200 })
		if err != nil {
			return nil, nil, err
		}
		return list.Items, list.Next, nil
	})
}

// Revisions are all revisions of a policy set, newest first, without files.
func (c *Client) Revisions(ctx context.Context, set string) ([]client.Revision, error) {
	var p client.ListRevisionsParams
	return All(func(limit int, cursor *string) ([]client.Revision, *string, error) {
		p.Limit, p.Cursor = &limit, cursor
		r, err := c.api.ListRevisionsWithResponse(ctx, set, &p)
		list, err := Answer(r, err, func(r *client.ListRevisionsResponse) *client.RevisionList { return r.JSON200 })
		if err != nil {
			return nil, nil, err
		}
		return list.Items, list.Next, nil
	})
}

// Decisions are the newest n decisions that a filter lets through, newest first.
func (c *Client) Decisions(ctx context.Context, p client.ListDecisionsParams, n int) ([]client.Decision, error) {
	out := []client.Decision{}
	err := each(func(cursor *string) (*string, error) {
		p.Limit, p.Cursor = new(min(n-len(out), listPageSize)), cursor
		r, err := c.api.ListDecisionsWithResponse(ctx, &p)
		list, err := Answer(r, err, func(r *client.ListDecisionsResponse) *client.DecisionList { return r.JSON200 })
		if err != nil {
			return nil, err
		}
		if out = append(out, list.Items...); len(out) >= n {
			out = out[:n]
			return nil, nil
		}
		return list.Next, nil
	})
	return out, err
}
