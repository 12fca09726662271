package envoyconf_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/envoytest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sidecar() *config.Sidecar {
	return &config.Sidecar{
		Name: "test", Socket: "/run/gatehouse/gate.sock", StateDir: "/var/lib/gatehouse",
		Listeners: config.Listeners{
			Inbound:  &config.Listener{Address: "127.0.0.1:8080"},
			Outbound: &config.Listener{Address: "127.0.0.1:8081"},
		},
		Limits: config.SidecarLimits{EnvoyHeap: 512 << 20, Connections: 2000, Streams: 128},
	}
}

func withTLS() *config.Sidecar {
	sc := sidecar()
	sc.Listeners.Inbound.TLS = &config.TLS{CertFile: "/tls/cert.pem", KeyFile: "/tls/key.pem", ClientCAFile: "/tls/ca.pem"}
	return sc
}

func upstream(url, scheme, host string, port int) config.Upstream {
	return config.Upstream{URL: url, Scheme: scheme, Host: host, Port: port}
}

func route(name string, m config.Match, up string) config.Route {
	return config.Route{
		Name: name, Match: m, Upstream: up, Mode: config.Enforce,
		Timeout: 15 * time.Second, IdleTimeout: time.Minute, ConnectTimeout: 2 * time.Second,
	}
}

func set() *config.PolicySet {
	exempt := route("health", config.Match{Listener: "inbound", Path: "/healthz"}, "app")
	exempt.Exempt = true
	upload := route("upload", config.Match{Listener: "inbound", Path: "/upload", Methods: []string{"POST", "PUT"}}, "app")
	upload.Body = 64 << 10
	openai := upstream("https://api.openai.com", "https", "api.openai.com", 443)
	openai.Format, openai.Credential = "openai", "openai"
	return &config.PolicySet{
		Upstreams: map[string]config.Upstream{
			"app":   upstream("http://127.0.0.1:9000", "http", "127.0.0.1", 9000),
			"tools": upstream("https://tools.example.com", "https", "tools.example.com", 443),
			"six":   upstream("https://[2001:db8::1]:8443", "https", "2001:db8::1", 8443),

			"openai": openai,
		},
		Routes: []config.Route{
			exempt, upload,
			route("tasks", config.Match{Listener: "inbound", Prefix: "/tasks"}, "app"),
			llmRoute("answers", config.Match{Listener: "inbound", Path: "/answers", Methods: []string{"POST"}}, config.LLMCall),
			route("rest", config.Match{Listener: "inbound", Prefix: "/"}, "app"),
			route("models", config.Match{Listener: "outbound", Base: "/tools", Path: "/v1/models", Methods: []string{"GET"}}, "tools"),
			route("deep", config.Match{Listener: "outbound", Base: "/tools", Prefix: "/v1"}, "tools"),
			route("tools", config.Match{Listener: "outbound", Base: "/tools", Prefix: "/"}, "tools"),
			llmRoute("chat", config.Match{Listener: "outbound", Base: "/openai", Path: "/v1/chat/completions", Methods: []string{"POST"}}, config.LLMCall),
			llmRoute("openai-models", config.Match{Listener: "outbound", Base: "/openai", Path: "/v1/models", Methods: []string{"GET"}}, config.LLMFree),
			route("captured", config.Match{Listener: "outbound", Host: "six.example.com", Prefix: "/"}, "six"),
		},
	}
}

func TestStaticRenderingIsGoldenAndValid(t *testing.T) {
	t.Parallel()
	cases := map[string]*config.Sidecar{"plain": sidecar(), "tls": withTLS()}
	for name, sc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := envoyconf.Static(sc, set())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".yaml", got)
			if name == "plain" { // the other names certificate files that only a deployment has
				if err := envoytest.Validate(t, withSystemCAs(got)); err != nil {
					t.Errorf("Envoy refuses it: %v", err)
				}
			}
		})
	}
}

// withSystemCAs points the trust bundle at a file that this machine has.
func withSystemCAs(yaml []byte) []byte {
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(bundle); err == nil {
		return yaml
	}
	return bytes.ReplaceAll(yaml, []byte(bundle), []byte("/dev/null"))
}

func TestBootstrapIsGolden(t *testing.T) {
	t.Parallel()
	got, err := envoyconf.Bootstrap(sidecar())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "bootstrap.yaml", got)
	if err := envoytest.Validate(t, got); err != nil {
		t.Errorf("Envoy refuses it: %v", err)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); -update rewrites it:\n%s", name, diff)
	}
}

// Envoy is sent nothing anew only if equal input gives equal bytes.
func TestTranslateIsDeterministic(t *testing.T) {
	t.Parallel()
	first, err := envoyconf.Translate(sidecar(), set(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := envoyconf.Translate(sidecar(), set(), "r1")
		if err != nil {
			t.Fatal(err)
		}
		for name, l := range first.Listeners {
			if !bytes.Equal(marshal(t, l), marshal(t, again.Listeners[name])) {
				t.Fatalf("listener %s has other bytes", name)
			}
		}
		for name, r := range first.Routes {
			if !bytes.Equal(marshal(t, r), marshal(t, again.Routes[name])) {
				t.Fatalf("routes %s have other bytes", name)
			}
		}
	}
}

// A changed listener drains its connections: no policy set may change one.
func TestListenersDependOnTheSidecarAlone(t *testing.T) {
	t.Parallel()
	a, err := envoyconf.Translate(sidecar(), set(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	other := set()
	other.Routes = other.Routes[:3]
	b, err := envoyconf.Translate(sidecar(), other, "r2")
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range a.Listeners {
		if !bytes.Equal(marshal(t, l), marshal(t, b.Listeners[name])) {
			t.Errorf("listener %s changed with the policy set", name)
		}
	}
}

func TestClustersAreNamedByContent(t *testing.T) {
	t.Parallel()
	names := func(s *config.PolicySet) map[string]bool {
		res, err := envoyconf.Translate(sidecar(), s, "r")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for n := range res.Clusters {
			out[n] = true
		}
		return out
	}
	before := names(set())
	changed := set()
	changed.Upstreams["app"] = upstream("http://127.0.0.1:9001", "http", "127.0.0.1", 9001)
	after := names(changed)
	kept := 0
	for n := range before {
		if after[n] {
			kept++
		}
	}
	if len(before) != 4 || len(after) != 4 || kept != 3 {
		t.Errorf("before %v, after %v: want 4 clusters each, 3 in common", before, after)
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add("/tasks", "/a/b", "example.com", "GET")
	f.Add("", "/", "", "")
	f.Fuzz(func(t *testing.T, base, prefix, host, method string) {
		s := set()
		r := route("fuzzed", config.Match{Listener: "outbound", Base: base, Prefix: prefix, Host: host}, "app")
		if method != "" {
			r.Match.Methods = []string{method}
		}
		s.Routes = append([]config.Route{r}, s.Routes...)
		defer func() { // strings that no YAML text can hold may panic, nothing else may
			if p := recover(); p != nil && validUTF8(base, prefix, host, method) {
				panic(p)
			}
		}()
		_, _ = envoyconf.Translate(sidecar(), s, "r")
	})
}
