package accounts

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// maxBlocked bounds the blocked agents of a tenant: all of them go to every
// sidecar. Blocks of agents of one tenant wait for each other, so that they can
// be counted.
const maxBlocked = 1_000

const (
	lockBlocked  = `SELECT pg_advisory_xact_lock(hashtextextended('gatehouse blocked agents of ' || $1, 0))`
	countBlocked = `SELECT count(*) FROM agents WHERE tenant_id = $1 AND status = 'blocked'`

	agentColumns = `g.id::text, g.tenant_id, coalesce(g.project_id, ''), g.name, g.role, g.status, g.blocked_at,
	coalesce(g.blocked_reason, ''), g.metadata, g.created_at, g.updated_at, g.version`

	selectAgent  = `SELECT ` + agentColumns + ` FROM agents g WHERE g.id = $1 AND ($2 = '*' OR g.tenant_id = $2)`
	selectAgents = `
SELECT ` + agentColumns + ` FROM agents g
WHERE ($1 = '*' OR g.tenant_id = $1) AND ($2 = '' OR g.id > nullif($2, '')::uuid) ORDER BY g.id LIMIT $3`
	lockAgent   = `SELECT ` + agentColumns + ` FROM agents g WHERE g.id = $1 AND g.tenant_id = $2 FOR NO KEY UPDATE`
	insertAgent = `
INSERT INTO agents AS g (tenant_id, project_id, name, role, metadata)
VALUES ($1, nullif($2, ''), $3, $4, $5) RETURNING ` + agentColumns
	blockAgent = `
UPDATE agents g SET status = 'blocked', blocked_at = clock_timestamp(), blocked_reason = $2
WHERE g.id = $1 RETURNING ` + agentColumns
	unblockAgent = `
UPDATE agents g SET status = 'active', blocked_at = NULL, blocked_reason = NULL
WHERE g.id = $1 RETURNING ` + agentColumns
)

func scanAgent(r row) (g account.Agent, err error) {
	var state string
	var blocked pgtype.Timestamptz
	err = r.Scan(&g.ID, &g.Tenant, &g.Project, &g.Name, &g.Role, &state, &blocked, &g.BlockedReason, &g.Metadata, &g.CreatedAt, &g.UpdatedAt, &g.Version)
	g.Status, g.BlockedAt = account.AgentStatus(state), blocked.Time
	return g, err
}

// Agent returns an agent within a tenant.
func (s *Store) Agent(ctx context.Context, tenant, id string) (account.Agent, error) {
	if !postgres.IsUUID(id) {
		return account.Agent{}, apierr.Missing()
	}
	return one(s.o.Pool.QueryRow(ctx, selectAgent, id, tenant), scanAgent)
}

// Agents returns a page of the agents of a tenant, by id.
func (s *Store) Agents(ctx context.Context, tenant, after string, limit int) (account.Page[account.Agent], error) {
	if after != "" && !postgres.IsUUID(after) {
		return account.Page[account.Agent]{}, badPosition()
	}
	return page(ctx, s, scanAgent, func(g account.Agent) string { return g.ID }, limit, selectAgents, tenant, after)
}

// CreateAgent makes an active agent.
func (s *Store) CreateAgent(ctx context.Context, by request.Principal, g account.Agent) (made account.Agent, err error) {
	if g.Metadata == nil {
		g.Metadata = map[string]any{}
	}
	c := change{
		by: by, action: "create", kind: "agent", tenant: g.Tenant,
		detail: map[string]any{"name": g.Name, "role": g.Role, "project_id": g.Project},
	}
	err = s.apply(ctx, c, func(tx pgx.Tx, c *change) (err error) {
		made, err = scanAgent(tx.QueryRow(ctx, insertAgent, g.Tenant, g.Project, g.Name, g.Role, g.Metadata))
		c.target = made.ID
		return err
	})
	return orNone(made, err)
}

func agentVersion(g account.Agent) int64 { return g.Version }

// BlockAgent blocks an agent for g's BlockedReason. It is live data: what the
// agent does is refused everywhere, without any token being revoked. Where it
// is blocked already, only the audit log changes. A tenant has room for
// maxBlocked of them: state.conflict.
func (s *Store) BlockAgent(ctx context.Context, by request.Principal, g account.Agent) (account.Agent, error) {
	return s.setAgent(ctx, by, g, account.AgentBlocked, blockAgent, g.BlockedReason)
}

// UnblockAgent makes an agent active again. Where it is, only the audit log
// changes.
func (s *Store) UnblockAgent(ctx context.Context, by request.Principal, g account.Agent) (account.Agent, error) {
	return s.setAgent(ctx, by, g, account.AgentActive, unblockAgent)
}

func (s *Store) setAgent(ctx context.Context, by request.Principal, g account.Agent, to account.AgentStatus, sql string, args ...any) (now account.Agent, err error) {
	if !postgres.IsUUID(g.ID) {
		return account.Agent{}, apierr.Missing()
	}
	c := change{by: by, action: "unblock", kind: "agent", tenant: g.Tenant, target: g.ID, detail: map[string]any{"name": g.Name}}
	if to == account.AgentBlocked {
		c.action, c.detail["reason"] = "block", g.BlockedReason
	}
	err = s.apply(ctx, c, func(tx pgx.Tx, _ *change) error {
		old, err := lockCurrent(tx.QueryRow(ctx, lockAgent, g.ID, g.Tenant), scanAgent, g.Version, agentVersion)
		if now = old; err != nil || old.Status == to {
			return err
		}
		if old.Status == account.AgentRetired {
			return apierr.Conflict("retired", nil)
		}
		if to == account.AgentBlocked {
			if err := roomToBlock(ctx, tx, g.Tenant); err != nil {
				return err
			}
		}
		if now, err = scanAgent(tx.QueryRow(ctx, sql, append([]any{g.ID}, args...)...)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, nextEpoch)
		return err
	})
	return orNone(now, err)
}

// roomToBlock refuses one more blocked agent than a tenant may have.
func roomToBlock(ctx context.Context, tx pgx.Tx, tenant string) error {
	if _, err := tx.Exec(ctx, lockBlocked, tenant); err != nil {
		return err
	}
	var n int64
	if err := tx.QueryRow(ctx, countBlocked, tenant).Scan(&n); err != nil {
		return err
	}
	if n >= maxBlocked {
		return apierr.Conflict("too_many_blocked", nil)
	}
	return nil
}
