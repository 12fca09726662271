package mesh_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	controlmesh "gatehouse/control/mesh"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

func TestSidecarIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made, c, err := f.RegisterSidecar(t.Context(), local(), asked("one"))
	if err != nil {
		t.Fatal(err)
	}
	want := asked("one")
	want.ID, want.Version, want.CreatedAt, want.UpdatedAt = made.ID, 1, made.CreatedAt, made.UpdatedAt
	if diff := cmp.Diff(want, made); diff != "" || made.ID == "" || made.CreatedAt.IsZero() {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(made, f.read(t, made.ID)); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	file, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mesh.ParseCredential(file); err != nil || !cmp.Equal(got, c) || !strings.HasPrefix(c.Secret, "ghs_") || len(c.Secret) != 47 {
		t.Errorf("credential: got %+v and %v of %+v", got, err, c)
	}
	const kept = `SELECT (SELECT count(*) FROM sidecars WHERE credential_hash = sha256($1::bytea)) || ' ' || (SELECT count(*) FROM sidecars s WHERE position($2 IN s::text) > 0)`
	if got := f.text(t, kept, []byte(c.Secret), c.Secret); got != "1 0" {
		t.Errorf("the credential's hash and the credential are kept %s times, want 1 0", got)
	}
	bare := mesh.Sidecar{Tenant: "org1", Name: "bare", Role: request.RoleObserver, PolicySet: "main"}
	if made, _ := f.register(t, bare); made.Project != "" || made.Agent != "" || made.Last != (mesh.Report{}) {
		t.Errorf("bare: got %+v", made)
	}
}

func TestRegistrationIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, asked("taken"))
	for _, tt := range []struct {
		name   string
		by     request.Principal
		change func(*mesh.Sidecar)
		code   apierr.Code
		body   string
	}{
		{"an operator by one tenant's administrator", local(), func(s *mesh.Sidecar) { s.Role = request.RoleOperator }, apierr.AuthForbidden, "administrator of the mesh"},
		{"an administrator by the same", local(), func(s *mesh.Sidecar) { s.Role = request.RoleAdmin }, apierr.AuthForbidden, "administrator of the mesh"},
		{"shared by the same", local(), func(s *mesh.Sidecar) { s.Shared = true }, apierr.AuthForbidden, "administrator of the mesh"},
		{"shared by nobody", request.Anonymous(), func(s *mesh.Sidecar) { s.Shared = true }, apierr.AuthForbidden, "administrator of the mesh"},
		{"name taken", root(), func(s *mesh.Sidecar) { s.Name = "taken" }, apierr.StateConflict, "already_exists"},
		{"no name", root(), func(s *mesh.Sidecar) { s.Name = "Not One" }, apierr.ValidationInvalid, "/name"},
		{"no role", root(), func(s *mesh.Sidecar) { s.Role = "" }, apierr.ValidationInvalid, "/role"},
		{"a role of nobody", root(), func(s *mesh.Sidecar) { s.Role = request.RoleAnonymous }, apierr.ValidationInvalid, "/role"},
		{"all tenants", root(), func(s *mesh.Sidecar) { s.Tenant, s.Project, s.Agent = "*", "", "" }, apierr.ValidationInvalid, "/tenant_id"},
		{"unknown tenant", root(), func(s *mesh.Sidecar) { s.Tenant, s.Project, s.Agent = "org3", "", "" }, apierr.ValidationInvalid, "/tenant_id"},
		{"another tenant's project", root(), func(s *mesh.Sidecar) { s.Project = "proj2" }, apierr.ValidationInvalid, "/project_id"},
		{"another tenant's agent", root(), func(s *mesh.Sidecar) { s.Agent = agent2 }, apierr.ValidationInvalid, "/agent_id"},
		{"an agent by its name", root(), func(s *mesh.Sidecar) { s.Agent = "builder" }, apierr.ValidationInvalid, "/agent_id"},
		{"unknown policy set", root(), func(s *mesh.Sidecar) { s.PolicySet = "none" }, apierr.ValidationInvalid, "/policy_set"},
	} {
		sc := asked("new")
		tt.change(&sc)
		made, c, err := f.RegisterSidecar(t.Context(), tt.by, sc)
		wantCode(t, tt.name, err, tt.code)
		wantBody(t, tt.name, err, tt.body)
		if made != (mesh.Sidecar{}) || c.Secret != "" {
			t.Errorf("%s: got %+v and a credential %q beside the error", tt.name, made, c.Secret)
		}
	}
	if got := f.text(t, `SELECT (SELECT count(*) FROM sidecars) || ' ' || (SELECT count(*) FROM audit_log)`); got != "1 1" {
		t.Errorf("sidecars and audit rows: %s, want 1 1", got)
	}
	other := asked("taken")
	other.Tenant, other.Agent = "org2", agent2
	f.register(t, other)
}

