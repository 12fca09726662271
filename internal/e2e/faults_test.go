package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/internal/envoytest"
)

// stat reads one of Envoy's counters; -1 where it has none.
func (s *stack) stat(name string) int {
	s.t.Helper()
	n := -1
	for line := range strings.SplitSeq(s.envoy.Admin("/stats?filter="+name+"$"), "\n") {
		if key, value, ok := strings.Cut(line, ": "); ok && strings.HasSuffix(key, name) {
			_, _ = fmt.Sscan(value, &n)
		}
	}
	return n
}

func TestSidecarKilledAndRestarted(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{NoStart: true})
	first := s.startProcess()
	s.bootstrapWritten()
	s.startEnvoy()
	dev := s.issuer.Token("developer", "org1")
	if a := s.get(s.inbound+"/p/1", bearer(dev)...); a.Status != 200 {
		t.Fatalf("before: %d %s", a.Status, a.Body)
	}

	first.kill()
	before := s.app.Count()
	for _, url := range []string{s.inbound + "/p/1", s.inbound + "/status", s.outbound + "/tools/1", s.outbound + "/open/1"} {
		s.refused("sidecar killed: "+url, before, s.get(url, bearer(dev)...), 503, "policy.unavailable")
	}
	if a := s.get(s.inbound + "/healthz"); a.Status != 200 {
		t.Errorf("sidecar killed: the exempt route got %d %s", a.Status, a.Body)
	}
	clusters, listeners := s.stat("cluster_manager.cluster_modified"), s.stat("listener_manager.listener_modified")
	reloads := s.stat("http.inbound.rds.inbound.config_reload")

	restarted := time.Now()
	s.startProcess()
	envoytest.Eventually(t, "serving again", func() bool {
		return s.get(s.inbound+"/p/1", bearer(dev)...).Status == 200
	})
	if took := time.Since(restarted); took > 4*2*time.Second {
		t.Errorf("serving again after %v, want within 2 s", took)
	}
	envoytest.Eventually(t, "Envoy is connected again", func() bool { return s.stat("control_plane.connected_state") == 1 })
	if s.stat("cluster_manager.cluster_modified") != clusters || s.stat("listener_manager.listener_modified") != listeners ||
		s.stat("http.inbound.rds.inbound.config_reload") != reloads {
		t.Error("Envoy was sent something anew")
	}
}

func TestSidecarStartsLate(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{NoStart: true})
	p := s.startProcess() // writes the bootstrap
	s.bootstrapWritten()
	p.kill()
	s.envoy = envoytest.Start(t, s.path("state/envoy.yaml"), envoytest.Options{Admin: s.path("run/admin.sock")})
	envoytest.Eventually(t, "Envoy waits", func() bool { return strings.Contains(s.envoy.Admin("/ready"), "INITIALIZING") })
	if conn, err := net.Dial("tcp", s.inbound); err == nil {
		conn.Close()
		t.Error("a listener is open without a sidecar")
	}
	s.startProcess()
	s.envoy.WaitReady()
	if a := s.get(s.inbound + "/p/1"); a.Status != 401 {
		t.Errorf("got %d, want 401", a.Status)
	}
}

func TestSidecarSlowerThanTheTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{NoStart: true})
	p := s.startProcess()
	s.bootstrapWritten()
	s.startEnvoy()
	dev := s.issuer.Token("developer", "org1")
	before := s.app.Count()
	must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	began := time.Now()
	s.refused("stopped sidecar", before, s.get(s.inbound+"/p/1", bearer(dev)...), 503, "policy.unavailable")
	if took := time.Since(began); took > 4*500*time.Millisecond {
		t.Errorf("Envoy waited %v", took)
	}
	must(t, p.cmd.Process.Signal(syscall.SIGCONT))
	envoytest.Eventually(t, "serving again", func() bool {
		return s.get(s.inbound+"/p/1", bearer(dev)...).Status == 200
	})
}

// Whoever is not Envoy's uid gets no connection to the gate, root included.
func TestGateRefusesOtherUIDs(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users: run as root")
	}
	s := start(t, stackOptions{EnvoyUID: 65531})
	gate := s.path("run/gate.sock")
	for path, mode := range map[string]os.FileMode{gate: 0o600 | os.ModeSocket, filepath.Dir(gate): 0o700 | os.ModeDir} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != mode || info.Sys().(*syscall.Stat_t).Uid != 65531 {
			t.Errorf("%s: mode %v, uid %d", path, info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
		}
	}
	conn, err := net.Dial("unix", gate)
	must(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("root got %d bytes from the gate", n)
	}
	if !strings.Contains(s.log.String(), `"peer_uid":0`) {
		t.Error("the refusal is not in the log")
	}
	if a := s.get(s.inbound + "/p/1"); a.Status != 401 {
		t.Errorf("Envoy itself: got %d, want 401", a.Status)
	}
}

