package postgres_test

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/control/rollout"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/revision"
)

func TestActivateAndRollBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b, c := f.push(t, "base", "a"), f.push(t, "base", "b"), f.push(t, "base", "c")
	ctx := t.Context()
	_, err := f.Rollback(ctx, admin(), "base", "", 0)
	wantAnswer(t, "back from nothing", err, http.StatusConflict, `"reason":"nothing_before"`)
	p := f.activate(t, "base", a)
	want := mesh.PolicySet{Name: "base", Version: 2, Active: &revision.Activation{PolicySet: "base", Generation: 1, Revision: a, Kind: revision.Activate}}
	if diff := cmp.Diff(want, p, same()); diff != "" || p.ActiveAt.IsZero() {
		t.Errorf("activated (-want +got):\n%s", diff)
	}
	_, err = f.Rollback(ctx, admin(), "base", "", 0)
	wantAnswer(t, "back from the first", err, http.StatusConflict, `"reason":"nothing_before"`)
	_, err = f.ActivateRevision(ctx, admin(), "base", b, 1)
	wantAnswer(t, "of an old version", err, http.StatusPreconditionFailed, "")
	_, err = f.Rollback(ctx, admin(), "base", b, 0)
	wantAnswer(t, "back to what never was", err, http.StatusConflict, `"reason":"never_in_force"`)
	if p, err = f.ActivateRevision(ctx, admin(), "base", b, 2); err != nil || p.Active.Generation != 2 || p.Version != 3 {
		t.Errorf("the second: got %+v and %v", p, err)
	}
	again, err := f.ActivateRevision(ctx, admin(), "base", b, 0)
	if diff := cmp.Diff(p, again); diff != "" || err != nil {
		t.Errorf("activated again: %v (-first +second):\n%s", err, diff)
	}
	_, err = f.ActivateRevision(ctx, admin(), "base", a, 0)
	wantAnswer(t, "activating what was", err, http.StatusConflict, `"reason":"use_rollback"`)
	f.activate(t, "base", c)
	for i, want := range []string{b, c, b} { // newest that differs: two steps go to and fro
		p, err := f.Rollback(ctx, admin(), "base", "", 0)
		if err != nil || p.Active.Revision != want || p.Active.Kind != revision.Rollback || p.Active.Generation != int64(4+i) {
			t.Fatalf("back, step %d: got %+v and %v, want %s", i, p.Active, err, want)
		}
	}
	if p, err = f.Rollback(ctx, admin(), "base", a, 7); err != nil || p.Active.Revision != a || p.Active.Generation != 7 || p.Version != 8 {
		t.Errorf("back to the first: got %+v and %v", p, err)
	}
	if r, err := f.Revisions(ctx, "base", "", 10); err != nil || r.Items[0].Active || r.Items[1].Active || !r.Items[2].Active {
		t.Errorf("revisions: got %+v and %v, want the last in force", r.Items, err)
	}
	const told = `SELECT string_agg(concat_ws(' ', action, target, details->>'generation'), ', ' ORDER BY seq) FROM audit_log WHERE target_kind = 'policy_set'`
	const audit = "policy_set.activate base 1, policy_set.activate base 2, policy_set.activate base 3, " +
		"policy_set.rollback base 4, policy_set.rollback base 5, policy_set.rollback base 6, policy_set.rollback base 7"
	if got := f.text(t, told); got != audit {
		t.Errorf("audited is %s", got)
	}
	if got := f.text(t, `SELECT min(details->>'instead_of') || max(tenant_id) FROM audit_log WHERE details->>'generation' = '2'`); got != a+"*" {
		t.Errorf("the second activation was instead of %s, want %s", got, a)
	}
}

// sidecar registers a sidecar that has reported what is in force there.
func (f *fixture) sidecar(t testing.TB, name, set, id, status string, generation int64) {
	t.Helper()
	f.exec(t, `INSERT INTO sidecars (tenant_id, name, policy_set, credential_hash, status, revision_id, generation)
		VALUES ('org1', $1, $2, sha256(convert_to($1, 'UTF8')), $3, $4, $5)`, name, set, status, id, generation)
}

