package postgres_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/control/rollout"
	store "gatehouse/control/rollout/postgres"
	"gatehouse/internal/apierr"
	"gatehouse/internal/pgserver"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/postgres"
	"gatehouse/internal/revision"
	"gatehouse/migrations"
)

// tamper changes rows as whoever owns the database can.
func (f *fixture) tamper(t *testing.T, sql string, args ...any) {
	t.Helper()
	f.exec(t, `ALTER TABLE policy_revisions DISABLE TRIGGER policy_revisions_stay`)
	f.exec(t, sql, args...)
	f.exec(t, `ALTER TABLE policy_revisions ENABLE TRIGGER policy_revisions_stay`)
}

// TestTamperedRevisions are never put in force, and never shown for what they
// are not.
func TestTamperedRevisions(t *testing.T) {
	t.Parallel()
	other, err := revision.Encode(content("evil"))
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(f *fixture, id string)
		reads  bool // the content is as its id says
	}{
		{"another bundle", func(f *fixture, id string) {
			f.tamper(t, `UPDATE policy_revisions SET bundle = $1 WHERE id = $2`, other, id)
		}, false},
		{"no bundle", func(f *fixture, id string) { f.tamper(t, `UPDATE policy_revisions SET bundle = '{' WHERE id = $1`, id) }, false},
		{"another signature", func(f *fixture, id string) {
			f.tamper(t, `UPDATE policy_revisions SET signature = $1 WHERE id = $2`, make([]byte, 64), id)
		}, true},
		{"the signature of another set", func(f *fixture, id string) {
			f.push(t, "other", "a")
			f.tamper(t, `UPDATE policy_revisions SET signature = (SELECT signature FROM policy_revisions WHERE policy_set = 'other') WHERE policy_set = 'base' AND id = $1`, id)
		}, true},
		{"a key that nobody sealed", func(f *fixture, id string) {
			f.exec(t, `INSERT INTO signing_keys (kid, purpose, state, public_key, private_key, activated_at) VALUES ('evil', 'token', 'active', $1, $1, now())`, []byte(public))
			f.tamper(t, `UPDATE policy_revisions SET kid = 'evil', signature = $1 WHERE id = $2`, ed25519.Sign(private, []byte(id)), id)
		}, true},
	} {
		f := newFixture(t)
		id := f.push(t, "base", "a")
		tt.change(f, id)
		_, err := f.ActivateRevision(t.Context(), admin(), "base", id, 0)
		wantAnswer(t, tt.name, err, http.StatusInternalServerError, `"internal.error"`)
		if got := f.text(t, `SELECT count(*) || ' ' || (SELECT version FROM policy_sets WHERE name = 'base') FROM policy_activations`); got != "0 1" {
			t.Errorf("%s: activations and version are %s", tt.name, got)
		}
		if log := f.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "revision="+id) {
			t.Errorf("%s: the log says nothing of it: %s", tt.name, log)
		}
		_, err = f.Revision(t.Context(), "base", id)
		_, _, pushed := f.PushRevision(t.Context(), admin(), "base", content("a"), "")
		if (err == nil) != tt.reads || (pushed == nil) != tt.reads {
			t.Errorf("%s: reading gives %v, pushing again %v; want errors: %v", tt.name, err, pushed, !tt.reads)
		}
	}
}

// TestRollbackToTampered is refused alike, and what is in force stays.
func TestRollbackToTampered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.push(t, "base", "a"), f.push(t, "base", "b")
	f.activate(t, "base", a)
	f.activate(t, "base", b)
	f.tamper(t, `UPDATE policy_revisions SET bundle = bundle || ' ' WHERE id = $1`, b) // other bytes, the same content
	f.tamper(t, `UPDATE policy_revisions SET signature = sha512('') WHERE id = $1`, a)
	for _, id := range []string{"", a} {
		_, err := f.Rollback(t.Context(), admin(), "base", id, 0)
		wantAnswer(t, "back to "+id, err, http.StatusInternalServerError, `"internal.error"`)
	}
	if p, err := f.PolicySet(t.Context(), "base"); err != nil || p.Active.Revision != b {
		t.Errorf("in force is %+v (%v), want what was", p, err)
	}
}

// calls are all ways in.
func (f *fixture) calls(t *testing.T, id string) map[string]func() error {
	ctx := t.Context()
	return map[string]func() error{
		"sets":      func() error { _, err := f.PolicySets(ctx, "", 10); return err },
		"set":       func() error { _, err := f.PolicySet(ctx, "base"); return err },
		"push":      func() error { _, _, err := f.PushRevision(ctx, admin(), "base", content("new"), ""); return err },
		"revisions": func() error { _, err := f.Revisions(ctx, "base", "", 10); return err },
		"revision":  func() error { _, err := f.Revision(ctx, "base", id); return err },
		"prefix":    func() error { _, err := f.Revision(ctx, "base", id[:10]); return err },
		"activate":  func() error { _, err := f.ActivateRevision(ctx, admin(), "base", id, 0); return err },
		"roll back": func() error { _, err := f.Rollback(ctx, admin(), "base", "", 0); return err },
		"keys":      func() error { _, err := f.Keys(ctx); return err },
	}
}

// TestPostgresKilled kills the server under a running service: each way in says
// that it can't tell, and none says no.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	server, err := pgserver.Start(t.Context(), pgserver.Options{Dir: dir, Bin: pgtest.Bin(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if _, err := migrations.Up(t.Context(), server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	pool, err := postgres.Open(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	f := fixtureOn(t, pool)
	id := f.push(t, "base", "a")
	f.activate(t, "base", id)
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	for pool.Ping(t.Context()) == nil { // what serves a connection outlives the server by a moment
		if t.Context().Err() != nil {
			t.Fatal("the server lives on")
		}
	}
	for name, call := range f.calls(t, id) {
		wantAnswer(t, name+" with the server dead", call(), http.StatusServiceUnavailable, `"internal.error"`)
	}
}

