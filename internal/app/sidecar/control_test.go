package sidecar

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/link/linktest"
	"gatehouse/internal/mesh"
	"gatehouse/internal/revision"
)

// Until control has sent a signed revision Envoy is given nothing. It is
// acknowledged when Envoy has its routes, and not before.
func TestFirstRevisionOfControl(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, e := p.start(), p.connect()
	unsigned := p.revision(p.set(9001), 1)
	unsigned.Signature = nil
	st := p.greet(unsigned)
	refusedFor(t, st, "not signed")
	envoytest.Eventually(t, "Envoy is connected", func() bool { return a.Status().Envoy.Connected == 1 })
	if err := a.Ready(); err == nil || !strings.Contains(err.Error(), "no policy set") || len(e.got) != 0 {
		t.Fatalf("ready: %v; %d responses to Envoy", err, len(e.got))
	}
	p.want(a, "without a revision", "open", "", 503, "policy.unavailable")
	st.Say(p.revision(p.set(9001), 1))
	for range 3 {
		r := <-e.got
		if r.GetTypeUrl() == resource.RouteType && st.Status().GetGeneration() != 0 {
			t.Error("acknowledged before Envoy said anything")
		}
		e.answer(r, "")
	}
	p.acknowledged(st, 1)
	if got := st.Status(); got.GetRevision() != revision.ID(p.set(9001)) || got.GetRefused() != nil || got.GetLiveEpoch() != 1 {
		t.Errorf("status %v", got)
	}
	check(t, a.Ready())
	confirmed(t, a)
	p.want(a, "with a revision", "tasks", p.token("developer", "org1"), 200, "")
	p.want(a, "as the registered workload", "work", "", 200, "")
}

// spoilt are revisions that must not come into force, each with what is said.
func spoilt(p *meshPlace) map[string]struct {
	revision *sidecarpb.Revision
	reason   string
} {
	const held = 5 // the generation in force
	one, two := p.set(9001), p.set(9002)
	broken := revision.Files{revision.ConfigFile: []byte("routes: [{nmae: x}]\n")}
	edited := func(edit func(*sidecarpb.Revision)) *sidecarpb.Revision {
		r := p.revision(two, held+1)
		edit(r)
		return r
	}
	activation := func(edit func(*revision.Activation)) *sidecarpb.Revision {
		a := p.activation(two, held+1)
		edit(&a)
		return p.signed(a, two)
	}
	_, foreign, _ := ed25519.GenerateKey(nil)
	const unsigned = "not signed by a known key"
	return map[string]struct {
		revision *sidecarpb.Revision
		reason   string
	}{
		"unsigned":               {edited(func(r *sidecarpb.Revision) { r.Signature = nil }), unsigned},
		"signed by others":       {edited(func(r *sidecarpb.Revision) { r.Signature = p.activation(two, held+1).Sign(meshKey, foreign).Signature }), unsigned},
		"signed by another key":  {edited(func(r *sidecarpb.Revision) { r.KeyId = "revisions-2" }), unsigned},
		"tampered generation":    {edited(func(r *sidecarpb.Revision) { r.Generation = 1 << 60 }), unsigned},
		"tampered kind":          {edited(func(r *sidecarpb.Revision) { r.Kind = "rollback" }), unsigned},
		"tampered set":           {edited(func(r *sidecarpb.Revision) { r.PolicySet = "others" }), unsigned},
		"tampered revision":      {edited(func(r *sidecarpb.Revision) { r.Revision = revision.ID(one) }), unsigned},
		"tampered bundle":        {edited(func(r *sidecarpb.Revision) { r.Bundle = p.revision(p.set(9003), held+1).GetBundle() }), "its content is revision"},
		"no bundle":              {edited(func(r *sidecarpb.Revision) { r.Bundle = nil }), "can't be read"},
		"another policy set":     {activation(func(a *revision.Activation) { a.PolicySet = "others" }), `follows "agents"`},
		"older generation":       {activation(func(a *revision.Activation) { a.Generation = held - 1 }), "is older than"},
		"generation used before": {activation(func(a *revision.Activation) { a.Generation = held }), "of another revision than before"},
		"does not compile":       {p.revision(broken, held+1), "nmae"},
	}
}

