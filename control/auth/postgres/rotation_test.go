package postgres_test

import (
	"sync"
	"testing"
	"time"

	"gatehouse/control/auth"
	"gatehouse/internal/config"
	"gatehouse/internal/token"
)

// sidecar is a verifier that learns of keys from a feed alone, and asks for
// nothing when it meets a key that it doesn't know: stricter than the product.
type sidecar struct {
	*token.Verifier
	feed *token.Feed
}

func newSidecar(t *testing.T) sidecar {
	t.Helper()
	s := sidecar{feed: token.NewFeed(auth.IssuerName, nil)}
	keys := token.NewKeys(token.KeysOptions{})
	t.Cleanup(keys.Stop)
	issuer := config.Issuer{
		Name: auth.IssuerName, Issuer: auth.DefaultIssuer, Audience: auth.DefaultAudience, Algorithms: []string{"EdDSA"},
		Tenants: []string{"any"}, Roles: []string{"any"},
		Claims: config.Claims{Role: "role", Tenant: "tenant_id", Project: "project_id", Agent: "agent_id", Run: "run_id"},
	}
	var err error
	s.Verifier, err = token.NewVerifier([]config.Issuer{issuer}, keys, token.Options{Feeds: map[string]*token.Feed{auth.IssuerName: s.feed}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask replaces the keys by what a replica publishes.
func (s sidecar) ask(t *testing.T, of *auth.Service, now time.Time) {
	t.Helper()
	doc, err := of.KeySet(t.Context())
	if err == nil {
		err = s.feed.Replace(doc, now)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// minted is a token, and when it was issued.
type minted struct {
	raw string
	at  time.Time
}

// load is two replicas and a sidecar under way. The clock is that of the
// fixture, and stands still while calls run.
type load struct {
	*fixture
	second  *auth.Service // learns of keys from the database, every other minute
	sidecar sidecar

	mu  sync.Mutex // guards out
	out []minted   // not expired
}

// issue gets one more token by call.
func (l *load) issue(call func() (string, error)) func() error {
	return func() error {
		raw, err := call()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.out = append(l.out, minted{raw, l.now})
		return err
	}
}

// check verifies all tokens that were out when the step began.
func (l *load) check(out []minted, by func(raw string) error) func() error {
	return func() error {
		for _, m := range out {
			if err := by(m.raw); err != nil {
				return err
			}
		}
		return nil
	}
}

// forget drops what has expired, and returns the others.
func (l *load) forget() []minted {
	kept := l.out[:0:0]
	for _, m := range l.out {
		if l.now.Sub(m.at) <= auth.AccessTTL {
			kept = append(kept, m)
		}
	}
	l.out = kept
	return kept[:len(kept):len(kept)]
}

// step runs all that happens within one minute at once.
func (l *load) step(t *testing.T, minute int, secret string) (rotated bool) {
	t.Helper()
	client := l.text(t, `SELECT id::text FROM clients`)
	out := l.forget()
	calls := map[string]func() error{
		"rotate": func() error {
			if l.RotateKeys(t.Context()) == nil {
				rotated = true
				return nil
			}
			return l.UpdateKeys(t.Context()) // too soon for the next one
		},
		"login": l.issue(func() (string, error) {
			s, err := l.Login(t.Context(), "ada", password, from)
			return s.AccessToken, err
		}),
		"client": l.issue(func() (string, error) {
			s, err := l.second.ClientToken(t.Context(), client, secret, from)
			return s.AccessToken, err
		}),
		"first":   l.check(out, func(raw string) error { _, err := l.Verify(t.Context(), raw); return err }),
		"second":  l.check(out, func(raw string) error { _, err := l.second.Verify(t.Context(), raw); return err }),
		"sidecar": l.check(out, func(raw string) error { _, err := l.sidecar.Verify(t.Context(), l.now, raw); return err }),
	}
	if minute%2 == 0 {
		calls["update"] = func() error { return l.second.UpdateKeys(t.Context()) }
	}
	var wait sync.WaitGroup
	for name, call := range calls {
		wait.Go(func() {
			if err := call(); err != nil {
				t.Errorf("minute %d: %s: %v", minute, name, err)
			}
		})
	}
	wait.Wait()
	return rotated
}

// TestRotationUnderLoad rotates keys as fast as may be, while two replicas issue
// and verify, and a sidecar asks the slower one every five minutes: no token is
// refused before its time.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret, hash := auth.NewClientSecret()
	f.exec(t, `INSERT INTO clients (tenant_id, project_id, name, role, secret_hash) VALUES ('org1', 'proj1', 'job', 'developer', $1)`, hash)
	l := &load{fixture: f, second: f.service(t), sidecar: newSidecar(t)}
	rotations := 0
	for minute := range 60 {
		if minute%5 == 0 {
			l.sidecar.ask(t, l.second, l.now)
		}
		if l.step(t, minute, secret) {
			rotations++
		}
		if t.Failed() {
			return
		}
		l.now = l.now.Add(time.Minute)
	}
	if got := f.text(t, `SELECT string_agg(DISTINCT state, ' ' ORDER BY state) FROM signing_keys`); rotations < 4 || got != "active next retired retiring" {
		t.Errorf("%d rotations, and keys are %s: want 4 at least, and all states", rotations, got)
	}
}
