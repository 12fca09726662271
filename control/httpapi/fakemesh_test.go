package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

// meshStore is the part of store that is about agents, sidecars, policies and
// decisions; store's lock guards it.
type meshStore struct {
	agents    []account.Agent
	sidecars  []mesh.Sidecar
	sets      []mesh.PolicySet
	revisions []mesh.Revision
	decisions []mesh.Decision // in the order in which they were stored
	revoked   []account.Revocation
	asked     []mesh.DecisionFilter
	breakers  []mesh.Breaker
}

const seededRevision = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func (s *store) seedMesh() {
	s.meshStore = meshStore{}
	for i, tenant := range []string{"org1", "org2"} {
		s.agents = append(s.agents, account.Agent{
			ID: uuid(i + 1), Tenant: tenant, Name: "agent-" + tenant, Role: "developer", Status: account.AgentActive,
			CreatedAt: seeded, UpdatedAt: seeded, Version: 1,
		})
		s.sidecars = append(s.sidecars, mesh.Sidecar{
			ID: uuid(i + 1), Tenant: tenant, Name: "app", Role: request.RoleDeveloper, PolicySet: "main",
			CreatedAt: seeded, UpdatedAt: seeded, Version: 1,
		})
		s.store1(tenant, "d-"+tenant, true)
	}
	s.revisions = []mesh.Revision{{
		PolicySet: "main", ID: seededRevision, Note: "first", PushedBy: uuid(1), PushedAt: seeded, Active: true,
		Files: revision.Files{revision.ConfigFile: []byte("routes: []\n")},
	}}
	s.seedBreakers()
	s.sets = []mesh.PolicySet{{
		Name: "main", ActiveAt: seeded, CreatedAt: seeded, Version: 1, Sidecars: 2, InForce: 1,
		Active: &revision.Activation{PolicySet: "main", Generation: 1, Revision: seededRevision, Kind: revision.Activate},
	}}
}

// store1 stores one decision record. The lock is held.
func (s *store) store1(tenant, id string, allowed bool) {
	record := fmt.Sprintf("{\"decision_id\": %q,\n\"allowed\": %t, \"bytes\": 9007199254740993}", id, allowed)
	s.decisions = append(s.decisions, mesh.Decision{
		ID: id, Tenant: tenant, SidecarID: uuid(1), At: seeded.Add(time.Duration(len(s.decisions)) * time.Second),
		Record: []byte(record), Cursor: strconv.Itoa(len(s.decisions) + 1),
	})
}

func (s *store) decide(tenant, id string, allowed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store1(tenant, id, allowed)
}

func (s *store) CreateAgent(ctx context.Context, by request.Principal, g account.Agent) (account.Agent, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Agent{}, err
	}
	g.ID, g.Status, g.CreatedAt, g.UpdatedAt, g.Version = s.id(), account.AgentActive, seeded, seeded, 1
	s.agents = append(s.agents, g)
	return g, nil
}

func (s *store) Agent(ctx context.Context, tenant, id string) (account.Agent, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return account.Agent{}, err
	}
	i, err := find(s.agents, func(g account.Agent) bool { return g.ID == id && matches(tenant, g.Tenant) }, 0, nil)
	if err != nil {
		return account.Agent{}, err
	}
	return s.agents[i], nil
}

func (s *store) Agents(ctx context.Context, tenant, after string, limit int) (account.Page[account.Agent], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.agents, func(g account.Agent) bool { return matches(tenant, g.Tenant) }, func(g account.Agent) string { return g.ID }, after, limit), err
}

func (s *store) setAgent(ctx context.Context, by request.Principal, g account.Agent) (account.Agent, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Agent{}, err
	}
	i, err := find(s.agents, func(o account.Agent) bool { return o.ID == g.ID }, g.Version, func(g account.Agent) int64 { return g.Version })
	if err != nil {
		return account.Agent{}, err
	}
	g.Version = s.agents[i].Version + 1
	s.agents[i] = g
	return g, nil
}

func (s *store) BlockAgent(ctx context.Context, by request.Principal, g account.Agent) (account.Agent, error) {
	g.Status, g.BlockedAt = account.AgentBlocked, seeded
	return s.setAgent(ctx, by, g)
}

func (s *store) UnblockAgent(ctx context.Context, by request.Principal, g account.Agent) (account.Agent, error) {
	g.Status, g.BlockedAt, g.BlockedReason = account.AgentActive, time.Time{}, ""
	return s.setAgent(ctx, by, g)
}

