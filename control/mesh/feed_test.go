package mesh_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	controlmesh "gatehouse/control/mesh"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/revision"
)

func (f fixture) report(t *testing.T, id string, r mesh.Report) {
	t.Helper()
	if err := f.Report(t.Context(), map[string]mesh.Report{id: r}); err != nil {
		t.Fatal(err)
	}
}

// id is a revision's.
func id(digit string) string { return strings.Repeat(digit, 64) }

func TestReportIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, _ := f.register(t, asked("one"))
	f.activate(t, "main", 1, "a", "activate")
	f.activate(t, "main", 2, "b", "activate")
	want := mesh.Report{
		At: noon(), Incarnation: 7, Generation: 1, Revision: id("a"), LiveEpoch: 4, Skew: -1500 * time.Millisecond, Build: "v1",
		Refused: mesh.Refusal{Generation: 2, Revision: id("b"), Reason: "no such cluster", At: noon().Add(-time.Minute)},
	}
	f.report(t, sc.ID, want)
	got := f.read(t, sc.ID)
	if diff := cmp.Diff(want, got.Last); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Version != sc.Version || !got.UpdatedAt.Equal(sc.UpdatedAt) {
		t.Errorf("a report is no change, but raised %d to %d", sc.Version, got.Version)
	}
	taken := mesh.Report{At: noon().Add(time.Second), Incarnation: 7, Generation: 2, Revision: id("b"), LiveEpoch: 5, Build: "v1"}
	f.report(t, sc.ID, taken)
	if diff := cmp.Diff(taken, f.read(t, sc.ID).Last); diff != "" {
		t.Errorf("after the refusal (-want +got):\n%s", diff)
	}
}

// TestOlderProcessIsPassedOver tells who may speak for a sidecar after a
// process of incarnation 100 did at noon.
func TestOlderProcessIsPassedOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, tt := range map[string]struct {
		incarnation int64
		after       time.Duration
		stored      bool
	}{
		"the same":                   {100, time.Second, true},
		"the same, by another clock": {100, -time.Second, true},
		"a newer one":                {101, time.Second, true},
		"an older one":               {99, time.Second, false},
		"none":                       {0, time.Second, false},
		"an older one, soon":         {99, 2 * time.Minute, false},
		"an older one, much later":   {99, 2*time.Minute + time.Second, true},
	} {
		sc, _ := f.register(t, asked(strings.NewReplacer(" ", "-", ",", "").Replace(name)))
		f.report(t, sc.ID, mesh.Report{At: noon(), Incarnation: 100})
		f.report(t, sc.ID, mesh.Report{At: noon().Add(tt.after), Incarnation: tt.incarnation, Build: "new"})
		if got := f.read(t, sc.ID).Last; (got.Build == "new") != tt.stored {
			t.Errorf("%s: got %+v, stored: want %v", name, got, tt.stored)
		}
	}
}

