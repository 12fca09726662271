package accounts_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/accounts"
	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/request"
)

// fixture is a store over a database with the tenants org1 and org2, each with
// the project proj1.
type fixture struct {
	*accounts.Store
	pool *pgxpool.Pool
}

// admin is who makes the changes.
func admin() request.Principal {
	return request.Principal{Kind: request.KindToken, Subject: "00000000-0000-0000-0000-0000000000aa", Tenant: "*", Role: request.RoleAdmin}
}

func newStore(t *testing.T, pool *pgxpool.Pool) *accounts.Store {
	t.Helper()
	s, err := accounts.New(accounts.Options{
		Pool: pool, HashPassword: hash, NewSecret: func() (string, []byte) { return "ghs_secret", make([]byte, 32) },
		RequestID: func(context.Context) string { return "req-1" },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hash stands for the hasher: it refuses what is short.
func hash(_ context.Context, _, password string) (string, error) {
	if len(password) < 12 {
		return "", apierr.New(apierr.ValidationInvalid, apierr.Options{})
	}
	return "$argon2id$" + password, nil
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	pool := pgtest.New(t)
	f := fixture{newStore(t, pool), pool}
	for _, tenant := range []string{"org1", "org2"} {
		_, err := f.CreateTenant(t.Context(), admin(), account.Tenant{ID: tenant, Name: "Tenant " + tenant})
		wantCode(t, "tenant", err, "")
		_, err = f.CreateProject(t.Context(), admin(), account.Project{ID: "proj1", Tenant: tenant, Name: "One"})
		wantCode(t, "project", err, "")
	}
	return f
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

func (f fixture) text(t *testing.T, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := f.pool.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (f fixture) user(t *testing.T, name, tenant string) account.User {
	t.Helper()
	u, err := f.CreateUser(t.Context(), admin(), account.User{Username: name, Role: request.RoleDeveloper, Tenant: tenant}, "a good password")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// same ignores what the database decides.
func same() cmp.Option {
	times := func(p cmp.Path) bool { return strings.HasSuffix(p.Last().String(), "At") }
	return cmp.Options{cmp.FilterPath(times, cmp.Ignore()), cmpopts.EquateEmpty()}
}

func TestUserIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	in := account.User{Username: " Ada\u00a0", Role: request.RoleDeveloper, Tenant: "org1", Project: "proj1"}
	made, err := f.CreateUser(t.Context(), admin(), in, "a good password")
	if err != nil {
		t.Fatal(err)
	}
	want := account.User{ID: made.ID, Username: "ada", Role: request.RoleDeveloper, Tenant: "org1", Project: "proj1", Version: 1}
	if diff := cmp.Diff(want, made, same()); diff != "" || made.CreatedAt.IsZero() || made.ID == "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if got, err := f.User(t.Context(), "org1", made.ID); err != nil || got != made {
		t.Errorf("read again: got %+v and %v, want %+v", got, err, made)
	}
	if got := f.text(t, `SELECT password_hash FROM users`); got != "$argon2id$a good password" {
		t.Errorf("stored hash is %q", got)
	}
}

func TestUserCreationIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user(t, "ada", "org2")
	good := account.User{Username: "bob", Role: request.RoleDeveloper, Tenant: "org1"}
	for _, tt := range []struct {
		name     string
		change   func(*account.User)
		password string
		code     apierr.Code
		body     string
	}{
		{"name taken in another tenant", func(u *account.User) { u.Username = "ADA" }, "a good password", apierr.StateConflict, "already_exists"},
		{"no name", func(u *account.User) { u.Username = "a b" }, "a good password", apierr.ValidationInvalid, "/username"},
		{"weak password", func(*account.User) {}, "short", apierr.ValidationInvalid, ""},
		{"unknown tenant", func(u *account.User) { u.Tenant = "org3" }, "a good password", apierr.ValidationInvalid, "/tenant_id"},
		{"another tenant's project", func(u *account.User) { u.Project = "proj2" }, "a good password", apierr.ValidationInvalid, "/project_id"},
		{"of all tenants, and no admin", func(u *account.User) { u.Tenant = "*" }, "a good password", apierr.ValidationInvalid, "inconsistent"},
		{"no role", func(u *account.User) { u.Role = "root" }, "a good password", apierr.ValidationInvalid, "inconsistent"},
	} {
		u := good
		tt.change(&u)
		made, err := f.CreateUser(t.Context(), admin(), u, tt.password)
		wantCode(t, tt.name, err, tt.code)
		wantBody(t, tt.name, err, tt.body)
		if made != (account.User{}) {
			t.Errorf("%s: got %+v beside the error", tt.name, made)
		}
	}
	if n := f.text(t, `SELECT count(*)::text FROM users`); n != "1" {
		t.Errorf("%s users are there", n)
	}
	if n := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action = 'user.create'`); n != "1" {
		t.Errorf("%s creations are audited", n)
	}
}

func TestUserUpdates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.user(t, "ada", "org1")
	u.Role, u.Project, u.Disabled = request.RoleOperator, "proj1", true
	now, err := f.UpdateUser(t.Context(), admin(), u, "another password")
	if err != nil {
		t.Fatal(err)
	}
	want := u
	want.Version = 2
	if diff := cmp.Diff(want, now, same()); diff != "" || !now.UpdatedAt.After(u.UpdatedAt) {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	_, err = f.UpdateUser(t.Context(), admin(), u, "")
	wantCode(t, "stale version", err, apierr.StatePreconditionFailed)
	wantCode(t, "stale version of a deletion", f.DeleteUser(t.Context(), admin(), u), apierr.StatePreconditionFailed)
	if got := f.text(t, `SELECT password_hash FROM users`); got != "$argon2id$another password" {
		t.Errorf("stored hash is %q", got)
	}
	now.Disabled = false
	if now, err = f.UpdateUser(t.Context(), admin(), now, ""); err != nil || now.Disabled || now.Version != 3 {
		t.Errorf("enabled: got %+v and %v", now, err)
	}
	if got := f.text(t, `SELECT password_hash FROM users`); got != "$argon2id$another password" {
		t.Errorf("without a new password the hash became %q", got)
	}
	_, err = f.UpdateUser(t.Context(), admin(), now, "short")
	wantCode(t, "weak password", err, apierr.ValidationInvalid)
	now.Version = 0
	wantCode(t, "deletion of any version", f.DeleteUser(t.Context(), admin(), now), "")
	wantCode(t, "deletion again", f.DeleteUser(t.Context(), admin(), now), apierr.ResourceNotFound)
}

// TestParallelUpdates changes one version many times at once: one wins.
func TestParallelUpdates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.user(t, "ada", "org1")
	errs := make([]error, 10)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			u := u
			u.Role = request.RoleObserver
			_, errs[i] = f.UpdateUser(t.Context(), admin(), u, "")
		})
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

// TestWhatIsTakenAwayIsRevoked says which change revokes tokens and which ends
// sessions.
func TestWhatIsTakenAwayIsRevoked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name              string
		change            func(*account.User) (password string)
		revokes, sessions string
	}{
		{"nothing", func(*account.User) string { return "" }, "0", "1"},
		{"role", func(u *account.User) string { u.Role = request.RoleObserver; return "" }, "1", "1"},
		{"project", func(u *account.User) string { u.Project = "proj1"; return "" }, "1", "1"},
		{"disabled", func(u *account.User) string { u.Disabled = true; return "" }, "1", "0"},
		{"password", func(*account.User) string { return "another password" }, "1", "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			u := f.user(t, "ada", "org1")
			f.session(t, u)
			epoch := f.text(t, `SELECT epoch::text FROM live_epoch`)
			password := tt.change(&u)
			if _, err := f.UpdateUser(t.Context(), admin(), u, password); err != nil {
				t.Fatal(err)
			}
			const revoked = `SELECT count(*)::text FROM revocations WHERE kind = 'subject' AND subject = $1 AND issued_before <= clock_timestamp() AND expires_at > clock_timestamp() + interval '14 minutes'`
			if got := f.text(t, revoked, u.ID); got != tt.revokes {
				t.Errorf("%s revocations, want %s", got, tt.revokes)
			}
			if told := f.text(t, `SELECT epoch::text FROM live_epoch`) != epoch; told != (tt.revokes == "1") {
				t.Errorf("sidecars are told: %v", told)
			}
			if got := f.text(t, `SELECT count(*)::text FROM refresh_tokens WHERE revoked_at IS NULL`); got != tt.sessions {
				t.Errorf("%s sessions are good, want %s", got, tt.sessions)
			}
		})
	}
}

func (f fixture) session(t *testing.T, u account.User) {
	t.Helper()
	const open = `INSERT INTO refresh_tokens (tenant_id, user_id, family_id, token_hash, expires_at) VALUES ($1, $2, gen_random_uuid(), sha256('x'), now() + interval '1 hour')`
	if _, err := f.pool.Exec(t.Context(), open, u.Tenant, u.ID); err != nil {
		t.Fatal(err)
	}
}

func TestDeletedUserIsRevoked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.user(t, "ada", "org1")
	f.session(t, u)
	wantCode(t, "deletion", f.DeleteUser(t.Context(), admin(), u), "")
	if got := f.text(t, `SELECT (SELECT count(*) FROM users) || ' ' || (SELECT count(*) FROM refresh_tokens) || ' ' || (SELECT count(*) FROM revocations WHERE subject = $1)`, u.ID); got != "0 0 1" {
		t.Errorf("users, sessions, revocations: %s", got)
	}
	_, err := f.User(t.Context(), "*", u.ID)
	wantCode(t, "read", err, apierr.ResourceNotFound)
}

// TestOtherTenantsAreNotFound tries every read and change from org2 on what is
// org1's.
func TestOtherTenantsAreNotFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.user(t, "ada", "org1")
	c, _, err := f.CreateClient(t.Context(), admin(), account.Client{Name: "ci", Role: request.RoleObserver, Tenant: "org1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateProject(t.Context(), admin(), account.Project{ID: "secret", Tenant: "org1", Name: "x"}); err != nil {
		t.Fatal(err)
	}
	foreignUser, foreignClient, p := u, c, account.Project{ID: "secret", Tenant: "org2", Name: "y"}
	foreignUser.Tenant, foreignClient.Tenant = "org2", "org2"
	for name, call := range map[string]func() error{
		"user":           func() error { _, err := f.User(t.Context(), "org2", u.ID); return err },
		"update user":    func() error { _, err := f.UpdateUser(t.Context(), admin(), foreignUser, ""); return err },
		"delete user":    func() error { return f.DeleteUser(t.Context(), admin(), foreignUser) },
		"client":         func() error { _, err := f.Client(t.Context(), "org2", c.ID); return err },
		"update client":  func() error { _, err := f.UpdateClient(t.Context(), admin(), foreignClient); return err },
		"delete client":  func() error { return f.DeleteClient(t.Context(), admin(), foreignClient) },
		"project":        func() error { _, err := f.Project(t.Context(), "org2", "secret"); return err },
		"update project": func() error { _, err := f.UpdateProject(t.Context(), admin(), p); return err },
		"delete project": func() error { return f.DeleteProject(t.Context(), admin(), p) },
		"no id":          func() error { _, err := f.User(t.Context(), "*", "ada"); return err },
		"no tenant":      func() error { _, err := f.User(t.Context(), "", u.ID); return err },
		"injection":      func() error { _, err := f.Client(t.Context(), "*", "' OR '1'='1"); return err },
	} {
		wantCode(t, name, call(), apierr.ResourceNotFound)
	}
	users, err := f.Users(t.Context(), "org2", "", 10)
	if err != nil || len(users.Items) != 0 {
		t.Errorf("org2 sees %+v (%v)", users.Items, err)
	}
	for name, count := range map[string]func(context.Context, string) (int64, error){
		"users": f.CountUsers, "clients": f.CountClients,
	} {
		own, _ := count(t.Context(), "org1")
		other, _ := count(t.Context(), "org2")
		all, err := count(t.Context(), "*")
		if own != 1 || other != 0 || all != 1 || err != nil {
			t.Errorf("%s: counted %d, %d and %d (%v), want 1, 0, 1", name, own, other, all, err)
		}
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for tenant, want := range map[string][2]int64{"*": {2, 2}, "org1": {1, 1}, "org3": {0, 0}} {
		tenants, err := f.CountTenants(t.Context(), tenant)
		wantCode(t, "tenants", err, "")
		projects, err := f.CountProjects(t.Context(), tenant)
		wantCode(t, "projects", err, "")
		if got := [2]int64{tenants, projects}; got != want {
			t.Errorf("%s: got %v, want %v", tenant, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := accounts.New(accounts.Options{}); err == nil {
		t.Error("made a store of nothing")
	}
}

// TestAway asks a database whose pool is closed, and one whose server refuses.
func TestAway(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := newStore(t, pool)
	pool.Close()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for name, err := range map[string]error{
		"read":    second(s.User(t.Context(), "*", "00000000-0000-0000-0000-000000000000")),
		"list":    second(s.Users(t.Context(), "*", "", 10)),
		"create":  second(s.CreateUser(t.Context(), admin(), account.User{Username: "a", Role: request.RoleObserver, Tenant: "org1"}, "a good password")),
		"delete":  s.DeleteTenant(t.Context(), admin(), account.Tenant{ID: "org1"}),
		"count":   second(s.CountUsers(t.Context(), "*")),
		"agents":  second(s.Agents(t.Context(), "*", "", 10)),
		"rules":   second(s.GovernanceStatus(t.Context())),
		"revoke":  second(s.RevokeToken(t.Context(), admin(), account.Revocation{Tenant: "*", TokenID: "x"})),
		"ping":    s.Ping(t.Context()),
		"no time": second(newStore(t, pgtest.New(t)).Users(late, "*", "", 10)),
	} {
		e := apierr.From(err)
		if err == nil || e.Code() != apierr.Internal || e.HTTP() != http.StatusServiceUnavailable {
			t.Errorf("%s: got %v, want internal.error with 503", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestBrokenSchema tells a defect from a database that is away.
func TestBrokenSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.pool.Exec(t.Context(), `ALTER TABLE users RENAME TO gone`); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CountUsers(t.Context(), "*"); apierr.From(err).HTTP() != http.StatusInternalServerError {
		t.Errorf("got %v, want 500", err)
	}
}

// TestNoAuditNoChange takes the audit log away from every kind of change.
func TestNoAuditNoChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u, g := f.user(t, "ada", "org1"), f.agent(t, "builder", "org1")
	const broken = `CREATE OR REPLACE FUNCTION append_audit(p_tenant TEXT, p_actor_kind TEXT, p_actor TEXT, p_action TEXT, p_target_kind TEXT, p_target TEXT,
		p_outcome TEXT, p_request_id TEXT, p_details JSONB) RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'disk'; END $$`
	if _, err := f.pool.Exec(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	const all = `SELECT md5(coalesce((SELECT string_agg(u::text, ',') FROM users u), '') || (SELECT string_agg(t::text, ',') FROM tenants t)
		|| (SELECT string_agg(p::text, ',') FROM projects p) || (SELECT count(*) FROM clients) || (SELECT count(*) FROM revocations)
		|| (SELECT string_agg(g::text, ',') FROM agents g) || (SELECT epoch FROM live_epoch))`
	before := f.text(t, all)
	tenant := account.Tenant{ID: "org1", Name: "new", Suspended: true}
	u.Role = request.RoleObserver
	for name, err := range map[string]error{
		"create user":    second(f.CreateUser(t.Context(), admin(), account.User{Username: "b", Role: request.RoleObserver, Tenant: "org1"}, "a good password")),
		"update user":    second(f.UpdateUser(t.Context(), admin(), u, "")),
		"delete user":    f.DeleteUser(t.Context(), admin(), u),
		"create tenant":  second(f.CreateTenant(t.Context(), admin(), account.Tenant{ID: "t"})),
		"update tenant":  second(f.UpdateTenant(t.Context(), admin(), tenant)),
		"suspend tenant": second(f.SuspendTenant(t.Context(), admin(), tenant)),
		"create project": second(f.CreateProject(t.Context(), admin(), account.Project{ID: "p", Tenant: "org1"})),
		"delete project": f.DeleteProject(t.Context(), admin(), account.Project{ID: "proj1", Tenant: "org2"}),
		"create agent":   second(f.CreateAgent(t.Context(), admin(), account.Agent{Name: "a", Tenant: "org1", Role: "tester"})),
		"block agent":    second(f.BlockAgent(t.Context(), admin(), g)),
		"revoke token":   second(f.RevokeToken(t.Context(), admin(), account.Revocation{Tenant: "org1", TokenID: "x"})),
		"revoke subject": second(f.RevokeSubject(t.Context(), admin(), account.Revocation{Tenant: "org1", Subject: u.ID})),
	} {
		if err == nil {
			t.Errorf("%s: done without a trace", name)
		}
	}
	if f.text(t, all) != before {
		t.Error("something has changed without a trace")
	}
	if err := f.SeedDev(t.Context(), func(context.Context, string) (string, error) { return "", errors.New("x") }); err == nil {
		t.Error("seeding went on without a hash")
	}
}
