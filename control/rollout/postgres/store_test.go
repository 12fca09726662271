package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/rollout"
	"gatehouse/control/rollout/postgres"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
	"gatehouse/internal/seal"
)

const config = `policy: {entry: data.app.allow}
upstreams:
  app: {url: "http://127.0.0.1:9000"}
routes:
  - name: all
    match: {listener: inbound, prefix: /}
    permission: task.view
    upstream: app
`

// content is a good policy set of its own for each name.
func content(name string) revision.Files {
	return revision.Files{
		revision.ConfigFile: []byte(config),
		"app.rego":          []byte("package app\n\n# " + name + "\nallow := true\n"),
		"app_test.rego":     []byte("package app_test\n\nimport data.app\n\ntest_allow if app.allow\n"),
	}
}

// fixture is a service over a database with the tenant org1.
type fixture struct {
	*rollout.Service
	pool *pgxpool.Pool
	log  *log
}

// log is what a service logs.
type log struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return fixtureOn(t, pgtest.New(t))
}

func fixtureOn(t *testing.T, pool *pgxpool.Pool) *fixture {
	t.Helper()
	f := &fixture{pool: pool, log: &log{}}
	f.exec(t, `INSERT INTO tenants (id) VALUES ('org1')`)
	f.Service = f.service(t, "s", "")
	return f
}

