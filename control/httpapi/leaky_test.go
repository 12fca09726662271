package httpapi

import (
	"context"

	"gatehouse/internal/account"
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

// racingStore changes a project right after it was read.
type racingStore struct{ *store }

func (r *racingStore) Project(ctx context.Context, tenant, id string) (account.Project, error) {
	p, err := r.store.Project(ctx, tenant, id)
	if err == nil {
		_, err = r.store.UpdateProject(ctx, request.Principal{}, p)
	}
	return p, err
}
