package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/operator"
)

// What is done at one replica is in force at the sidecars of the other.
func TestMeshOfTwoReplicas(t *testing.T) {
	t.Parallel()
	m := newMesh(t, meshOptions{Replicas: 2})
	a, b := m.replicas[0], m.replicas[1]
	a.put(m, m.set(1))
	agent := m.makeAgent(a.admin, "agent-7")
	wire := newWire(t, b.mesh())
	near := m.join(a.admin, joining{Name: "near", Via: a.mesh()})
	far := m.join(a.admin, joining{Name: "far", Via: wire.address(), Agent: agent})

	m.activationArrives(a, far)
	m.revocationsArrive(a, far)
	m.blocksArrive(a, far, agent)
	m.suspensionArrives(a, far)
	m.arrivesWithoutListening(a, far)
	m.replicasRace(near, far)
	m.recordsAreStoredOnce(a, far, wire)
}

func (m *mesh) makeAgent(admin *operator.Client, name string) string {
	m.t.Helper()
	r, err := admin.API().CreateAgentWithResponse(m.t.Context(), api.AgentCreate{Name: name, Role: "developer", TenantId: "org1"})
	must(m.t, operator.Done(r, err))
	id, err := admin.AgentID(m.t.Context(), "org1", name)
	must(m.t, err)
	return id
}

func (m *mesh) activationArrives(a *replica, far *member) {
	far.want("version 1", far.ask("GET", "/v1", ""), 200, "")
	active := a.put(m, m.set(2))
	m.soon("another revision is in force", func() bool { return far.ask("GET", "/v2", "").Reached })
	far.want("version 1 when it was replaced", far.ask("GET", "/v1", ""), 404, "resource.not_found")
	m.soon("the API shows it", func() bool {
		return operator.StandingOf(far.shown(a.admin, "org1"), &active) == operator.InForce
	})
}

func (m *mesh) revocationsArrive(a *replica, far *member) {
	op, other := a.user(m, "operator"), a.user(m, "operator")
	for _, s := range []session{op, other} {
		far.want("a token", far.ask("GET", "/tasks", s.token), 200, "")
	}
	r, err := op.client.API().LogoutWithResponse(m.t.Context(), api.LogoutJSONRequestBody{RefreshToken: op.refresh})
	must(m.t, operator.Done(r, err))
	m.refusedSoon("a logout", far, op.token, 401)
	far.want("the token after its logout", far.ask("GET", "/tasks", op.token), 401, "auth.invalid_token")

	dev := a.user(m, "developer")
	far.want("a token", far.ask("GET", "/tasks", dev.token), 200, "")
	m.revokeSubject(a, "developer")
	m.refusedSoon("a revocation of all tokens", far, dev.token, 401)
	again := a.user(m, "developer")
	m.soon("a new login counts", func() bool { return far.ask("GET", "/tasks", again.token).Status == 200 })
}

// revokeSubject revokes all tokens of a user of org1.
func (m *mesh) revokeSubject(r *replica, user string) {
	m.t.Helper()
	users, err := r.admin.Users(m.t.Context(), "org1")
	must(m.t, err)
	i := slices.IndexFunc(users, func(u api.User) bool { return u.Username == user })
	if i < 0 {
		m.t.Fatalf("there is no user %s", user)
	}
	resp, err := r.admin.API().RevokeTokensWithResponse(m.t.Context(), api.RevocationCreate{
		Subject: &users[i].Id, TenantId: new("org1"), Reason: new("the test revokes it"),
	})
	must(m.t, operator.Done(resp, err))
}

func (m *mesh) refusedSoon(what string, n *member, token string, status int) {
	m.t.Helper()
	m.soon(what+" is in force", func() bool { return n.ask("GET", "/tasks", token).Status == status })
}

func (m *mesh) blocksArrive(a *replica, far *member, agent string) {
	far.want("the workload", far.work(), 200, "")
	r, err := a.admin.API().BlockAgentWithResponse(m.t.Context(), agent, nil, api.AgentBlock{Reason: "the test blocks it"})
	must(m.t, operator.Done(r, err))
	m.soon("a block of the agent is in force", func() bool { return far.work().Status == 403 })
	far.want("the workload of a blocked agent", far.work(), 403, "auth.forbidden")
	u, err := a.admin.API().UnblockAgentWithResponse(m.t.Context(), agent, nil)
	must(m.t, operator.Done(u, err))
	m.soon("the agent is unblocked", func() bool { return far.work().Status == 200 })
}

func (m *mesh) suspensionArrives(a *replica, far *member) {
	token := m.outside.Token("developer", "org1")
	far.want("a token", far.ask("GET", "/tasks", token), 200, "")
	r, err := a.admin.API().SuspendTenantWithResponse(m.t.Context(), "org1", nil)
	must(m.t, operator.Done(r, err))
	m.refusedSoon("a suspension", far, token, 403)
	far.want("a token of a suspended tenant", far.ask("GET", "/tasks", token), 403, "auth.forbidden")
	far.want("the workload of a suspended tenant", far.work(), 403, "auth.forbidden")
	u, err := a.admin.API().ResumeTenantWithResponse(m.t.Context(), "org1", nil)
	must(m.t, operator.Done(u, err))
	m.refusedSoon("the end of a suspension", far, token, 200)
}

