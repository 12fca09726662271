package sidecar

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/live"
	"gatehouse/internal/request"
	"gatehouse/internal/telemetry"
)

// What control takes away is gone with the message that says so, also for a
// token that was just taken.
func TestLiveDataIsInForceAtOnce(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, _ := p.inForce()
	token := p.token("developer", "org1")
	epoch := int64(1)
	say := func(edit func(*sidecarpb.Live)) {
		epoch++
		st.Say(p.live(epoch, edit))
		envoytest.Eventually(t, "it is acknowledged", func() bool { return st.Status().GetLiveEpoch() == epoch })
	}
	for name, c := range map[string]struct {
		edit  func(*sidecarpb.Live)
		code  string
		token answer // what a token gets
		work  answer // what the workload gets
	}{
		"subject": {
			edit: func(l *sidecarpb.Live) {
				l.Subjects = []*sidecarpb.RevokedSubject{{Subject: "agent-7", IssuedBefore: time.Now().Unix() + 5}, {Subject: "agent-7", IssuedBefore: 1}}
			},
			token: answer{401, "auth.invalid_token"}, work: answer{200, ""},
		},
		"token": {
			edit:  func(l *sidecarpb.Live) { l.Tokens = []*sidecarpb.RevokedToken{{Tenant: "org1", Id: "0198-token"}} },
			token: answer{401, "auth.invalid_token"}, work: answer{200, ""},
		},
		"tenant": {
			edit:  func(l *sidecarpb.Live) { l.SuspendedTenants = []string{"org1"} },
			token: answer{403, "auth.forbidden"}, work: answer{403, "auth.forbidden"},
		},
		"agent by name": {
			edit:  func(l *sidecarpb.Live) { l.Agents = []*sidecarpb.BlockedAgent{{Tenant: "org1", Id: "x", Name: "a1"}} },
			token: answer{403, "auth.forbidden"}, work: answer{200, ""},
		},
		"agent by id": {
			edit: func(l *sidecarpb.Live) {
				l.Agents = []*sidecarpb.BlockedAgent{{Tenant: "org1", Id: "agent-id", Name: "x"}}
			},
			token: answer{200, ""}, work: answer{403, "auth.forbidden"},
		},
	} {
		p.want(a, "before "+name, "tasks", token, 200, "")
		say(c.edit)
		p.want(a, name, "tasks", token, c.token.status, c.token.code)
		p.want(a, name, "work", "", c.work.status, c.work.code)
		p.want(a, name, "open", "", 200, "")
		say(func(*sidecarpb.Live) {})
	}
}

// Only a Beat of the epoch that is held says that it is all there is.
func TestBeatOfAnotherEpochConfirmsNothing(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a := p.start()
	p.connect().agreeToAll()
	st := p.control.Next()
	st.Follow(nil)
	for _, m := range []any{welcome(), p.live(1), p.revision(p.set(9001), 1)} {
		st.Say(m)
	}
	p.acknowledged(st, 1)
	for _, epoch := range []int64{0, 2} {
		heard := st.Heard()
		st.Say(beat(epoch))
		envoytest.Eventually(t, "the beat is answered", func() bool { return st.Heard() > heard })
		if !a.live.Confirmed().IsZero() {
			t.Errorf("a beat of epoch %d confirms 1", epoch)
		}
		p.want(a, "unconfirmed", "open", "", 503, "auth.unavailable")
	}
	st.Say(beat(1))
	confirmed(t, a)
	p.want(a, "confirmed", "open", "", 200, "")
}

// Control that goes silent is waited for, by the sidecar's clock alone; the
// next Beat ends it.
func TestSilentControlMakesStale(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, _ := p.inForce()
	admin := func(what string, status int, code string) {
		t.Helper()
		p.want(a, what, "admin", p.token("admin", "org1"), status, code)
	}
	admin("heard", 200, "")
	p.move(live.GuardAfter - 10*time.Second)
	admin("almost", 200, "")
	p.move(live.GuardAfter + 10*time.Second)
	admin("guarded", 503, "auth.unavailable")
	p.want(a, "guarded", "tasks", p.token("developer", "org1"), 200, "")
	p.move(live.LostAfter + 10*time.Second)
	p.want(a, "lost", "tasks", p.token("developer", "org1"), 503, "auth.unavailable")
	p.want(a, "lost", "open", "", 503, "auth.unavailable")
	b := beat(1)
	b.NowUnixMs = p.now().UnixMilli()
	st.Say(b)
	envoytest.Eventually(t, "it is heard again", func() bool { return !a.live.Guarded() })
	admin("heard again", 200, "")
}

