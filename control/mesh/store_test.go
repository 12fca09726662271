package mesh_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	controlmesh "gatehouse/control/mesh"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/request"
)

// fixture is a store over a database with the tenants org1 and org2, each with
// the project proj1 and an agent, and the policy sets main and other.
type fixture struct {
	*controlmesh.Store
	pool *pgxpool.Pool
}

const (
	agent1 = "00000000-0000-0000-0000-0000000000a1" // of org1
	agent2 = "00000000-0000-0000-0000-0000000000a2" // of org2
	nobody = "00000000-0000-0000-0000-000000000000"
)

func newFixture(t *testing.T) fixture {
	t.Helper()
	pool := pgtest.New(t)
	f := fixture{newStore(t, pool), pool}
	f.exec(t, `INSERT INTO tenants (id) VALUES ('org1'), ('org2')`)
	f.exec(t, `INSERT INTO projects (tenant_id, id) VALUES ('org1', 'proj1'), ('org2', 'proj1'), ('org2', 'proj2')`)
	f.exec(t, `INSERT INTO agents (id, tenant_id, name, role) VALUES ($1, 'org1', 'builder', 'developer'), ($2, 'org2', 'builder', 'developer')`, agent1, agent2)
	f.exec(t, `INSERT INTO policy_sets (name) VALUES ('main'), ('other'), ('unused')`)
	return f
}

