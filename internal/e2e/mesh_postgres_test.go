package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/envoytest"
	"gatehouse/internal/operator"
	"gatehouse/internal/pgserver"
	"gatehouse/internal/pgtest"
)

// ownPostgres is a server for this test alone, and what it was started with.
func ownPostgres(t *testing.T) (*pgserver.Server, pgserver.Options) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o711)) // the server runs as another user
	o := pgserver.Options{Dir: dir, Bin: pgtest.Bin(t), Durable: true}
	server, err := pgserver.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(server.Stop)
	return server, o
}

// Without its database control answers 503, and sidecars go on with what they
// know, for as long as that may be. All of it heals by itself.
func TestMeshPostgresKilledAndBack(t *testing.T) {
	t.Parallel()
	server, o := ownPostgres(t)
	m := newMesh(t, meshOptions{Replicas: 1, Database: server.URL()})
	r := m.replicas[0]
	r.put(m, m.set(1))
	n := m.join(r.admin, joining{Name: "worker", Via: r.mesh()})
	p := people{admin: r.user(m, "admin"), developer: r.user(m, "developer"), observer: r.user(m, "observer")}

	must(t, syscall.Kill(server.PID(), syscall.SIGKILL))
	<-server.Done()
	m.apiIsAway(r)
	p.enforced(n, "without a database")
	if got := []int{n.ask("GET", "/few", p.developer.token).Status, n.ask("GET", "/few", p.developer.token).Status, n.ask("GET", "/few", p.developer.token).Status}; !slices.Equal(got, []int{200, 200, 200}) {
		t.Errorf("a limit of three, without a database: %v", got)
	}
	n.want("the fourth of three", n.ask("GET", "/few", p.developer.token), 429, "rate_limit.exceeded")
	kept := n.ask("GET", "/tasks/outage", p.developer.token).Decision
	const beatsAtMost = 5 * time.Second
	envoytest.Eventually(t, "control confirms no more", func() bool {
		return time.Since(n.sidecar.Status().Control.Confirmed) > beatsAtMost+3*time.Second
	})
	n.growsStale(p)

	server.Stop() // lets go of the folder
	o.Port = server.Port()
	again, err := pgserver.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(again.Stop)
	back := time.Now()
	envoytest.Eventually(t, "the API is back", func() bool { _, err := r.admin.Tenants(t.Context()); return err == nil })
	envoytest.Eventually(t, "control confirms again", func() bool { return n.sidecar.Status().Control.Confirmed.After(back) })
	p.enforced(n, "with the database back")
	m.revokeSubject(r, "developer")
	m.refusedSoon("a revocation", n, p.developer.token, 401)
	n.enforces(r.admin, r.put(m, m.set(2)))
	envoytest.Eventually(t, "what was decided in the outage is stored", func() bool { return m.stored("/tasks/outage")[kept] == 1 })
}

// people are logged in.
type people struct{ admin, developer, observer session }

// enforced demands what tokens and policy say of some requests.
func (p people) enforced(n *member, when string) {
	n.t.Helper()
	n.want("a developer "+when, n.ask("GET", "/tasks", p.developer.token), 200, "")
	n.want("an observer who writes "+when, n.ask("POST", "/tasks", p.observer.token), 403, "auth.forbidden")
	n.want("nobody "+when, n.ask("GET", "/tasks", ""), 401, "auth.missing_token")
	n.want("a torn token "+when, n.ask("GET", "/tasks", strings.TrimRight(p.developer.token, "AEIMQUYcgkosw048")+"-"), 401, "auth.invalid_token")
	n.want("an administrator "+when, n.ask("GET", "/admin", p.admin.token), 200, "")
	n.want("the workload "+when, n.work(), 200, "")
}

// apiIsAway demands 503 of the API, and never a no.
func (m *mesh) apiIsAway(r *replica) {
	m.t.Helper()
	for range 2 { // the first may find a connection that looks alive
		_, err := r.admin.Tenants(m.t.Context())
		wantAway(m.t, "a list", err)
		for _, password := range []string{"developer123", "wrong"} {
			_, err = r.admin.Login(m.t.Context(), "developer", password)
			wantAway(m.t, "a login with "+password, err)
		}
	}
}

// growsStale moves the clock of a sidecar that hears nothing from control.
func (n *member) growsStale(p people) {
	n.t.Helper()
	now := time.Now()
	long := n.mesh.outside.Claims(now, "developer", "org1")
	long["exp"] = now.Add(2 * time.Hour).Unix()
	token := n.mesh.outside.Mint(long)
	n.ahead.Store(int64(5 * time.Minute))
	n.want("administration after 5 minutes", n.ask("GET", "/admin", p.admin.token), 503, "auth.unavailable")
	n.want("a developer after 5 minutes", n.ask("GET", "/tasks", p.developer.token), 200, "")
	n.want("an open route after 5 minutes", n.ask("GET", "/open", ""), 200, "")
	n.ahead.Store(int64(59 * time.Minute))
	n.want("a developer after 59 minutes", n.ask("GET", "/tasks", token), 200, "")
	n.ahead.Store(int64(time.Hour))
	n.want("a developer after an hour", n.ask("GET", "/tasks", token), 503, "auth.unavailable")
	n.want("an open route after an hour", n.ask("GET", "/open", ""), 503, "auth.unavailable")
	n.want("the workload after an hour", n.work(), 503, "auth.unavailable")
	n.ahead.Store(0)
}

