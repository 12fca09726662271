package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func debugConfig() DebugConfig {
	return DebugConfig{
		Address:  "127.0.0.1:0",
		Registry: NewMetrics("v1").Registry(),
		Ready:    func() error { return nil },
		Status:   func() any { return map[string]string{"revision": "abc"} },
	}
}

func TestDebugRefusesOtherAddresses(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "127.9.9.9:9464": true, "[::1]:0": true, "[::ffff:127.0.0.1]:0": true,
		"0.0.0.0:0": false, "[::]:0": false, ":9464": false, "10.0.0.1:1": false, "localhost:9464": false,
		"[::ffff:10.0.0.1]:0": false, "169.254.169.254:80": false, "": false, "127.0.0.1": false,
	} {
		c := debugConfig()
		c.Address = address
		if _, err := NewDebugServer(c); (err == nil) != ok {
			t.Errorf("address %q: error %v, want accepted %v", address, err, ok)
		}
	}
}

func TestDebugNeedsItsParts(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]func(*DebugConfig){
		"registry": func(c *DebugConfig) { c.Registry = nil },
		"ready":    func(c *DebugConfig) { c.Ready = nil },
		"status":   func(c *DebugConfig) { c.Status = nil },
	} {
		c := debugConfig()
		drop(&c)
		if _, err := NewDebugServer(c); err == nil {
			t.Errorf("accepted without %s", name)
		}
	}
}

func startDebug(t *testing.T, c DebugConfig) *DebugServer {
	t.Helper()
	d, err := NewDebugServer(c)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return d
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return resp.StatusCode, string(body)
}

func TestDebugServes(t *testing.T) {
	t.Parallel()
	c := debugConfig()
	var notReady error
	c.Ready = func() error { return notReady }
	base := "http://" + startDebug(t, c).Addr()
	for _, tc := range []struct {
		path   string
		ready  error
		status int
		body   string
	}{
		{"/metrics", nil, 200, "gatehouse_build_info{"},
		{"/metrics", nil, 200, "go_goroutines"},
		{"/healthz", errors.New("not yet"), 200, `"healthy": true`},
		{"/readyz", nil, 200, `"ready": true`},
		{"/readyz", errors.New("no revision"), 503, `"reason": "no revision"`},
		{"/status", nil, 200, `"revision": "abc"`},
		{"/debug/pprof/", nil, 200, "goroutine"},
		{"/debug/pprof/heap?debug=1", nil, 200, "heap profile"},
		{"/debug/pprof/cmdline", nil, 200, "test"},
		{"/debug/pprof/symbol", nil, 200, "num_symbols"},
		{"/debug/pprof/trace?seconds=0.01", nil, 200, ""},
		{"/", nil, 404, ""},
	} {
		notReady = tc.ready
		status, body := get(t, base+tc.path)
		if status != tc.status || !strings.Contains(body, tc.body) {
			t.Errorf("%s: %d %.200s, want %d and %q", tc.path, status, body, tc.status, tc.body)
		}
	}
}

func TestStatusThatCannotBeRendered(t *testing.T) {
	t.Parallel()
	c := debugConfig()
	c.Status = func() any { return func() {} }
	w := httptest.NewRecorder()
	debugMux(c).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status", nil))
	if w.Code != http.StatusInternalServerError || json.Valid(w.Body.Bytes()) {
		t.Errorf("%d %s, want 500 and a plain text", w.Code, w.Body)
	}
}

func TestDebugRefusesForeignHosts(t *testing.T) {
	t.Parallel()
	h := localOnly(debugMux(debugConfig()))
	for host, want := range map[string]int{
		"127.0.0.1:9464": 200, "localhost:9464": 200, "Localhost": 200, "[::1]:1": 200, "127.0.0.1": 200,
		"evil.example:9464": 403, "evil.example": 403, "10.0.0.1:9464": 403, "localhost.evil.example": 403, "": 403,
	} {
		r := httptest.NewRequest(http.MethodGet, "/healthz", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestDebugRefusesOtherMethodsAndLargeHeaders(t *testing.T) {
	t.Parallel()
	d := startDebug(t, debugConfig())
	for _, tc := range []struct{ raw, want string }{
		{"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", "405"},
		{"GET /status HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 2*debugHeaderBytes) + "\r\n\r\n", "431"},
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", d.Addr())
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, tc.raw); err != nil {
			t.Fatalf("write: %v", err)
		}
		line := make([]byte, len("HTTP/1.1 405"))
		if _, err := io.ReadFull(conn, line); err != nil || !strings.HasSuffix(string(line), tc.want) {
			t.Errorf("%.30q answered by %q (%v), want %s", tc.raw, line, err, tc.want)
		}
	}
}

func TestDebugStopCutsAProfile(t *testing.T) {
	t.Parallel()
	d := startDebug(t, debugConfig())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", d.Addr())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /debug/pprof/heap?seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatalf("write: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.Stop(ctx); err != nil {
		t.Errorf("stop: %v, want it before the profile's minute", err)
	}
}

func TestDebugLifecycle(t *testing.T) {
	t.Parallel()
	d, err := NewDebugServer(debugConfig())
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	if d.Addr() != "" {
		t.Errorf("address %q before start, want none", d.Addr())
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Errorf("stop before start: %v", err)
	}
	if err := d.Start(t.Context()); err == nil {
		t.Error("started after stop")
	}
	d = startDebug(t, debugConfig())
	if err := d.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	c := debugConfig()
	c.Address = d.Addr()
	second, err := NewDebugServer(c)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	if err := second.Start(t.Context()); err == nil {
		t.Error("started on a taken address")
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
}
