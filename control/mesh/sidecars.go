package mesh

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// A tenant of '*' in a parameter stands for all.
const (
	sidecarColumns = `s.id::text, s.tenant_id, coalesce(s.project_id, ''), coalesce(s.agent_id::text, ''), s.name, s.role, s.shared, s.policy_set,
	s.status = 'revoked', s.version, s.created_at, s.updated_at,
	s.last_seen_at, s.incarnation, coalesce(s.generation, 0), coalesce(s.revision_id, ''), coalesce(s.live_epoch, 0), coalesce(s.skew_ms, 0),
	coalesce(s.build, ''), s.nack_at, coalesce(s.nack_revision, ''), coalesce(s.nack_reason, ''),
	coalesce(s.nack_generation, 0)`

	selectSidecar  = `SELECT ` + sidecarColumns + ` FROM sidecars s WHERE s.id = $1 AND ($2 = '*' OR s.tenant_id = $2)`
	selectSidecars = `
SELECT ` + sidecarColumns + ` FROM sidecars s
WHERE ($1 = '*' OR s.tenant_id = $1) AND ($2 = '' OR s.id > nullif($2, '')::uuid) ORDER BY s.id LIMIT $3`
	lockSidecar   = `SELECT ` + sidecarColumns + ` FROM sidecars s WHERE s.id = $1 AND s.tenant_id = $2 FOR NO KEY UPDATE OF s`
	insertSidecar = `
INSERT INTO sidecars AS s (tenant_id, project_id, agent_id, name, role, shared, policy_set, credential_hash)
VALUES ($1, nullif($2, ''), nullif($3, '')::uuid, $4, $5, $6, $7, $8) RETURNING ` + sidecarColumns
	// What it reported of one policy set is nothing of another: generations of
	// two sets have no order. The right sides are of the row as it was.
	updateSidecar = `
UPDATE sidecars s SET project_id = nullif($2, ''), agent_id = nullif($3, '')::uuid, role = $4, shared = $5, policy_set = $6,
	generation = CASE WHEN s.policy_set = $6 THEN s.generation END, revision_id = CASE WHEN s.policy_set = $6 THEN s.revision_id END,
	nack_at = CASE WHEN s.policy_set = $6 THEN s.nack_at END, nack_revision = CASE WHEN s.policy_set = $6 THEN s.nack_revision END,
	nack_reason = CASE WHEN s.policy_set = $6 THEN s.nack_reason END, nack_generation = CASE WHEN s.policy_set = $6 THEN s.nack_generation END,
	` + nextVersion
	rotateSidecar = `UPDATE sidecars s SET credential_hash = $2, ` + nextVersion
	revokeSidecar = `UPDATE sidecars s SET status = 'revoked', ` + nextVersion
	nextVersion   = `version = s.version + 1, updated_at = clock_timestamp() WHERE s.id = $1 RETURNING ` + sidecarColumns
)

// Sidecar returns a sidecar within a tenant, revoked or not.
func (s *Store) Sidecar(ctx context.Context, tenant, id string) (mesh.Sidecar, error) {
	if !postgres.IsUUID(id) {
		return mesh.Sidecar{}, apierr.Missing()
	}
	sc, err := scanSidecar(s.o.Pool.QueryRow(ctx, selectSidecar, id, tenant))
	return orNone(sc, answer(err))
}

// Sidecars returns a page of the sidecars of a tenant, by id, the revoked among
// them.
func (s *Store) Sidecars(ctx context.Context, tenant, after string, limit int) (account.Page[mesh.Sidecar], error) {
	if after != "" && !postgres.IsUUID(after) {
		return account.Page[mesh.Sidecar]{}, apierr.Unfit(nil, apierr.Field{Pointer: "/query/cursor", Code: "cursor", Message: "is not one of this list"})
	}
	return s.page(ctx, limit, selectSidecars, tenant, after)
}

// RegisterSidecar makes a sidecar of a tenant, and its credential, which is
// returned and not kept. The id, the version and all times are the store's to
// say. Errors: auth.forbidden where it would be more than by may make it;
// validation.invalid; state.conflict where the tenant has one of that name.
func (s *Store) RegisterSidecar(ctx context.Context, by request.Principal, sc mesh.Sidecar) (made mesh.Sidecar, c mesh.Credential, err error) {
	if err := check(by, sc); err != nil {
		return mesh.Sidecar{}, mesh.Credential{}, err
	}
	c, err = s.credential(ctx)
	if err != nil {
		return mesh.Sidecar{}, mesh.Credential{}, err
	}
	ch := change{by: by, action: "register", tenant: sc.Tenant, detail: detail(sc)}
	err = s.apply(ctx, ch, func(tx pgx.Tx, ch *change) (err error) {
		made, err = scanSidecar(tx.QueryRow(ctx, insertSidecar,
			sc.Tenant, sc.Project, sc.Agent, sc.Name, string(sc.Role), sc.Shared, sc.PolicySet, digest(c.Secret)))
		ch.target = made.ID
		return err
	})
	if err != nil {
		return mesh.Sidecar{}, mesh.Credential{}, err
	}
	return made, c, nil
}