func (s *store) GovernanceStatus(ctx context.Context) ([]account.GovernanceRule, error) {
	done, err := s.ask(ctx)
	defer done()
	return []account.GovernanceRule{
		{AgentRole: "developer", DailyLimit: 5, Cooldown: 2 * time.Hour, UpdatesToday: 1, RemainingToday: 4, LastUpdateAt: seeded, NextUpdateAt: seeded.Add(2 * time.Hour), Refusal: "cooldown"},
		{AgentRole: "tester", DailyLimit: 5, Cooldown: 2 * time.Hour, RemainingToday: 5, CanAutoUpdate: true},
	}, err
}

func (s *store) RevokeToken(ctx context.Context, by request.Principal, r account.Revocation) (account.Revocation, error) {
	done, err := s.change(ctx, by)
	defer done()
	r.ExpiresAt = seeded.Add(15 * time.Minute)
	s.revoked = append(s.revoked, r)
	return r, err
}

func (s *store) RevokeSubject(ctx context.Context, by request.Principal, r account.Revocation) (account.Revocation, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return account.Revocation{}, err
	}
	i := slices.IndexFunc(s.users, func(u account.User) bool { return u.ID == r.Subject && matches(r.Tenant, u.Tenant) })
	if i < 0 {
		return account.Revocation{}, missing()
	}
	r.Tenant = s.users[i].Tenant
	r.IssuedBefore, r.ExpiresAt = seeded, seeded.Add(15*time.Minute)
	s.by, s.revoked = append(s.by, by), append(s.revoked, r)
	return r, nil
}

func credential(id string) mesh.Credential {
	return mesh.Credential{Secret: "ghsc_the_credential_of_" + id, Keys: []mesh.RevisionKey{{ID: "r1", Public: bytes.Repeat([]byte{1}, 32)}}}
}

func (s *store) RegisterSidecar(ctx context.Context, by request.Principal, c mesh.Sidecar) (mesh.Sidecar, mesh.Credential, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return mesh.Sidecar{}, mesh.Credential{}, err
	}
	c.ID, c.CreatedAt, c.UpdatedAt, c.Version = s.id(), seeded, seeded, 1
	s.sidecars = append(s.sidecars, c)
	return c, credential(c.ID), nil
}

func (s *store) Sidecar(ctx context.Context, tenant, id string) (mesh.Sidecar, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return mesh.Sidecar{}, err
	}
	i, err := find(s.sidecars, func(c mesh.Sidecar) bool { return c.ID == id && matches(tenant, c.Tenant) }, 0, nil)
	if err != nil {
		return mesh.Sidecar{}, err
	}
	return s.sidecars[i], nil
}

func (s *store) Sidecars(ctx context.Context, tenant, after string, limit int) (account.Page[mesh.Sidecar], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.sidecars, func(c mesh.Sidecar) bool { return matches(tenant, c.Tenant) }, func(c mesh.Sidecar) string { return c.ID }, after, limit), err
}

func (s *store) UpdateSidecar(ctx context.Context, by request.Principal, c mesh.Sidecar) (mesh.Sidecar, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return mesh.Sidecar{}, err
	}
	i, err := find(s.sidecars, func(o mesh.Sidecar) bool { return o.ID == c.ID }, c.Version, func(c mesh.Sidecar) int64 { return c.Version })
	if err != nil {
		return mesh.Sidecar{}, err
	}
	c.Version = s.sidecars[i].Version + 1
	s.sidecars[i] = c
	return c, nil
}

func (s *store) RotateSidecar(ctx context.Context, by request.Principal, c mesh.Sidecar) (mesh.Sidecar, mesh.Credential, error) {
	now, err := s.UpdateSidecar(ctx, by, c)
	return now, credential("rotated"), err
}

func (s *store) RevokeSidecar(ctx context.Context, by request.Principal, c mesh.Sidecar) error {
	c.Revoked = true
	_, err := s.UpdateSidecar(ctx, by, c)
	return err
}

func (s *store) PolicySets(ctx context.Context, after string, limit int) (account.Page[mesh.PolicySet], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.sets, func(mesh.PolicySet) bool { return true }, func(p mesh.PolicySet) string { return p.Name }, after, limit), err
}

func (s *store) PolicySet(ctx context.Context, name string) (mesh.PolicySet, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return mesh.PolicySet{}, err
	}
	i, err := find(s.sets, func(p mesh.PolicySet) bool { return p.Name == name }, 0, nil)
	if err != nil {
		return mesh.PolicySet{}, err
	}
	return s.sets[i], nil
}

