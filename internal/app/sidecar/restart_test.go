package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/live"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
)

// stopped is a place whose sidecar had a revision in force, with one subject
// revoked, and whose control has gone.
func stopped(t *testing.T) *meshPlace {
	t.Helper()
	p := newMeshPlace(t)
	a, st, e := p.inForce()
	savedAs(t, a, 1, 0)
	st.Say(p.live(2, func(l *sidecarpb.Live) {
		l.Subjects = []*sidecarpb.RevokedSubject{{Subject: "mallory", IssuedBefore: time.Now().Add(time.Hour).Unix()}}
	}))
	st.Say(beat(2))
	envoytest.Eventually(t, "the revocation is there", func() bool { return st.Status().GetLiveEpoch() == 2 })
	check(t, e.conn.Close())
	a.Stop(context.Background())
	p.control.Stop()
	return p
}

// A restarted sidecar whose control is away goes on with what it knew, and
// grows stale from when control said so, not from its own start.
func TestRestartWithoutControl(t *testing.T) {
	t.Parallel()
	p := stopped(t)
	p.move(4 * time.Minute)
	a := p.start()
	p.connect().agreeToAll()
	a.waitInForce(t, revision.ID(p.set(9001)))
	envoytest.Eventually(t, "it is ready", func() bool { return a.Ready() == nil })
	mallory := func(c map[string]any) { c["sub"] = "mallory" }
	p.want(a, "known", "tasks", p.token("developer", "org1"), 200, "")
	p.want(a, "revoked", "tasks", p.token("developer", "org1", mallory), 401, "auth.invalid_token")
	p.want(a, "another tenant's", "tasks", p.token("developer", "org2"), 403, "auth.forbidden")
	p.want(a, "the registered workload", "work", "", 200, "")
	p.want(a, "4 minutes old", "admin", p.token("admin", "org1"), 200, "")
	if st := a.Status().Control; st.Connected || st.LiveEpoch != 2 || st.PolicySet != meshSet || st.Tenant != "org1" || time.Since(st.Confirmed) > time.Minute {
		t.Errorf("shown: %+v", st)
	}
	p.move(live.GuardAfter + 30*time.Second)
	p.want(a, "guarded", "admin", p.token("admin", "org1"), 503, "auth.unavailable")
	p.want(a, "guarded", "tasks", p.token("developer", "org1"), 200, "")
	p.move(live.LostAfter + 30*time.Second)
	p.want(a, "lost", "tasks", p.token("developer", "org1"), 503, "auth.unavailable")
	p.want(a, "lost", "work", "", 503, "auth.unavailable")
	p.want(a, "lost", "open", "", 503, "auth.unavailable")
	p.move(0)
	p.control.Restart()
	st := p.control.Next()
	if got := st.Hello.GetStatus(); got.GetGeneration() != 1 || got.GetLiveEpoch() != 2 {
		t.Errorf("hello says %v", got)
	}
}

// A restarted sidecar takes no older revision than it had, and acknowledges
// the one it has when Envoy has it.
func TestRestartRemembersTheGeneration(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, e := p.inForce()
	st.Say(p.revision(p.set(9002), 8))
	p.acknowledged(st, 8)
	savedAs(t, a, 8, 1)
	check(t, e.conn.Close())
	a.Stop(context.Background())
	b := p.start()
	st = p.greet(p.revision(p.set(9003), 7))
	refusedFor(t, st, "generation 7 is older than 8")
	st.Say(p.revision(p.set(9002), 8))
	p.connect().agreeToAll()
	p.acknowledged(st, 8)
	if b.inForce() != revision.ID(p.set(9002)) {
		t.Errorf("%.8s is in force", b.inForce())
	}
	envoytest.Eventually(t, "the refusal is over", func() bool { return st.Status().GetRefused() == nil })
}

// A clock that went back while the sidecar was away makes nothing fresh.
func TestRestartBeforeTheConfirmation(t *testing.T) {
	t.Parallel()
	p := stopped(t)
	p.move(-30 * time.Minute)
	a := p.start()
	p.want(a, "confirmed in the future", "open", "", 503, "auth.unavailable")
}