// TestMeshAdministratorsMay registers and changes what nobody else may.
func TestMeshAdministratorsMay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, by := range map[string]request.Principal{"root": root(), "control": {}} {
		sc := asked(name)
		sc.Role, sc.Shared = request.RoleAdmin, true
		made, _, err := f.RegisterSidecar(t.Context(), by, sc)
		if err != nil || made.Role != request.RoleAdmin || !made.Shared {
			t.Errorf("%s: got %+v and %v", name, made, err)
		}
		wantCode(t, name, second(f.UpdateSidecar(t.Context(), local(), made)), apierr.AuthForbidden)
	}
}

func TestNoKeysNoCredential(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, _ := f.register(t, asked("one"))
	broken := errors.New("sealed")
	for name, keys := range map[string]func(context.Context) ([]mesh.RevisionKey, error){
		"none":   func(context.Context) ([]mesh.RevisionKey, error) { return nil, nil },
		"broken": func(context.Context) ([]mesh.RevisionKey, error) { return nil, broken },
		"away": func(context.Context) ([]mesh.RevisionKey, error) {
			return nil, apierr.New(apierr.Internal, apierr.Options{Status: http.StatusServiceUnavailable, Cause: broken})
		},
	} {
		s, err := controlmesh.New(controlmesh.Options{Pool: f.pool, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"register": third(s.RegisterSidecar(t.Context(), root(), asked("two"))), "rotate": third(s.RotateSidecar(t.Context(), root(), sc)),
		} {
			wantCode(t, name+" "+what, err, apierr.Internal)
			if name != "none" && !errors.Is(err, broken) || (apierr.From(err).HTTP() == http.StatusServiceUnavailable) != (name == "away") {
				t.Errorf("%s %s: got %v", name, what, err)
			}
		}
	}
	if got := f.read(t, sc.ID); got.Version != 1 {
		t.Errorf("changed to version %d", got.Version)
	}
}

// TestRegistrationsAtOnce makes one name and many names many times at once.
func TestRegistrationsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const n = 10
	same, other := make([]error, n), make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { same[i] = third(f.RegisterSidecar(t.Context(), root(), asked("same"))) })
		wait.Go(func() { other[i] = third(f.RegisterSidecar(t.Context(), root(), asked(fmt.Sprint("other", i)))) })
	}
	wait.Wait()
	won := 0
	for i := range n {
		wantCode(t, "another name", other[i], "")
		if same[i] == nil {
			won++
			continue
		}
		wantBody(t, "loser", same[i], "already_exists")
	}
	if won != 1 {
		t.Errorf("%d registrations of one name won", won)
	}
}

// TestMovedSidecarForgets what it reported of the policy set that it had, and
// nothing when it keeps its set.
func TestMovedSidecarForgets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, _ := f.register(t, asked("one"))
	id := strings.Repeat("ab", 32)
	refused := mesh.Refusal{Generation: 10, Revision: id, Reason: "no", At: noon()}
	f.report(t, sc.ID, mesh.Report{At: noon(), Incarnation: 7, Generation: 9, Revision: id, LiveEpoch: 3, Build: "b1", Refused: refused})
	sc.Role = request.RoleObserver
	now, err := f.UpdateSidecar(t.Context(), local(), sc)
	if err != nil || now.Last.Generation != 9 || now.Last.Revision != id || now.Last.Refused.Reason != "no" || now.Last.Refused.At.IsZero() {
		t.Errorf("in its set: got %+v and %v, want what it reported", now.Last, err)
	}
	now.PolicySet = "other"
	if now, err = f.UpdateSidecar(t.Context(), local(), now); err != nil {
		t.Fatal(err)
	}
	want := mesh.Report{At: now.Last.At, Incarnation: 7, LiveEpoch: 3, Build: "b1"}
	if diff := cmp.Diff(want, now.Last); diff != "" || now.Last.At.IsZero() {
		t.Errorf("in another set (-want +got):\n%s", diff)
	}
	if got := f.text(t, `SELECT num_nulls(generation, revision_id, nack_at, nack_revision, nack_reason, nack_generation)::text FROM sidecars`); got != "6" {
		t.Errorf("%s of 6 columns are empty", got)
	}
}

