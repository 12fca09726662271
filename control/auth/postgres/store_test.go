package postgres_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/auth"
	"gatehouse/control/auth/postgres"
	"gatehouse/internal/apierr"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/request"
	"gatehouse/internal/seal"
)

const password = "correct horse battery"

var from = netip.MustParseAddr("192.0.2.7") // never changed

// fixture is a service over a database with two tenants and two users.
type fixture struct {
	*auth.Service
	pool   *pgxpool.Pool
	store  *postgres.Store
	hasher *auth.Hasher
	now    time.Time // the service's clock; the test's goroutine sets it
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	pool := pgtest.New(t)
	f := &fixture{pool: pool, store: postgres.New(pool), hasher: auth.NewHasher(), now: time.Now().Truncate(time.Second)}
	f.fill(t)
	f.Service = f.service(t)
	return f
}

// fill adds tenants and users.
func (f *fixture) fill(t *testing.T) {
	t.Helper()
	hash, err := f.hasher.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	f.exec(t, `INSERT INTO tenants (id) VALUES ('org1'), ('org2')`)
	f.exec(t, `INSERT INTO projects (tenant_id, id) VALUES ('org1', 'proj1')`)
	f.exec(t, `INSERT INTO users (tenant_id, project_id, username, password_hash, role, status) VALUES
		('org1', 'proj1', 'ada', $1, 'developer', 'active'), ('org1', NULL, 'off', $1, 'developer', 'disabled'), ('*', NULL, 'root', $1, 'admin', 'active')`, hash)
}