// check refuses what no statement is needed for: what by may not make of a
// sidecar, and an agent that can't be one.
func check(by request.Principal, sc mesh.Sidecar) error {
	above := sc.Role == request.RoleAdmin || sc.Role == request.RoleOperator
	if (above || sc.Shared) && by.Tenant != request.AnyTenant && by != (request.Principal{}) {
		return apierr.New(apierr.AuthForbidden, apierr.Options{
			Message: "Only an administrator of the mesh may give a sidecar a role above developer, or share it between tenants.",
		})
	}
	if sc.Agent != "" && !postgres.IsUUID(sc.Agent) {
		return apierr.Unfit(nil, apierr.Field{Pointer: "/agent_id", Code: "unknown", Message: "does not exist"})
	}
	return nil
}

func detail(sc mesh.Sidecar) map[string]any {
	return map[string]any{
		"name": sc.Name, "role": sc.Role, "project_id": sc.Project, "agent_id": sc.Agent, "shared": sc.Shared, "policy_set": sc.PolicySet,
	}
}

// UpdateSidecar sets role, project, agent, shared and policy set, of the
// version that sc has (0 for any). Errors: those of RegisterSidecar;
// state.precondition_failed; state.conflict where it is revoked.
func (s *Store) UpdateSidecar(ctx context.Context, by request.Principal, sc mesh.Sidecar) (mesh.Sidecar, error) {
	if err := check(by, sc); err != nil {
		return mesh.Sidecar{}, err
	}
	ch := change{by: by, action: "update", tenant: sc.Tenant, target: sc.ID, detail: detail(sc)}
	delete(ch.detail, "name") // which stays
	return s.amend(ctx, ch, sc.Version, func(tx pgx.Tx) row {
		return tx.QueryRow(ctx, updateSidecar, sc.ID, sc.Project, sc.Agent, string(sc.Role), sc.Shared, sc.PolicySet)
	})
}

// RotateSidecar gives a sidecar another credential; the one before is worth
// nothing from then on. Errors are those of UpdateSidecar.
func (s *Store) RotateSidecar(ctx context.Context, by request.Principal, sc mesh.Sidecar) (mesh.Sidecar, mesh.Credential, error) {
	c, err := s.credential(ctx)
	if err != nil {
		return mesh.Sidecar{}, mesh.Credential{}, err
	}
	ch := change{by: by, action: "rotate", tenant: sc.Tenant, target: sc.ID}
	now, err := s.amend(ctx, ch, sc.Version, func(tx pgx.Tx) row {
		return tx.QueryRow(ctx, rotateSidecar, sc.ID, digest(c.Secret))
	})
	if err != nil {
		return mesh.Sidecar{}, mesh.Credential{}, err
	}
	return now, c, nil
}

// amend changes a registration that is not revoked, in the version wanted.
func (s *Store) amend(ctx context.Context, ch change, version int64, update func(pgx.Tx) row) (now mesh.Sidecar, err error) {
	err = s.locked(ctx, ch, version, func(tx pgx.Tx, old mesh.Sidecar, _ *change) (err error) {
		if old.Revoked {
			return apierr.Conflict("revoked", nil)
		}
		now, err = scanSidecar(update(tx))
		return err
	})
	return orNone(now, err)
}

// RevokeSidecar makes a sidecar's credential worthless for ever. Its row stays,
// for what refers to it. Revoking it again changes nothing but the audit log.
func (s *Store) RevokeSidecar(ctx context.Context, by request.Principal, sc mesh.Sidecar) error {
	ch := change{by: by, action: "revoke", tenant: sc.Tenant, target: sc.ID}
	return s.locked(ctx, ch, sc.Version, func(tx pgx.Tx, old mesh.Sidecar, ch *change) error {
		ch.detail = map[string]any{"name": old.Name}
		if old.Revoked {
			return nil
		}
		_, err := scanSidecar(tx.QueryRow(ctx, revokeSidecar, sc.ID))
		return err
	})
}

// locked applies a change to the sidecar that it names, whose row is locked
// and has the version wanted; 0 is any.
func (s *Store) locked(ctx context.Context, ch change, version int64, f func(pgx.Tx, mesh.Sidecar, *change) error) error {
	if !postgres.IsUUID(ch.target) {
		return apierr.Missing()
	}
	return s.apply(ctx, ch, func(tx pgx.Tx, ch *change) error {
		old, err := scanSidecar(tx.QueryRow(ctx, lockSidecar, ch.target, ch.tenant))
		if err != nil {
			return err
		}
		if version != 0 && version != old.Version {
			return apierr.New(apierr.StatePreconditionFailed, apierr.Options{})
		}
		return f(tx, old, ch)
	})
}
