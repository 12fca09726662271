package accounts

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// A client's agent is named by the agent's name, which is unique in its tenant.
const (
	clientColumns = `c.id::text, c.name, c.role, c.tenant_id, coalesce(c.project_id, ''),
	coalesce((SELECT a.name FROM agents a WHERE a.id = c.agent_id), ''), c.status = 'disabled', c.created_at, c.updated_at, c.version`

	selectClient  = `SELECT ` + clientColumns + ` FROM clients c WHERE c.id = $1 AND ($2 = '*' OR c.tenant_id = $2)`
	selectClients = `
SELECT ` + clientColumns + ` FROM clients c
WHERE ($1 = '*' OR c.tenant_id = $1) AND ($2 = '' OR c.id > nullif($2, '')::uuid) ORDER BY c.id LIMIT $3`
	lockClient   = `SELECT ` + clientColumns + ` FROM clients c WHERE c.id = $1 AND c.tenant_id = $2 FOR NO KEY UPDATE OF c`
	insertClient = `
INSERT INTO clients AS c (tenant_id, project_id, agent_id, name, role, secret_hash, status)
VALUES ($1, nullif($2, ''), $3, $4, $5, $6, $7) RETURNING ` + clientColumns
	updateClient = `
UPDATE clients c SET project_id = nullif($3, ''), agent_id = $4, name = $5, role = $6, status = $7
WHERE c.id = $1 AND c.tenant_id = $2 RETURNING ` + clientColumns
	deleteClient = `DELETE FROM clients WHERE id = $1`
	agentByName  = `SELECT id FROM agents WHERE tenant_id = $1 AND name = $2`
)

func scanClient(r row) (c account.Client, err error) {
	var role string
	err = r.Scan(&c.ID, &c.Name, &role, &c.Tenant, &c.Project, &c.Agent, &c.Disabled, &c.CreatedAt, &c.UpdatedAt, &c.Version)
	c.Role = request.Role(role)
	return c, err
}

// Client returns a client within a tenant.
func (s *Store) Client(ctx context.Context, tenant, id string) (account.Client, error) {
	if !postgres.IsUUID(id) {
		return account.Client{}, apierr.Missing()
	}
	return one(s.o.Pool.QueryRow(ctx, selectClient, id, tenant), scanClient)
}

// Clients returns a page of the clients of a tenant, by id.
func (s *Store) Clients(ctx context.Context, tenant, after string, limit int) (account.Page[account.Client], error) {
	if after != "" && !postgres.IsUUID(after) {
		return account.Page[account.Client]{}, badPosition()
	}
	return page(ctx, s, scanClient, func(c account.Client) string { return c.ID }, limit, selectClients, tenant, after)
}

// agentID finds the agent of a client; none is NULL.
func agentID(ctx context.Context, tx pgx.Tx, tenant, name string) (id pgtype.UUID, err error) {
	if name == "" {
		return id, nil
	}
	err = tx.QueryRow(ctx, agentByName, tenant, name).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = apierr.Unfit(nil, apierr.Field{Pointer: "/agent", Code: "unknown", Message: "does not exist"})
	}
	return id, err
}

// CreateClient makes a client and its secret, which is returned and not kept.
func (s *Store) CreateClient(ctx context.Context, by request.Principal, c account.Client) (made account.Client, secret string, err error) {
	secret, hash := s.o.NewSecret()
	ch := change{by: by, action: "create", kind: "client", tenant: c.Tenant, detail: clientDetail(c)}
	err = s.apply(ctx, ch, func(tx pgx.Tx, ch *change) error {
		agent, err := agentID(ctx, tx, c.Tenant, c.Agent)
		if err != nil {
			return err
		}
		made, err = scanClient(tx.QueryRow(ctx, insertClient, c.Tenant, c.Project, agent, c.Name, string(c.Role), hash, status(c.Disabled)))
		ch.target = made.ID
		return err
	})
	if err != nil {
		return account.Client{}, "", err
	}
	return made, secret, nil
}

func clientDetail(c account.Client) map[string]any {
	return map[string]any{"name": c.Name, "role": c.Role, "project_id": c.Project, "agent": c.Agent, "disabled": c.Disabled}
}

// UpdateClient sets all but tenant and secret. What takes something away
// revokes the client's tokens.
func (s *Store) UpdateClient(ctx context.Context, by request.Principal, c account.Client) (now account.Client, err error) {
	if !postgres.IsUUID(c.ID) {
		return account.Client{}, apierr.Missing()
	}
	ch := change{by: by, action: "update", kind: "client", tenant: c.Tenant, target: c.ID, detail: clientDetail(c)}
	err = s.apply(ctx, ch, func(tx pgx.Tx, ch *change) error {
		old, err := lockCurrent(tx.QueryRow(ctx, lockClient, c.ID, c.Tenant), scanClient, c.Version, clientVersion)
		if err != nil {
			return err
		}
		agent, err := agentID(ctx, tx, c.Tenant, c.Agent)
		if err != nil {
			return err
		}
		now, err = scanClient(tx.QueryRow(ctx, updateClient, c.ID, c.Tenant, c.Project, agent, c.Name, string(c.Role), status(c.Disabled)))
		if err != nil || sameRights(old, now) {
			return err
		}
		return revoke(ctx, tx, *ch, c.ID, "client changed")
	})
	return orNone(now, err)
}

func clientVersion(c account.Client) int64 { return c.Version }

// sameRights reports whether tokens of old tell the truth of now, or now has
// been enabled only.
func sameRights(old, now account.Client) bool {
	return old.Role == now.Role && old.Project == now.Project && old.Agent == now.Agent && (old.Disabled || !now.Disabled)
}

// DeleteClient deletes a client and revokes its tokens.
func (s *Store) DeleteClient(ctx context.Context, by request.Principal, c account.Client) error {
	if !postgres.IsUUID(c.ID) {
		return apierr.Missing()
	}
	ch := change{by: by, action: "delete", kind: "client", tenant: c.Tenant, target: c.ID}
	return s.apply(ctx, ch, func(tx pgx.Tx, ch *change) error {
		old, err := lockCurrent(tx.QueryRow(ctx, lockClient, c.ID, c.Tenant), scanClient, c.Version, clientVersion)
		if err != nil {
			return err
		}
		ch.detail = map[string]any{"name": old.Name}
		if err := revoke(ctx, tx, *ch, c.ID, "client deleted"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, deleteClient, c.ID)
		return removal(err)
	})
}