// What lies in the state folder and is not what control signed is not served.
func TestSpoiltSetsAreNotServed(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*meshPlace, *snapshot.Store){
		"signature": func(p *meshPlace, _ *snapshot.Store) {
			p.editIndex(func(index map[string]any) { index["signed"].(map[string]any)["signature"] = "AAAA" })
		},
		"generation": func(p *meshPlace, _ *snapshot.Store) {
			p.editIndex(func(index map[string]any) { index["signed"].(map[string]any)["generation"] = 99 })
		},
		"no signature": func(p *meshPlace, _ *snapshot.Store) {
			p.editIndex(func(index map[string]any) { delete(index, "signed") })
		},
		"content": func(p *meshPlace, _ *snapshot.Store) {
			path := p.path("state/sets/" + revision.ID(p.set(9001)) + ".json")
			text, err := json.Marshal(p.set(9666))
			check(p.t, err)
			check(p.t, os.WriteFile(path, text, 0o600))
		},
		"another set under the signature": func(p *meshPlace, s *snapshot.Store) {
			saved, err := s.Load()
			check(p.t, err)
			check(p.t, os.Remove(p.path("state/sets/index.json"))) // so that there is none before
			check(p.t, s.Accept(snapshot.Accepted{Files: p.set(9666), Signed: saved.Current.Signed}, time.Now()))
		},
		"index": func(p *meshPlace, _ *snapshot.Store) {
			check(p.t, os.WriteFile(p.path("state/sets/index.json"), []byte("{"), 0o600))
		},
		"key": func(p *meshPlace, _ *snapshot.Store) { // of a sidecar that was registered anew
			other := newMeshPlace(p.t)
			text, err := os.ReadFile(other.path("credential.json"))
			check(p.t, err)
			check(p.t, os.WriteFile(p.path("credential.json"), text, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := stopped(t)
			store, err := snapshot.NewStore(p.path("state"))
			check(t, err)
			spoil(p, store)
			a := p.start()
			if a.Ready() == nil || a.inForce() == revision.ID(p.set(9666)) {
				t.Errorf("%.8s is served", a.inForce())
			}
			p.want(a, "without a set", "open", "", 503, "policy.unavailable")
		})
	}
}

func (p *meshPlace) editIndex(edit func(map[string]any)) {
	p.t.Helper()
	path := p.path("state/sets/index.json")
	text, err := os.ReadFile(path)
	check(p.t, err)
	var index map[string]any
	check(p.t, json.Unmarshal(text, &index))
	edit(index)
	text, err = json.Marshal(index)
	check(p.t, err)
	check(p.t, os.WriteFile(path, text, 0o600))
}

// The set of a folder, from before the sidecar belonged to a control, is nobody's.
func TestSetOfAFolderIsNotServed(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	meshConfig, err := os.ReadFile(p.path("sidecar.yaml"))
	check(t, err)
	alone := strings.Join(without(strings.Split(string(meshConfig), "\n"), "control:"), "\n")
	p.write("sidecar.yaml", alone)
	a := p.place.start()
	p.connect().agreeToAll()
	first := p.place.revision()
	a.waitInForce(t, first)
	envoytest.Eventually(t, "the folder's set is saved", func() bool {
		_, err := os.Stat(filepath.Join(p.path("state/sets"), first+".json"))
		return err == nil
	})
	a.Stop(context.Background())
	p.write("sidecar.yaml", string(meshConfig))
	b := p.start()
	if b.Ready() == nil || b.table.Current() != nil {
		t.Errorf("%.8s is served", b.inForce())
	}
}

func without(lines []string, start string) (kept []string) {
	for _, l := range lines {
		if !strings.HasPrefix(l, start) {
			kept = append(kept, l)
		}
	}
	return kept
}

// Without what control said last nothing passes, whatever set is saved.
func TestLostControlFile(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"torn": `{"welcome":"`, "no protobuf": `{"welcome":"/////w==","confirmed":"2100-01-01T00:00:00Z"}`, "gone": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := stopped(t)
			path := p.path("state/" + controlFile)
			check(t, os.Remove(path))
			if text != "" {
				check(t, os.WriteFile(path, []byte(text), 0o600))
			}
			a := p.start()
			p.connect().agreeToAll()
			a.waitInForce(t, revision.ID(p.set(9001)))
			p.want(a, name, "open", "", 503, "auth.unavailable")
			p.want(a, name, "work", "", 401, "auth.missing_token")
		})
	}
}

// The first confirmation is saved at once, so that a process that dies young
// is followed by one that serves; later ones now and then.
func TestConfirmationsAreSaved(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	_, st, _ := p.inForce()
	confirmation := func() time.Time {
		text, err := os.ReadFile(p.path("state/" + controlFile))
		check(t, err)
		var s savedControl
		check(t, json.Unmarshal(text, &s))
		return s.Confirmed
	}
	answered := func() {
		heard, b := st.Heard(), beat(1)
		b.NowUnixMs = p.now().UnixMilli()
		st.Say(b)
		envoytest.Eventually(t, "the beat is answered", func() bool { return st.Heard() > heard })
	}
	answered()
	first := confirmation()
	if first.IsZero() {
		t.Fatal("the first confirmation is not saved")
	}
	answered()
	if again := confirmation(); !again.Equal(first) {
		t.Errorf("saved again after %s", again.Sub(first))
	}
	p.move(savePeriod + time.Second)
	answered()
	if later := confirmation(); later.Sub(first) < savePeriod {
		t.Errorf("after a minute the one of %s is saved", later)
	}
}

// TestClockSetBack: a process is later than the one before, whatever its clock says:
// what that one holds could not be ended else.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	check(t, os.MkdirAll(p.path("state/ledger"), 0o700))
	check(t, os.Chmod(p.path("state"), 0o700))
	ahead := time.Now().AddDate(30, 0, 0).UnixNano()
	check(t, os.WriteFile(p.path(fmt.Sprintf("state/ledger/%020d-0.spool", ahead)), nil, 0o600))
	p.start()
	if got := p.greet().Hello.GetIncarnation(); got != ahead+1 {
		t.Errorf("the incarnation is %d after %d", got, ahead)
	}
}