func TestSidecarUpdates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, secret := f.register(t, asked("one"))
	f.report(t, sc.ID, mesh.Report{At: noon(), Incarnation: 7, Build: "b1"})
	change := sc
	change.Name, change.Role, change.Project, change.Agent, change.PolicySet = "stays", request.RoleObserver, "", "", "other"
	now, err := f.UpdateSidecar(t.Context(), local(), change)
	if err != nil {
		t.Fatal(err)
	}
	want := change
	want.Name, want.Version, want.UpdatedAt, want.Last = "one", 2, now.UpdatedAt, now.Last
	if diff := cmp.Diff(want, now); diff != "" || !now.UpdatedAt.After(sc.UpdatedAt) || now.Last.Build != "b1" {
		t.Errorf("updated to %+v (-want +got):\n%s", now, diff)
	}
	if got, err := f.Authenticate(t.Context(), secret); err != nil || !cmp.Equal(got, now) {
		t.Errorf("its credential: got %+v and %v", got, err)
	}
	for name, wrong := range map[string]struct {
		change func(*mesh.Sidecar)
		code   apierr.Code
		body   string
	}{
		"stale":        {func(s *mesh.Sidecar) { s.Version = 1 }, apierr.StatePreconditionFailed, ""},
		"project":      {func(s *mesh.Sidecar) { s.Project = "proj2" }, apierr.ValidationInvalid, "/project_id"},
		"agent":        {func(s *mesh.Sidecar) { s.Agent = agent2 }, apierr.ValidationInvalid, "/agent_id"},
		"no agent":     {func(s *mesh.Sidecar) { s.Agent = "x" }, apierr.ValidationInvalid, "/agent_id"},
		"policy set":   {func(s *mesh.Sidecar) { s.PolicySet = "none" }, apierr.ValidationInvalid, "/policy_set"},
		"role":         {func(s *mesh.Sidecar) { s.Role = "root" }, apierr.ValidationInvalid, "/role"},
		"higher role":  {func(s *mesh.Sidecar) { s.Role = request.RoleOperator }, apierr.AuthForbidden, ""},
		"shared":       {func(s *mesh.Sidecar) { s.Shared = true }, apierr.AuthForbidden, ""},
		"unknown":      {func(s *mesh.Sidecar) { s.ID = nobody }, apierr.ResourceNotFound, ""},
		"no id":        {func(s *mesh.Sidecar) { s.ID = "one" }, apierr.ResourceNotFound, ""},
		"other tenant": {func(s *mesh.Sidecar) { s.Tenant = "org2" }, apierr.ResourceNotFound, ""},
	} {
		sc := now
		wrong.change(&sc)
		_, err := f.UpdateSidecar(t.Context(), local(), sc)
		wantCode(t, name, err, wrong.code)
		wantBody(t, name, err, wrong.body)
	}
	if diff := cmp.Diff(now, f.read(t, sc.ID)); diff != "" {
		t.Errorf("a refused change left something (-want +got):\n%s", diff)
	}
	now.Version = 0
	wantCode(t, "any version", second(f.UpdateSidecar(t.Context(), local(), now)), "")
}

// TestParallelUpdates changes one version many times at once: one wins.
func TestParallelUpdates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, _ := f.register(t, asked("one"))
	hold, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Exec(t.Context(), `SELECT FROM sidecars FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 4)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() { errs[i] = second(f.UpdateSidecar(t.Context(), root(), sc)) })
	}
	const waiting = `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	f.until(t, "they wait for each other", waiting, "4")
	if err := hold.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		wantCode(t, "loser", err, apierr.StatePreconditionFailed)
	}
	if won != 1 {
		t.Errorf("%d updates of one version won", won)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, secret := f.register(t, asked("one"))
	_, others := f.register(t, asked("two"))
	good := func(what, secret string) {
		t.Helper()
		if got, err := f.Authenticate(t.Context(), secret); err != nil || got.ID != sc.ID {
			t.Errorf("%s: got %+v and %v", what, got, err)
		}
	}
	bad := func(what, secret string) {
		t.Helper()
		if got, err := f.Authenticate(t.Context(), secret); !errors.Is(err, mesh.ErrUnknown) || got != (mesh.Sidecar{}) {
			t.Errorf("%s: got %+v and %v, want mesh.ErrUnknown", what, got, err)
		}
	}
	good("new", secret)
	for what, secret := range map[string]string{
		"none": "", "unknown": "ghs_x", "too long": strings.Repeat("x", 513), "longer": secret + "x", "other case": strings.ToUpper(secret), "bytes": "\x00\xff",
	} {
		bad(what, secret)
	}
	rotated, c, err := f.RotateSidecar(t.Context(), local(), sc)
	if err != nil || rotated.Version != 2 || c.Secret == secret || !cmp.Equal(c.Keys, keys()) {
		t.Fatalf("rotated: got %+v, %+v and %v", rotated, c, err)
	}
	bad("before the rotation", secret)
	good("rotated", c.Secret)
	wantCode(t, "stale rotation", third(f.RotateSidecar(t.Context(), local(), sc)), apierr.StatePreconditionFailed)
	wantCode(t, "stale revocation", f.RevokeSidecar(t.Context(), local(), sc), apierr.StatePreconditionFailed)
	good("after what was refused", c.Secret)
	wantCode(t, "revocation", f.RevokeSidecar(t.Context(), local(), rotated), "")
	bad("revoked", c.Secret)
	if got, err := f.Authenticate(t.Context(), others); err != nil || got.Name != "two" {
		t.Errorf("the other one: got %+v and %v", got, err)
	}
}

func TestRevokedStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, _ := f.register(t, asked("one"))
	f.report(t, sc.ID, mesh.Report{At: noon(), Incarnation: 7, Build: "b1"})
	wantCode(t, "revocation", f.RevokeSidecar(t.Context(), root(), sc), "")
	gone := f.read(t, sc.ID)
	if !gone.Revoked || gone.Version != 2 || gone.Last.Build != "b1" {
		t.Errorf("got %+v", gone)
	}
	if p, err := f.Sidecars(t.Context(), "org1", "", 10); err != nil || len(p.Items) != 1 || !cmp.Equal(p.Items[0], gone) {
		t.Errorf("listed: %+v, %v", p, err)
	}
	wantCode(t, "revocation again", f.RevokeSidecar(t.Context(), root(), gone), "")
	gone.Version = 0
	wantBody(t, "update", second(f.UpdateSidecar(t.Context(), root(), gone)), `"reason":"revoked"`)
	wantBody(t, "rotation", third(f.RotateSidecar(t.Context(), root(), gone)), `"reason":"revoked"`)
	f.report(t, sc.ID, mesh.Report{At: noon(), Incarnation: 8, Build: "b2"})
	if got := f.read(t, sc.ID); got.Version != 2 || got.Last.Build != "b1" {
		t.Errorf("something has changed: %+v", got)
	}
	if got := f.text(t, `SELECT string_agg(action, ' ' ORDER BY seq) FROM audit_log`); got != "sidecar.register sidecar.revoke sidecar.revoke" {
		t.Errorf("audit: %s", got)
	}
}

// TestOtherTenantsAreNotFound tries every read and change from org2 on what is
// org1's.
func TestOtherTenantsAreNotFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, secret := f.register(t, asked("one"))
	foreign := sc
	foreign.Tenant, foreign.Project, foreign.Agent = "org2", "", ""
	ctx := t.Context()
	for name, err := range map[string]error{
		"read":      second(f.Sidecar(ctx, "org2", sc.ID)),
		"update":    second(f.UpdateSidecar(ctx, root(), foreign)),
		"rotate":    third(f.RotateSidecar(ctx, root(), foreign)),
		"revoke":    f.RevokeSidecar(ctx, root(), foreign),
		"no tenant": second(f.Sidecar(ctx, "", sc.ID)),
		"no id":     second(f.Sidecar(ctx, "*", "one")),
		"injection": second(f.Sidecar(ctx, "*", "' OR '1'='1")),
	} {
		wantCode(t, name, err, apierr.ResourceNotFound)
	}
	if p, err := f.Sidecars(ctx, "org2", "", 10); err != nil || len(p.Items) != 0 {
		t.Errorf("org2 sees %+v (%v)", p.Items, err)
	}
	if got, err := f.Authenticate(ctx, secret); err != nil || !cmp.Equal(got, sc) {
		t.Errorf("got %+v and %v, want what it was", got, err)
	}
}

// TestPages walks the sidecars in parts of two.
func TestPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 5 {
		f.register(t, asked(fmt.Sprint("one", i)))
		other := asked(fmt.Sprint("other", i))
		other.Tenant, other.Agent = "org2", ""
		f.register(t, other)
	}
	for tenant, want := range map[string]int{"org1": 5, "org2": 5, "*": 10, "org3": 0} {
		var all []string
		for after, pages := "", 0; ; pages++ {
			p, err := f.Sidecars(t.Context(), tenant, after, 2)
			if err != nil || pages > want || len(p.Items) > 2 {
				t.Fatalf("%s: page %d behind %q has %d (%v)", tenant, pages, after, len(p.Items), err)
			}
			for _, sc := range p.Items {
				all = append(all, sc.ID)
			}
			if after = p.Next; after == "" {
				break
			}
		}
		if len(all) != want || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != want {
			t.Errorf("%s: got %v, want %d in order", tenant, all, want)
		}
	}
	wantCode(t, "no position", second(f.Sidecars(t.Context(), "*", "x", 10)), apierr.ValidationInvalid)
	f.exec(t, `INSERT INTO sidecars (tenant_id, name, policy_set, credential_hash) SELECT 'org1', 'x' || n, 'main', sha256(n::text::bytea) FROM generate_series(1, 300) n`)
	for limit, want := range map[int]int{-1: 1, 0: 1, 200: 200, 1 << 40: 200} {
		if p, err := f.Sidecars(t.Context(), "*", "", limit); err != nil || len(p.Items) != want || p.Next == "" {
			t.Errorf("limit %d: got %d (%v), want %d and a next", limit, len(p.Items), err, want)
		}
	}
}
