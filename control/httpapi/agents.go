package httpapi

import (
	"context"
	"maps"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
)

const agentsPath = "/api/v1/agents"

// ListAgents lists the agents that the caller may see.
func (a *api) ListAgents(ctx context.Context, r apiv1.ListAgentsRequestObject) (apiv1.ListAgentsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.within(p.TenantId)
	if err != nil {
		return nil, err
	}
	l, err := a.list(agentsPath, tenant, p.TenantId, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Agents.Agents(ctx, tenant, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	var out apiv1.ListAgents200JSONResponse
	out.Body.Items, err = shown(c, page.Items, func(g account.Agent) string { return g.Tenant }, showAgent)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// CreateAgent makes an agent in a tenant that the caller may act in.
func (a *api) CreateAgent(ctx context.Context, r apiv1.CreateAgentRequestObject) (apiv1.CreateAgentResponseObject, error) {
	c := callOf(ctx)
	g := account.Agent{Tenant: r.Body.TenantId, Name: r.Body.Name, Role: r.Body.Role, Metadata: map[string]any{}}
	set(&g.Project, r.Body.ProjectId)
	if r.Body.Metadata != nil {
		for name, text := range *r.Body.Metadata {
			g.Metadata[name] = text
		}
	}
	if err := c.sees(g.Tenant); err != nil {
		return nil, err
	}
	made, err := a.opts.Agents.CreateAgent(ctx, c.principal, g)
	if err != nil {
		return nil, err
	}
	return apiv1.CreateAgent201JSONResponse{
		Body:    showAgent(made),
		Headers: apiv1.CreateAgent201ResponseHeaders{ETag: etag(made.Version), Location: agentsPath + "/" + made.ID},
	}, nil
}

// GetAgent returns one agent.
func (a *api) GetAgent(ctx context.Context, r apiv1.GetAgentRequestObject) (apiv1.GetAgentResponseObject, error) {
	g, err := a.agent(ctx, r.AgentId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetAgent200JSONResponse{
		Body: showAgent(g), Headers: apiv1.GetAgent200ResponseHeaders{ETag: etag(g.Version)},
	}, nil
}

// BlockAgent refuses all that an agent does. One that is blocked already stays
// as it is, so that it can be repeated.
func (a *api) BlockAgent(ctx context.Context, r apiv1.BlockAgentRequestObject) (apiv1.BlockAgentResponseObject, error) {
	g, err := a.matchedAgent(ctx, r.AgentId)
	if err == nil && g.Status != account.AgentBlocked {
		g.BlockedReason, g.Version = r.Body.Reason, callOf(ctx).match.version(g.Version)
		g, err = a.opts.Agents.BlockAgent(ctx, callOf(ctx).principal, g)
	}
	if err != nil {
		return nil, err
	}
	return apiv1.BlockAgent200JSONResponse{
		Body: showAgent(g), Headers: apiv1.BlockAgent200ResponseHeaders{ETag: etag(g.Version)},
	}, nil
}

// UnblockAgent lets an agent act again. One that is active stays as it is.
func (a *api) UnblockAgent(ctx context.Context, r apiv1.UnblockAgentRequestObject) (apiv1.UnblockAgentResponseObject, error) {
	g, err := a.matchedAgent(ctx, r.AgentId)
	if err == nil && g.Status != account.AgentActive {
		g.Version = callOf(ctx).match.version(g.Version)
		g, err = a.opts.Agents.UnblockAgent(ctx, callOf(ctx).principal, g)
	}
	if err != nil {
		return nil, err
	}
	return apiv1.UnblockAgent200JSONResponse{
		Body: showAgent(g), Headers: apiv1.UnblockAgent200ResponseHeaders{ETag: etag(g.Version)},
	}, nil
}

// matchedAgent returns an agent in the version that the caller names.
func (a *api) matchedAgent(ctx context.Context, id string) (account.Agent, error) {
	g, err := a.agent(ctx, id)
	if err != nil {
		return account.Agent{}, err
	}
	return g, callOf(ctx).match.holds(g.Version)
}

func (a *api) agent(ctx context.Context, id string) (account.Agent, error) {
	c := callOf(ctx)
	g, err := a.opts.Agents.Agent(ctx, c.tenant, id)
	if err != nil {
		return account.Agent{}, err
	}
	return g, c.sees(g.Tenant)
}

func showAgent(g account.Agent) apiv1.Agent {
	out := apiv1.Agent{
		Id: g.ID, TenantId: g.Tenant, ProjectId: g.Project, Name: g.Name, Role: g.Role, Status: apiv1.AgentStatus(g.Status),
		BlockedAt: known(g.BlockedAt), Metadata: map[string]any{},
		CreatedAt: g.CreatedAt.UTC(), UpdatedAt: g.UpdatedAt.UTC(), Version: g.Version,
	}
	maps.Copy(out.Metadata, g.Metadata)
	if g.Status == account.AgentBlocked {
		out.BlockedReason = &g.BlockedReason
	}
	return out
}