// What is refused is told, with what is wrong; what is in force stays, and a
// later good revision ends the matter.
func TestSpoiltRevisionsAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range spoilt(newMeshPlace(t)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newMeshPlace(t)
			a := p.start()
			p.connect().agreeToAll()
			// The key that signed the cases is that of another place.
			c.revision = spoilt(p)[name].revision
			st := p.greet(p.revision(p.set(9001), 5))
			p.acknowledged(st, 5)
			confirmed(t, a)
			st.Say(c.revision)
			refusedFor(t, st, c.reason)
			got, first := st.Status(), revision.ID(p.set(9001))
			if got.GetGeneration() != 5 || got.GetRevision() != first || got.GetRefused().GetRevision() != c.revision.GetRevision() || got.GetRefused().GetGeneration() != c.revision.GetGeneration() {
				t.Errorf("status %v", got)
			}
			if st := a.Status(); st.Revision != first || !strings.Contains(st.Control.Refused, c.reason) || !strings.Contains(st.Loaded.Error, c.reason) {
				t.Errorf("shown: %s in force, %q, %q", st.Revision, st.Control.Refused, st.Loaded.Error)
			}
			p.want(a, "after the refusal", "tasks", p.token("developer", "org1"), 200, "")
			st.Say(p.revision(p.set(9004), 7))
			p.acknowledged(st, 7)
			envoytest.Eventually(t, "nothing is refused any more", func() bool {
				shown := a.Status()
				return st.Status().GetRefused() == nil && shown.Control.Refused == "" && shown.Loaded.Error == ""
			})
		})
	}
}

// A set that Envoy refuses is refused like any other, by Envoy's reason.
func TestRevisionThatEnvoyRefuses(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, e := p.start(), p.connect()
	st := p.greet(p.revision(p.set(9001), 1))
	e.agree(3)
	p.acknowledged(st, 1)
	st.Say(p.revision(p.set(9002), 2))
	e.answer(<-e.got, "no such thing")
	refusedFor(t, st, "no such thing")
	if got := st.Status(); got.GetGeneration() != 1 || got.GetRefused().GetGeneration() != 2 || got.GetRefused().GetRevision() != revision.ID(p.set(9002)) {
		t.Errorf("status %v", got)
	}
	envoytest.Eventually(t, "it is shown", func() bool { return strings.Contains(a.Status().Loaded.Error, "no such thing") })
	if a.inForce() != revision.ID(p.set(9001)) {
		t.Errorf("%.8s is in force", a.inForce())
	}
	e.agreeToAll()
	st.Say(p.revision(p.set(9003), 3))
	p.acknowledged(st, 3)
	if got := st.Status().GetRefused(); got != nil {
		t.Errorf("still refused: %v", got)
	}
}

// What is refused while an earlier one is on its way is not forgotten when
// that one arrives.
func TestRefusalOutlivesAnEarlierRevision(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	_, e := p.start(), p.connect()
	st := p.greet(p.revision(p.set(9001), 1))
	first := <-e.got // not answered yet
	tampered := p.revision(p.set(9002), 2)
	tampered.Generation = 0
	st.Say(tampered)
	refusedFor(t, st, "not signed")
	e.answer(first, "")
	e.agreeToAll()
	p.acknowledged(st, 1)
	if st.Status().GetRefused() == nil {
		t.Error("the refusal is forgotten")
	}
}