func (s *store) PushRevision(ctx context.Context, by request.Principal, set string, files revision.Files, note string) (mesh.Revision, bool, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return mesh.Revision{}, false, err
	}
	r := mesh.Revision{PolicySet: set, ID: revision.ID(files), Note: note, PushedBy: by.Subject, PushedAt: seeded, Files: files}
	if i := slices.IndexFunc(s.revisions, func(o mesh.Revision) bool { return o.PolicySet == set && o.ID == r.ID }); i >= 0 {
		return s.revisions[i], false, nil
	}
	if !slices.ContainsFunc(s.sets, func(p mesh.PolicySet) bool { return p.Name == set }) {
		s.sets = append(s.sets, mesh.PolicySet{Name: set, CreatedAt: seeded, Version: 1})
	}
	s.revisions = append(s.revisions, r)
	return r, true, nil
}

func (s *store) Revisions(ctx context.Context, set, after string, limit int) (account.Page[mesh.Revision], error) {
	done, err := s.ask(ctx)
	defer done()
	p := part(s.revisions, func(r mesh.Revision) bool { return r.PolicySet == set }, func(r mesh.Revision) string { return r.ID }, after, limit)
	for i := range p.Items {
		p.Items[i].Files = nil
	}
	return p, err
}

// revisionLocked finds a revision by the beginning of its id.
func (s *store) revisionLocked(set, id string) (mesh.Revision, error) {
	i, err := find(s.revisions, func(r mesh.Revision) bool { return r.PolicySet == set && strings.HasPrefix(r.ID, id) }, 0, nil)
	if err != nil {
		return mesh.Revision{}, err
	}
	return s.revisions[i], nil
}

func (s *store) Revision(ctx context.Context, set, id string) (mesh.Revision, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return mesh.Revision{}, err
	}
	return s.revisionLocked(set, id)
}

func (s *store) inForce(ctx context.Context, by request.Principal, set, id string, version int64, kind revision.Kind) (mesh.PolicySet, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return mesh.PolicySet{}, err
	}
	i, err := find(s.sets, func(p mesh.PolicySet) bool { return p.Name == set }, version, func(p mesh.PolicySet) int64 { return p.Version })
	if err != nil {
		return mesh.PolicySet{}, err
	}
	r, err := s.revisionLocked(set, cmp.Or(id, seededRevision))
	if err != nil {
		return mesh.PolicySet{}, err
	}
	p := &s.sets[i]
	p.Version++
	p.Active = &revision.Activation{PolicySet: set, Generation: p.Version, Revision: r.ID, Kind: kind}
	p.ActiveAt = seeded
	return *p, nil
}

func (s *store) ActivateRevision(ctx context.Context, by request.Principal, set, id string, version int64) (mesh.PolicySet, error) {
	return s.inForce(ctx, by, set, id, version, revision.Activate)
}

func (s *store) Rollback(ctx context.Context, by request.Principal, set, id string, version int64) (mesh.PolicySet, error) {
	return s.inForce(ctx, by, set, id, version, revision.Rollback)
}

// selects reports whether a filter takes a record, as far as the tests need it.
func selects(tenant string, f mesh.DecisionFilter, d mesh.Decision) bool {
	allowed := bytes.Contains(d.Record, []byte(`"allowed": true`))
	return matches(tenant, d.Tenant) && (f.Allowed == nil || *f.Allowed == allowed)
}

func (s *store) Decisions(ctx context.Context, tenant string, f mesh.DecisionFilter, after string, limit int) (account.Page[mesh.Decision], error) {
	done, err := s.ask(ctx)
	defer done()
	s.asked = append(s.asked, f)
	newest := func(d mesh.Decision) string { return fmt.Sprintf("%020d", 1<<40-d.At.Unix()) }
	return part(s.decisions, func(d mesh.Decision) bool { return selects(tenant, f, d) }, newest, after, limit), err
}

func (s *store) Decision(ctx context.Context, tenant, id string) (mesh.Decision, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return mesh.Decision{}, err
	}
	i, err := find(s.decisions, func(d mesh.Decision) bool { return d.ID == id && matches(tenant, d.Tenant) }, 0, nil)
	if err != nil {
		return mesh.Decision{}, err
	}
	return s.decisions[i], nil
}

func (s *store) DecisionsSince(ctx context.Context, tenant string, f mesh.DecisionFilter, cursor string, limit int) ([]mesh.Decision, string, error) {
	done, err := s.ask(ctx)
	defer done()
	s.asked = append(s.asked, f)
	if err != nil || cursor == "" {
		return nil, strconv.Itoa(len(s.decisions)), err
	}
	n, err := strconv.Atoi(cursor)
	if err != nil {
		return nil, "", apierr.New(apierr.ValidationInvalid, apierr.Options{})
	}
	var out []mesh.Decision
	for _, d := range s.decisions[n:] {
		if len(out) == limit {
			break
		}
		n++
		if selects(tenant, f, d) {
			out = append(out, d)
		}
	}
	return out, strconv.Itoa(n), nil
}
