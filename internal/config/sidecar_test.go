package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sidecarFaults(t *testing.T, data string) []string {
	t.Helper()
	sc, err := ParseSidecar("f", []byte(data))
	if (sc == nil) != (err != nil) {
		t.Errorf("sidecar is %v with error %v, want exactly one of the two", sc, err)
	}
	return lines(t, err)
}

// sidecar is a file without a fault, with more keys from line 5 on.
func sidecar(more string) string {
	return "name: s\nsocket: /run/g.sock\nstate_dir: /var/g\nlisteners: {inbound: {address: 0.0.0.0:8080}, outbound: {address: 127.0.0.1:8081}}\n" + more
}

func TestSidecar(t *testing.T) {
	t.Parallel()
	runRows(t, []row{
		{"least", sidecar(""), nil},
		{"empty", "{}\n", []string{
			`f:1:1: "listeners" is missing`, `f:1:1: "name" is missing`, `f:1:1: "socket" is missing`, `f:1:1: "state_dir" is missing`}},
		{"not YAML", "a: [", []string{"f:1:4: not YAML: sequence end token ']' not found"}},
		{"unknown", sidecar("socktes: a\n"), []string{`f:5:1: unknown key "socktes", did you mean "socket"?`}},
		{"control", sidecar("control: {address: 'control.example:8443', credential_file: /c, ca_file: /ca}\n"), nil},
		{"control by address", sidecar("control: {address: '[::1]:8443', credential_file: /c}\n"), nil},
		{"control wrong", sidecar("control: {address: 'control.example', credential_file: c}\nprincipal: {subject: s, tenant: t}\nshared: true\n"), []string{
			`f:5:20: control.address: "control.example" is not a host and port such as control.example:8443`,
			"f:5:56: control.credential_file: must be an absolute path in its shortest form",
			"f:6:12: principal: is what the sidecar is registered as at control; it can't be said here too",
			"f:7:9: shared: is what the sidecar is registered as at control; it can't be said here too"}},
		{"control without", sidecar("control: {}\n"), []string{
			`f:5:10: control: "address" is missing`, `f:5:10: control: "credential_file" is missing`}},
		{"all wrong", "name: 'a b'\nsocket: run\nstate_dir: .\nlisteners: {}\nenvoy_uid: -1\nprincipal: a\nshared: 0\ncredentials: []\ndebug: a\nlimits: 5\n", []string{
			`f:1:7: name: "a b" is not a name: letters, digits and . _ -, at most 253`,
			"f:2:9: socket: must be an absolute path in its shortest form",
			"f:3:12: state_dir: must be an absolute path in its shortest form",
			"f:4:12: listeners: needs at least one of inbound and outbound",
			"f:5:12: envoy_uid: must be a whole number, is a number",
			"f:6:12: principal: must be a map, is text",
			"f:7:9: shared: must be true or false, is a number",
			"f:8:14: credentials: must be a map, is a list",
			`f:9:8: debug: "a" is not a literal address and port such as 127.0.0.1:8081`,
			"f:10:9: limits: must be a map, is a number"}},
		{"long socket", strings.Replace(sidecar(""), "/run/g.sock", "/"+strings.Repeat("a", maxSocket), 1), []string{
			"f:2:9: socket: must have at most 100 bytes"}},
		{"longest socket", strings.Replace(sidecar(""), "/run/g.sock", "/"+strings.Repeat("a", maxSocket-1), 1), nil},
		{"uid", sidecar("envoy_uid: 4294967295\n"), []string{"f:5:12: envoy_uid: must be from 0 to 4294967294"}},
		{"uid in octal", sidecar("envoy_uid: 0o12\n"), []string{"f:5:12: envoy_uid: must be a whole number, is a number"}},
		{"limits", sidecar("limits: {envoy_heap: 32MiB, connections: 0, streams: 10001, cpu: 1}\n"), []string{
			"f:5:22: limits.envoy_heap: must be from 64MiB to 16GiB",
			"f:5:42: limits.connections: must be from 1 to 100000",
			"f:5:54: limits.streams: must be from 1 to 10000",
			`f:5:61: limits: unknown key "cpu"`}},
		{"heap in bytes", sidecar("limits: {envoy_heap: 67108863}\n"), []string{
			"f:5:22: limits.envoy_heap: must be from 64MiB to 16GiB"}},
		{"heap beyond a number", sidecar("limits: {envoy_heap: 99999999999999999999, connections: 99999999999999999999}\n"), []string{
			`f:5:22: limits.envoy_heap: "99999999999999999999" is not a size: bytes, or a number with KiB, MiB or GiB`,
			"f:5:57: limits.connections: must be a whole number, is text"}},
	}, sidecarFaults)
}

