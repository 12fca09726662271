package httpapi

import (
	"context"

	"gatehouse/budget"
	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// leakyStore is a store whose queries forget the tenant.
type leakyStore struct{ *store }

func (l *leakyStore) User(ctx context.Context, _, id string) (account.User, error) {
	return l.store.User(ctx, request.AnyTenant, id)
}

func (l *leakyStore) Users(ctx context.Context, _, after string, limit int) (account.Page[account.User], error) {
	return l.store.Users(ctx, request.AnyTenant, after, limit)
}

func (l *leakyStore) Client(ctx context.Context, _, id string) (account.Client, error) {
	return l.store.Client(ctx, request.AnyTenant, id)
}

func (l *leakyStore) Clients(ctx context.Context, _, after string, limit int) (account.Page[account.Client], error) {
	return l.store.Clients(ctx, request.AnyTenant, after, limit)
}

func (l *leakyStore) Project(ctx context.Context, _, id string) (account.Project, error) {
	return l.store.Project(ctx, "org2", id)
}

func (l *leakyStore) Projects(ctx context.Context, _, after string, limit int) (account.Page[account.Project], error) {
	return l.store.Projects(ctx, request.AnyTenant, after, limit)
}

func (l *leakyStore) Agent(ctx context.Context, _, id string) (account.Agent, error) {
	return l.store.Agent(ctx, request.AnyTenant, id)
}

func (l *leakyStore) Agents(ctx context.Context, _, after string, limit int) (account.Page[account.Agent], error) {
	return l.store.Agents(ctx, request.AnyTenant, after, limit)
}

func (l *leakyStore) RevokeSubject(_ context.Context, _ request.Principal, r account.Revocation) (account.Revocation, error) {
	r.Tenant = "org2"
	return r, nil
}

func (l *leakyStore) Decision(ctx context.Context, _, id string) (mesh.Decision, error) {
	return l.store.Decision(ctx, request.AnyTenant, id)
}

func (l *leakyStore) Decisions(ctx context.Context, _ string, f mesh.DecisionFilter, after string, limit int) (account.Page[mesh.Decision], error) {
	return l.store.Decisions(ctx, request.AnyTenant, f, after, limit)
}

func (l *leakyStore) DecisionsSince(ctx context.Context, _ string, f mesh.DecisionFilter, _ string, limit int) ([]mesh.Decision, string, error) {
	return l.store.DecisionsSince(ctx, request.AnyTenant, f, "0", limit)
}

func (l *leakyStore) BudgetLimit(ctx context.Context, _, id string) (budget.Limit, error) {
	return l.store.BudgetLimit(ctx, request.AnyTenant, id)
}

func (l *leakyStore) BudgetLimits(ctx context.Context, _, after string, limit int) (account.Page[budget.Limit], error) {
	return l.store.BudgetLimits(ctx, request.AnyTenant, after, limit)
}

func (l *leakyStore) BudgetUsage(ctx context.Context, _, project string) ([]budget.Usage, error) {
	return l.store.BudgetUsage(ctx, request.AnyTenant, project)
}

// racingStore changes a project right after it was read.
type racingStore struct{ *store }

func (r *racingStore) Project(ctx context.Context, tenant, id string) (account.Project, error) {
	p, err := r.store.Project(ctx, tenant, id)
	if err == nil {
		_, err = r.store.UpdateProject(ctx, request.Principal{}, p)
	}
	return p, err
}

// racingAgents changes an agent right after it was read.
type racingAgents struct{ *store }

func (r *racingAgents) Agent(ctx context.Context, tenant, id string) (account.Agent, error) {
	g, err := r.store.Agent(ctx, tenant, id)
	if err == nil {
		_, err = r.setAgent(ctx, request.Principal{}, g)
	}
	return g, err
}

// brokenRevocations keeps nothing.
type brokenRevocations struct{ Revocations }

func (brokenRevocations) RevokeToken(context.Context, request.Principal, account.Revocation) (account.Revocation, error) {
	return account.Revocation{}, unavailable(nil)
}
