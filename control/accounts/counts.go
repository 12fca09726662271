package accounts

import "context"

// What is kept within a tenant; '*' stands for all.
const (
	countUsers    = `SELECT count(*) FROM users WHERE $1 = '*' OR tenant_id = $1`
	countClients  = `SELECT count(*) FROM clients WHERE $1 = '*' OR tenant_id = $1`
	countTenants  = `SELECT count(*) FROM tenants WHERE $1 = '*' OR id = $1`
	countProjects = `SELECT count(*) FROM projects WHERE $1 = '*' OR tenant_id = $1`
)

func (s *Store) count(ctx context.Context, sql, tenant string) (n int64, err error) {
	err = s.o.Pool.QueryRow(ctx, sql, tenant).Scan(&n)
	return n, answer(err)
}

// CountUsers counts the users of a tenant.
func (s *Store) CountUsers(ctx context.Context, tenant string) (int64, error) {
	return s.count(ctx, countUsers, tenant)
}

// CountClients counts the clients of a tenant.
func (s *Store) CountClients(ctx context.Context, tenant string) (int64, error) {
	return s.count(ctx, countClients, tenant)
}

// CountTenants counts the tenants that can be seen from a tenant.
func (s *Store) CountTenants(ctx context.Context, tenant string) (int64, error) {
	return s.count(ctx, countTenants, tenant)
}

// CountProjects counts the projects of a tenant.
func (s *Store) CountProjects(ctx context.Context, tenant string) (int64, error) {
	return s.count(ctx, countProjects, tenant)
}

// Ping asks whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return answer(s.o.Pool.Ping(ctx)) }
