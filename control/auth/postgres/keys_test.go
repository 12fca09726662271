package postgres_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"gatehouse/control/auth"
	"gatehouse/internal/seal"
)

// TestReplicasAgreeOnKeys starts ten services at once on an empty table.
func TestReplicasAgreeOnKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `DELETE FROM signing_keys`)
	services := make([]*auth.Service, 10)
	var wait sync.WaitGroup
	for i := range services {
		services[i] = f.Service
		if i > 0 {
			services[i] = f.service(t)
		}
	}
	f.exec(t, `DELETE FROM signing_keys`)
	for _, s := range services {
		wait.Go(func() {
			if err := s.UpdateKeys(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := f.text(t, `SELECT string_agg(state, ' ' ORDER BY state) FROM signing_keys`); got != "active next" {
		t.Errorf("keys are %s, want one active and one next", got)
	}
	first, err := services[0].KeySet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range services {
		if doc, err := s.KeySet(t.Context()); err != nil || !bytes.Equal(doc, first) {
			t.Errorf("service %d publishes %s (%v), the first %s", i, doc, err, first)
		}
	}
}

// TestRotation lets the next key sign, and the old one go.
func TestRotation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.RotateKeys(t.Context()); err == nil {
		t.Error("a key signs that nobody has yet")
	}
	epoch := f.text(t, `SELECT epoch::text FROM live_epoch`)
	s, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(12 * time.Minute)
	if err := f.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.text(t, `SELECT string_agg(state, ' ' ORDER BY created_at, state) FROM signing_keys`); got != "active retiring next" {
		t.Errorf("keys are %s", got)
	}
	if f.text(t, `SELECT epoch::text FROM live_epoch`) == epoch {
		t.Error("the epoch of live data stands still: no sidecar learns of the keys")
	}
	f.now = f.now.Add(-2 * time.Minute)
	if _, err := f.Verify(t.Context(), s.AccessToken); err != nil {
		t.Errorf("a token of the retiring key: %v", err)
	}
	f.now = f.now.Add(time.Hour)
	if err := f.UpdateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.text(t, `SELECT count(*)::text FROM signing_keys WHERE state = 'retired' AND private_key IS NULL`); got != "1" {
		t.Errorf("%s keys are retired, want one", got)
	}
	if got := f.text(t, `SELECT count(*)::text FROM audit_log WHERE target_kind = 'signing_key'`); got != "6" {
		t.Errorf("%s changes are audited, want 6", got)
	}
}

func TestQuietUpdateWritesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before := f.text(t, `SELECT string_agg(xmin::text, ' ' ORDER BY kid) FROM signing_keys`)
	if err := f.UpdateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := f.text(t, `SELECT string_agg(xmin::text, ' ' ORDER BY kid) FROM signing_keys`); after != before {
		t.Error("rows were written, and nothing has changed")
	}
}

func TestFailedStepChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	refuse := errors.New("no")
	_, err := f.store.UpdateKeys(t.Context(), func([]auth.SigningKey) ([]auth.SigningKey, error) { return nil, refuse })
	if !errors.Is(err, refuse) || errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("got %v, want the step's error", err)
	}
}

// TestSecretRotates starts a service with a new secret beside one with the old:
// the keys are sealed anew, and the old secret can go.
func TestSecretRotates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	start := func(current, previous string) error {
		var old []byte
		if previous != "" {
			old = bytes.Repeat([]byte(previous), 32)
		}
		box, err := seal.New(bytes.Repeat([]byte(current), 32), old)
		if err != nil {
			t.Fatal(err)
		}
		s, err := auth.New(auth.Options{Store: f.store, Box: box, Hasher: f.hasher})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		return s.Start(t.Context())
	}
	if err := start("n", ""); err == nil {
		t.Error("keys of another secret were taken, or made anew")
	}
	if err := start("n", "s"); err != nil {
		t.Fatal(err)
	}
	if err := start("n", ""); err != nil {
		t.Errorf("without the old secret: %v", err)
	}
}
