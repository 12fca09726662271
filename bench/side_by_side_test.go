package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"gatehouse/internal/app/sidecar"
	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
)

// Sizes of the run: each variant is asked in turn, round after round, so that
// whatever else the machine does falls on all of them.
const (
	rounds     = 10
	perRound1  = 400  // requests of a round on one connection
	perRound32 = 4000 // requests of a round on 32 connections
	warmUp     = 500
)

// The servers must be processes of their own for their CPU time to be read:
// this test binary is started again as one of them.
const roleVariable, dirVariable = "GATEHOUSE_BENCH_ROLE", "GATEHOUSE_BENCH_DIR"

func TestMain(m *testing.M) {
	switch role, dir := os.Getenv(roleVariable), os.Getenv(dirVariable); role {
	case "empty":
		serveEmpty(filepath.Join(dir, "gate.sock"))
	case "check", "gatehouse":
		// Every decision is logged and recorded, as in production.
		err := sidecar.Run(context.Background(), sidecar.Options{
			Config: filepath.Join(dir, "sidecar.yaml"), Policies: filepath.Join(dir, "policies"), Log: io.Discard,
		}, nil)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	default:
		serveProcessor(role, dir)
		os.Exit(m.Run())
	}
}

// emptyServer allows everything at once with an answer made before.
type emptyServer struct {
	authv3.UnimplementedAuthorizationServer
	answer *authv3.CheckResponse
}

func (s *emptyServer) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return s.answer, nil
}

func serveEmpty(socket string) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	nohold, _ := structpb.NewStruct(map[string]any{envoyconf.KeyNoHold: true}) // plain values always convert
	g := grpc.NewServer()
	authv3.RegisterAuthorizationServer(g, &emptyServer{answer: &authv3.CheckResponse{
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
		DynamicMetadata: nohold,
	}})
	panic(g.Serve(l))
}

// variant is one Envoy and what answers its Check.
type variant struct {
	name           string
	address, debug string
	pid            int // of the server; 0 where there is none
	one            figures
	many           figures
}

// figures are what a number of connections gave.
type figures struct {
	latencies []time.Duration
	cpu       time.Duration
	requests  int
}

func (f *figures) percentile(p float64) time.Duration {
	slices.Sort(f.latencies)
	return f.latencies[int(p*float64(len(f.latencies)-1))]
}

func (f *figures) cpuPerRequest() time.Duration { return f.cpu / time.Duration(max(1, f.requests)) }

func BenchmarkSideBySide(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer upstream.Close()
	issuer := tokentest.NewIssuer(b, "main", "https://issuer.test", "gatehouse")
	token := issuer.Token("developer", "org1")
	variants := []*variant{
		newVariant(b, "none", upstream.URL, issuer),
		newVariant(b, "empty", upstream.URL, issuer),
		newVariant(b, "check", upstream.URL, issuer),
		newVariant(b, "gatehouse", upstream.URL, issuer),
	}
	for _, v := range variants {
		v.run(b, token, 1, warmUp, &figures{})
	}
	for b.Loop() {
		for range rounds {
			for _, v := range variants {
				v.run(b, token, 1, perRound1, &v.one)
			}
			for _, v := range variants {
				v.run(b, token, 32, perRound32, &v.many)
			}
		}
	}
	report(b, variants)
}

// report prints the table, and the ratios against the empty server: of Check
// alone, and of all that the sidecar does for a request, the access log
// included, which the empty server has not.
func report(b *testing.B, variants []*variant) {
	none, empty, ours, all := variants[0], variants[1], variants[2], variants[3]
	fmt.Printf("%-10s %12s %12s %16s %16s\n", "variant", "p50 at 1", "p99 at 1", "server CPU at 1", "server CPU at 32")
	for _, v := range variants {
		fmt.Printf("%-10s %12v %12v %16v %16v\n", v.name, v.one.percentile(0.5), v.one.percentile(0.99), v.one.cpuPerRequest(), v.many.cpuPerRequest())
	}
	added := func(v *variant, p float64) float64 { return float64(v.one.percentile(p) - none.one.percentile(p)) }
	b.ReportMetric(added(ours, 0.5)/added(empty, 0.5), "added-p50-ratio")
	b.ReportMetric(added(ours, 0.99)/added(empty, 0.99), "added-p99-ratio")
	b.ReportMetric(float64(ours.one.cpuPerRequest())/float64(empty.one.cpuPerRequest()), "cpu-ratio-at-1")
	b.ReportMetric(float64(ours.many.cpuPerRequest())/float64(empty.many.cpuPerRequest()), "cpu-ratio-at-32")
	b.ReportMetric(float64(all.many.cpuPerRequest())/float64(empty.many.cpuPerRequest()), "cpu-ratio-at-32-with-access-log")
}

