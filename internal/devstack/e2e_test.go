package devstack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/api/v1/client"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/operator"
	"gatehouse/internal/pgtest"
)

// buildBinaries builds all programs into one folder, as `make build` does.
func buildBinaries(t *testing.T) string {
	t.Helper()
	dir := publicDir(t)
	out, err := exec.Command("go", "build", "-o", dir, "gatehouse/cmd/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "gatehouse")
}

// dev is one `gatehouse dev` under test.
type dev struct {
	cmd   *exec.Cmd
	out   *buffer
	ready Ready
	ended chan struct{} // closed when it has ended, whoever waits
}

func startDev(t *testing.T, gatehouse string, args ...string) *dev {
	t.Helper()
	readyFile := filepath.Join(publicDir(t), "ready.json")
	d := &dev{out: &buffer{}, ended: make(chan struct{})}
	d.cmd = exec.Command(gatehouse, append([]string{"dev", "--ready-file", readyFile}, args...)...)
	d.cmd.Env = append(os.Environ(), "ENVOY="+envoytest.Binary(t))
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	noError(t, d.cmd.Start())
	go func() {
		_ = d.cmd.Wait() // how it ended is in ProcessState
		close(d.ended)
	}()
	t.Cleanup(func() { _ = d.cmd.Process.Signal(syscall.SIGTERM); <-d.ended })
	envoytest.Eventually(t, "the ready file is there", func() bool {
		select {
		case <-d.ended:
			t.Fatalf("gatehouse dev ended early:\n%s", d.out)
		default:
		}
		text, err := os.ReadFile(readyFile)
		return err == nil && json.Unmarshal(text, &d.ready) == nil
	})
	return d
}

func (d *dev) children() map[string]int {
	p := d.ready.PIDs
	all := map[string]int{"app": p.App, "llm": p.LLM, "control": p.Control, "sidecar": p.Sidecar, "envoy": p.Envoy}
	if p.Postgres != 0 {
		all["postgres"] = p.Postgres
	}
	return all
}

// awaitGone waits until no child is left.
func (d *dev) awaitGone(t *testing.T) {
	t.Helper()
	for name, pid := range d.children() {
		envoytest.Eventually(t, name+" is gone", func() bool { return gone(pid) })
	}
}

// gone reports whether a process has ended; one that nobody has waited for yet
// has, too.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	noError(t, err)
	if token != "" {
		req.Header.Set("authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	noError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	noError(t, err)
	return resp.StatusCode, string(body)
}

func wantStatus(t *testing.T, what, url, token string, want int, contains string) {
	t.Helper()
	if status, body := get(t, url, token); status != want || !strings.Contains(body, contains) {
		t.Errorf("%s: %d %s\nwant %d with %q", what, status, body, want, contains)
	}
}

func TestDev(t *testing.T) {
	t.Parallel()
	gatehouse := buildBinaries(t)
	t.Run("serves and stops", func(t *testing.T) { t.Parallel(); testServesAndStops(t, gatehouse) })
	t.Run("killed", func(t *testing.T) { t.Parallel(); testKilled(t, gatehouse) })
	t.Run("child dies", func(t *testing.T) { t.Parallel(); testChildDies(t, gatehouse) })
	t.Run("postgres dies", func(t *testing.T) { t.Parallel(); testPostgresDies(t, gatehouse) })
	t.Run("another database", func(t *testing.T) { t.Parallel(); testAnotherDatabase(t, gatehouse) })
	t.Run("other policies", func(t *testing.T) { t.Parallel(); testOtherPolicies(t, gatehouse) })
	t.Run("refused policies", func(t *testing.T) { t.Parallel(); testRefusedPolicies(t, gatehouse) })
	t.Run("broken sidecar", func(t *testing.T) { t.Parallel(); testBrokenSidecar(t, gatehouse) })
	t.Run("two sidecars", func(t *testing.T) { t.Parallel(); testTwoSidecars(t, gatehouse) })
	t.Run("demo", func(t *testing.T) { t.Parallel(); testDemo(t, gatehouse) })
}

func testServesAndStops(t *testing.T, gatehouse string) {
	d := startDev(t, gatehouse)
	token, err := exec.Command(gatehouse, "token", "--data", d.ready.Data, "--role", "observer").Output()
	noError(t, err)
	tasks := d.ready.Inbound + "/tasks"
	wantStatus(t, "no token", tasks, "", 401, "auth.missing_token")
	wantStatus(t, "observer", tasks, strings.TrimSpace(string(token)), 200, `"x-gatehouse-role"`)
	wantStatus(t, "metrics", d.ready.Metrics, "", 200, "gatehouse_")
	wantStatus(t, "counters", d.ready.AppCounters+"/count", "", 200, `"total": 1`)
	wantStatus(t, "control", d.ready.API+"/health", "", 200, `"status"`)
	wantStatus(t, "a token of control", tasks, d.logIn(t, "developer"), 200, `"developer"`)
	d.callsModels(t)
	for name, uid := range map[string]int{"control": controlUID, "envoy": envoyUID, "app": appUID, "llm": appUID} {
		if os.Geteuid() == 0 {
			wantUID(t, name, d.children()[name], uid)
		}
	}
	noError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	<-d.ended
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d, want 0:\n%s", code, d.out)
	}
	for name, pid := range d.children() {
		if !gone(pid) {
			t.Errorf("%s is left", name)
		}
	}
	if _, err := os.Stat(d.ready.Data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data folder is left: %v", err)
	}
}

// callsModels tells what a first user can do with models, without a token and
// without a key: the workload has a budget, and the sidecar has the keys.
func (d *dev) callsModels(t *testing.T) {
	t.Helper()
	wantStatus(t, "the provider without its key", d.ready.LLM+"/v1/models", "", 401, "invalid_api_key")
	wantStatus(t, "models", d.ready.Outbound+"/openai/v1/models", "", 200, "words-10")
	for _, base := range []string{"/openai/v1/chat/completions", "/anthropic/v1/messages"} {
		body := `{"model": "words-20", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}`
		req, err := http.NewRequest(http.MethodPost, d.ready.Outbound+base, strings.NewReader(body))
		noError(t, err)
		req.Header.Set("content-type", "application/json")
		req.Header.Set("anthropic-version", "2023-06-01")
		resp, err := http.DefaultClient.Do(req)
		noError(t, err)
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "word20") {
			t.Errorf("%s: %s %s, %v", base, resp.Status, text, err)
		}
	}
	wantStatus(t, "the provider's ledger", d.ready.LLMLedger, "", 200, `"leaks": []`)
	wantStatus(t, "the budget", d.ready.API+"/api/v1/budget/state", d.logIn(t, "developer"), 200, `"limit":1000000`)
	if !strings.Contains(d.out.String(), "/openai/v1/chat/completions") {
		t.Errorf("no call of a model is shown:\n%s", d.out)
	}
	d.keepsKeys(t)
}