// service is one more service over the same database, with secrets of one
// repeated letter each.
func (f *fixture) service(t *testing.T, current, previous string) *rollout.Service {
	t.Helper()
	var old []byte
	if previous != "" {
		old = bytes.Repeat([]byte(previous), seal.MinSecretBytes)
	}
	box, err := seal.New(bytes.Repeat([]byte(current), seal.MinSecretBytes), old)
	if err != nil {
		t.Fatal(err)
	}
	s, err := rollout.New(rollout.Options{
		Store: postgres.New(f.pool, func(context.Context) string { return "req-1" }),
		Box:   box, Log: slog.New(slog.NewTextHandler(f.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *fixture) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// text returns the one value of a query as text.
func (f *fixture) text(t testing.TB, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := f.pool.QueryRow(context.Background(), sql, args...).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// push pushes content(name) and returns its id.
func (f *fixture) push(t *testing.T, set, name string) string {
	t.Helper()
	r, _, err := f.PushRevision(t.Context(), admin(), set, content(name), name)
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// activate puts a revision in force.
func (f *fixture) activate(t *testing.T, set, id string) mesh.PolicySet {
	t.Helper()
	p, err := f.ActivateRevision(t.Context(), admin(), set, id, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func admin() request.Principal {
	return request.Principal{Kind: request.KindToken, Subject: "00000000-0000-0000-0000-0000000000aa", Tenant: "*", Role: request.RoleAdmin}
}

// wantAnswer compares an error's status and looks for a text in its answer.
func wantAnswer(t *testing.T, what string, err error, status int, text string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %d with %s", what, status, text)
		return
	}
	e := apierr.From(err)
	if body := string(e.Body("")); e.HTTP() != status || !strings.Contains(body, text) {
		t.Errorf("%s: got %d %s (%v), want %d with %s", what, e.HTTP(), body, err, status, text)
	}
}

// same ignores what the database decides.
func same() cmp.Option {
	times := func(p cmp.Path) bool { return strings.HasSuffix(p.Last().String(), "At") }
	return cmp.Options{cmp.FilterPath(times, cmp.Ignore()), cmpopts.EquateEmpty()}
}

const audited = `SELECT coalesce(string_agg(action, ' ' ORDER BY seq), '') FROM audit_log`

func TestPushIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made, created, err := f.PushRevision(t.Context(), admin(), "base", content("a"), "first")
	want := mesh.Revision{PolicySet: "base", ID: revision.ID(content("a")), Note: "first", PushedBy: admin().Subject}
	if diff := cmp.Diff(want, made, same()); diff != "" || err != nil || !created || made.PushedAt.IsZero() {
		t.Fatalf("pushed: created %v, %v (-want +got):\n%s", created, err, diff)
	}
	again, created, err := f.PushRevision(t.Context(), request.Principal{}, "base", content("a"), "second")
	if diff := cmp.Diff(made, again); diff != "" || err != nil || created {
		t.Errorf("pushed again: created %v, %v (-want +got):\n%s", created, err, diff)
	}
	got, err := f.Revision(t.Context(), "base", made.ID)
	if want.Files = content("a"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, same()); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	set, err := f.PolicySet(t.Context(), "base")
	if diff := cmp.Diff(mesh.PolicySet{Name: "base", Version: 1}, set, same()); diff != "" || err != nil || set.CreatedAt.IsZero() {
		t.Errorf("set: %v (-want +got):\n%s", err, diff)
	}
	if got := f.text(t, audited); got != "signing_key.active policy_revision.push" {
		t.Errorf("audited is %q, want the key and one push", got)
	}
	const row = `SELECT concat_ws(' ', tenant_id, actor_kind, actor, target_kind, target, request_id, details->>'note') FROM audit_log WHERE action = 'policy_revision.push'`
	if got, want := f.text(t, row), "* user "+admin().Subject+" policy_revision base/"+made.ID+" req-1 first"; got != want {
		t.Errorf("audit row is %q, want %q", got, want)
	}
}

// TestSameContentInTwoSets is two revisions: each set is signed for itself.
func TestSameContentInTwoSets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.push(t, "one", "a")
	if got := f.push(t, "two", "a"); got != id {
		t.Errorf("the content has the ids %s and %s", id, got)
	}
	f.activate(t, "one", id)
	if p, err := f.PolicySet(t.Context(), "two"); err != nil || p.Active != nil {
		t.Errorf("the other set: got %+v and %v, want nothing in force", p, err)
	}
}

// TestBadPushStoresNothing says all that is wrong at once.
func TestBadPushStoresNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bad := content("a")
	bad[revision.ConfigFile] = []byte(strings.Replace(config, "task.view", "[]", 1) + "more: 1\n")
	bad["app_test.rego"] = append(bad["app_test.rego"], "\ntest_no if not app.allow\n"...)
	bad["sub/~x.txt"] = []byte("x")
	_, created, err := f.PushRevision(t.Context(), admin(), "No Name", bad, strings.Repeat("n", 1001))
	wantAnswer(t, "push", err, http.StatusUnprocessableEntity, "validation.invalid")
	body := string(apierr.From(err).Body(""))
	for _, want := range []string{
		`"pointer":"/policy_set","code":"policy_set"`, `"pointer":"/note","code":"note"`,
		`"pointer":"/files/sub~1~0x.txt","code":"config_invalid"`,
		`"pointer":"/files/gatehouse.yaml","code":"config_invalid","message":"gatehouse.yaml:7:`, `"message":"gatehouse.yaml:9:1: `,
		`"pointer":"/files/app_test.rego","code":"test_failed","message":"app_test.rego:7: data.app_test.test_no: `,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not in the answer: %s", want, body)
		}
	}
	bad = content("a")
	bad["app.rego"] = []byte("package app\n\nallow if missing(1)\n")
	_, _, err = f.PushRevision(t.Context(), admin(), "base", bad, "")
	wantAnswer(t, "Rego", err, http.StatusUnprocessableEntity, `{"pointer":"/files/app.rego","code":"rego_invalid","message":"app.rego:3:10: `)
	large := content("a")
	large["data.json"] = []byte(`{"a": "` + strings.Repeat("a", 3<<20) + `"}`)
	_, _, err = f.PushRevision(t.Context(), admin(), "base", large, "")
	wantAnswer(t, "size", err, http.StatusUnprocessableEntity, `{"pointer":"/files","code":"too_large"`)
	_, _, err = f.PushRevision(t.Context(), admin(), "base", content("a"), "nul\x00")
	wantAnswer(t, "note", err, http.StatusUnprocessableEntity, `{"pointer":"/note","code":"note"`)
	const rows = `SELECT (SELECT count(*) FROM policy_sets) + (SELECT count(*) FROM policy_revisions) + (SELECT count(*) FROM audit_log) || ''`
	if got := f.text(t, rows); got != "0" || created {
		t.Errorf("bad pushes left %s rows", got)
	}
}

func TestActorsAreToldApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `INSERT INTO clients (id, tenant_id, name, role, secret_hash) VALUES ('00000000-0000-0000-0000-0000000000cc', '*', 'ci', 'admin', $1)`, make([]byte, 32))
	token := func(subject string) request.Principal {
		return request.Principal{Kind: request.KindToken, Subject: subject}
	}
	for i, by := range []request.Principal{
		{}, admin(), token("00000000-0000-0000-0000-0000000000cc"), token("ada"), request.Anonymous(), {Kind: request.KindWorkload, Subject: "w"}, token(strings.Repeat("é", 300)),
	} {
		if _, _, err := f.PushRevision(t.Context(), by, "base", content(string(rune('a'+i))), ""); err != nil {
			t.Errorf("%+v: %v", by, err)
		}
	}
	const actors = `SELECT string_agg(actor_kind, ' ' ORDER BY seq) FROM audit_log WHERE action = 'policy_revision.push'`
	if got := f.text(t, actors); got != "system user client user anonymous workload user" {
		t.Errorf("actors are %s", got)
	}
	const longest = `SELECT max(char_length(pushed_by)) || ' ' || min(pushed_by) FROM policy_revisions WHERE pushed_by NOT LIKE '0%' AND pushed_by <> ''`
	if got := f.text(t, longest); got != "256 ada" {
		t.Errorf("the longest name, and the first, are %s", got)
	}
}

// TestPages walks each list in parts.
func TestPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, set := range []string{"b", "a", "a-b", "a_b", "ab"} {
		f.push(t, set, "x")
	}
	var pushed []string
	for _, name := range []string{"1", "2", "3", "4"} {
		pushed = append([]string{f.push(t, "b", name)}, pushed...)
	}
	pushed = append(pushed, revision.ID(content("x")))
	var sets, revisions []string
	for after := ""; ; {
		p, err := f.PolicySets(t.Context(), after, 2)
		if err != nil || len(p.Items) > 2 || len(sets) > 5 {
			t.Fatalf("sets behind %q: %d and %v", after, len(p.Items), err)
		}
		for _, s := range p.Items {
			sets = append(sets, s.Name)
		}
		if after = p.Next; after == "" {
			break
		}
	}
	for after := ""; ; {
		p, err := f.Revisions(t.Context(), "b", after, 2)
		if err != nil || len(p.Items) > 2 || len(revisions) > 5 {
			t.Fatalf("revisions behind %q: %d and %v", after, len(p.Items), err)
		}
		for _, r := range p.Items {
			revisions = append(revisions, r.ID)
			if r.Files != nil || r.Active {
				t.Errorf("got %+v, want neither files nor in force", r)
			}
		}
		if after = p.Next; after == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"a", "a-b", "a_b", "ab", "b"}, sets); diff != "" {
		t.Errorf("sets (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(pushed, revisions); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
}

func TestPagesOfNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.Revisions(t.Context(), "base", "", 10)
	wantAnswer(t, "revisions of no set", err, http.StatusNotFound, "")
	_, err = f.PolicySet(t.Context(), "base")
	wantAnswer(t, "no set", err, http.StatusNotFound, "")
	f.exec(t, `INSERT INTO policy_sets (name) VALUES ('base')`)
	if p, err := f.Revisions(t.Context(), "base", "", 10); err != nil || len(p.Items) != 0 || p.Next != "" {
		t.Errorf("a set without revisions: got %+v and %v", p, err)
	}
	id := revision.ID(content("x"))
	for _, after := range []string{"x", "1", "1.", "x." + id, "1." + id[1:], "1." + strings.ToUpper(id), "." + id} {
		_, err := f.Revisions(t.Context(), "base", after, 10)
		wantAnswer(t, "position "+after, err, http.StatusUnprocessableEntity, `"/query/cursor"`)
	}
}

func TestPagesAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `INSERT INTO policy_sets (name) SELECT 's' || n FROM generate_series(1, 300) n`)
	for limit, want := range map[int]int{-1: 1, 0: 1, 200: 200, 1 << 40: 200} {
		p, err := f.PolicySets(t.Context(), "", limit)
		if err != nil || len(p.Items) != want || p.Next == "" {
			t.Errorf("limit %d: got %d (%v), want %d and a next", limit, len(p.Items), err, want)
		}
	}
}

// TestBeginningsOfIds are enough where no other revision begins so.
func TestBeginningsOfIds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.push(t, "base", "a")
	twins := []string{strings.Repeat("ab", 32), strings.Repeat("ab", 31) + "cd"}
	for _, twin := range twins {
		f.exec(t, `INSERT INTO policy_revisions (policy_set, id, bundle, signature, kid, pushed_by)
			SELECT policy_set, $1, bundle, signature, kid, pushed_by FROM policy_revisions WHERE id = $2`, twin, id)
	}
	calls := map[string]func(id string) error{
		"get":       func(id string) error { _, err := f.Revision(t.Context(), "base", id); return err },
		"activate":  func(id string) error { _, err := f.ActivateRevision(t.Context(), admin(), "base", id, 0); return err },
		"roll back": func(id string) error { _, err := f.Rollback(t.Context(), admin(), "base", id, 0); return err },
	}
	for _, name := range []string{"get", "activate", "roll back"} {
		if err := calls[name](id[:8]); err != nil {
			t.Errorf("%s by 8 characters: %v", name, err)
		}
		wantAnswer(t, name+" by 7 characters", calls[name](id[:7]), http.StatusNotFound, "")
		wantAnswer(t, name+" of none", calls[name]("0123456789"), http.StatusNotFound, "")
		wantAnswer(t, name+" of no whole one", calls[name](strings.Repeat("0", 64)), http.StatusNotFound, "")
		wantAnswer(t, name+" of two", calls[name](twins[0][:62]), http.StatusConflict, `"reason":"ambiguous"`)
	}
	_, err := f.Revision(t.Context(), "other", id[:8])
	wantAnswer(t, "another set's", err, http.StatusNotFound, "")
}
