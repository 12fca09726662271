package accounts

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

const (
	seedTenant = `INSERT INTO tenants (id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING`
	seedProj   = `INSERT INTO projects (tenant_id, id, name) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING`
	seedUser   = `
INSERT INTO users (tenant_id, project_id, username, password_hash, role) VALUES ($1, nullif($2, ''), $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING id::text`
	userExists = `SELECT EXISTS (SELECT FROM users WHERE username = $1)`
)

// devUser is a user that anybody can log in as.
type devUser struct {
	account.User
	password string
}

func devUsers() []devUser {
	of := func(role request.Role, tenant, project string) devUser {
		name := string(role)
		return devUser{account.User{Username: name, Role: role, Tenant: tenant, Project: project}, name + "123"}
	}
	return []devUser{
		of(request.RoleAdmin, request.AnyTenant, ""), of(request.RoleOperator, "org1", "proj1"),
		of(request.RoleDeveloper, "org1", "proj1"), of(request.RoleObserver, "org1", "proj1"),
	}
}

// SeedDev adds the tenants, projects and users of a development system, whose
// passwords are known to all: never call it on any other. What is there stays
// as it is. hash hashes a password however short it is.
func (s *Store) SeedDev(ctx context.Context, hash func(ctx context.Context, password string) (string, error)) error {
	for _, tenant := range []string{"org1", "org2"} {
		if err := s.seed(ctx, "tenant", tenant, tenant, seedTenant, tenant); err != nil {
			return err
		}
		if err := s.seed(ctx, "project", tenant, "proj1", seedProj, tenant, "proj1"); err != nil {
			return err
		}
	}
	for _, u := range devUsers() {
		if err := s.seedUser(ctx, u, hash); err != nil {
			return err
		}
	}
	return nil
}

// errPresent ends a transaction that found nothing to do.
var errPresent = errors.New("is there already")

// seed adds one thing with its audit row, or neither where it is there.
func (s *Store) seed(ctx context.Context, kind, tenant, target, sql string, args ...any) error {
	c := change{action: "seed", kind: kind, tenant: tenant, target: target}
	return seeded(kind, target, s.apply(ctx, c, func(tx pgx.Tx, _ *change) error {
		tag, err := tx.Exec(ctx, sql, args...)
		if err == nil && tag.RowsAffected() == 0 {
			err = errPresent
		}
		return err
	}))
}

func seeded(kind, target string, err error) error {
	if err == nil || errors.Is(err, errPresent) {
		return nil
	}
	return fmt.Errorf("seed %s %s: %w", kind, target, err)
}

func (s *Store) seedUser(ctx context.Context, u devUser, hash func(context.Context, string) (string, error)) error {
	exists := false
	if err := s.o.Pool.QueryRow(ctx, userExists, u.Username).Scan(&exists); err != nil || exists {
		return seeded("user", u.Username, answer(err))
	}
	phc, err := hash(ctx, u.password)
	if err != nil {
		return seeded("user", u.Username, err)
	}
	c := change{action: "seed", kind: "user", tenant: u.Tenant}
	return seeded("user", u.Username, s.apply(ctx, c, func(tx pgx.Tx, c *change) error {
		err := tx.QueryRow(ctx, seedUser, u.Tenant, u.Project, u.Username, phc, string(u.Role)).Scan(&c.target)
		if errors.Is(err, pgx.ErrNoRows) {
			return errPresent
		}
		return err
	}))
}