// keepsKeys looks for the provider's keys in all that is printed or written.
func (d *dev) keepsKeys(t *testing.T) {
	t.Helper()
	environment, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(d.ready.PIDs.LLM), "environ"))
	noError(t, err)
	var keys []string
	for entry := range strings.SplitSeq(strings.TrimRight(string(environment), "\x00"), "\x00") {
		_, value, _ := strings.Cut(entry, "=")
		keys = append(keys, value)
	}
	if len(keys) != 2 || len(keys[0]) < 26 || len(keys[1]) < 26 {
		t.Fatalf("the provider's environment has %d entries, want its two keys alone", len(keys))
	}
	text := d.out.String()
	err = filepath.WalkDir(d.ready.Data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(path, filepath.Join(d.ready.Data, "postgres")) {
			return err
		}
		file, err := os.ReadFile(path)
		text += string(file)
		if errors.Is(err, os.ErrNotExist) { // replaced meanwhile
			return nil
		}
		return err
	})
	noError(t, err)
	ready, err := json.Marshal(d.ready)
	noError(t, err)
	text += string(ready)
	for _, key := range keys {
		if strings.Contains(text, key) {
			t.Error("a key of the provider was printed or written")
		}
	}
}

func wantUID(t *testing.T, name string, pid, want int) {
	t.Helper()
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	noError(t, err)
	if got := int(info.Sys().(*syscall.Stat_t).Uid); got != want {
		t.Errorf("%s runs under uid %d, want %d", name, got, want)
	}
}

