package accounts

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

// Names are in the order of their bytes, whatever the database's language.
const (
	tenantColumns = `t.id, t.name, t.status = 'suspended', t.created_at, t.updated_at, t.version`

	selectTenant  = `SELECT ` + tenantColumns + ` FROM tenants t WHERE t.id = $1`
	selectTenants = `SELECT ` + tenantColumns + ` FROM tenants t WHERE t.id COLLATE "C" > $1 ORDER BY t.id COLLATE "C" LIMIT $2`
	lockTenant    = selectTenant + ` FOR NO KEY UPDATE`
	insertTenant  = `INSERT INTO tenants AS t (id, name) VALUES ($1, $2) RETURNING ` + tenantColumns
	updateTenant  = `UPDATE tenants t SET name = $2 WHERE t.id = $1 RETURNING ` + tenantColumns
	suspendTenant = `
UPDATE tenants t SET status = CASE WHEN $2 THEN 'suspended' ELSE 'active' END,
	suspended_at = CASE WHEN $2 THEN clock_timestamp() END, suspended_reason = NULL
WHERE t.id = $1 RETURNING ` + tenantColumns
	deleteTenant = `DELETE FROM tenants WHERE id = $1`
	nextEpoch    = `SELECT next_live_epoch()`
)

func scanTenant(r row) (t account.Tenant, err error) {
	err = r.Scan(&t.ID, &t.Name, &t.Suspended, &t.CreatedAt, &t.UpdatedAt, &t.Version)
	return t, err
}

// Tenant returns a tenant.
func (s *Store) Tenant(ctx context.Context, id string) (account.Tenant, error) {
	return one(s.o.Pool.QueryRow(ctx, selectTenant, id), scanTenant)
}

// Tenants returns a page of the tenants, by id.
func (s *Store) Tenants(ctx context.Context, after string, limit int) (account.Page[account.Tenant], error) {
	return page(ctx, s, scanTenant, func(t account.Tenant) string { return t.ID }, limit, selectTenants, after)
}

// CreateTenant makes a tenant.
func (s *Store) CreateTenant(ctx context.Context, by request.Principal, t account.Tenant) (made account.Tenant, err error) {
	c := change{by: by, action: "create", kind: "tenant", tenant: t.ID, target: t.ID, detail: map[string]any{"name": t.Name}}
	err = s.apply(ctx, c, func(tx pgx.Tx, _ *change) (err error) {
		made, err = scanTenant(tx.QueryRow(ctx, insertTenant, t.ID, t.Name))
		return err
	})
	return orNone(made, err)
}

func tenantVersion(t account.Tenant) int64 { return t.Version }

// UpdateTenant sets the name.
func (s *Store) UpdateTenant(ctx context.Context, by request.Principal, t account.Tenant) (now account.Tenant, err error) {
	c := change{by: by, action: "update", kind: "tenant", tenant: t.ID, target: t.ID, detail: map[string]any{"name": t.Name}}
	err = s.apply(ctx, c, func(tx pgx.Tx, _ *change) error {
		_, err := lockCurrent(tx.QueryRow(ctx, lockTenant, t.ID), scanTenant, t.Version, tenantVersion)
		if err != nil {
			return err
		}
		now, err = scanTenant(tx.QueryRow(ctx, updateTenant, t.ID, t.Name))
		return err
	})
	return orNone(now, err)
}

// SuspendTenant sets whether the tenant is suspended. It is live data: whose
// tenant is suspended is refused everywhere, without any token being revoked,
// so that resuming gives all of it back. Where nothing changes, only the audit
// log does.
func (s *Store) SuspendTenant(ctx context.Context, by request.Principal, t account.Tenant) (now account.Tenant, err error) {
	action := "resume"
	if t.Suspended {
		action = "suspend"
	}
	c := change{by: by, action: action, kind: "tenant", tenant: t.ID, target: t.ID}
	err = s.apply(ctx, c, func(tx pgx.Tx, _ *change) error {
		old, err := lockCurrent(tx.QueryRow(ctx, lockTenant, t.ID), scanTenant, t.Version, tenantVersion)
		if now = old; err != nil || old.Suspended == t.Suspended {
			return err
		}
		if now, err = scanTenant(tx.QueryRow(ctx, suspendTenant, t.ID, t.Suspended)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, nextEpoch)
		return err
	})
	return orNone(now, err)
}

// DeleteTenant deletes a tenant that nothing belongs to any more.
func (s *Store) DeleteTenant(ctx context.Context, by request.Principal, t account.Tenant) error {
	c := change{by: by, action: "delete", kind: "tenant", tenant: t.ID, target: t.ID}
	return s.apply(ctx, c, func(tx pgx.Tx, _ *change) error {
		if _, err := lockCurrent(tx.QueryRow(ctx, lockTenant, t.ID), scanTenant, t.Version, tenantVersion); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, deleteTenant, t.ID)
		return removal(err)
	})
}