// TestGenerationsPassTheSidecars: a database that was restored from a backup
// must not give a generation that a sidecar has already.
func TestGenerationsPassTheSidecars(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b, c := f.push(t, "base", "a"), f.push(t, "base", "b"), f.push(t, "base", "c")
	f.sidecar(t, "behind", "base", a, "active", 3)
	f.sidecar(t, "ahead", "base", a, "active", 41)
	f.sidecar(t, "gone", "base", a, "revoked", 5000) // it takes nothing any more
	f.push(t, "other", "a")
	f.sidecar(t, "elsewhere", "other", a, "active", 99)
	if p := f.activate(t, "base", a); p.Active.Generation != 42 || p.Sidecars != 2 || p.InForce != 0 {
		t.Errorf("got %+v as of %+v, want generation 42 that nobody reported", p.Active, p)
	}
	f.exec(t, `UPDATE sidecars SET generation = 9223372036854775807 WHERE name = 'ahead'`)
	if p := f.activate(t, "base", b); p.Active.Generation != 43 {
		t.Errorf("got %+v: one sidecar used up the generations", p.Active)
	}
	f.exec(t, `UPDATE sidecars SET generation = 43 + 1000001 WHERE name = 'ahead'`) // one more than may count
	f.exec(t, `UPDATE sidecars SET generation = 44, revision_id = $1 WHERE name = 'behind'`, c)
	if p := f.activate(t, "base", c); p.Active.Generation != 45 || p.InForce != 0 {
		t.Errorf("got %+v, want generation 45", p)
	}
	f.exec(t, `UPDATE sidecars SET generation = 45 WHERE name = 'behind'`)
	f.sidecar(t, "other-revision", "base", a, "active", 45)
	if p, err := f.PolicySet(t.Context(), "base"); err != nil || p.Sidecars != 3 || p.InForce != 1 {
		t.Errorf("got %+v and %v, want one of three sidecars in force", p, err)
	}
}

// history is what the database holds of a set's activations, oldest first.
func (f *fixture) history(t testing.TB, set string) (h []revision.Signed) {
	t.Helper()
	rows, err := f.pool.Query(t.Context(), `SELECT generation, revision_id, kind, kid, signature FROM policy_activations WHERE policy_set = $1 ORDER BY generation`, set)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		s := revision.Signed{Activation: revision.Activation{PolicySet: set}}
		if err := rows.Scan(&s.Generation, &s.Revision, &s.Kind, &s.KeyID, &s.Signature); err != nil {
			t.Fatal(err)
		}
		h = append(h, s)
	}
	return h
}

// verifiers are the keys that a sidecar would have.
func (f *fixture) verifiers(t testing.TB) revision.Keys {
	t.Helper()
	keys, err := f.Keys(t.Context())
	if err != nil || len(keys) != 1 || len(keys[0].Public) != ed25519.PublicKeySize {
		t.Fatalf("keys: got %v and %v, want one", keys, err)
	}
	return mesh.Credential{Keys: keys}.Verifiers()
}

// model is a set as people think of it.
type model struct {
	version int64
	history []string // revisions, oldest first
}

func (m *model) active() string {
	if len(m.history) == 0 {
		return ""
	}
	return m.history[len(m.history)-1]
}

func (m *model) before() string {
	for i := len(m.history) - 1; i >= 0; i-- {
		if m.history[i] != m.active() {
			return m.history[i]
		}
	}
	return ""
}

// move makes a change, or says why not.
func (m *model) move(kind revision.Kind, id string, version int64) string {
	was := false
	for _, h := range m.history {
		was = was || h == id
	}
	switch {
	case version != 0 && version != m.version:
		return "state.precondition_failed"
	case id == "" && m.before() == "":
		return "state.conflict"
	case id == "":
		id = m.before()
	case id == m.active():
		return ""
	case was != (kind == revision.Rollback):
		return "state.conflict"
	}
	m.version++
	m.history = append(m.history, id)
	return ""
}

// TestAnySequence compares random changes with the model: generations rise,
// what is in force is the newest, every signature is good.
func TestAnySequence(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	keys, sets := f.verifiers(t), 0
	rapid.Check(t, func(rt *rapid.T) {
		sets++
		set, m := fmt.Sprint("set", sets), &model{version: 1}
		ids := []string{f.push(t, set, "a"), f.push(t, set, "b"), f.push(t, set, "c")}
		for range rapid.IntRange(1, 15).Draw(rt, "changes") {
			f.change(t, rt, set, m, ids)
		}
		f.compare(t, rt, set, m, keys)
	})
}

