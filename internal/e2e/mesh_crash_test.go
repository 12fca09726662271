package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/envoytest"
	nouns "gatehouse/internal/mesh"
	"gatehouse/internal/operator"
	"gatehouse/internal/revision"
)

// buildControl builds the program itself.
func buildControl(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse-control")
	out, err := exec.Command("go", "build", "-o", path, "gatehouse/cmd/gatehouse-control").CombinedOutput()
	if err != nil {
		t.Fatalf("building control: %v\n%s", err, out)
	}
	return path
}

// crashing is a control that is killed and started again on the same ports.
type crashing struct {
	*mesh
	binary, url, service string
	env                  []string
	process              *process
	admin                *operator.Client
	takes                time.Duration // about how long it is until an activation is done
}

func newCrashing(t *testing.T) *crashing {
	t.Helper()
	port, service := envoytest.FreePort(t), envoytest.FreePort(t)
	c := &crashing{
		mesh: newMesh(t, meshOptions{}), binary: buildControl(t),
		url: fmt.Sprintf("http://127.0.0.1:%d", port), service: fmt.Sprintf("127.0.0.1:%d", service),
	}
	for name, value := range c.environment("PORT", fmt.Sprint(port), "MESH_PORT", fmt.Sprint(service)) {
		c.env = append(c.env, name+"="+value)
	}
	c.run("--dev")
	c.admin = c.login(c.url, "admin").client
	return c
}

// run starts the program and waits until its API answers.
func (c *crashing) run(args ...string) {
	c.t.Helper()
	out, err := os.OpenFile(c.path("control.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(c.t, err)
	p := &process{cmd: exec.Command(c.binary, append(args, "--log-level", "warn")...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = c.env, out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(c.t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // killed on purpose
		_ = out.Close()
		close(p.done)
	}()
	c.t.Cleanup(p.kill)
	c.process = p
	envoytest.Eventually(c.t, "control is ready", func() bool {
		select {
		case <-p.done:
			log, _ := os.ReadFile(c.path("control.log")) // only to explain
			c.t.Fatalf("control ended:\n%s", log)
		default:
		}
		resp, err := http.Get(c.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// revisionSet is number n of the sets that the requests of a switchRun tell
// apart: the Rego says which it is, and sends to one of two upstreams.
func (c *crashing) revisionSet(n int, upstreams []*upstream) revision.Files {
	files := c.set(n, func(text string) string {
		text = strings.Replace(text, "\nlimits:", fmt.Sprintf("\n  up%d: {url: %q}\nlimits:", n%2, upstreams[n%2].URL), 1)
		return text + fmt.Sprintf("  - {name: told, match: {listener: inbound, prefix: /p}, upstream: up%d, permission: task.view}\n", n%2)
	})
	files["authz.rego"] = fmt.Appendf(nil, "package gatehouse\n\nauthz := {\"allowed\": true, \"rule_id\": \"test\", \"headers\": {\"x-revision\": \"%d\"}}\n", n)
	return files
}

// Control is killed at any moment of a push and an activation. Then the old or
// the new revision is in force, everywhere the same, and no request was ever
// decided by one and sent where another says.
func TestMeshControlKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	const rounds = 24
	c := newCrashing(t)
	upstreams := []*upstream{newUpstream(t, "up0"), newUpstream(t, "up1")}
	began := time.Now()
	_, err := c.push(c.revisionSet(0, upstreams))
	must(t, err)
	c.takes = time.Since(began)
	members := []*member{c.join(c.admin, joining{Name: "worker", Via: c.service}), c.join(c.admin, joining{Name: "other", Via: c.service})}
	load := &switchRun{stack: members[0].stack, token: c.login(c.url, "developer").token}
	stop := make(chan struct{})
	var loading sync.WaitGroup
	loading.Go(func() { load.load(stop) })
	known := map[int64]string{} // revisions by generation
	before := active(t, c.admin)
	known[before.Generation] = before.Revision
	outcomes := map[string]int{}
	for i := 1; i <= rounds; i++ {
		before = c.killIn(c.revisionSet(i, upstreams), before, members, outcomes)
		if was := known[before.Generation]; was != "" && was != before.Revision {
			t.Errorf("generation %d was %.12s and is %.12s", before.Generation, was, before.Revision)
		}
		known[before.Generation] = before.Revision
	}
	close(stop)
	loading.Wait()
	for _, f := range load.failures[:min(len(load.failures), 10)] {
		t.Error(f)
	}
	t.Logf("%d requests, and of %d kills: %v", load.requests.Load(), rounds, outcomes)
	if outcomes["old"] == 0 || outcomes["old"] == rounds {
		t.Errorf("the moments are not spread: %v", outcomes)
	}
	c.signedOnce(members[0], known)
}

func (c *crashing) push(files revision.Files) (*api.PolicySet, error) {
	rev, _, err := c.admin.Push(c.t.Context(), meshSet, files, "")
	if err != nil {
		return nil, err
	}
	return c.admin.Activate(c.t.Context(), meshSet, rev.Id)
}

// killIn kills control at a random moment of putting files in force, starts it
// again and returns what is in force.
func (c *crashing) killIn(files revision.Files, before api.PolicyActivation, members []*member, outcomes map[string]int) api.PolicyActivation {
	c.t.Helper()
	told := make(chan *api.PolicySet, 1)
	go func() {
		set, _ := c.push(files) // most are cut short
		told <- set
	}()
	<-time.After(c.takes/2 + rand.N(c.takes)) // the moment is what is tested
	c.process.kill()
	said := <-told
	c.run()
	now := active(c.t, c.admin)
	what := "old"
	switch {
	case now.Generation == before.Generation+1 && now.Revision == revision.ID(files):
		if what = "new"; said == nil {
			what = "new, untold"
		}
	case now != before:
		c.t.Errorf("in force is %+v, before it was %+v", now, before)
	case said != nil:
		c.t.Errorf("the API said that generation %d is in force, and it is %d", said.Active.Generation, now.Generation)
	}
	outcomes[what]++
	// The next moment is nearer to where it turns.
	if what == "old" {
		c.takes = min(c.takes*5/4, time.Second)
	} else {
		c.takes = c.takes * 4 / 5
	}
	for _, n := range members {
		n.enforces(c.admin, now)
	}
	return now
}

// signedOnce verifies what is stored, and that it is what was seen.
func (c *crashing) signedOnce(n *member, known map[int64]string) {
	c.t.Helper()
	text, err := os.ReadFile(n.path("credential.json"))
	must(c.t, err)
	credential, err := nouns.ParseCredential(text)
	must(c.t, err)
	rows, err := c.connect().Query(c.t.Context(), `SELECT generation, revision_id, kind, kid, signature FROM policy_activations WHERE policy_set = $1`, meshSet)
	must(c.t, err)
	stored, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s revision.Signed, err error) {
		s.PolicySet = meshSet
		return s, row.Scan(&s.Generation, &s.Revision, &s.Kind, &s.KeyID, &s.Signature)
	})
	must(c.t, err)
	for _, s := range stored {
		if err := s.Verify(credential.Verifiers()); err != nil || known[s.Generation] != s.Revision {
			c.t.Errorf("generation %d of %.12s, seen as %.12s: %v", s.Generation, s.Revision, known[s.Generation], err)
		}
		delete(known, s.Generation)
	}
	if len(known) > 0 {
		c.t.Errorf("not stored: %v", known)
	}
}