// Tokens are judged by control's clock where ours is off; the difference is
// told and shown.
func TestControlsClockJudgesTokens(t *testing.T) {
	t.Parallel()
	const off = 10 * time.Minute
	validFor := func(p *meshPlace, from, to time.Duration) string { // by control's clock
		now := time.Now()
		return p.token("developer", "org1", func(c map[string]any) {
			c["iat"], c["nbf"], c["exp"] = now.Add(from).Unix(), now.Add(from).Unix(), now.Add(to).Unix()
		})
	}
	for name, c := range map[string]struct {
		off      time.Duration
		from, to time.Duration
		want     answer
	}{
		"behind, expired": {-off, -8 * time.Minute, -2 * time.Minute, answer{401, "auth.expired_token"}},
		"behind, fresh":   {-off, -time.Second, 5 * time.Minute, answer{200, ""}},
		"ahead, expired":  {off, -8 * time.Minute, -2 * time.Minute, answer{401, "auth.expired_token"}},
		"ahead, fresh":    {off, -time.Second, 5 * time.Minute, answer{200, ""}},
		"right, fresh":    {0, -time.Second, 5 * time.Minute, answer{200, ""}},
		"a little off":    {2 * time.Second, -time.Second, 5 * time.Minute, answer{200, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newMeshPlace(t)
			p.move(c.off)
			a, st, _ := p.inForce()
			p.want(a, name, "tasks", validFor(p, c.from, c.to), c.want.status, c.want.code)
			ahead := time.Duration(a.Status().Control.AheadMS) * time.Millisecond // control's clock
			if wrong := (ahead + c.off).Abs(); c.off.Abs() < clockTolerance && ahead != 0 || c.off.Abs() > clockTolerance && wrong > time.Minute {
				t.Errorf("control is shown %s ahead, this clock is %s ahead", ahead, c.off)
			}
			told := time.Until(time.UnixMilli(st.Status().GetNowUnixMs()))
			if (told - c.off).Abs() > time.Minute {
				t.Errorf("the clock is told as %s ahead, not %s", told, c.off)
			}
		})
	}
}

// Keys of control age by the clock that judges, and not out of a wrong one.
func TestKeysOfControlAreReplaced(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, _ := p.inForce()
	old := p.token("developer", "org1")
	p.want(a, "the first key", "tasks", old, 200, "")
	next := newMeshPlace(t)
	st.Say(next.live(2))
	envoytest.Eventually(t, "the keys are there", func() bool { return st.Status().GetLiveEpoch() == 2 })
	p.want(a, "the key that is gone", "tasks", old, 401, "auth.invalid_token")
	p.want(a, "the new key", "tasks", next.token("developer", "org1"), 200, "")
	st.Say(next.live(3, func(l *sidecarpb.Live) { l.KeySet = []byte("no keys") }))
	envoytest.Eventually(t, "what is no key set was heard", func() bool { return st.Status().GetLiveEpoch() == 3 })
	p.want(a, "after what is no key set", "tasks", next.token("developer", "org1"), 200, "")
}

// Registration says whose tokens are taken, and who the workload is, as it is now.
func TestRegistrationBinds(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, _ := p.inForce()
	bind := func(edit func(*sidecarpb.Welcome)) {
		w := welcome()
		edit(w)
		st.Say(w)
		envoytest.Eventually(t, "the registration is in force", func() bool {
			b := a.live.Binding()
			return b.Workload.Subject == w.GetName() && (b.Tenant == "") == w.GetShared()
		})
	}
	theirs := p.token("developer", "org2")
	p.want(a, "bound to org1", "tasks", theirs, 403, "auth.forbidden")
	bind(func(w *sidecarpb.Welcome) { w.Shared, w.Name = true, "shared" })
	p.want(a, "shared", "tasks", theirs, 200, "")
	p.want(a, "shared", "work", "", 200, "")
	bind(func(w *sidecarpb.Welcome) { w.Tenant, w.Name = "org2", "moved" })
	p.want(a, "bound to org2", "tasks", theirs, 200, "")
	p.want(a, "bound to org2", "tasks", p.token("developer", "org1"), 403, "auth.forbidden")
	bind(func(w *sidecarpb.Welcome) { w.Role, w.Name = "emperor", "unknown-role" })
	p.want(a, "a role of a later build", "work", "", 403, "auth.forbidden")
}

// Decisions go up; of allowed ones so many in a second, of refusals all.
func TestDecisionsGoUp(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a := p.start()
	p.connect().agreeToAll()
	var up atomic.Pointer[[]byte]
	up.Store(&[]byte{})
	st := p.control.Next()
	st.Follow(func(r *sidecarpb.Records) bool {
		all := bytes.Join(append([][]byte{*up.Load()}, r.GetRecords()...), []byte("\n"))
		up.Store(&all)
		return true
	})
	for _, m := range []any{welcome(), p.live(1), p.revision(p.set(9001), 1), beat(1)} {
		st.Say(m)
	}
	p.acknowledged(st, 1)
	confirmed(t, a)
	p.want(a, "allowed", "open", "", 200, "")
	p.want(a, "refused", "tasks", "", 401, "auth.missing_token")
	envoytest.Eventually(t, "both decisions are there", func() bool {
		text := string(*up.Load())
		return strings.Count(text, `"decision_id"`) == 2 && strings.Contains(text, `"no_token"`) && strings.Contains(text, `"no_permission_needed"`)
	})
}

