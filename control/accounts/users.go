package accounts

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// A tenant of '*' in a parameter stands for all.
const (
	userColumns = `u.id::text, u.username, u.role, u.tenant_id, coalesce(u.project_id, ''), u.status = 'disabled', u.created_at, u.updated_at, u.version`

	selectUser  = `SELECT ` + userColumns + ` FROM users u WHERE u.id = $1 AND ($2 = '*' OR u.tenant_id = $2)`
	selectUsers = `
SELECT ` + userColumns + ` FROM users u
WHERE ($1 = '*' OR u.tenant_id = $1) AND ($2 = '' OR u.id > nullif($2, '')::uuid) ORDER BY u.id LIMIT $3`
	lockUser   = `SELECT ` + userColumns + ` FROM users u WHERE u.id = $1 AND u.tenant_id = $2 FOR NO KEY UPDATE`
	insertUser = `
INSERT INTO users AS u (tenant_id, project_id, username, password_hash, role, status)
VALUES ($1, nullif($2, ''), $3, $4, $5, $6) RETURNING ` + userColumns
	updateUser = `
UPDATE users u SET project_id = nullif($3, ''), role = $4, status = $5, password_hash = coalesce(nullif($6, ''), u.password_hash)
WHERE u.id = $1 AND u.tenant_id = $2 RETURNING ` + userColumns
	deleteUser = `DELETE FROM users WHERE id = $1`
)

func scanUser(r row) (u account.User, err error) {
	var role string
	err = r.Scan(&u.ID, &u.Username, &role, &u.Tenant, &u.Project, &u.Disabled, &u.CreatedAt, &u.UpdatedAt, &u.Version)
	u.Role = request.Role(role)
	return u, err
}

func status(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "active"
}

// User returns a user within a tenant.
func (s *Store) User(ctx context.Context, tenant, id string) (account.User, error) {
	if !postgres.IsUUID(id) {
		return account.User{}, apierr.Missing()
	}
	return one(s.o.Pool.QueryRow(ctx, selectUser, id, tenant), scanUser)
}

// Users returns a page of the users of a tenant, by id.
func (s *Store) Users(ctx context.Context, tenant, after string, limit int) (account.Page[account.User], error) {
	if after != "" && !postgres.IsUUID(after) {
		return account.Page[account.User]{}, badPosition()
	}
	return page(ctx, s, scanUser, func(u account.User) string { return u.ID }, limit, selectUsers, tenant, after)
}

func badPosition() error {
	return apierr.Unfit(nil, apierr.Field{Pointer: "/query/cursor", Code: "cursor", Message: "is not one of this list"})
}

// CreateUser makes a user under the canonical form of its name.
func (s *Store) CreateUser(ctx context.Context, by request.Principal, u account.User, password string) (made account.User, err error) {
	name, err := account.CanonicalName(u.Username)
	if err != nil {
		return account.User{}, apierr.Unfit(nil, apierr.Field{Pointer: "/username", Code: "username", Message: err.Error()})
	}
	hash, err := s.o.HashPassword(ctx, name, password)
	if err != nil {
		return account.User{}, err
	}
	c := change{by: by, action: "create", kind: "user", tenant: u.Tenant, detail: userDetail(u)}
	err = s.apply(ctx, c, func(tx pgx.Tx, c *change) (err error) {
		made, err = scanUser(tx.QueryRow(ctx, insertUser, u.Tenant, u.Project, name, hash, string(u.Role), status(u.Disabled)))
		c.target = made.ID
		return err
	})
	return orNone(made, err)
}

func userDetail(u account.User) map[string]any {
	return map[string]any{"role": u.Role, "project_id": u.Project, "disabled": u.Disabled}
}

// orNone is v, or nothing beside an error.
func orNone[T any](v T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

// UpdateUser sets role, project, whether it is disabled, and the password where
// one is given. What takes something away revokes the user's tokens; a new
// password and a disabled user end its sessions too.
func (s *Store) UpdateUser(ctx context.Context, by request.Principal, u account.User, password string) (now account.User, err error) {
	if !postgres.IsUUID(u.ID) {
		return account.User{}, apierr.Missing()
	}
	hash := ""
	if password != "" {
		if hash, err = s.o.HashPassword(ctx, u.Username, password); err != nil {
			return account.User{}, err
		}
	}
	c := change{by: by, action: "update", kind: "user", tenant: u.Tenant, target: u.ID, detail: userDetail(u)}
	c.detail["password"] = hash != ""
	err = s.apply(ctx, c, func(tx pgx.Tx, c *change) error {
		old, err := lockCurrent(tx.QueryRow(ctx, lockUser, u.ID, u.Tenant), scanUser, u.Version, userVersion)
		if err != nil {
			return err
		}
		now, err = scanUser(tx.QueryRow(ctx, updateUser, u.ID, u.Tenant, u.Project, string(u.Role), status(u.Disabled), hash))
		if err != nil {
			return err
		}
		return cutUser(ctx, tx, *c, old, now, hash != "")
	})
	return orNone(now, err)
}

func userVersion(u account.User) int64 { return u.Version }

// cutUser takes from a user's tokens and sessions what the change took from the
// user.
func cutUser(ctx context.Context, tx pgx.Tx, c change, old, now account.User, newPassword bool) error {
	ends := newPassword || now.Disabled && !old.Disabled
	if !ends && old.Role == now.Role && old.Project == now.Project {
		return nil
	}
	if err := revoke(ctx, tx, c, now.ID, "user changed"); err != nil || !ends {
		return err
	}
	_, err := tx.Exec(ctx, revokeSessions, now.ID)
	return err
}

// lockCurrent reads a row that the statement locks, in the version wanted.
func lockCurrent[T any](r pgx.Row, scan func(row) (T, error), want int64, version func(T) int64) (T, error) {
	v, err := scan(r)
	if err != nil {
		return v, err
	}
	return v, current(want, version(v))
}

// DeleteUser deletes a user with its sessions, and revokes its tokens.
func (s *Store) DeleteUser(ctx context.Context, by request.Principal, u account.User) error {
	if !postgres.IsUUID(u.ID) {
		return apierr.Missing()
	}
	c := change{by: by, action: "delete", kind: "user", tenant: u.Tenant, target: u.ID}
	return s.apply(ctx, c, func(tx pgx.Tx, c *change) error {
		old, err := lockCurrent(tx.QueryRow(ctx, lockUser, u.ID, u.Tenant), scanUser, u.Version, userVersion)
		if err != nil {
			return err
		}
		c.detail = map[string]any{"username": old.Username}
		if err := revoke(ctx, tx, *c, u.ID, "user deleted"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, deleteUser, u.ID)
		return removal(err)
	})
}
