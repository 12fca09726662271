package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/ads"
	"gatehouse/internal/envoytest"
)

// switchRun is load while policy sets are switched.
type switchRun struct {
	*stack
	uploadTime time.Duration
	token      string
	requests   atomic.Int64
	uploads    atomic.Int64

	mu       sync.Mutex
	failures []string
}

// revisionSet is policy set number n: its own cluster, upstream, route and
// Rego. The folder is a link that is swapped, so that nobody reads half a set.
func (r *switchRun) revisionSet(n int) {
	up := fmt.Sprintf("up%d", n%2)
	dir := r.path(fmt.Sprintf("set-%d", n))
	must(r.t, os.Mkdir(dir, 0o755))
	write := func(name, text string) { must(r.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) }
	write("authz.rego", fmt.Sprintf(`package gatehouse

authz := {"allowed": true, "rule_id": "test", "headers": {"x-revision": "%d"}}
`, n))
	write("gatehouse.yaml", r.config(fmt.Sprintf(`
routes:
  - {name: tasks, match: {listener: inbound, prefix: /p}, upstream: %[1]s, permission: task.view, connect_timeout: %[2]dms}
  - {name: upload, match: {listener: inbound, path: /upload}, upstream: %[1]s, permission: task.create, body: 64KiB, connect_timeout: %[2]dms}
  - {name: only-%[3]d, match: {listener: inbound, prefix: /only-%[3]d}, upstream: %[1]s, permission: task.view}
`, up, 2000+n, n)))
	must(r.t, os.Symlink(dir, r.path("next")))
	must(r.t, os.Rename(r.path("next"), r.policies))
}

func (r *switchRun) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// judge holds an answer against the one rule: the upstream of the revision
// whose Rego decided.
func (r *switchRun) judge(what string, status int, h http.Header, body string) {
	revision := h.Get("x-seen-revision")
	n := -1
	_, _ = fmt.Sscan(revision, &n)
	switch up := h.Get("x-upstream"); {
	case status != 200:
		r.fail("failed: %s got %d %s", what, status, body)
	case revision == "":
		r.fail("unenforced: %s reached %s", what, up)
	case up != fmt.Sprintf("up%d", n%2):
		r.fail("mixed: %s decided by revision %s went to %s", what, revision, up)
	}
}

// thinkTime keeps eight clients below what two cores carry: a Check that
// waits for a processor would be refused by its time-out, not by a switch.
const thinkTime = 4 * time.Millisecond

// load sends requests on one kept connection until stop.
func (r *switchRun) load(stop <-chan struct{}) {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer c.CloseIdleConnections()
	think := time.NewTicker(thinkTime)
	defer think.Stop()
	for {
		select {
		case <-stop:
			return
		case <-think.C:
		}
		req, _ := http.NewRequest("GET", "http://"+r.inbound+"/p/1", nil)
		req.Header.Set("authorization", "Bearer "+r.token)
		resp, err := c.Do(req)
		if err != nil {
			r.fail("failed: %v", err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		r.judge("request", resp.StatusCode, resp.Header, string(body))
		r.requests.Add(1)
	}
}

// upload sends a body slowly: its route is matched at once, its Check comes
// when all is there.
func (r *switchRun) upload() {
	const parts = 20
	conn, err := net.Dial("tcp", r.inbound)
	if err != nil {
		r.fail("failed: %v", err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(r.uploadTime + 30*time.Second))
	fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %s\r\ncontent-length: %d\r\n\r\n", r.token, parts)
	for range parts { // slow on purpose: the upload's length is what is tested
		<-time.After(r.uploadTime / parts)
		_, _ = io.WriteString(conn, "x")
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		r.fail("failed: upload: %v", err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	r.judge("upload", resp.StatusCode, resp.Header, string(body))
	r.uploads.Add(1)
}

// run switches n times under load and returns what went wrong.
func runSwitches(t *testing.T, n, uploads int, uploadTime, grace time.Duration) *switchRun {
	up0, up1 := newUpstream(t, "up0"), newUpstream(t, "up1")
	r := &switchRun{uploadTime: uploadTime}
	r.stack = prepare(t, stackOptions{Grace: grace, UpstreamURLs: map[string]string{"up0": up0.URL, "up1": up1.URL}})
	must(t, os.RemoveAll(r.policies))
	r.token = r.issuer.Token("developer", "org1")
	r.revisionSet(0)
	r.startSidecar()
	r.startEnvoy()

	stop := make(chan struct{})
	var wg, uploading sync.WaitGroup
	for range 8 {
		wg.Go(func() { r.load(stop) })
	}
	for i := 1; i <= n; i++ {
		if i%max(1, n/uploads) == 0 {
			uploading.Go(r.upload)
		}
		before := r.sidecar.Status().Revision
		r.revisionSet(i)
		r.sidecar.Reload()
		r.inForce(before)
		served := r.requests.Load()
		envoytest.Eventually(t, "the revision is used", func() bool { return r.requests.Load() > served+8 })
	}
	uploading.Wait()
	close(stop)
	wg.Wait()
	return r
}

// Not parallel: other tests would take the processors from what is under load.
func TestSwitchesUnderLoad(t *testing.T) {
	r := runSwitches(t, 200, 20, 10*time.Second, ads.Grace)
	for _, f := range r.failures[:min(len(r.failures), 10)] {
		t.Error(f)
	}
	if n := r.uploads.Load(); n != 20 {
		t.Errorf("%d uploads ended, want 20", n)
	}
	st := r.sidecar.Status()
	if len(st.Envoy.Nacks) > 0 || st.Envoy.Retired < 150 {
		t.Errorf("Envoy: %+v", st.Envoy)
	}
	t.Logf("%d requests and %d uploads over 200 switches, %d failures", r.requests.Load(), r.uploads.Load(), len(r.failures))
}

// With a timer that is too short, requests must be seen to fail: the test
// above would notice. Nothing may pass unenforced or mixed even then.
func TestSwitchesWithAShortTimerFail(t *testing.T) {
	r := runSwitches(t, 20, 5, 2*time.Second, 20*time.Millisecond)
	if len(r.failures) == 0 {
		t.Error("no request failed with a timer of 20 ms")
	}
	for _, f := range r.failures {
		if !strings.HasPrefix(f, "failed:") || !strings.Contains(f, "503") {
			t.Error(f)
		}
	}
	envoytest.Eventually(t, "what was replaced is gone", func() bool {
		st := r.sidecar.Status()
		return len(st.Revisions) == 1 && st.Envoy.Retired == 0 && !strings.Contains(r.envoy.Admin("/clusters"), "up1~")
	})
}
