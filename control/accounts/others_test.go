package accounts_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

func TestClientIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.pool.Exec(t.Context(), `INSERT INTO agents (tenant_id, name, role) VALUES ('org1', 'builder', 'developer')`); err != nil {
		t.Fatal(err)
	}
	in := account.Client{Name: "ci", Role: request.RoleDeveloper, Tenant: "org1", Project: "proj1", Agent: "builder"}
	made, secret, err := f.CreateClient(t.Context(), admin(), in)
	if err != nil || secret != "ghs_secret" {
		t.Fatalf("got secret %q and %v", secret, err)
	}
	want := in
	want.ID, want.Version = made.ID, 1
	if diff := cmp.Diff(want, made, same()); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if got, err := f.Client(t.Context(), "org1", made.ID); err != nil || got != made {
		t.Errorf("read again: got %+v and %v", got, err)
	}
	if n := f.text(t, `SELECT count(*)::text FROM audit_log WHERE details::text LIKE '%secret%'`); n != "0" {
		t.Error("the secret stands in the audit log")
	}
	made.Agent, made.Disabled, made.Name = "", true, "ci 2"
	now, err := f.UpdateClient(t.Context(), admin(), made)
	if err != nil || now.Agent != "" || !now.Disabled || now.Name != "ci 2" || now.Version != 2 {
		t.Errorf("updated: got %+v and %v", now, err)
	}
	_, err = f.UpdateClient(t.Context(), admin(), made)
	wantCode(t, "stale", err, apierr.StatePreconditionFailed)
	wantCode(t, "stale deletion", f.DeleteClient(t.Context(), admin(), made), apierr.StatePreconditionFailed)
	wantCode(t, "deletion", f.DeleteClient(t.Context(), admin(), now), "")
	_, err = f.Client(t.Context(), "*", made.ID)
	wantCode(t, "deleted", err, apierr.ResourceNotFound)
	if n := f.text(t, `SELECT count(*)::text FROM revocations WHERE subject = $1`, made.ID); n != "2" {
		t.Errorf("%s revocations, want one for the change and one for the deletion", n)
	}
}

func TestClientChangesThatRevoke(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*account.Client)
		want   string
	}{
		{"name", func(c *account.Client) { c.Name = "x" }, "0"},
		{"role", func(c *account.Client) { c.Role = request.RoleObserver }, "1"},
		{"project", func(c *account.Client) { c.Project = "proj1" }, "1"},
		{"disabled", func(c *account.Client) { c.Disabled = true }, "1"},
	} {
		f := newFixture(t)
		c, _, err := f.CreateClient(t.Context(), admin(), account.Client{Name: "ci", Role: request.RoleDeveloper, Tenant: "org1"})
		wantCode(t, tt.name, err, "")
		tt.change(&c)
		_, err = f.UpdateClient(t.Context(), admin(), c)
		wantCode(t, tt.name, err, "")
		if got := f.text(t, `SELECT count(*)::text FROM revocations`); got != tt.want {
			t.Errorf("%s: %s revocations, want %s", tt.name, got, tt.want)
		}
	}
}

func TestClientIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	good := account.Client{Name: "ci", Role: request.RoleDeveloper, Tenant: "org1"}
	_, _, err := f.CreateClient(t.Context(), admin(), good)
	wantCode(t, "first", err, "")
	for _, tt := range []struct {
		name   string
		change func(*account.Client)
		code   apierr.Code
		body   string
	}{
		{"name taken", func(*account.Client) {}, apierr.StateConflict, "already_exists"},
		{"unknown agent", func(c *account.Client) { c.Name, c.Agent = "x", "builder" }, apierr.ValidationInvalid, "/agent"},
		{"unknown project", func(c *account.Client) { c.Name, c.Project = "x", "proj9" }, apierr.ValidationInvalid, "/project_id"},
		{"unknown tenant", func(c *account.Client) { c.Name, c.Tenant = "x", "org9" }, apierr.ValidationInvalid, "/tenant_id"},
		{"of all tenants, and no admin", func(c *account.Client) { c.Name, c.Tenant = "x", "*" }, apierr.ValidationInvalid, "inconsistent"},
	} {
		c := good
		tt.change(&c)
		made, secret, err := f.CreateClient(t.Context(), admin(), c)
		wantCode(t, tt.name, err, tt.code)
		wantBody(t, tt.name, err, tt.body)
		if secret != "" || made != (account.Client{}) {
			t.Errorf("%s: a secret beside the error", tt.name)
		}
	}
	good.Tenant = "org2"
	_, _, err = f.CreateClient(t.Context(), admin(), good)
	wantCode(t, "the same name in another tenant", err, "")
}

func TestTenantIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made, err := f.CreateTenant(t.Context(), admin(), account.Tenant{ID: "acme", Name: "Acme"})
	if diff := cmp.Diff(account.Tenant{ID: "acme", Name: "Acme", Version: 1}, made, same()); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	_, err = f.CreateTenant(t.Context(), admin(), made)
	wantBody(t, "again", err, "already_exists")
	_, err = f.CreateTenant(t.Context(), admin(), account.Tenant{ID: "any"})
	wantCode(t, "a word of policy sets", err, apierr.ValidationInvalid)
	stale := made
	made.Name, made.Suspended = "Acme 2", true
	now, err := f.UpdateTenant(t.Context(), admin(), made)
	if err != nil || now.Name != "Acme 2" || now.Suspended || now.Version != 2 {
		t.Errorf("updated: got %+v and %v; a name is all that is set", now, err)
	}
	_, err = f.UpdateTenant(t.Context(), admin(), stale)
	wantCode(t, "stale", err, apierr.StatePreconditionFailed)
	wantCode(t, "deletion", f.DeleteTenant(t.Context(), admin(), now), "")
	_, err = f.Tenant(t.Context(), "acme")
	wantCode(t, "deleted", err, apierr.ResourceNotFound)
	wantBody(t, "in use", f.DeleteTenant(t.Context(), admin(), account.Tenant{ID: "org1"}), "in_use")
}

func TestSuspendAndResume(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before, err := f.Tenant(t.Context(), "org1")
	if err != nil {
		t.Fatal(err)
	}
	epoch := f.text(t, `SELECT epoch::text FROM live_epoch`)
	suspended := before
	suspended.Suspended = true
	now, err := f.SuspendTenant(t.Context(), admin(), suspended)
	if err != nil || !now.Suspended || now.Version != before.Version+1 {
		t.Fatalf("suspended: got %+v and %v", now, err)
	}
	if f.text(t, `SELECT epoch::text FROM live_epoch`) == epoch {
		t.Error("no sidecar is told")
	}
	_, err = f.SuspendTenant(t.Context(), admin(), suspended)
	wantCode(t, "stale", err, apierr.StatePreconditionFailed)
	again, err := f.SuspendTenant(t.Context(), admin(), now)
	if err != nil || again != now {
		t.Errorf("suspended again: got %+v and %v, want %+v", again, err, now)
	}
	now.Suspended = false
	resumed, err := f.SuspendTenant(t.Context(), admin(), now)
	if err != nil || resumed.Suspended {
		t.Errorf("resumed: got %+v and %v", resumed, err)
	}
	if got := f.text(t, `SELECT string_agg(action, ' ' ORDER BY seq) FROM audit_log WHERE target = 'org1' AND action <> 'tenant.create'`); got != "tenant.suspend tenant.suspend tenant.resume" {
		t.Errorf("audit: %s", got)
	}
}

func TestProjectIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made, err := f.CreateProject(t.Context(), admin(), account.Project{ID: "p2", Tenant: "org1", Name: "Two"})
	if diff := cmp.Diff(account.Project{ID: "p2", Tenant: "org1", Name: "Two", Version: 1}, made, same()); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	_, err = f.CreateProject(t.Context(), admin(), made)
	wantBody(t, "again", err, "already_exists")
	_, err = f.CreateProject(t.Context(), admin(), account.Project{ID: "p2", Tenant: "org9", Name: "x"})
	wantBody(t, "unknown tenant", err, "/tenant_id")
	made.Name = "Zwei"
	now, err := f.UpdateProject(t.Context(), admin(), made)
	if err != nil || now.Name != "Zwei" || now.Version != 2 {
		t.Errorf("updated: got %+v and %v", now, err)
	}
	if got, err := f.Project(t.Context(), "org1", "p2"); err != nil || got != now {
		t.Errorf("read again: got %+v and %v", got, err)
	}
	_, err = f.UpdateProject(t.Context(), admin(), made)
	wantCode(t, "stale", err, apierr.StatePreconditionFailed)
	wantCode(t, "deletion", f.DeleteProject(t.Context(), admin(), now), "")
	u := f.user(t, "ada", "org1")
	u.Project = "proj1"
	_, err = f.UpdateUser(t.Context(), admin(), u, "")
	wantCode(t, "user", err, "")
	wantBody(t, "in use", f.DeleteProject(t.Context(), admin(), account.Project{ID: "proj1", Tenant: "org1"}), "in_use")
}

// TestAuditTellsWho makes a change as each kind of caller.
func TestAuditTellsWho(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c, _, err := f.CreateClient(t.Context(), admin(), account.Client{Name: "ci", Role: request.RoleAdmin, Tenant: "org1"})
	wantCode(t, "client", err, "")
	for _, tt := range []struct {
		by   request.Principal
		want string
	}{
		{admin(), "user " + admin().Subject},
		{request.Principal{Kind: request.KindToken, Subject: c.ID}, "client " + c.ID},
		{request.Principal{Kind: request.KindToken, Subject: "someone@elsewhere"}, "user someone@elsewhere"},
		{request.Principal{Kind: request.KindWorkload, Subject: "agent-7"}, "workload agent-7"},
		{request.Principal{}, "system control"},
		{request.Anonymous(), "anonymous anonymous"},
	} {
		_, err := f.UpdateProject(t.Context(), tt.by, account.Project{ID: "proj1", Tenant: "org1", Name: "x"})
		wantCode(t, tt.want, err, "")
		const last = `SELECT actor_kind || ' ' || actor FROM audit_log WHERE request_id = 'req-1' AND tenant_id = 'org1' ORDER BY seq DESC LIMIT 1`
		if got := f.text(t, last); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestSeedDev(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hashed := 0
	plain := func(_ context.Context, password string) (string, error) {
		hashed++
		return "$argon2id$" + password, nil
	}
	for range 2 {
		if err := f.SeedDev(t.Context(), plain); err != nil {
			t.Fatal(err)
		}
	}
	if hashed != 4 {
		t.Errorf("hashed %d passwords, want each once", hashed)
	}
	const users = `SELECT string_agg(username || ' ' || replace(password_hash, '$argon2id$', '') || ' ' || role || ' ' || tenant_id || ' ' || coalesce(project_id, '-'), E'\n' ORDER BY username) FROM users`
	want := "admin admin123 admin * -\ndeveloper developer123 developer org1 proj1\nobserver observer123 observer org1 proj1\noperator operator123 operator org1 proj1"
	if diff := cmp.Diff(want, f.text(t, users)); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if got := f.text(t, `SELECT string_agg(tenant_id || '/' || id, ' ' ORDER BY 1) FROM (SELECT tenant_id, id FROM projects ORDER BY 1) p`); got != "org1/proj1 org2/proj1" {
		t.Errorf("projects are %s", got)
	}
	if got := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action LIKE '%.seed' AND actor_kind = 'system'`); got != "4" {
		t.Errorf("%s audit rows, want one for each user: the rest was there", got)
	}
	broken := errors.New("no hash")
	f2 := newFixture(t)
	if err := f2.SeedDev(t.Context(), func(context.Context, string) (string, error) { return "", broken }); !errors.Is(err, broken) || !strings.Contains(err.Error(), "seed user admin") {
		t.Errorf("got %v", err)
	}
}