// arrivesWithoutListening ends the connection on which replicas are told of
// changes, again and again.
func (m *mesh) arrivesWithoutListening(a *replica, far *member) {
	conn := m.connect()
	deafen := func() int64 {
		tag, err := conn.Exec(m.t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatehouse mesh' AND datname = current_database()`)
		must(m.t, err)
		return tag.RowsAffected()
	}
	if n := deafen(); n != 2 {
		m.t.Errorf("%d replicas listened, want 2", n)
	}
	s := a.user(m, "observer")
	far.want("a token", far.ask("GET", "/tasks", s.token), 200, "")
	m.revokeSubject(a, "observer")
	m.soon("a revocation that no replica hears of is in force", func() bool {
		deafen()
		return far.ask("GET", "/tasks", s.token).Status == 401
	})
	envoytest.Eventually(m.t, "both listen again", func() bool {
		var n int
		must(m.t, conn.QueryRow(m.t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gatehouse mesh' AND datname = current_database()`).Scan(&n))
		return n == 2
	})
}

func (m *mesh) connect() *pgx.Conn {
	m.t.Helper()
	conn, err := pgx.Connect(m.t.Context(), m.database)
	must(m.t, err)
	m.t.Cleanup(func() { _ = conn.Close(m.t.Context()) })
	return conn
}

// replicasRace pushes the same content at both replicas at once, and then has
// each of them put another revision in force.
func (m *mesh) replicasRace(members ...*member) {
	const tries = 4 // of each replica
	var mu sync.Mutex
	var ids []string
	created := 0
	m.atBoth(tries, func(r *replica, _ int) {
		rev, first, err := r.admin.Push(m.t.Context(), meshSet, m.set(3), "")
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			m.t.Errorf("a push at the same time: %v", err)
			return
		}
		ids = append(ids, rev.Id)
		if first {
			created++
		}
	})
	if slices.Sort(ids); created != 1 || len(slices.Compact(ids)) != 1 {
		m.t.Errorf("the same content is revisions %v, %d of them new", ids, created)
	}
	last := m.activateAtOnce()
	for _, n := range members {
		n.enforces(m.replicas[0].admin, last)
		n.enforces(m.replicas[1].admin, last)
	}
}

func (m *mesh) atBoth(tries int, f func(r *replica, i int)) {
	var wg sync.WaitGroup
	for i := range tries {
		for k, r := range m.replicas {
			wg.Go(func() { f(r, i*len(m.replicas)+k) })
		}
	}
	wg.Wait()
}

// activateAtOnce puts several revisions in force at the same time, and returns
// the one that both replicas say came last.
func (m *mesh) activateAtOnce() api.PolicyActivation {
	before := active(m.t, m.replicas[0].admin).Generation
	var mu sync.Mutex
	of := map[int64]string{} // revisions by generation
	m.atBoth(2, func(r *replica, i int) {
		rev, _, err := r.admin.Push(m.t.Context(), meshSet, m.set(10+i), "")
		if err == nil {
			var set *api.PolicySet
			if set, err = r.admin.Activate(m.t.Context(), meshSet, rev.Id); err == nil {
				err = m.noteActivation(&mu, of, *set.Active, rev.Id)
			}
		}
		if err != nil && !operator.IsCode(err, "state.conflict") {
			m.t.Errorf("an activation at the same time: %v", err)
		}
	})
	a, b := active(m.t, m.replicas[0].admin), active(m.t, m.replicas[1].admin)
	if a != b || a.Generation != before+int64(len(of)) || of[a.Generation] != a.Revision {
		m.t.Errorf("in force are %+v and %+v, after generation %d and activations %v", a, b, before, of)
	}
	m.t.Logf("%d activations at once", len(of))
	return a
}

// noteActivation keeps which revision a generation is of.
func (m *mesh) noteActivation(mu *sync.Mutex, of map[int64]string, a api.PolicyActivation, want string) error {
	mu.Lock()
	defer mu.Unlock()
	if of[a.Generation] != "" || a.Revision != want {
		return fmt.Errorf("generation %d is of %.12s, was asked for %.12s, and was given to %.12s before", a.Generation, a.Revision, want, of[a.Generation])
	}
	of[a.Generation] = a.Revision
	return nil
}

// recordsAreStoredOnce sends requests while the line is cut again and again: a
// batch whose answer is lost goes up once more.
func (m *mesh) recordsAreStoredOnce(a *replica, far *member, wire *wire) {
	const requests, cuts = 60, 6
	s := a.user(m, "operator")
	want := map[string]bool{}
	for i := range requests {
		r := far.ask("GET", "/tasks/stored", s.token)
		far.want("a request", r, 200, "")
		want[r.Decision] = true
		if i%(requests/cuts) == requests/cuts-1 {
			wire.cut()
		}
	}
	if len(want) != requests {
		m.t.Fatalf("%d requests had %d decisions", requests, len(want))
	}
	var got map[string]int
	envoytest.Eventually(m.t, "all decisions are stored", func() bool {
		got = m.stored("/tasks/stored")
		return len(got) >= requests
	})
	for id, n := range got {
		if n != 1 || !want[id] {
			m.t.Errorf("decision %s is stored %d times, and was made: %v", id, n, want[id])
		}
	}
}

// stored counts the decisions of a path, by id.
func (m *mesh) stored(path string) map[string]int {
	m.t.Helper()
	conn := m.connect()
	defer conn.Close(m.t.Context())
	rows, err := conn.Query(m.t.Context(), `SELECT record->>'decision_id' FROM decisions WHERE record->>'path' = $1`, path)
	must(m.t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(m.t, err)
	got := map[string]int{}
	for _, id := range ids {
		got[id]++
	}
	return got
}
