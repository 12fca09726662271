package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/mesh"
	"gatehouse/internal/postgres"
	"gatehouse/internal/revision"
)

// Bounds of what is read at once. More is an error: a part of it would be a lie.
const (
	maxLive       = 200_000 // revocations, tenants and agents, of all tenants together
	maxPolicySets = 10_000
)

const (
	selectVersions    = `SELECT id::text, version FROM sidecars WHERE id = ANY ($1::uuid[]) AND status = 'active' LIMIT $2`
	selectEpoch       = `SELECT epoch FROM live_epoch`
	selectGenerations = `
SELECT p.name, a.generation FROM policy_sets p
CROSS JOIN LATERAL (SELECT max(generation) AS generation FROM policy_activations WHERE policy_set = p.name) a
WHERE a.generation IS NOT NULL LIMIT $1`
	selectActive = `
SELECT a.policy_set, a.generation, a.revision_id, a.kind, a.kid, a.signature, r.bundle
FROM policy_activations a JOIN policy_revisions r ON r.policy_set = a.policy_set AND r.id = a.revision_id
WHERE a.policy_set = $1 ORDER BY a.generation DESC LIMIT 1`
)

// Bounds of one tenant's part of live data, above those that its stores keep to.
const (
	maxTenantRevoked = 20_000
	maxTenantBlocked = 1_000
)

// Versions returns the versions of the registrations that are active, by id;
// unknown and revoked ones are absent.
func (s *Store) Versions(ctx context.Context, ids []string) (map[string]int64, error) {
	versions := make(map[string]int64, len(ids))
	for part := range slices.Chunk(ids, maxStatement) {
		known := slices.DeleteFunc(slices.Clone(part), func(id string) bool { return !postgres.IsUUID(id) })
		more, err := collect[int64](ctx, s, maxStatement, selectVersions, known)
		if err != nil {
			return nil, err
		}
		maps.Copy(versions, more)
	}
	return versions, nil
}

// Epoch returns the epoch of live data.
func (s *Store) Epoch(ctx context.Context) (epoch int64, err error) {
	err = s.o.Pool.QueryRow(ctx, selectEpoch).Scan(&epoch)
	return epoch, answer(err)
}

// Generations returns the newest generation of each policy set that has one.
func (s *Store) Generations(ctx context.Context) (map[string]int64, error) {
	return collect[int64](ctx, s, maxPolicySets, selectGenerations)
}

// collect reads numbers by name, at most limit. The statement's last parameter
// is its limit: one more is asked for.
func collect[N int | int64](ctx context.Context, s *Store, limit int, sql string, args ...any) (map[string]N, error) {
	rows, err := s.o.Pool.Query(ctx, sql, append(slices.Clone(args), limit+1)...)
	if err != nil {
		return nil, answer(err)
	}
	numbers := map[string]N{}
	var name string
	var n N
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error { numbers[name] = n; return nil })
	if err == nil && len(numbers) > limit {
		err = fmt.Errorf("more than %d rows", limit)
	}
	return orNone(numbers, answer(err))
}

// Active returns the activation in force of a policy set, with its bundle; the
// zero value where there is none.
func (s *Store) Active(ctx context.Context, set string) (a mesh.Activated, err error) {
	var kind string
	err = s.o.Pool.QueryRow(ctx, selectActive, set).Scan(&a.PolicySet, &a.Generation, &a.Revision, &kind, &a.KeyID, &a.Signature, &a.Bundle)
	if errors.Is(err, pgx.ErrNoRows) {
		return mesh.Activated{}, nil
	}
	a.Kind = revision.Kind(kind)
	return orNone(a, answer(err))
}

// One statement, so that all of it is of one moment. Revocations expire by the
// clock that they were made by, the database's. The order makes equal data equal.
//
// A tenant of too many rows is told as suspended in their place, which refuses
// more than they do. What is revoked for all tenants has no tenant that could be.
const selectLive = `
WITH part AS MATERIALIZED (
	SELECT 'subject' AS kind, tenant_id AS tenant, subject AS id, '' AS name, floor(extract(epoch FROM max(issued_before)))::bigint AS number FROM revocations
		WHERE kind = 'subject' AND expires_at > clock_timestamp() GROUP BY tenant_id, subject
	UNION ALL
	SELECT DISTINCT 'token', tenant_id, token_id, '', 0 FROM revocations WHERE kind = 'token' AND expires_at > clock_timestamp()
	UNION ALL
	SELECT 'agent', tenant_id, id::text, name, 0 FROM agents WHERE status = 'blocked'
), excess AS (
	SELECT tenant, count(*) AS number FROM part WHERE tenant <> '*' GROUP BY tenant
	HAVING count(*) FILTER (WHERE kind <> 'agent') > $2 OR count(*) FILTER (WHERE kind = 'agent') > $3
)
SELECT kind, tenant, id, name, number FROM (
	SELECT 'epoch' AS kind, '' AS tenant, '' AS id, '' AS name, epoch AS number FROM live_epoch
	UNION ALL
	SELECT kind, tenant, id, name, number FROM part WHERE tenant NOT IN (SELECT tenant FROM excess)
	UNION ALL
	SELECT 'tenant', id, '', '', 0 FROM tenants WHERE status = 'suspended' AND id NOT IN (SELECT tenant FROM excess)
	UNION ALL
	SELECT 'tenant', tenant, '', '', number FROM excess
) l ORDER BY kind COLLATE "C", tenant COLLATE "C", id COLLATE "C" LIMIT $1`

// Live returns all live data, of one moment. A tenant whose part is above its
// bound is told as suspended instead, and logged: it fails closed, for itself
// alone.
func (s *Store) Live(ctx context.Context) (mesh.Live, error) {
	rows, err := s.o.Pool.Query(ctx, selectLive, maxLive+2, maxTenantRevoked, maxTenantBlocked) // the epoch, and one too many
	if err != nil {
		return mesh.Live{}, answer(err)
	}
	var l mesh.Live
	var kind, tenant, id, name string
	var number int64
	read, err := pgx.ForEachRow(rows, []any{&kind, &tenant, &id, &name, &number}, func() error {
		addLive(&l, kind, tenant, id, name, number)
		if kind == "tenant" && number > 0 {
			s.o.Log.Warn("too much live data of a tenant: sidecars refuse all of it", "tenant", tenant, "rows", number)
		}
		return nil
	})
	if err == nil && read.RowsAffected() > maxLive+1 {
		err = fmt.Errorf("more than %d rows of live data", maxLive)
	}
	return orNone(l, answer(err))
}

// addLive adds a row of selectLive. A token of the second in which its subject
// was revoked is refused: tokens tell no finer time.
func addLive(l *mesh.Live, kind, tenant, id, name string, number int64) {
	switch kind {
	case "epoch":
		l.Epoch = number
	case "subject":
		l.Subjects = append(l.Subjects, mesh.RevokedSubject{Tenant: tenant, Subject: id, IssuedBefore: number})
	case "token":
		l.Tokens = append(l.Tokens, mesh.RevokedToken{Tenant: tenant, TokenID: id})
	case "tenant":
		l.Suspended = append(l.Suspended, tenant)
	case "agent":
		l.Blocked = append(l.Blocked, mesh.BlockedAgent{Tenant: tenant, ID: id, Name: name})
	}
}