func TestRecordsOfAllowedAreBounded(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, err := New(p.options())
	check(t, err)
	t.Cleanup(a.control.line.Close)
	dropped := func() (n float64) {
		families, err := a.metrics.Registry().Gather()
		check(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "gatehouse_decision_records_total" && m.GetLabel()[0].GetValue() == telemetry.ResultNotSent {
					n += m.GetCounter().GetValue()
				}
			}
		}
		return n
	}
	second := time.Unix(1_800_000_000, 0)
	record := func(d telemetry.Decision, times int) {
		for range times {
			text, err := json.Marshal(d)
			check(t, err)
			a.control.record(&d, text)
		}
	}
	record(telemetry.Decision{Time: second, Allowed: true}, allowedPerSecond+7)
	record(telemetry.Decision{Time: second, Principal: request.Anonymous()}, 50)
	record(telemetry.Decision{Time: second, Allowed: true, WouldDeny: true}, 50)
	record(telemetry.Decision{Time: second.Add(time.Second), Allowed: true}, allowedPerSecond)
	if got := dropped(); got != 7 {
		t.Errorf("%v records dropped, want 7", got)
	}
}

// Who the sidecar is must be nobody else's to read or to write.
func TestCredentialFileIsRefused(t *testing.T) {
	t.Parallel()
	write := func(text string, mode os.FileMode) func(*meshPlace) {
		return func(p *meshPlace) {
			check(p.t, os.WriteFile(p.path("credential.json"), []byte(text), 0o600))
			check(p.t, os.Chmod(p.path("credential.json"), mode))
		}
	}
	chmod := func(mode os.FileMode) func(*meshPlace) {
		return func(p *meshPlace) { check(p.t, os.Chmod(p.path("credential.json"), mode)) }
	}
	for name, c := range map[string]struct {
		spoil func(*meshPlace)
		want  string
	}{
		"readable by all":   {chmod(0o604), "can be read by everybody (mode 0604)"},
		"writable by group": {chmod(0o620), "writable by others"},
		"garbage":           {write("gs_some-secret", 0o600), "is no credential file"},
		"empty":             {write("{}", 0o600), "holds no credential"},
		"gone":              {func(p *meshPlace) { check(p.t, os.Remove(p.path("credential.json"))) }, "no such file"},
		"a folder": {func(p *meshPlace) {
			check(p.t, os.Remove(p.path("credential.json")))
			check(p.t, os.Mkdir(p.path("credential.json"), 0o700))
		}, "no regular file"},
		"somebody else's": {func(p *meshPlace) {
			if os.Geteuid() != 0 {
				p.t.Skip("only root gives files away: run as root")
			}
			check(p.t, os.Chown(p.path("credential.json"), 4242, -1))
		}, "belongs to uid 4242"},
		"no certificates": {func(p *meshPlace) { p.write("ca.pem", "no PEM") }, "holds no certificate"},
		"no ca_file":      {func(p *meshPlace) { check(p.t, os.Remove(p.path("ca.pem"))) }, "ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newMeshPlace(t)
			c.spoil(p)
			_, err := New(p.options())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "gs_") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Group may read: that is how a mounted secret comes.
func TestCredentialFileOfAGroup(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	check(t, os.Chmod(p.path("credential.json"), 0o640))
	if c, err := readCredential(p.path("credential.json")); err != nil || c.Secret != meshSecret {
		t.Errorf("got %v", err)
	}
}

// A set comes from one place.
func TestPoliciesBesideControl(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	o := p.options()
	o.Policies = p.path("policies")
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "--policies") {
		t.Errorf("got %v", err)
	}
}

// A beat that was long under way says how things were when it was sent: it
// neither renews what was confirmed later, nor moves the clock.
func TestLateBeatConfirmsThePast(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, _ := p.inForce()
	before := a.live.Confirmed()
	old := beat(1)
	old.NowUnixMs -= (live.GuardAfter / 2).Milliseconds()
	heard := st.Heard()
	st.Say(old)
	envoytest.Eventually(t, "the late beat is answered", func() bool { return st.Heard() > heard })
	if got := a.live.Confirmed(); !got.Equal(before) || a.Status().Control.AheadMS != 0 {
		t.Errorf("a late beat confirms %v (before: %v) and sets control %d ms ahead", got, before, a.Status().Control.AheadMS)
	}
	// Read after a long pause, it confirms no more than when it was sent.
	p.move(live.GuardAfter + time.Minute)
	heard = st.Heard()
	st.Say(beat(1))
	envoytest.Eventually(t, "it is answered", func() bool { return st.Heard() > heard })
	if !a.live.Guarded() {
		t.Error("a beat from before the pause makes the sidecar think that control was just heard")
	}
}