func newVariant(b *testing.B, name, upstream string, issuer *tokentest.Issuer) *variant {
	dir, err := os.MkdirTemp("", "ghb")
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	address := fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(b))
	debug := fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(b))
	sidecarYAML := fmt.Sprintf("name: bench\nsocket: %[1]s/gate.sock\nstate_dir: %[1]s/state\ndebug: %[2]s\nlisteners: {inbound: {address: %[3]s}}\n", dir, debug, address)
	setYAML := fmt.Sprintf(`
issuers:
  - {name: main, issuer: "https://issuer.test", jwks: {file: %s/jwks.json}, audience: gatehouse, algorithms: [EdDSA], tenants: [any], roles: [any]}
upstreams: {app: {url: %q}}
limits: [{name: per-principal, key: [principal], rate: 1000000/s, burst: 1000000}]
routes: [{name: tasks, match: {listener: inbound, prefix: /tasks}, upstream: app, permission: task.view, limits: [per-principal]}]
`, dir, upstream)
	rego, err := policies.Shipped().Open("authz.rego")
	must(b, err)
	text, err := io.ReadAll(rego)
	must(b, err)
	must(b, os.Mkdir(filepath.Join(dir, "policies"), 0o755))
	for file, content := range map[string][]byte{
		"sidecar.yaml": []byte(sidecarYAML), "policies/gatehouse.yaml": []byte(setYAML), "policies/authz.rego": text, "jwks.json": issuer.JWKS(),
	} {
		must(b, os.WriteFile(filepath.Join(dir, file), content, 0o600))
	}
	v := &variant{name: name, address: address, debug: debug}
	if name != "none" {
		v.pid = startServer(b, name, dir)
	}
	sc, err := config.ParseSidecar("sidecar.yaml", []byte(sidecarYAML))
	must(b, err)
	set, err := config.ParseSet("gatehouse.yaml", []byte(setYAML))
	must(b, err)
	rendered, err := envoyconf.Static(sc, set)
	must(b, err)
	must(b, os.WriteFile(filepath.Join(dir, "envoy.yaml"), edited(b, name, rendered), 0o600))
	envoytest.Start(b, filepath.Join(dir, "envoy.yaml"), envoytest.Options{Admin: filepath.Join(dir, "admin.sock")}).WaitReady()
	return v
}

func startServer(b *testing.B, role, dir string) int {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, dirVariable+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	envoytest.Eventually(b, "the server listens", func() bool {
		_, err := os.Stat(filepath.Join(dir, "gate.sock"))
		return err == nil
	})
	return cmd.Process.Pid
}

// edited takes Check and the guard out of the variant without a server, and
// the access log out of all but the last.
func edited(b *testing.B, name string, rendered []byte) []byte {
	if name == "gatehouse" {
		return rendered
	}
	var tree any
	must(b, yaml.Unmarshal(rendered, &tree))
	drop := []string{"envoy.access_loggers.http_grpc"}
	if name == "none" {
		drop = append(drop, "envoy.filters.http.ext_authz", "envoy.filters.http.ext_proc", "gatehouse.hold_guard")
	}
	out, err := yaml.Marshal(without(tree, drop))
	must(b, err)
	return out
}

// without drops the named members of lists, and per-route configuration.
func without(node any, names []string) any {
	switch n := node.(type) {
	case map[string]any:
		if slices.Contains(names, "envoy.filters.http.ext_authz") {
			delete(n, "typed_per_filter_config")
		}
		for k, v := range n {
			n[k] = without(v, names)
		}
	case []any:
		kept := n[:0]
		for _, item := range n {
			m, ok := item.(map[string]any)
			if name, _ := m["name"].(string); !ok || !slices.Contains(names, name) {
				kept = append(kept, without(item, names))
			}
		}
		return kept
	}
	return node
}

// run sends n requests on some connections and adds what they took.
func (v *variant) run(b *testing.B, token string, connections, n int, into *figures) {
	b.Helper()
	before := cpuTime(b, v.pid)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range connections {
		wg.Go(func() {
			took := v.connection(b, token, &left)
			mu.Lock()
			into.latencies = append(into.latencies, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	into.cpu += cpuTime(b, v.pid) - before
	into.requests += n
}

func (v *variant) connection(b *testing.B, token string, left *atomic.Int64) []time.Duration {
	c := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer c.CloseIdleConnections()
	var took []time.Duration
	for left.Add(-1) >= 0 {
		req, _ := http.NewRequest("GET", "http://"+v.address+"/tasks/1", nil) // a constant URL
		req.Header.Set("authorization", "Bearer "+token)
		began := time.Now()
		resp, err := c.Do(req)
		if err != nil {
			b.Errorf("%s: %v", v.name, err)
			return took
		}
		took = append(took, time.Since(began))
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			b.Errorf("%s: status %d", v.name, resp.StatusCode)
			return took
		}
	}
	return took
}

// cpuTime is what all threads of a process have run, in nanoseconds as the
// scheduler counts them (proc(5), schedstat).
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	if pid == 0 {
		return 0
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	must(b, err)
	var total time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread ended
		}
		var ns int64
		_, _ = fmt.Sscan(strings.Fields(string(text))[0], &ns)
		total += time.Duration(ns)
	}
	return total
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