func TestPolicyThatDoesNotDecide(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ rego, rule string }{
		"undefined":   {"package gatehouse\nauthz := true if input.route == \"none\"\n", "policy_undefined"},
		"error":       {"package gatehouse\nauthz := x if { x := 1 / count(input.route_no) }\nauthz := true if { y := to_number(input.route); y > 1 }\n", "policy_error"},
		"non-boolean": {"package gatehouse\nauthz := \"yes\"\n", "policy_not_boolean"},
		"malformed":   {"package gatehouse\nauthz := {\"allowed\": true, \"obligations\": 3}\n", "policy_malformed"},
		"endless":     {"package gatehouse\nauthz := true if { n := numbers.range(1, 3000); some a in n; some b in n; some c in n; a + b + c == count(input.route) - 10000 }\n", "policy_timeout"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, stackOptions{Files: map[string]string{"authz.rego": c.rego}})
			before := s.app.Count()
			s.refused(name, before, s.get(s.inbound+"/p/1", bearer(s.issuer.Token("developer", "org1"))...), 403, "auth.forbidden")
			if !strings.Contains(s.log.String(), `"rule_id":"`+c.rule+`"`) {
				t.Errorf("the log has no rule_id %s: %s", c.rule, s.log.tail())
			}
		})
	}
}

func TestNoPolicyAtStart(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{NoStart: true})
	good, err := os.ReadFile(filepath.Join(s.policies, "gatehouse.yaml"))
	must(t, err)
	s.write("gatehouse.yaml", "routes: []\n")
	s.startSidecar()
	s.envoy = envoytest.Start(t, s.path("state/envoy.yaml"), envoytest.Options{Admin: s.path("run/admin.sock")})
	if err := s.sidecar.Ready(); err == nil || !strings.Contains(err.Error(), "no policy set is loaded") {
		t.Errorf("ready: %v", err)
	}
	if conn, err := net.Dial("tcp", s.inbound); err == nil {
		conn.Close()
		t.Error("a listener is open without a policy")
	}
	s.write("gatehouse.yaml", string(good))
	s.envoy.WaitReady()
	if a := s.get(s.inbound + "/p/1"); a.Status != 401 {
		t.Errorf("got %d, want 401", a.Status)
	}
}

// A bad set leaves the old one in force and says why; the old one comes back
// after a restart too.
func TestBadPolicySetIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	good := s.sidecar.Status().Revision
	dev := s.issuer.Token("developer", "org1")
	for name, spoil := range map[string]struct{ file, text, why string }{
		"broken Rego": {"authz.rego", "package gatehouse\nauthz := {", "authz.rego:2"},
		"broken YAML": {"gatehouse.yaml", "routes: [", "gatehouse.yaml:1"},
		"too late":    {"gatehouse.yaml", s.config(strings.Replace(defaultRoutes, "permission: task.view, forward_token", "learning: true, permission: task.view, forward_token", 1)), "is not in this build"},
	} {
		before, err := os.ReadFile(filepath.Join(s.policies, spoil.file))
		must(t, err)
		s.write(spoil.file, spoil.text)
		envoytest.Eventually(t, name+" is refused", func() bool { return strings.Contains(s.sidecar.Status().Loaded.Error, spoil.why) })
		if a := s.get(s.inbound+"/p/1", bearer(dev)...); a.Status != 200 || s.sidecar.Status().Revision != good {
			t.Errorf("%s: the old policy is not in force: %d", name, a.Status)
		}
		s.write(spoil.file, string(before))
		envoytest.Eventually(t, name+" is mended", func() bool { return s.sidecar.Status().Loaded.Error == "" })
	}
	must(t, os.Chmod(filepath.Join(s.policies, "authz.rego"), 0o666))
	s.sidecar.Reload()
	envoytest.Eventually(t, "a set that others can write is refused", func() bool {
		return strings.Contains(s.sidecar.Status().Loaded.Error, "writable by others")
	})
}

// A check that can't be made is refused by Envoy, not let through: a route
// whose filter configuration is missing, mistyped or of another type.
func TestBrokenFilterConfigurationRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{NoEnvoy: true})
	static := s.static()
	cases := map[string]func(map[string]any){
		"missing":  func(r map[string]any) { delete(r, "typed_per_filter_config") },
		"mistyped": func(r map[string]any) { rename(r, "envoy.filters.http.ext_authz", "envoy.filters.http.ext_auth") },
		"of another type": func(r map[string]any) {
			perFilter(r)["envoy.filters.http.ext_authz"] = map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute", "disabled": true,
			}
		},
		"Check switched off": func(r map[string]any) {
			perFilter(r)["envoy.filters.http.ext_authz"] = map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": true,
			}
		},
		"ext_proc switched on": func(r map[string]any) {
			perFilter(r)["envoy.filters.http.ext_proc"] = map[string]any{
				"@type":     "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
				"overrides": map[string]any{"processing_mode": map[string]any{"request_header_mode": "SEND", "response_header_mode": "SKIP"}},
			}
		},
	}
	for name, spoil := range cases {
		s.envoy = s.startStatic(static, spoil)
		before := s.app.Count()
		a := s.get(s.inbound+"/p/1", bearer(s.issuer.Token("developer", "org1"))...)
		s.refused(name, before, a, 503, "policy.unavailable")
	}
	// The same file unspoilt works: the refusals above come from what was spoilt.
	s.envoy = s.startStatic(static, func(map[string]any) {})
	if a := s.get(s.inbound+"/p/1", bearer(s.issuer.Token("developer", "org1"))...); a.Status != 200 {
		t.Errorf("static rendering: got %d %s", a.Status, a.Body)
	}
}

func perFilter(r map[string]any) map[string]any { return r["typed_per_filter_config"].(map[string]any) }

func rename(r map[string]any, from, to string) {
	p := perFilter(r)
	p[to] = p[from]
	delete(p, from)
}