func testKilled(t *testing.T, gatehouse string) {
	data := filepath.Join(publicDir(t), "data")
	d := startDev(t, gatehouse, "--data", data)
	for name, pid := range d.children() {
		if pid == 0 || gone(pid) {
			t.Fatalf("%s does not run", name)
		}
	}
	if len(d.children()) != commonChildren+unitChildren+1 {
		t.Errorf("children are %v, want Postgres among them", d.children())
	}
	token := d.logIn(t, "developer")
	noError(t, d.cmd.Process.Kill())
	<-d.ended
	d.awaitGone(t)
	// What was in the database is there, and so is the secret that opens it:
	// a token from before the end is good.
	d = startDev(t, gatehouse, "--data", data)
	wantStatus(t, "an old token of control", d.ready.API+"/api/v1/users", token, 403, "auth.forbidden")
	d.logIn(t, "observer")
}

func testChildDies(t *testing.T, gatehouse string) {
	d := startDev(t, gatehouse)
	noError(t, syscall.Kill(d.ready.PIDs.Sidecar, syscall.SIGKILL))
	envoytest.Eventually(t, "the death is reported", func() bool {
		return strings.Contains(d.out.String(), "sidecar ended by itself: signal: killed")
	})
	wantStatus(t, "without the sidecar", d.ready.Inbound+"/status", "", 503, "policy.unavailable")
	wantStatus(t, "health without the sidecar", d.ready.Inbound+"/healthz", "", 200, "/healthz")
	noError(t, d.cmd.Process.Signal(os.Interrupt))
	<-d.ended
	if code := d.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1:\n%s", code, d.out)
	}
	d.awaitGone(t)
}

// Control can't log anybody in any more, and says that it is not the password.
func testPostgresDies(t *testing.T, gatehouse string) {
	d := startDev(t, gatehouse)
	token := d.logIn(t, "developer")
	noError(t, syscall.Kill(d.ready.PIDs.Postgres, syscall.SIGKILL))
	envoytest.Eventually(t, "the death is reported", func() bool {
		return strings.Contains(d.out.String(), "postgres ended by itself; its log is "+d.ready.Data)
	})
	if status, body := login(t, d.ready.API, "developer"); status != 503 {
		t.Errorf("login without Postgres: %d %s, want 503", status, body)
	}
	wantStatus(t, "inline", d.ready.Inbound+"/tasks", token, 200, `"developer"`)
}

func testAnotherDatabase(t *testing.T, gatehouse string) {
	d := startDev(t, gatehouse, "--postgres", pgtest.Empty(t))
	if d.ready.PIDs.Postgres != 0 {
		t.Errorf("runs a Postgres of its own, %d", d.ready.PIDs.Postgres)
	}
	if _, err := os.Stat(filepath.Join(d.ready.Data, "postgres")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its data folder has a database: %v", err)
	}
	wantStatus(t, "a token of control", d.ready.Inbound+"/tasks", d.logIn(t, "observer"), 200, `"observer"`)
	noError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	<-d.ended
	d.awaitGone(t)
}

// login asks control for a token of one of the dev users.
func login(t *testing.T, api, user string) (int, string) {
	t.Helper()
	body := fmt.Sprintf(`{"username": "%s", "password": "%[1]s123"}`, user)
	resp, err := http.Post(api+"/api/v1/auth/login", "application/json", strings.NewReader(body))
	noError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	noError(t, err)
	return resp.StatusCode, string(text)
}

func (d *dev) logIn(t *testing.T, user string) string {
	t.Helper()
	status, text := login(t, d.ready.API, user)
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != 200 || answer.Token == "" {
		t.Fatalf("login of %s: %d %s", user, status, text)
	}
	return answer.Token
}

// minimalSet is a policy set of a user's own.
const minimalSet = `
upstreams:
  app: {url: "https://192.0.2.1"}
  vendor: {url: "http://127.0.0.1:1", credential: vendor}
routes:
  - {name: page, match: {listener: inbound, path: /page}, principal: none, upstream: app}
  - {name: vendor, match: {listener: outbound, prefix: /}, permission: task.view, upstream: vendor}
`

func testOtherPolicies(t *testing.T, gatehouse string) {
	dir := publicDir(t)
	noError(t, writeSet(setValues{Policies: dir}))
	noError(t, os.WriteFile(filepath.Join(dir, "gatehouse.yaml"), []byte(minimalSet), 0o644))
	d := startDev(t, gatehouse, "--policies", dir)
	if d.ready.Policies != dir {
		t.Errorf("policies are %s, want %s", d.ready.Policies, dir)
	}
	wantStatus(t, "a route that the set lacks", d.ready.Inbound+"/tasks", "", 404, "resource.not_found")
	text, err := os.ReadFile(filepath.Join(dir, "gatehouse.yaml"))
	if err != nil || string(text) != minimalSet {
		t.Errorf("the set was changed: %v", err)
	}
}