// service starts one more service over the same database.
func (f *fixture) service(t *testing.T) *auth.Service {
	t.Helper()
	box, err := seal.New(bytes.Repeat([]byte("s"), 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := auth.New(auth.Options{
		Store: f.store, Box: box, Hasher: f.hasher, Now: func() time.Time { return f.now },
		RequestID: func(context.Context) string { return "req-1" },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func (f *fixture) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// text returns the one value of a query as text.
func (f *fixture) text(t *testing.T, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := f.pool.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func wantAnswer(t *testing.T, what string, err error, want apierr.Code) {
	t.Helper()
	got := apierr.Code("")
	if err != nil {
		got = apierr.From(err).Code()
	}
	if got != want {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

// spellings are ways to write one name.
func spellings(name string) []string {
	decomposed := strings.ReplaceAll(name, "\u00eb", "e\u0308")
	return []string{
		name, strings.ToUpper(name), " " + name, name + "\t", strings.ToUpper(decomposed), "\u2003" + decomposed,
		strings.ToUpper(name[:1]) + name[1:], "\u00a0" + decomposed + "\r\n",
	}
}

// TestParallelGuesses lets 10,000 guess at once, in many spellings, at two
// services: no more passwords are looked at than one after the other. Who has to
// wait for the database too long is told so, and guessed nothing.
func TestParallelGuesses(t *testing.T) {
	t.Parallel()
	many := 10_000
	if testing.Short() {
		many = 200
	}
	for name, guesses := range map[string]int{"ada": 200, "zo\u00eb": many} { // the second doesn't exist, and has more spellings
		f := newFixture(t)
		services := []*auth.Service{f.Service, f.service(t)}
		before := f.hasher.Evaluations()
		var wait sync.WaitGroup
		codes, written := make([]apierr.Code, guesses), spellings(name)
		for i := range codes {
			wait.Go(func() {
				_, err := services[i%2].Login(t.Context(), written[i%len(written)], fmt.Sprint("guess ", i), from)
				codes[i] = apierr.From(err).Code()
			})
		}
		wait.Wait()
		if n := f.hasher.Evaluations() - before; n < 1 || n > 5 {
			t.Errorf("%s: %d passwords were looked at, want 1 to 5", name, n)
		}
		for _, c := range codes {
			if c != apierr.AuthInvalidCredentials && c != apierr.RateLimitExceeded && c != apierr.AuthUnavailable {
				t.Fatalf("%s: somebody got %s", name, c)
			}
		}
		_, err := f.Login(t.Context(), name, password, from)
		wantAnswer(t, name+" afterwards", err, apierr.RateLimitExceeded)
		if n := f.text(t, `SELECT count(*)::text FROM login_attempts`); n != "1" {
			t.Errorf("%s: counted as %s accounts, want one", name, n)
		}
	}
}

// TestParallelLoginsLockNobody logs one user in many times at once: who finds
// all attempts taken is told to come again, and nothing is locked.
func TestParallelLoginsLockNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			_, err := f.Login(t.Context(), "ada", password, from)
			if code := apierr.From(err).Code(); err != nil && code != apierr.RateLimitExceeded {
				t.Errorf("got %v", err)
			}
		})
	}
	wait.Wait()
	_, err := f.Login(t.Context(), "ada", password, from)
	wantAnswer(t, "afterwards", err, "")
}

func TestLockIsAuditedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 7 {
		_, _ = f.Login(t.Context(), "ada", "wrong", from)
	}
	_, err := f.Login(t.Context(), "ada", password, from)
	wantAnswer(t, "locked", err, apierr.RateLimitExceeded)
	const audit = `SELECT count(*)::text || ' ' || min(tenant_id) || ' ' || min(outcome) || ' ' || min(request_id) || ' ' || min(details->>'address') FROM audit_log WHERE action = 'auth.lock'`
	if got, want := f.text(t, audit), "1 org1 denied req-1 192.0.2.7"; got != want {
		t.Errorf("audit: got %q, want %q", got, want)
	}
	if got := f.text(t, `SELECT count(*)::text FROM outbox WHERE kind = 'auth.locked'`); got != "1" {
		t.Errorf("%s events, want one", got)
	}
	if got := f.text(t, `SELECT count(*)::text FROM audit_log WHERE (details::text || target) ~ 'ada'`); got != "0" {
		t.Error("the name stands in the audit log")
	}
	f.now = f.now.Add(15 * time.Minute)
	if err := f.UpdateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = f.Login(t.Context(), "ada", password, from)
	wantAnswer(t, "after the lock", err, "")
}

// model is the rule, written down plainly once more: one attempt after the
// other, each with its outcome at the end.
type model struct {
	rule auth.Rule
	auth.Attempts
}

func (m *model) reserve(now time.Time) bool {
	_, ok := m.rule.Admit(m.Attempts, now)
	if ok {
		if !now.Before(m.PendingUntil) {
			m.Pending = 0
		}
		m.Pending, m.PendingUntil = m.Pending+1, now.Add(auth.PendingLife)
	}
	return ok
}

func (m *model) fail(now time.Time) bool {
	m.Pending = max(m.Pending-1, 0)
	m.Failed = append(slices.DeleteFunc(m.Failed, func(at time.Time) bool { return !at.After(now.Add(-m.rule.Window)) }), now)
	if len(m.Failed) < m.rule.MaxFailures {
		return false
	}
	m.Failed, m.LockedUntil = nil, now.Add(m.rule.Lockout)
	return true
}

// TestCountsLikeTheRule runs random histories against the rule in Go.
func TestCountsLikeTheRule(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for history := range 30 {
		random := rand.New(rand.NewPCG(7, uint64(history)))
		m := &model{rule: auth.Rule{MaxFailures: 1 + random.IntN(5), Window: time.Minute * time.Duration(1+random.IntN(10)), Lockout: time.Minute * time.Duration(1+random.IntN(10))}}
		account := sha256.Sum256([]byte{byte(history)})
		now := f.now
		for step := range 60 {
			now = now.Add(time.Duration(random.Int64N(int64(90 * time.Second)))).Truncate(time.Microsecond)
			what := fmt.Sprintf("history %d, step %d", history, step)
			ok, a, err := f.store.Reserve(t.Context(), account[:], m.rule, now)
			if err != nil {
				t.Fatal(err)
			}
			if want := m.reserve(now); ok != want {
				t.Fatalf("%s: reserved %v, want %v (%+v at %v)", what, ok, want, m.Attempts, now)
			}
			if wait, admitted := m.rule.Admit(a, now); !ok && (admitted || wait <= 0) {
				t.Fatalf("%s: refused with a wait of %v", what, wait)
			}
			if !ok {
				continue
			}
			switch random.IntN(10) {
			case 0: // its process dies
			case 1:
				if err := f.store.GiveBack(t.Context(), account[:], now); err != nil {
					t.Fatal(err)
				}
				m.Pending--
			default:
				locked, err := f.store.Fail(t.Context(), auth.Failure{Account: account[:]}, m.rule, now)
				if want := m.fail(now); locked != want || err != nil {
					t.Fatalf("%s: locked %v (%v), want %v", what, locked, err, want)
				}
			}
		}
	}
}

func TestSecretsAreNotStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(s.RefreshToken))
	if got := f.text(t, `SELECT count(*)::text FROM refresh_tokens WHERE token_hash = $1`, sum[:]); got != "1" {
		t.Error("the refresh token is not there as its SHA-256")
	}
	if got := f.text(t, `SELECT count(*)::text FROM signing_keys WHERE octet_length(private_key) <= 32`); got != "0" {
		t.Error("a private key is not sealed")
	}
}

func TestStandingOfSubjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, hash := auth.NewClientSecret()
	f.exec(t, `INSERT INTO agents (tenant_id, name, role) VALUES ('org1', 'builder', 'developer')`)
	f.exec(t, `INSERT INTO clients (tenant_id, agent_id, name, role, secret_hash) SELECT 'org1', id, 'ci', 'observer', $1 FROM agents`, hash)
	ada, client := f.text(t, `SELECT id::text FROM users WHERE username = 'ada'`), f.text(t, `SELECT id::text FROM clients`)
	revoked := f.now.Add(-time.Minute)
	f.exec(t, `INSERT INTO revocations (tenant_id, kind, subject, issued_before, epoch, created_by, expires_at) VALUES
		('org1', 'subject', $1, $2, 1, 'x', $3), ('org1', 'subject', $1, $2::timestamptz - interval '1 hour', 1, 'x', $3)`, ada, revoked, f.now.Add(time.Hour))
	f.exec(t, `INSERT INTO revocations (tenant_id, kind, token_id, epoch, created_by, expires_at) VALUES ('org1', 'token', 'jti-1', 1, 'x', $1), ('org2', 'token', 'jti-2', 1, 'x', $1)`, f.now.Add(time.Hour))
	for _, tt := range []struct {
		name, subject, token string
		want                 auth.Standing
	}{
		{"user", ada, "jti-2", auth.Standing{Active: true, Subject: auth.Subject{ID: ada, Role: request.RoleDeveloper, Tenant: "org1", Project: "proj1", Revoked: revoked}}},
		{"its revoked token", ada, "jti-1", auth.Standing{Active: true, TokenRevoked: true, Subject: auth.Subject{ID: ada, Role: request.RoleDeveloper, Tenant: "org1", Project: "proj1", Revoked: revoked}}},
		{"client", client, "jti-2", auth.Standing{Active: true, Subject: auth.Subject{ID: client, Role: request.RoleObserver, Tenant: "org1", Agent: "builder"}}},
		{"nobody", "00000000-0000-0000-0000-000000000000", "jti-2", auth.Standing{}},
		{"no UUID", "ada", "jti-2", auth.Standing{}},
	} {
		got, err := f.store.Standing(t.Context(), tt.subject, tt.token, f.now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	f.exec(t, `UPDATE agents SET status = 'blocked', blocked_at = now()`)
	if st, err := f.store.Standing(t.Context(), client, "", f.now); err != nil || st.Active {
		t.Errorf("client of a blocked agent: got %+v and %v", st, err)
	}
}

func TestRevokedTokensAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(t.Context(), s.AccessToken); err != nil {
		t.Fatal(err)
	}
	f.exec(t, `INSERT INTO revocations (tenant_id, kind, subject, issued_before, epoch, created_by, expires_at)
		SELECT 'org1', 'subject', id::text, $1, 1, 'x', $2 FROM users WHERE username = 'ada'`, f.now.Add(time.Millisecond), f.now.Add(time.Hour))
	f.now = f.now.Add(auth.StandingAge)
	_, err = f.Verify(t.Context(), s.AccessToken)
	wantAnswer(t, "the old token", err, apierr.AuthInvalidToken)
	s, err = f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Verify(t.Context(), s.AccessToken)
	wantAnswer(t, "a new token", err, "")
}

func TestClientToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret, hash := auth.NewClientSecret()
	f.exec(t, `INSERT INTO clients (tenant_id, name, role, secret_hash) VALUES ('org1', 'ci', 'observer', $1)`, hash)
	id := f.text(t, `SELECT id::text FROM clients`)
	s, err := f.ClientToken(t.Context(), id, secret, from)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := f.Verify(t.Context(), s.AccessToken); err != nil || p.Subject != id || p.Role != request.RoleObserver {
		t.Errorf("got %+v and %v", p, err)
	}
	for name, other := range map[string]string{"another id": f.text(t, `SELECT gen_random_uuid()::text`), "no UUID": "ci", "injection": "' OR 1=1 --"} {
		_, err := f.ClientToken(t.Context(), other, secret, from)
		wantAnswer(t, name, err, apierr.AuthInvalidCredentials)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.Login(t.Context(), "ada", password, from)
	wantAnswer(t, "login", err, "")
	_, err = f.Login(t.Context(), "nobody", "wrong", from)
	wantAnswer(t, "failure", err, apierr.AuthInvalidCredentials)
	f.exec(t, `INSERT INTO revocations (tenant_id, kind, token_id, epoch, created_by, expires_at) VALUES ('org1', 'token', 'x', 1, 'x', $1)`, f.now.Add(time.Minute))
	const left = `SELECT (SELECT count(*) FROM login_attempts) || ' ' || (SELECT count(*) FROM refresh_tokens) || ' ' || (SELECT count(*) FROM revocations)`
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{{0, "2 1 1"}, {2 * time.Minute, "2 1 0"}, {15 * time.Minute, "2 1 0"}, {15*time.Minute + time.Second, "0 1 0"}, {auth.SessionTTL + time.Second, "0 0 0"}} {
		if err := f.store.Prune(t.Context(), auth.DefaultRule(), f.now.Add(tt.after)); err != nil {
			t.Fatal(err)
		}
		if got := f.text(t, left); got != tt.want {
			t.Errorf("after %v: attempts, sessions, revocations are %s, want %s", tt.after, got, tt.want)
		}
	}
}