// A rollback is an activation like any other: of a revision that was there
// before, under a higher generation.
func TestRollbackByControl(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, e := p.inForce()
	one, two := p.set(9001), p.set(9002)
	st.Say(p.revision(two, 2))
	p.acknowledged(st, 2)
	back := p.activation(one, 3)
	back.Kind = revision.Rollback
	st.Say(p.signed(back, one))
	p.acknowledged(st, 3)
	if a.inForce() != revision.ID(one) || st.Status().GetRevision() != revision.ID(one) {
		t.Errorf("%.8s is in force", a.inForce())
	}

	// Again, as control does on a new stream, and under a new generation: both
	// are acknowledged, and Envoy is not bothered.
	responses := e.count.Load()
	st.End(linktest.Unavailable())
	again := p.greet(p.signed(back, one))
	p.acknowledged(again, 3)
	heard := again.Heard()
	again.Say(p.signed(back, one))
	envoytest.Eventually(t, "what is sent again is acknowledged again", func() bool { return again.Heard() > heard })
	again.Say(p.revision(one, 4))
	p.acknowledged(again, 4)
	if n := e.count.Load(); n != responses {
		t.Errorf("%d responses to Envoy for what it has", n-responses)
	}
	savedAs(t, a, 4, 2)
}

// On a new stream the sidecar says what it has.
func TestHelloSaysWhatIsInForce(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	_, st, _ := p.inForce()
	first := st.Hello
	st.End(linktest.Unavailable())
	st = p.control.Next()
	if got := st.Hello.GetStatus(); got.GetGeneration() != 1 || got.GetRevision() != revision.ID(p.set(9001)) || got.GetLiveEpoch() != 1 {
		t.Errorf("status %v", got)
	}
	if first.GetStatus().GetGeneration() != 0 || first.GetIncarnation() != st.Hello.GetIncarnation() {
		t.Errorf("first %v, then %v", first, st.Hello)
	}
}

// A sidecar that follows another policy set now takes its revision, whatever
// its generation is.
func TestAnotherPolicySet(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	a, st, _ := p.inForce()
	st.Say(p.revision(p.set(9001), 9))
	p.acknowledged(st, 9)
	w := welcome()
	w.PolicySet = "others"
	st.Say(w)
	other := p.activation(p.set(9002), 2)
	other.PolicySet = "others"
	st.Say(p.signed(other, p.set(9002)))
	p.acknowledged(st, 2)
	if a.inForce() != revision.ID(p.set(9002)) || a.Status().Control.PolicySet != "others" {
		t.Errorf("%.8s is in force, of %s", a.inForce(), a.Status().Control.PolicySet)
	}
}

// Whatever a reason holds, it can be sent, and is no longer than control takes.
func TestReasonsCanBeSent(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                    "",
		"as it is é":                          "as it is é",
		"no \xff\xfe UTF-8":                   "no ? UTF-8",
		strings.Repeat("a", mesh.MaxReason+1): strings.Repeat("a", mesh.MaxReason),
		strings.Repeat("a", mesh.MaxReason-3) + "😀 and more": strings.Repeat("a", mesh.MaxReason-3),
		strings.Repeat("\xff", mesh.MaxReason+9):             "?",
	} {
		if got := cut(in, mesh.MaxReason); got != want {
			t.Errorf("%.20q of %d bytes became %.20q of %d", in, len(in), got, len(got))
		}
	}
}

// A set whose faults can't be put into words costs nothing but itself.
func TestUnreadableSetIsRefused(t *testing.T) {
	t.Parallel()
	p := newMeshPlace(t)
	_, st, _ := p.inForce()
	binary := p.set(9002)
	binary["authz.rego"] = append([]byte("package gatehouse\n\nauthz := \xff\xfe "), bytes.Repeat([]byte{0xff}, 5000)...)
	st.Say(p.revision(binary, 2))
	refusedFor(t, st, "rego")
	if n := len(st.Status().GetRefused().GetReason()); n > mesh.MaxReason {
		t.Errorf("a reason of %d bytes", n)
	}
	st.Say(p.revision(p.set(9003), 3))
	p.acknowledged(st, 3)
}