func TestListeners(t *testing.T) {
	t.Parallel()
	listeners := func(l string) string {
		return "name: s\nsocket: /s\nstate_dir: /d\nlisteners: " + l + "\n"
	}
	runRows(t, []row{
		{"not a map", listeners("[]"), []string{"f:4:12: listeners: must be a map, is a list"}},
		{"unknown", listeners("{inbound: {address: '127.0.0.1:1'}, admin: {}}"), []string{`f:4:48: listeners: unknown key "admin"`}},
		{"no address", listeners("{inbound: {}}"), []string{`f:4:22: listeners.inbound: "address" is missing`}},
		{"same address", listeners("{inbound: {address: '127.0.0.1:1'}, outbound: {address: '127.0.0.1:1'}}"), []string{
			"f:4:12: listeners: inbound and outbound have the same address"}},
		{"all addresses of a port", listeners("{inbound: {address: '0.0.0.0:1'}, outbound: {address: '127.0.0.1:1'}}"), []string{
			"f:4:12: listeners: inbound and outbound have the same address"}},
		{"two addresses of a port", listeners("{inbound: {address: '10.0.0.1:1'}, outbound: {address: '127.0.0.1:1'}}"), nil},
		{"default debug address", listeners("{inbound: {address: '127.0.0.1:9464'}}"), []string{
			"f:1:1: debug: 127.0.0.1:9464 is a listener's address"}},
		{"tls", listeners("{inbound: {address: '127.0.0.1:1', tls: {cert_file: a, client_ca_file: /b, ciphers: c}}}"), []string{
			`f:4:52: listeners.inbound.tls: "key_file" is missing`,
			"f:4:64: listeners.inbound.tls.cert_file: must be an absolute path in its shortest form",
			`f:4:87: listeners.inbound.tls: unknown key "ciphers"`}},
	}, sidecarFaults)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"127.0.0.1:1": "127.0.0.1:1", "0.0.0.0:65535": "0.0.0.0:65535", "[0::1]:80": "[::1]:80", "[::]:80": "[::]:80"} {
		if got, err := parseAddress(text); err != nil || got != want {
			t.Errorf("parseAddress(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "127.0.0.1", ":80", "localhost:80", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http", "127.1:80",
		"[fe80::1%eth0]:80", "[::ffff:127.0.0.1]:80", "224.0.0.1:80", "[ff02::1]:80", "::1:80",
	} {
		if got, err := parseAddress(text); err == nil {
			t.Errorf("parseAddress(%q) = %q, want an error", text, got)
		}
	}
	for text, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "10.0.0.1:1": false, "0.0.0.0:1": false, "a:1": false} {
		if _, err := parseDebug(text); (err == nil) != want {
			t.Errorf("parseDebug(%q): error %v, want accepted %t", text, err, want)
		}
	}
}