// TestBrokenSchema tells a defect from a database that is away.
func TestBrokenSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.push(t, "base", "a")
	f.exec(t, `ALTER TABLE policy_sets RENAME TO gone`)
	f.exec(t, `ALTER TABLE policy_revisions RENAME TO gone2`)
	f.exec(t, `ALTER TABLE signing_keys RENAME TO gone3`)
	for name, call := range f.calls(t, id) {
		wantAnswer(t, name, call(), http.StatusInternalServerError, `"internal.error"`)
	}
}

// TestNoAuditNoChange takes the audit log away from every kind of change.
func TestNoAuditNoChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.push(t, "base", "a"), f.push(t, "base", "b")
	f.activate(t, "base", a)
	f.activate(t, "base", b)
	c := f.push(t, "base", "c")
	const state = `SELECT concat_ws(' ', (SELECT count(*) FROM policy_revisions), (SELECT count(*) FROM policy_activations),
		(SELECT string_agg(name || version, ' ' ORDER BY name) FROM policy_sets), (SELECT count(*) FROM signing_keys))`
	before := f.text(t, state)
	f.exec(t, `DROP FUNCTION append_audit`)
	for name, call := range map[string]func() error{
		"push": func() error {
			_, _, err := f.PushRevision(t.Context(), admin(), "new", content("d"), "")
			return err
		},
		"activate":  func() error { _, err := f.ActivateRevision(t.Context(), admin(), "base", c, 0); return err },
		"roll back": func() error { _, err := f.Rollback(t.Context(), admin(), "base", "", 0); return err },
	} {
		wantAnswer(t, name, call(), http.StatusInternalServerError, `"internal.error"`)
		if after := f.text(t, state); after != before {
			t.Errorf("%s without its audit row: %s became %s", name, before, after)
		}
	}
}

// TestNoAuditNoKey is the same for the first key.
func TestNoAuditNoKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `DROP FUNCTION append_audit`)
	_, err := f.Keys(t.Context())
	wantAnswer(t, "keys", err, http.StatusInternalServerError, `"internal.error"`)
	if got := f.text(t, `SELECT count(*)::text FROM signing_keys`); got != "0" {
		t.Errorf("%s keys without an audit row", got)
	}
}

// TestSecretRotates uses a new secret beside the old one: the key is sealed
// anew, stays the same, and the old secret can go.
func TestSecretRotates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.push(t, "base", "a")
	before, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost := f.service(t, "n", "")
	_, err = lost.Keys(t.Context())
	wantAnswer(t, "keys of another secret", err, http.StatusServiceUnavailable, `"internal.error"`)
	if !strings.Contains(err.Error(), "JWT_SECRET_PREVIOUS") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	_, err = lost.ActivateRevision(t.Context(), admin(), "base", id, 0)
	wantAnswer(t, "activating under another secret", err, http.StatusServiceUnavailable, `"internal.error"`)
	for _, secrets := range [][2]string{{"n", "s"}, {"n", ""}} {
		now, err := f.service(t, secrets[0], secrets[1]).Keys(t.Context())
		if err != nil || len(now) != 1 || now[0].ID != before[0].ID || !now[0].Public.Equal(before[0].Public) {
			t.Errorf("with the secrets %v: got %v and %v, want the key that there was", secrets, now, err)
		}
	}
	if got := f.text(t, `SELECT count(*)::text FROM audit_log WHERE target_kind = 'signing_key'`); got != "1" {
		t.Errorf("%s audit rows, want one: nothing but the sealing has changed", got)
	}
	if got := f.text(t, `SELECT epoch::text FROM live_epoch`); got != "0" {
		t.Errorf("the epoch of live data is %s: keys of revisions are none", got)
	}
}

// TestKeysOfTokensStayAlone: both kinds stand in one table.
func TestKeysOfTokensStayAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `INSERT INTO signing_keys (kid, purpose, state, public_key, private_key, activated_at) VALUES ('token', 'token', 'active', $1, $1, now())`, make([]byte, 32))
	keys, err := f.Keys(t.Context())
	if err != nil || len(keys) != 1 || keys[0].ID == "token" {
		t.Errorf("got %v and %v, want a key of its own", keys, err)
	}
}

// TestStepsPassTheirErrors shows that what a caller's step says is not taken for
// the database's word.
func TestStepsPassTheirErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.push(t, "base", "a")
	s := store.New(f.pool, nil)
	mine := errors.Join(context.Canceled) // would be away
	_, err := s.Activate(t.Context(), admin(), "base", "", func(rollout.Standing) (*revision.Signed, error) { return nil, mine })
	if err != mine {
		t.Errorf("activating: got %v, want the step's own error", err)
	}
	_, err = s.UpdateKeys(t.Context(), func([]rollout.Key) ([]rollout.Key, error) { return nil, mine })
	if err != mine {
		t.Errorf("keys: got %v, want the step's own error", err)
	}
	_, err = s.Activate(t.Context(), admin(), "none", "", func(rollout.Standing) (*revision.Signed, error) { return nil, mine })
	if !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("no set: got %v", err)
	}
}

// TestWaitIsBounded holds the lock of a set while somebody activates.
func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.push(t, "base", "a")
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `SELECT FROM policy_sets FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = f.ActivateRevision(ctx, admin(), "base", id, 0)
	if e := apierr.From(err); e.HTTP() != http.StatusServiceUnavailable {
		t.Errorf("got %v (%d), want that it can't be done now", err, e.HTTP())
	}
}
