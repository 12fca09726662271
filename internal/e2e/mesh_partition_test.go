package e2e

import (
	"strings"
	"testing"
	"time"

	"gatehouse/internal/envoytest"
)

func (n *member) connected() bool { return n.sidecar.Status().Control.Connected }

// A sidecar that control can't reach goes on with what it knows. What was done
// meanwhile is in force as soon as the line is back, also where it was down for
// so long that tries are as far apart as they get.
func TestMeshPartition(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 1})
	r := m.replicas[0]
	r.put(m, m.set(1))
	cut, stalled := newWire(t, r.mesh()), newWire(t, r.mesh())
	members := []*member{
		m.join(r.admin, joining{Name: "cut", Via: cut.address()}),
		m.join(r.admin, joining{Name: "stalled", Via: stalled.address()}),
	}
	s := r.user(m, "operator")
	goesOn := func(when string) {
		for _, n := range members {
			n.want("a token "+when, n.ask("GET", "/tasks", s.token), 200, "")
			n.want("version 1 "+when, n.ask("GET", "/v1", ""), 200, "")
			n.want("version 2 "+when, n.ask("GET", "/v2", ""), 404, "resource.not_found")
			n.want("no token "+when, n.ask("GET", "/tasks", ""), 401, "auth.missing_token")
		}
	}
	cut.part()
	stalled.stall()
	parted := time.Now()
	m.revokeSubject(r, "operator")
	r.put(m, m.set(2))
	envoytest.Eventually(t, "the cut is noticed", func() bool { return !members[0].connected() })
	goesOn("in a partition")
	// Control is asked, and answers nothing. It may not have said yet that they
	// are two.
	m.crowd(members[1], crowdLimit/2, crowdLimit)
	envoytest.Eventually(t, "the silence is noticed", func() bool { return !members[1].connected() })
	t.Logf("a silent connection was given up after %v", time.Since(parted).Round(time.Millisecond))
	goesOn("late in a partition")
	if t.Failed() {
		t.FailNow()
	}

	cut.heal()
	stalled.heal()
	m.soon("the revocation is in force after the partition", func() bool {
		return members[0].ask("GET", "/tasks", s.token).Status == 401 && members[1].ask("GET", "/tasks", s.token).Status == 401
	})
	for _, n := range members {
		n.want("the revoked token", n.ask("GET", "/tasks", s.token), 401, "auth.invalid_token")
		n.enforces(r.admin, active(t, r.admin))
		n.want("version 2", n.ask("GET", "/v2", ""), 200, "")
	}
}

// A line that stands still for a moment loses nothing.
func TestMeshShortStall(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 1})
	r := m.replicas[0]
	r.put(m, m.set(1))
	wire := newWire(t, r.mesh())
	n := m.join(r.admin, joining{Name: "worker", Via: wire.address()})
	s := r.user(m, "operator")
	wire.stall()
	m.revokeSubject(r, "operator")
	r.put(m, m.set(2))
	n.want("a token whose revocation is stuck", n.ask("GET", "/tasks", s.token), 200, "")
	wire.heal()
	m.refusedSoon("a revocation that was stuck", n, s.token, 401)
	n.enforces(r.admin, active(t, r.admin))
	if log := n.log.String(); strings.Contains(log, "no line to control") {
		t.Errorf("the line was given up: %s", log)
	}
}

// A sidecar that is started again while control can't be reached knows what its
// last process knew: whom it serves, what is in force, and who is revoked.
func TestMeshRestartInAPartition(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 1})
	r := m.replicas[0]
	r.put(m, m.set(1))
	wire := newWire(t, r.mesh())
	n := m.join(r.admin, joining{Name: "worker", Via: wire.address()})
	good, revoked := r.user(m, "developer").token, r.user(m, "operator").token
	n.want("a token", n.ask("GET", "/tasks", revoked), 200, "")
	m.revokeSubject(r, "operator")
	m.refusedSoon("a revocation", n, revoked, 401)

	wire.part()
	n.sidecar.Stop(t.Context())
	n.want("no sidecar", n.ask("GET", "/tasks", good), 503, "policy.unavailable")
	n.start()
	envoytest.Eventually(t, "it enforces again", func() bool { return n.ask("GET", "/tasks", good).Status == 200 })
	n.want("the revoked token after the restart", n.ask("GET", "/tasks", revoked), 401, "auth.invalid_token")
	n.want("another tenant's token after the restart", n.ask("GET", "/tasks", m.outside.Token("developer", "org2")), 403, "auth.forbidden")
	n.want("the workload after the restart", n.work(), 200, "")
	n.want("its version after the restart", n.ask("GET", "/v1", ""), 200, "")
	if n.connected() {
		t.Error("it is connected in a partition")
	}
	r.put(m, m.set(2))
	m.revokeSubject(r, "developer")
	wire.heal()
	m.refusedSoon("a revocation of before", n, good, 401)
	n.enforces(r.admin, active(t, r.admin))
}

// A sidecar whose clock is off judges tokens by control's clock, and its skew
// is shown.
func TestMeshClocks(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 1})
	r := m.replicas[0]
	r.put(m, m.set(1))
	login := r.user(m, "developer").token
	claims := func(issued, expires time.Duration) string {
		c := m.outside.Claims(time.Now(), "developer", "org1")
		c["iat"], c["nbf"], c["exp"] = time.Now().Add(issued).Unix(), time.Now().Add(issued).Unix(), time.Now().Add(expires).Unix()
		return m.outside.Mint(c)
	}
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		n := m.join(r.admin, joining{Name: "skewed" + ahead.String()[:2], Via: r.mesh(), Ahead: ahead})
		n.want("a fresh login", n.ask("GET", "/tasks", login), 200, "")
		n.want("a token for 2 more minutes", n.ask("GET", "/tasks", claims(-8*time.Minute, 2*time.Minute)), 200, "")
		n.want("a token of 2 minutes ago", n.ask("GET", "/tasks", claims(-12*time.Minute, -2*time.Minute)), 401, "auth.expired_token")
		n.want("a token of 5 minutes hence", n.ask("GET", "/tasks", claims(5*time.Minute, 15*time.Minute)), 401, "auth.invalid_token")
		kept := n.ask("GET", "/tasks/skewed", login).Decision
		envoytest.Eventually(t, "its decisions are stored", func() bool { return m.stored("/tasks/skewed")[kept] == 1 })
		envoytest.Eventually(t, "the skew is shown", func() bool {
			skew := n.shown(r.admin, "org1").SkewMs
			return skew != nil && (time.Duration(*skew)*time.Millisecond-ahead).Abs() < 2*time.Second
		})
	}
}
