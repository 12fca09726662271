package accounts

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

// A project is found by its tenant and its name; lists go by both.
const (
	projectColumns = `p.id, p.tenant_id, p.name, p.created_at, p.updated_at, p.version`

	selectProject  = `SELECT ` + projectColumns + ` FROM projects p WHERE p.tenant_id = $1 AND p.id = $2`
	selectProjects = `
SELECT ` + projectColumns + ` FROM projects p
WHERE ($1 = '*' OR p.tenant_id = $1) AND (p.tenant_id COLLATE "C", p.id COLLATE "C") > ($2, $3)
ORDER BY p.tenant_id COLLATE "C", p.id COLLATE "C" LIMIT $4`
	lockProject   = selectProject + ` FOR NO KEY UPDATE`
	insertProject = `INSERT INTO projects AS p (tenant_id, id, name) VALUES ($1, $2, $3) RETURNING ` + projectColumns
	updateProject = `UPDATE projects p SET name = $3 WHERE p.tenant_id = $1 AND p.id = $2 RETURNING ` + projectColumns
	deleteProject = `DELETE FROM projects WHERE tenant_id = $1 AND id = $2`
)

// positionMark stands between a tenant's and a project's name, in neither of
// which it can be.
const positionMark = "/"

func scanProject(r row) (p account.Project, err error) {
	err = r.Scan(&p.ID, &p.Tenant, &p.Name, &p.CreatedAt, &p.UpdatedAt, &p.Version)
	return p, err
}

// Project returns a project of one tenant.
func (s *Store) Project(ctx context.Context, tenant, id string) (account.Project, error) {
	return one(s.o.Pool.QueryRow(ctx, selectProject, tenant, id), scanProject)
}

// Projects returns a page of the projects of a tenant, by tenant and id.
func (s *Store) Projects(ctx context.Context, tenant, after string, limit int) (account.Page[account.Project], error) {
	inTenant, id, ok := strings.Cut(after, positionMark)
	if after != "" && !ok {
		return account.Page[account.Project]{}, badPosition()
	}
	position := func(p account.Project) string { return p.Tenant + positionMark + p.ID }
	return page(ctx, s, scanProject, position, limit, selectProjects, tenant, inTenant, id)
}

func projectChange(by request.Principal, action string, p account.Project) change {
	return change{by: by, action: action, kind: "project", tenant: p.Tenant, target: p.ID, detail: map[string]any{"name": p.Name}}
}

// CreateProject makes a project of a tenant.
func (s *Store) CreateProject(ctx context.Context, by request.Principal, p account.Project) (made account.Project, err error) {
	err = s.apply(ctx, projectChange(by, "create", p), func(tx pgx.Tx, _ *change) (err error) {
		made, err = scanProject(tx.QueryRow(ctx, insertProject, p.Tenant, p.ID, p.Name))
		return err
	})
	return orNone(made, err)
}

func projectVersion(p account.Project) int64 { return p.Version }

// UpdateProject sets the name.
func (s *Store) UpdateProject(ctx context.Context, by request.Principal, p account.Project) (now account.Project, err error) {
	err = s.apply(ctx, projectChange(by, "update", p), func(tx pgx.Tx, _ *change) error {
		_, err := lockCurrent(tx.QueryRow(ctx, lockProject, p.Tenant, p.ID), scanProject, p.Version, projectVersion)
		if err != nil {
			return err
		}
		now, err = scanProject(tx.QueryRow(ctx, updateProject, p.Tenant, p.ID, p.Name))
		return err
	})
	return orNone(now, err)
}

// DeleteProject deletes a project that nothing belongs to any more.
func (s *Store) DeleteProject(ctx context.Context, by request.Principal, p account.Project) error {
	return s.apply(ctx, projectChange(by, "delete", p), func(tx pgx.Tx, _ *change) error {
		if _, err := lockCurrent(tx.QueryRow(ctx, lockProject, p.Tenant, p.ID), scanProject, p.Version, projectVersion); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, deleteProject, p.Tenant, p.ID)
		return removal(err)
	})
}