// A set that the sidecar refuses ends the start at once, with its faults.
func testRefusedPolicies(t *testing.T, gatehouse string) {
	dir := publicDir(t)
	noError(t, os.WriteFile(filepath.Join(dir, "gatehouse.yaml"), []byte("rotes: []\n"), 0o644))
	cmd := exec.Command(gatehouse, "dev", "--policies", dir)
	cmd.Env = append(os.Environ(), "ENVOY="+envoytest.Binary(t))
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v, want exit code 1", err)
	}
	for _, want := range []string{"the policy set is refused", `unknown key "rotes"`, "gatehouse check-config " + dir} {
		if !strings.Contains(string(out), want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
}

// stackOf are the options of a stack of the built programs, in this process.
func stackOf(t *testing.T, gatehouse string, out *buffer) Options {
	t.Helper()
	dir := filepath.Dir(gatehouse)
	return Options{
		Sidecar: filepath.Join(dir, "gatehouse-sidecar"), Control: filepath.Join(dir, "gatehouse-control"),
		Envoy: envoytest.Binary(t), Out: out,
	}
}

func testBrokenSidecar(t *testing.T, gatehouse string) {
	out := &buffer{}
	o := stackOf(t, gatehouse, out)
	o.Sidecar = filepath.Join(publicDir(t), "broken")
	writeProgram(t, o.Sidecar, "#!/bin/sh\necho the reason; exit 7\n")
	_, err := Start(t.Context(), o)
	wantError(t, err, "a child ended before all was ready: sidecar")
	if got := out.String(); !strings.Contains(got, "sidecar ended by itself: exit status 7") || !strings.Contains(got, "| the reason") {
		t.Errorf("the child is not named:\n%s", got)
	}
}

// Each sidecar serves by itself, is registered, and a second stack over the
// same folder registers both anew. The budget of the first is left as it is.
func testTwoSidecars(t *testing.T, gatehouse string) {
	o := stackOf(t, gatehouse, &buffer{})
	o.Sidecars, o.Data = 2, filepath.Join(publicDir(t), "data")
	for _, tokens := range []int64{dailyTokens, 7} {
		s, err := Start(t.Context(), o)
		noError(t, err)
		r := s.Ready()
		limitTo(t, r, tokens, 7)
		if len(r.Peers) != 1 || r.Peers[0].Sidecar == 0 || r.Peers[0].Envoy == 0 {
			t.Fatalf("peers are %+v, want one that runs", r.Peers)
		}
		token, err := s.Token(Claims{Subject: "alice", Role: "observer", Tenant: "org2"})
		noError(t, err)
		for _, inbound := range []string{r.Inbound, r.Peers[0].Inbound} {
			wantStatus(t, inbound, inbound+"/tasks", token, 403, "auth.forbidden") // bound to org1
		}
		noError(t, s.Stop())
	}
}

// limitTo changes the one limit that a stack has.
func limitTo(t *testing.T, r Ready, from, to int64) {
	t.Helper()
	c, err := admin(t.Context(), strings.TrimPrefix(r.API, "http://"))
	noError(t, err)
	list, err := c.API().ListBudgetLimitsWithResponse(t.Context(), &client.ListBudgetLimitsParams{TenantId: new(Tenant)})
	noError(t, err)
	if list.JSON200 == nil || len(list.JSON200.Items) != 1 {
		t.Fatalf("limits: %s, want one", list.Body)
	}
	l := list.JSON200.Items[0]
	if l.Tokens != from || l.Window != client.Day || l.ProjectId != "" {
		t.Errorf("the limit is %+v, want %d tokens a day for all projects", l, from)
	}
	changed, err := c.API().UpdateBudgetLimitWithResponse(t.Context(), l.Id,
		&client.UpdateBudgetLimitParams{TenantId: new(Tenant), IfMatch: new("*")}, client.BudgetLimitUpdate{Tokens: to})
	noError(t, operator.Done(changed, err))
}

func testDemo(t *testing.T, gatehouse string) {
	cmd := exec.Command(gatehouse, "demo", "--exit")
	cmd.Env = append(os.Environ(), "ENVOY="+envoytest.Binary(t))
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	t.Logf("after %s:\n%s", time.Since(begin), out)
	if err != nil || strings.Contains(string(out), "FAIL") || !strings.Contains(string(out), "58 of 58 rows") {
		t.Errorf("gatehouse demo --exit: %v", err)
	}
}
