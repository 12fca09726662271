package e2e

import (
	"crypto/rand"
	"strings"
	"testing"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/operator"
)

// A sidecar without a credential that control knows gets nothing, whatever is
// put in force. One that is given later is taken up without a restart.
func TestMeshWrongCredential(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 1})
	r := m.replicas[0]
	r.put(m, m.set(1))
	right := m.register(r.admin, joining{Name: "stranger"}).Credential
	wrong := right
	wrong.Credential = right.Credential[:3] + rand.Text() + rand.Text()
	n := m.recruit(joining{Name: "stranger", Via: r.mesh()})
	n.credential(wrong)
	n.start()
	known := m.join(r.admin, joining{Name: "known", Via: r.mesh()})
	known.enforces(r.admin, r.put(m, m.set(2)))
	envoytest.Eventually(t, "the refusal is in the log", func() bool {
		return strings.Contains(n.log.String(), "control does not know the credential")
	})
	st := n.sidecar.Status()
	if st.Control.Connected || st.Control.PolicySet != "" || st.Control.LiveEpoch != 0 || !st.Control.Confirmed.IsZero() || len(st.Revisions) != 0 {
		t.Errorf("a stranger was told %+v, revisions %v", st.Control, st.Revisions)
	}
	if s := n.shown(r.admin, "org1"); s.Connected || s.LastSeenAt != nil {
		t.Errorf("a stranger is shown as %+v", s)
	}
	n.credential(right)
	n.startEnvoy()
	n.enforces(r.admin, active(t, r.admin))
}

func TestMeshCredentialRotatedAndRevoked(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 2})
	a, b := m.replicas[0], m.replicas[1]
	a.put(m, m.set(1))
	n := m.join(a.admin, joining{Name: "rotated", Via: b.mesh()})
	other := m.join(a.admin, joining{Name: "other", Via: b.mesh()})
	lost := func(what string) {
		m.soon(what+" ends the stream", func() bool { return !n.connected() })
		was := n.sidecar.Status().Control.Generation
		other.enforces(a.admin, a.put(m, m.set(int(was)+1)))
		n.want("the version before", n.ask("GET", "/tasks", m.outside.Token("developer", "org1")), 200, "")
		if now := n.sidecar.Status().Control; now.Connected || now.Generation != was {
			t.Errorf("%s: the sidecar was sent generation %d after %d", what, now.Generation, was)
		}
	}
	fresh, err := a.admin.Rotate(t.Context(), "org1", "rotated")
	must(t, err)
	lost("a rotation")
	n.credential(fresh.Credential)
	m.soon("the new credential is taken up", n.connected)
	n.enforces(a.admin, active(t, a.admin))

	r, err := a.admin.API().RevokeSidecarWithResponse(t.Context(), fresh.Sidecar.Id, nil)
	must(t, operator.Done(r, err))
	lost("a revocation")
	got, err := b.admin.API().GetSidecarWithResponse(t.Context(), fresh.Sidecar.Id)
	must(t, operator.Done(got, err))
	if s := got.JSON200; !s.Revoked || s.Connected {
		t.Errorf("shown as %+v", s)
	}
}

// Whose tokens a sidecar takes, and what its workload may, is what control has
// registered.
func TestMeshBinding(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 1})
	r := m.replicas[0]
	r.put(m, m.set(1))
	bound := m.join(r.admin, joining{Name: "bound", Via: r.mesh()})
	shared := m.join(r.admin, joining{Name: "shared", Via: r.mesh(), Shared: true})
	ours, theirs := m.outside.Token("developer", "org1"), m.outside.Token("developer", "org2")
	everywhere := r.user(m, "admin").token
	bound.want("a token of its tenant", bound.ask("GET", "/tasks", ours), 200, "")
	bound.want("a token of another tenant", bound.ask("GET", "/tasks", theirs), 403, "auth.forbidden")
	shared.want("a token of a tenant", shared.ask("GET", "/tasks", ours), 200, "")
	shared.want("a token of another tenant", shared.ask("GET", "/tasks", theirs), 200, "")
	for _, n := range []*member{bound, shared} {
		n.want("an administrator of all tenants", n.ask("GET", "/admin", everywhere), 200, "")
	}

	bound.want("the workload", bound.work(), 200, "")
	m.update(r, bound, api.SidecarUpdate{Role: new(api.Role("observer"))})
	m.soon("a lower role of the workload is in force", func() bool { return bound.work().Status == 403 })
	bound.want("the workload with a lower role", bound.work(), 403, "auth.forbidden")
	m.update(r, bound, api.SidecarUpdate{Role: new(api.Role("developer")), Shared: new(true)})
	m.soon("the role is back", func() bool { return bound.work().Status == 200 })
	bound.want("a token of another tenant, shared now", bound.ask("GET", "/tasks", theirs), 200, "")
}

// A sidecar that is given another policy set follows it, also where its
// generations are lower, and comes back to what is in force of the first by then.
func TestMeshSidecarMoves(t *testing.T) {
	t.Parallel()
	const elsewhere = "elsewhere"
	m := newMesh(t, meshOptions{Replicas: 2})
	a, b := m.replicas[0], m.replicas[1]
	for i := range 3 {
		a.put(m, m.set(i))
	}
	rev, _, err := a.admin.Push(t.Context(), elsewhere, m.set(7), "")
	must(t, err)
	other, err := a.admin.Activate(t.Context(), elsewhere, rev.Id)
	must(t, err)
	n := m.join(a.admin, joining{Name: "mover", Via: b.mesh()})
	n.enforces(a.admin, active(t, a.admin))

	m.update(a, n, api.SidecarUpdate{PolicySet: new(elsewhere)})
	n.enforces(a.admin, *other.Active)
	n.want("its policy set", n.ask("GET", "/v7", ""), 200, "")
	n.want("the one before", n.ask("GET", "/v2", ""), 404, "resource.not_found")
	last := a.put(m, m.set(3))
	m.update(a, n, api.SidecarUpdate{PolicySet: new(meshSet)})
	n.enforces(a.admin, last)
	n.want("its policy set again", n.ask("GET", "/v3", ""), 200, "")
	n.want("the one it left", n.ask("GET", "/v7", ""), 404, "resource.not_found")
}

func (m *mesh) update(r *replica, n *member, change api.SidecarUpdate) {
	m.t.Helper()
	got, err := r.admin.API().GetSidecarWithResponse(m.t.Context(), n.shown(r.admin, "org1").Id)
	must(m.t, operator.Done(got, err))
	tag := got.HTTPResponse.Header.Get("etag")
	resp, err := r.admin.API().UpdateSidecarWithResponse(m.t.Context(), got.JSON200.Id, &api.UpdateSidecarParams{IfMatch: &tag}, change)
	must(m.t, operator.Done(resp, err))
}