func newStore(t *testing.T, pool *pgxpool.Pool) *controlmesh.Store {
	t.Helper()
	s, err := controlmesh.New(controlmesh.Options{
		Pool: pool, Keys: func(context.Context) ([]mesh.RevisionKey, error) { return keys(), nil },
		RequestID: func(context.Context) string { return "req-1" }, Now: noon,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keys() []mesh.RevisionKey {
	return []mesh.RevisionKey{{ID: "k1", Public: make(ed25519.PublicKey, ed25519.PublicKeySize)}}
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func (f fixture) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) text(t *testing.T, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := f.pool.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// until asks again until the answer is the one wanted.
func (f fixture) until(t *testing.T, what, sql, want string) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); f.text(t, sql) != want; {
		if time.Now().After(limit) {
			t.Fatalf("a minute has passed before %s", what)
		}
	}
}

// root administers the mesh, local a tenant.
func root() request.Principal {
	return request.Principal{Kind: request.KindToken, Subject: "root", Tenant: "*", Role: request.RoleAdmin}
}

func local() request.Principal {
	return request.Principal{Kind: request.KindToken, Subject: "local", Tenant: "org1", Role: request.RoleAdmin}
}

// asked is a registration that anyone may make.
func asked(name string) mesh.Sidecar {
	return mesh.Sidecar{Tenant: "org1", Project: "proj1", Agent: agent1, Name: name, Role: request.RoleDeveloper, PolicySet: "main"}
}

func (f fixture) register(t *testing.T, sc mesh.Sidecar) (mesh.Sidecar, string) {
	t.Helper()
	made, c, err := f.RegisterSidecar(t.Context(), root(), sc)
	if err != nil {
		t.Fatal(err)
	}
	return made, c.Secret
}

// read returns a sidecar as it is now.
func (f fixture) read(t *testing.T, id string) mesh.Sidecar {
	t.Helper()
	sc, err := f.Sidecar(t.Context(), "*", id)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func wantCode(t *testing.T, what string, err error, want apierr.Code) {
	t.Helper()
	got := apierr.Code("")
	if err != nil {
		got = apierr.From(err).Code()
	}
	if got != want {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

// wantBody looks for a text in the answer to an error.
func wantBody(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(string(apierr.From(err).Body("")), want) {
		t.Errorf("%s: got %v, want %s in its answer", what, err, want)
	}
}

func third[A, B any](_ A, _ B, err error) error { return err }
func second[T any](_ T, err error) error        { return err }

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for name, o := range map[string]controlmesh.Options{"nothing": {}, "no keys": {Pool: pool}} {
		if _, err := controlmesh.New(o); err == nil {
			t.Errorf("%s: made a store", name)
		}
	}
}

// calls are all of the store's calls that ask the database.
func calls(ctx context.Context, s *controlmesh.Store) map[string]error {
	sc := asked("one")
	sc.ID = nobody
	return map[string]error{
		"register":     third(s.RegisterSidecar(ctx, root(), asked("one"))),
		"read":         second(s.Sidecar(ctx, "*", nobody)),
		"list":         second(s.Sidecars(ctx, "*", "", 10)),
		"update":       second(s.UpdateSidecar(ctx, root(), sc)),
		"rotate":       third(s.RotateSidecar(ctx, root(), sc)),
		"revoke":       s.RevokeSidecar(ctx, root(), sc),
		"authenticate": second(s.Authenticate(ctx, "ghs_x")),
		"versions":     second(s.Versions(ctx, []string{nobody})),
		"report":       s.Report(ctx, map[string]mesh.Report{nobody: {At: noon()}}),
		"live":         second(s.Live(ctx)),
		"epoch":        second(s.Epoch(ctx)),
		"generations":  second(s.Generations(ctx)),
		"connected":    second(s.Connected(ctx, time.Minute)),
		"active":       second(s.Active(ctx, "main")),
	}
}

// TestAway asks a database whose pool is closed, and one for which no time is
// left.
func TestAway(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := newStore(t, pool)
	pool.Close()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	inTime := newStore(t, pgtest.New(t))
	for what, errs := range map[string]map[string]error{
		"closed": calls(t.Context(), s), "no time": calls(late, inTime),
		"listener": {"no time": inTime.Listen(late, func(string) { t.Error("it listens") })},
	} {
		for name, err := range errs {
			e := apierr.From(err)
			if err == nil || e.Code() != apierr.Internal || e.HTTP() != http.StatusServiceUnavailable || errors.Is(err, mesh.ErrUnknown) {
				t.Errorf("%s: %s: got %v, want internal.error with 503", what, name, err)
			}
		}
	}
}

// TestBrokenSchema tells a defect from a database that is away.
func TestBrokenSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, table := range []string{"sidecars", "live_epoch", "policy_sets", "policy_activations"} {
		f.exec(t, `ALTER TABLE `+table+` RENAME TO `+table+`_gone`)
	}
	for name, err := range calls(t.Context(), f.Store) {
		if e := apierr.From(err); err == nil || e.Code() != apierr.Internal || e.HTTP() != http.StatusInternalServerError {
			t.Errorf("%s: got %v, want 500", name, err)
		}
	}
}

// TestNoAuditNoChange takes the audit log away from every kind of change.
func TestNoAuditNoChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, _ := f.register(t, asked("one"))
	f.exec(t, `CREATE OR REPLACE FUNCTION append_audit(p_tenant TEXT, p_actor_kind TEXT, p_actor TEXT, p_action TEXT, p_target_kind TEXT, p_target TEXT,
		p_outcome TEXT, p_request_id TEXT, p_details JSONB) RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'disk'; END $$`)
	const all = `SELECT string_agg(s::text, ',') FROM sidecars s`
	before := f.text(t, all)
	for name, err := range map[string]error{
		"register": third(f.RegisterSidecar(t.Context(), root(), asked("two"))),
		"update":   second(f.UpdateSidecar(t.Context(), root(), sc)),
		"rotate":   third(f.RotateSidecar(t.Context(), root(), sc)),
		"revoke":   f.RevokeSidecar(t.Context(), root(), sc),
	} {
		if err == nil {
			t.Errorf("%s: done without a trace", name)
		}
	}
	if diff := cmp.Diff(before, f.text(t, all)); diff != "" {
		t.Errorf("something has changed without a trace:\n%s", diff)
	}
}

// TestAuditTells makes each change, and one as each kind of caller.
func TestAuditTells(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const client = "00000000-0000-0000-0000-0000000000c1"
	f.exec(t, `INSERT INTO clients (id, tenant_id, name, role, secret_hash) VALUES ($1, 'org1', 'ci', 'admin', sha256('x'))`, client)
	of := func(kind request.Kind, subject string) request.Principal {
		return request.Principal{Kind: kind, Subject: subject, Tenant: "*"}
	}
	sc, c, err := f.RegisterSidecar(t.Context(), of(request.KindToken, client), asked("one"))
	wantCode(t, "register", err, "")
	sc.Role = request.RoleObserver
	wantCode(t, "update", second(f.UpdateSidecar(t.Context(), of(request.KindToken, nobody), sc)), "")
	sc.Version = 0
	_, c2, err := f.RotateSidecar(t.Context(), request.Principal{}, sc)
	wantCode(t, "rotate", err, "")
	wantCode(t, "rotate", third(f.RotateSidecar(t.Context(), request.Anonymous(), sc)), "")
	wantCode(t, "rotate", third(f.RotateSidecar(t.Context(), of(request.KindToken, "someone@elsewhere"), sc)), "")
	wantCode(t, "revoke", f.RevokeSidecar(t.Context(), of(request.KindWorkload, "agent-7"), sc), "")
	const log = `SELECT string_agg(concat_ws(' ', action, actor_kind, actor, tenant_id, target_kind, target = $1, request_id, outcome), E'\n' ORDER BY seq) FROM audit_log`
	want := strings.Join([]string{
		"sidecar.register client " + client + " org1 sidecar t req-1 success",
		"sidecar.update user " + nobody + " org1 sidecar t req-1 success",
		"sidecar.rotate system control org1 sidecar t req-1 success",
		"sidecar.rotate anonymous anonymous org1 sidecar t req-1 success",
		"sidecar.rotate user someone@elsewhere org1 sidecar t req-1 success",
		"sidecar.revoke workload agent-7 org1 sidecar t req-1 success",
	}, "\n")
	if diff := cmp.Diff(want, f.text(t, log, sc.ID)); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	details := f.text(t, `SELECT string_agg(details::text, ',') FROM audit_log`)
	if strings.Contains(details, c.Secret) || strings.Contains(details, c2.Secret) || !strings.Contains(details, `"policy_set": "main"`) {
		t.Errorf("details are %s", details)
	}
}