// A database that does not answer costs callers of the API a bounded time, and
// callers of the workload none: one whose tables are locked, which its own
// time-outs end, and one that stands still, which only ours do.
func TestMeshPostgresSlow(t *testing.T) {
	t.Parallel()
	server, _ := ownPostgres(t)
	m := newMesh(t, meshOptions{Replicas: 1, Database: server.URL()})
	r := m.replicas[0]
	r.put(m, m.set(1))
	n := m.join(r.admin, joining{Name: "worker", Via: r.mesh()})
	m.whileSlow("locked", r, n, func() (end func()) { return m.lock("live_epoch", "policy_activations", "sidecars", "login_attempts") })
	m.whileSlow("standing still", r, n, func() (end func()) { return freeze(t, server.PID()) })
}

func (m *mesh) whileSlow(what string, r *replica, n *member, begin func() (end func())) {
	m.t.Helper()
	s := r.user(m, "developer")
	before := n.median(s.token)
	end := begin()
	var calls sync.WaitGroup
	for name, call := range slowCalls(r) {
		calls.Go(func() { m.endsInTime(name+", database "+what, call) })
	}
	during := n.median(s.token)
	calls.Wait()
	late := n.median(s.token)
	m.t.Logf("a request takes %v, with a database %s %v, a while later %v", before, what, during, late)
	for _, d := range []time.Duration{during, late} {
		if d > 4*before+5*time.Millisecond {
			m.t.Errorf("a request takes %v with a database %s, %v before", d, what, before)
		}
	}
	end()
	ended := time.Now()
	envoytest.Eventually(m.t, "control confirms again", func() bool { return n.sidecar.Status().Control.Confirmed.After(ended) })
	m.revokeSubject(r, "developer")
	m.refusedSoon("a revocation", n, s.token, 401)
}

// slowCalls are calls of the API that need the database.
func slowCalls(r *replica) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"a login":      func(ctx context.Context) error { _, err := r.admin.Login(ctx, "operator", "operator123"); return err },
		"the sidecars": func(ctx context.Context) error { _, err := r.admin.Sidecars(ctx, ""); return err },
		"a rollback":   func(ctx context.Context) error { _, err := r.admin.Rollback(ctx, meshSet, ""); return err },
		"a suspension": func(ctx context.Context) error {
			resp, err := r.admin.API().SuspendTenantWithResponse(ctx, "org2", nil)
			return operator.Done(resp, err)
		},
	}
}

// freeze makes a server and all its processes stand still.
func freeze(t *testing.T, pid int) (thaw func()) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	must(t, err)
	pids := []int{pid} // first, so that it makes no more
	for field := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(field)
		must(t, err)
		pids = append(pids, child)
	}
	signal := func(s syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, s) // one of them may have just ended
		}
	}
	signal(syscall.SIGSTOP)
	thaw = sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	t.Cleanup(thaw)
	return thaw
}

// endsInTime demands that a call ends with 503 within what the API promises.
func (m *mesh) endsInTime(what string, call func(context.Context) error) {
	const within = 15*time.Second + 2*time.Second // the API's own deadline, and room
	begin := time.Now()
	err := call(m.t.Context())
	took := time.Since(begin)
	wantAway(m.t, what, err)
	if took > within {
		m.t.Errorf("%s ended after %v, want %v at most", what, took, within)
	}
	m.t.Logf("%s ended after %v", what, took.Round(time.Millisecond))
}

// median is how long a request takes.
func (n *member) median(token string) time.Duration {
	n.t.Helper()
	took := make([]time.Duration, 150)
	for i := range took {
		begin := time.Now()
		n.want("a request", n.ask("GET", "/tasks", token), 200, "")
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// lock keeps everybody else from tables until they are unlocked.
func (m *mesh) lock(tables ...string) (unlock func()) {
	m.t.Helper()
	conn := m.connect()
	_, err := conn.Exec(m.t.Context(), "BEGIN; LOCK TABLE "+strings.Join(tables, ", ")+" IN ACCESS EXCLUSIVE MODE", pgx.QueryExecModeSimpleProtocol)
	must(m.t, err)
	return func() {
		_, err := conn.Exec(m.t.Context(), "ROLLBACK")
		must(m.t, err)
	}
}