// TestOddReports are of sidecars that say what can't be kept, or are none: each
// is put right or passed over, and the others are stored.
func TestOddReports(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	odd, _ := f.register(t, asked("odd"))
	good, _ := f.register(t, asked("good"))
	err := f.Report(t.Context(), map[string]mesh.Report{
		good.ID: {At: noon(), Incarnation: 1, Build: "good"}, nobody: {At: noon()}, "x": {At: noon()}, "": {},
		odd.ID: {
			At: noon(), Incarnation: -1, Revision: "x'; DROP TABLE sidecars", Build: "a\x00\xff" + strings.Repeat("é", 100),
			Refused: mesh.Refusal{Revision: strings.ToUpper(id("a")), Reason: strings.Repeat("x", 3000)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.read(t, good.ID).Last.Build; got != "good" {
		t.Errorf("the good one's build is %q", got)
	}
	want := mesh.Report{At: noon(), Build: "a\ufffd\ufffd" + strings.Repeat("é", 60), Refused: mesh.Refusal{Reason: strings.Repeat("x", mesh.MaxReason), At: noon()}}
	if diff := cmp.Diff(want, f.read(t, odd.ID).Last); diff != "" {
		t.Errorf("the odd one (-want +got):\n%s", diff)
	}
	if err := f.Report(t.Context(), nil); err != nil {
		t.Errorf("no reports: %v", err)
	}
}

// TestReportsAtOnce stores reports on the same sidecars from many sides: none
// fails, and the newest process stays.
func TestReportsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `INSERT INTO sidecars (tenant_id, name, policy_set, credential_hash) SELECT 'org1', 'x' || n, 'main', sha256(n::text::bytea) FROM generate_series(1, 200) n`)
	p, err := f.Sidecars(t.Context(), "*", "", 200)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for side := range 8 {
		wait.Go(func() {
			for i := range 5 {
				reports := map[string]mesh.Report{}
				for _, sc := range p.Items {
					reports[sc.ID] = mesh.Report{At: noon(), Incarnation: int64(8*i + side)}
				}
				if err := f.Report(t.Context(), reports); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if got := f.text(t, `SELECT string_agg(DISTINCT incarnation::text, ' ') FROM sidecars`); got != "39" {
		t.Errorf("incarnations are %s, want 39", got)
	}
	n, err := f.Connected(t.Context(), time.Second)
	if err != nil || n["main"] != 200 {
		t.Errorf("connected: %v, %v", n, err)
	}
}

// TestManyAtOnce reports on and asks for more sidecars than one statement takes.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const n = 5001
	f.exec(t, `INSERT INTO sidecars (id, tenant_id, name, policy_set, credential_hash)
		SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'org1', 'x' || n, 'main', sha256(n::text::bytea) FROM generate_series(1, $1::int) n`, n)
	reports, ids := map[string]mesh.Report{}, []string{}
	for i := range n {
		ids = append(ids, fmt.Sprintf("00000000-0000-0000-0000-%012d", i+1))
		reports[ids[i]] = mesh.Report{At: noon()}
	}
	if err := f.Report(t.Context(), reports); err != nil {
		t.Fatal(err)
	}
	versions, err := f.Versions(t.Context(), ids)
	if err != nil || len(versions) != n {
		t.Errorf("%d versions, %v", len(versions), err)
	}
	if got, err := f.Connected(t.Context(), time.Second); err != nil || got["main"] != n {
		t.Errorf("connected: %v, %v", got, err)
	}
}

func TestConnected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, ago := range map[string]time.Duration{"now": 0, "just": 14 * time.Second, "limit": 15 * time.Second, "long": time.Hour} {
		sc, _ := f.register(t, asked(name))
		f.report(t, sc.ID, mesh.Report{At: noon().Add(-ago)})
	}
	f.register(t, asked("never"))
	other := asked("other")
	other.PolicySet = "other"
	sc, _ := f.register(t, other)
	f.report(t, sc.ID, mesh.Report{At: noon()})
	revoked, _ := f.register(t, asked("revoked"))
	f.report(t, revoked.ID, mesh.Report{At: noon()})
	wantCode(t, "revocation", f.RevokeSidecar(t.Context(), root(), revoked), "")
	got, err := f.Connected(t.Context(), 15*time.Second)
	if diff := cmp.Diff(map[string]int{"main": 2, "other": 1}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, _ := f.register(t, asked("one"))
	two, _ := f.register(t, asked("two"))
	gone, _ := f.register(t, asked("gone"))
	f.register(t, asked("not-asked-for"))
	wantCode(t, "update", second(f.UpdateSidecar(t.Context(), root(), two)), "")
	wantCode(t, "revocation", f.RevokeSidecar(t.Context(), root(), gone), "")
	got, err := f.Versions(t.Context(), []string{one.ID, two.ID, gone.ID, nobody, "x", ""})
	if diff := cmp.Diff(map[string]int64{one.ID: 1, two.ID: 2}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := f.Versions(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("of none: %v, %v", got, err)
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got, err := f.Live(t.Context()); err != nil || !cmp.Equal(got, mesh.Live{}) {
		t.Errorf("at first: got %+v and %v", got, err)
	}
	const revoke = `INSERT INTO revocations (tenant_id, kind, subject, issued_before, token_id, epoch, created_by, expires_at)
		VALUES ($1, $2, $3, $4, $5, next_live_epoch(), 'x', now() + $6::interval)`
	second := time.Unix(1_700_000_000, 0)
	for _, r := range []struct {
		tenant, kind    string
		subject         any
		before, tokenID any
		life            time.Duration
	}{
		{"org2", "subject", "ada", second.Add(900 * time.Millisecond), nil, time.Hour},
		{"org1", "subject", "bob", second, nil, time.Hour},
		{"org1", "subject", "bob", second.Add(-time.Minute), nil, time.Hour},
		{"org1", "subject", "late", second, nil, -time.Second},
		{"*", "token", nil, nil, "t1", time.Hour},
		{"*", "token", nil, nil, "t1", time.Hour},
		{"org1", "token", nil, nil, "t0", -time.Second},
	} {
		f.exec(t, revoke, r.tenant, r.kind, r.subject, r.before, r.tokenID, r.life)
	}
	f.exec(t, `UPDATE tenants SET status = 'suspended', suspended_at = now() WHERE id = 'org2'`)
	f.exec(t, `UPDATE agents SET status = 'blocked', blocked_at = now() WHERE id = $1`, agent1)
	want := mesh.Live{
		Epoch:     7,
		Subjects:  []mesh.RevokedSubject{{Tenant: "org1", Subject: "bob", IssuedBefore: second.Unix()}, {Tenant: "org2", Subject: "ada", IssuedBefore: second.Unix()}},
		Tokens:    []mesh.RevokedToken{{Tenant: "*", TokenID: "t1"}},
		Suspended: []string{"org2"},
		Blocked:   []mesh.BlockedAgent{{Tenant: "org1", ID: agent1, Name: "builder"}},
	}
	got, err := f.Live(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if epoch, err := f.Epoch(t.Context()); err != nil || epoch != 7 {
		t.Errorf("epoch: %d, %v", epoch, err)
	}
}

// fill adds live revocations of n tokens to each of some tenants.
func (f fixture) fill(t *testing.T, n int, tenants ...string) {
	t.Helper()
	f.exec(t, `INSERT INTO revocations (tenant_id, kind, token_id, epoch, created_by, expires_at)
		SELECT tenant, 'token', 't' || n, 1, 'x', now() + interval '1 hour' FROM unnest($1::text[]) tenant, generate_series(1, $2::int) n`, tenants, n)
}

// TestLiveOfATenantIsBounded has tenants above a bound, one at it, and one of
// few rows: of the first is told no more than that all they do is refused.
func TestLiveOfATenantIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var log bytes.Buffer
	s, err := controlmesh.New(controlmesh.Options{Pool: f.pool, Keys: func(context.Context) ([]mesh.RevisionKey, error) { return keys(), nil }, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	const (
		block = `INSERT INTO agents (tenant_id, name, role, status, blocked_at) SELECT $1, 'b' || n, 'developer', 'blocked', now() FROM generate_series(1, $2::int) n`
		cut   = `INSERT INTO revocations (tenant_id, kind, subject, issued_before, epoch, created_by, expires_at) VALUES ('org1', 'subject', 'ada', now(), 1, 'x', now() + interval '1 hour')`
	)
	f.exec(t, `INSERT INTO tenants (id, status, suspended_at) VALUES ('crowd', 'active', NULL), ('full', 'active', NULL), ('gone', 'suspended', now())`)
	f.fill(t, 20_000, "org1", "gone", "full", "*")
	f.fill(t, 1, "org2")
	f.exec(t, cut) // and with it org1 is above
	f.exec(t, `INSERT INTO revocations (tenant_id, kind, token_id, epoch, created_by, expires_at) VALUES ('*', 'token', 'more', 1, 'x', now() + interval '1 hour'), ('gone', 'token', 'more', 1, 'x', now() + interval '1 hour')`)
	f.exec(t, block, "crowd", 1001)
	f.exec(t, block, "full", 1000)
	l, err := s.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tokens, blocked := map[string]int{}, map[string]int{}
	for _, r := range l.Tokens {
		tokens[r.Tenant]++
	}
	for _, g := range l.Blocked {
		blocked[g.Tenant]++
	}
	if diff := cmp.Diff(map[string]int{"full": 20_000, "org2": 1, "*": 20_001}, tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"full": 1000}, blocked); diff != "" {
		t.Errorf("agents (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"crowd", "gone", "org1"}, l.Suspended); diff != "" || len(l.Subjects) != 0 {
		t.Errorf("suspended, with the subjects %v (-want +got):\n%s", l.Subjects, diff)
	}
	if text := log.String(); strings.Count(text, "level=WARN") != 3 || !strings.Contains(text, "tenant=crowd rows=1001") || !strings.Contains(text, "tenant=org1 rows=20001") {
		t.Errorf("log: %s", text)
	}
}

// TestLiveIsBounded fills it to the bound of all tenants together, and one above.
func TestLiveIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `DROP INDEX revocations_by_tenant, revocations_by_epoch, revocations_expired, revocations_by_token`) // to fill it faster
	f.fill(t, 20_000, "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9")
	if l, err := f.Live(t.Context()); err != nil || len(l.Tokens) != 200_000 {
		t.Errorf("at the bound: %d, %v", len(l.Tokens), err)
	}
	f.fill(t, 1, "org1")
	l, err := f.Live(t.Context())
	wantCode(t, "above", err, apierr.Internal)
	if l.Tokens != nil {
		t.Errorf("above: %d beside the error", len(l.Tokens))
	}
}

// activate adds an activation of a revision, with the revision where there is
// none. The signature is none of any key.
func (f fixture) activate(t *testing.T, set string, generation int64, digit, kind string) {
	t.Helper()
	f.exec(t, `INSERT INTO signing_keys (kid, purpose, state, public_key, private_key, activated_at)
		VALUES ('k1', 'revision', 'active', $1, 'sealed', now()) ON CONFLICT DO NOTHING`, make([]byte, 32))
	f.exec(t, `INSERT INTO policy_revisions (policy_set, id, bundle, signature, kid, pushed_by) VALUES ($1, $2, $3, $4, 'k1', 'x') ON CONFLICT DO NOTHING`,
		set, id(digit), []byte(digit), make([]byte, 64))
	f.exec(t, `INSERT INTO policy_activations (policy_set, generation, revision_id, kind, activated_by, signature, kid) VALUES ($1, $2, $3, $4, 'x', $5, 'k1')`,
		set, generation, id(digit), kind, bytes.Repeat([]byte{byte(generation)}, ed25519.SignatureSize))
}

func TestActive(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, set := range []string{"main", "none"} {
		if got, err := f.Active(t.Context(), set); err != nil || !cmp.Equal(got, mesh.Activated{}) {
			t.Errorf("%s: got %+v and %v, want nothing", set, got, err)
		}
	}
	f.activate(t, "main", 1, "a", "activate")
	f.activate(t, "main", 2, "b", "activate")
	f.activate(t, "main", 12, "a", "rollback")
	f.activate(t, "other", 3, "c", "activate")
	got, err := f.Active(t.Context(), "main")
	want := mesh.Activated{
		Signed: revision.Signed{
			Activation: revision.Activation{PolicySet: "main", Generation: 12, Revision: id("a"), Kind: revision.Rollback},
			KeyID:      "k1", Signature: bytes.Repeat([]byte{12}, 64),
		},
		Bundle: []byte("a"),
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	generations, err := f.Generations(t.Context())
	if diff := cmp.Diff(map[string]int64{"main": 12, "other": 3}, generations); diff != "" || err != nil {
		t.Errorf("generations: %v (-want +got):\n%s", err, diff)
	}
}

func TestSetsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.activate(t, "main", 1, "a", "activate")
	f.exec(t, `INSERT INTO policy_sets (name) SELECT 's' || n FROM generate_series(1, 10000) n`)
	f.exec(t, `INSERT INTO policy_revisions (policy_set, id, bundle, signature, kid, pushed_by) SELECT 's' || n, $1, 'x', $2, 'k1', 'x' FROM generate_series(1, 10000) n`, id("a"), make([]byte, 64))
	f.exec(t, `INSERT INTO policy_activations (policy_set, generation, revision_id, kind, activated_by, signature, kid) SELECT 's' || n, 1, $1, 'activate', 'x', $2, 'k1' FROM generate_series(1, 10000) n`, id("a"), make([]byte, 64))
	got, err := f.Generations(t.Context())
	wantCode(t, "above", err, apierr.Internal)
	if len(got) != 0 {
		t.Errorf("above: %d beside the error", len(got))
	}
}