// change makes one random change to a set and to the model.
func (f *fixture) change(t *testing.T, rt *rapid.T, set string, m *model, ids []string) {
	kind := rapid.SampledFrom([]revision.Kind{revision.Activate, revision.Rollback}).Draw(rt, "kind")
	id := rapid.SampledFrom(ids).Draw(rt, "id")
	version := rapid.SampledFrom([]int64{0, 0, m.version, m.version + 1}).Draw(rt, "version")
	if kind == revision.Rollback && rapid.Bool().Draw(rt, "the one before") {
		id = ""
	}
	call := f.ActivateRevision
	if kind == revision.Rollback {
		call = f.Rollback
	}
	want := m.move(kind, id, version)
	p, err := call(t.Context(), admin(), set, id, version)
	got := ""
	if err != nil {
		got = string(apierr.From(err).Code())
	} else if p.Active == nil || p.Active.Revision != m.active() || p.Version != m.version {
		rt.Fatalf("%s %q: got %+v, want %s in version %d", kind, id, p, m.active(), m.version)
	}
	if got != want {
		rt.Fatalf("%s %q of version %d: got %v, want %q", kind, id, version, err, want)
	}
}

// compare looks at what is left in the database.
func (f *fixture) compare(t *testing.T, rt *rapid.T, set string, m *model, keys revision.Keys) {
	history := f.history(t, set)
	if len(history) != len(m.history) {
		rt.Fatalf("there are %d activations, want %d", len(history), len(m.history))
	}
	for i, h := range history {
		if h.Generation != int64(i+1) || h.Revision != m.history[i] || h.Verify(keys) != nil {
			rt.Fatalf("activation %d is %+v (%v), want %s", i, h.Activation, h.Verify(keys), m.history[i])
		}
	}
	p, err := f.PolicySet(t.Context(), set)
	if err != nil || (p.Active == nil) != (len(history) == 0) || p.Active != nil && *p.Active != history[len(history)-1].Activation {
		rt.Fatalf("in force is %+v (%v), want the newest of %v", p.Active, err, history)
	}
}

// TestReplicasRace lets two services push, activate and roll back one set at
// once, from the first key on.
func TestReplicasRace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	services := []*rollout.Service{f.Service, f.service(t, "s", "")}
	names := []string{"a", "b", "c", "d"}
	var wait sync.WaitGroup
	var mu sync.Mutex // guards made
	made := map[string]int{}
	for i := range 8 {
		wait.Go(func() {
			s := services[i%2]
			for step := range 12 {
				r, created, err := s.PushRevision(t.Context(), admin(), "base", content(names[step%4]), "")
				if err != nil {
					t.Errorf("push: %v", err)
					return
				}
				if created {
					mu.Lock()
					made[r.ID]++
					mu.Unlock()
				}
				if _, err = s.ActivateRevision(t.Context(), admin(), "base", r.ID, 0); err != nil {
					_, err = s.Rollback(t.Context(), admin(), "base", r.ID, 0)
				}
				if err != nil {
					t.Errorf("neither activated nor rolled back: %v", err)
				}
			}
		})
	}
	wait.Wait()
	if got := f.text(t, `SELECT count(*)::text FROM signing_keys`); got != "1" {
		t.Errorf("there are %s keys, want one", got)
	}
	for id, n := range made {
		if n != 1 {
			t.Errorf("%s was created %d times", id, n)
		}
	}
	keys, history := f.verifiers(t), f.history(t, "base")
	for i, h := range history {
		if h.Generation != int64(i+1) || h.Verify(keys) != nil || i > 0 && h.Revision == history[i-1].Revision {
			t.Errorf("activation %d is %+v (%v) after %+v", i, h.Activation, h.Verify(keys), history[max(i-1, 0)].Activation)
		}
	}
	p, err := f.PolicySet(t.Context(), "base")
	if err != nil || len(made) != 4 || len(history) < 4 || p.Version != int64(1+len(history)) || *p.Active != history[len(history)-1].Activation {
		t.Errorf("got %+v and %v with %d revisions and %d activations", p, err, len(made), len(history))
	}
	const audits = `SELECT count(*) FILTER (WHERE action = 'policy_revision.push') || ' ' || count(*) FILTER (WHERE target_kind = 'policy_set') FROM audit_log`
	if got, want := f.text(t, audits), fmt.Sprint(len(made), " ", len(history)); got != want {
		t.Errorf("audited are %s changes, want %s", got, want)
	}
}