func TestWorkload(t *testing.T) {
	t.Parallel()
	runRows(t, []row{
		{"empty", sidecar("principal: {}\n"), []string{
			`f:5:12: principal: "subject" is missing`, `f:5:12: principal: "tenant" is missing`}},
		{"all wrong", sidecar("principal: {subject: 'a b', tenant: '*', project: '', agent: é, role: operator}\n"), []string{
			"f:5:22: principal.subject: must be printable ASCII without spaces, at most 255 bytes",
			`f:5:37: principal.tenant: "*" is not one tenant`,
			"f:5:51: principal.project: is empty",
			"f:5:62: principal.agent: must be printable ASCII without spaces, at most 255 bytes",
			`f:5:71: principal.role: "operator" is not one of developer, observer`}},
		{"any tenant", sidecar("principal: {subject: a, tenant: any, role: anonymous}\n"), []string{
			`f:5:33: principal.tenant: "any" is not one tenant`,
			`f:5:44: principal.role: "anonymous" is not one of developer, observer`}},
		{"shared with a principal", sidecar("principal: {subject: a, tenant: b}\nshared: true\n"), []string{
			"f:6:9: shared: a sidecar with a principal is bound to its tenant"}},
		{"not shared without a principal", sidecar("shared: false\n"), []string{
			"f:5:9: shared: a sidecar without a principal is shared"}},
	}, sidecarFaults)
	for more, want := range map[string]bool{
		"": true, "shared: true\n": true,
		"principal: {subject: a, tenant: b}\n": false, "principal: {subject: a, tenant: b}\nshared: false\n": false,
	} {
		sc, err := ParseSidecar("f", []byte(sidecar(more)))
		if err != nil {
			t.Fatalf("%q: %v", more, err)
		}
		if sc.Shared != want || (sc.Principal == nil) != want {
			t.Errorf("%q: shared = %t with principal %v, want shared %t", more, sc.Shared, sc.Principal, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	runRows(t, []row{
		{"all wrong", sidecar("credentials: {A: {env: K}, b: {env: sk-SECRET}, c: {}, d: K, e: {env: K, value: s}}\n"), []string{
			`f:5:15: credentials: "A" is not a name: a-z, 0-9, _ and -, at most 63, the first no _ or -`,
			"f:5:37: credentials.b.env: is not the name of an environment variable",
			`f:5:52: credentials.c: "env" is missing`,
			"f:5:59: credentials.d: must be a map, is text",
			`f:5:74: credentials.e: unknown key "value"`}},
		{"too many", sidecar("credentials: {" + numbered(maxCredentials+1, "c%d: {env: K}, ") + "}\n"), []string{
			"f:5:14: credentials: has more than 500 entries"}},
	}, sidecarFaults)
}

func TestSidecarIsRead(t *testing.T) {
	t.Parallel()
	got, err := ParseSidecar("f", []byte(`name: pod-1.node
socket: /run/g.sock
state_dir: /var/g
envoy_uid: 101
listeners:
  inbound: {address: "[::]:8080", tls: {cert_file: /c, key_file: /k, client_ca_file: /ca}}
  outbound: {address: 127.0.0.1:8081, tls: {cert_file: /c, key_file: /k}}
principal: {subject: s, tenant: t, project: p, agent: a, role: developer}
credentials: {tools: {env: TOOLS}, b: {env: _b}}
debug: "[::1]:1"
limits: {envoy_heap: 64MiB, connections: 1, streams: 10000}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Sidecar{
		Name: "pod-1.node", Socket: "/run/g.sock", StateDir: "/var/g", EnvoyUID: 101,
		Listeners: Listeners{
			Inbound:  &Listener{Address: "[::]:8080", TLS: &TLS{CertFile: "/c", KeyFile: "/k", ClientCAFile: "/ca"}},
			Outbound: &Listener{Address: "127.0.0.1:8081", TLS: &TLS{CertFile: "/c", KeyFile: "/k"}},
		},
		Principal:   &Workload{Subject: "s", Tenant: "t", Project: "p", Agent: "a", Role: "developer"},
		Credentials: map[string]Credential{"tools": {Env: "TOOLS"}, "b": {Env: "_b"}},
		Debug:       "[::1]:1",
		Limits:      SidecarLimits{EnvoyHeap: 64 << 20, Connections: 1, Streams: 10_000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sidecar: -want +got\n%s", diff)
	}
}

func TestSidecarDefaults(t *testing.T) {
	t.Parallel()
	got, err := ParseSidecar("f", []byte("name: s\nsocket: /s\nstate_dir: /d\nlisteners: {outbound: {address: '10.0.0.1:1'}}\nprincipal: {subject: s, tenant: t}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Sidecar{
		Name: "s", Socket: "/s", StateDir: "/d", EnvoyUID: -1,
		Listeners:   Listeners{Outbound: &Listener{Address: "10.0.0.1:1"}},
		Principal:   &Workload{Subject: "s", Tenant: "t", Role: "observer"},
		Credentials: map[string]Credential{},
		Debug:       "127.0.0.1:9464",
		Limits:      SidecarLimits{EnvoyHeap: 512 << 20, Connections: 2000, Streams: 128},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sidecar: -want +got\n%s", diff)
	}
}
