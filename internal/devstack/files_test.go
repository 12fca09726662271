package devstack

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/wholefile"
	"gatehouse/policies"
)

// ownStackSet writes the set and sidecar.yaml of a stack.
func ownStackSet(t *testing.T, envoyUID int) (set *config.PolicySet, sc *config.Sidecar, dir string) {
	t.Helper()
	data := t.TempDir()
	dir = filepath.Join(data, "policies")
	noError(t, os.Mkdir(dir, 0o755))
	noError(t, writeSet(setValues{
		Data: data, Policies: dir, SidecarFile: filepath.Join(data, "sidecar.yaml"),
		JWKS: filepath.Join(data, "keys", jwksFile), App: "http://127.0.0.1:9123", Provider: "http://127.0.0.1:9124",
	}))
	text, err := os.ReadFile(filepath.Join(dir, revision.ConfigFile))
	noError(t, err)
	set, err = config.ParseSet("gatehouse.yaml", text)
	noError(t, err)
	path := filepath.Join(data, "sidecar.yaml")
	noError(t, writeSidecar(path, sidecarValues{
		Name: "dev", Control: "127.0.0.1:8443", CA: "/tmp/ca.pem", Credential: "/tmp/sidecar.json",
		Socket: "/tmp/run/gate.sock", State: "/tmp/state", Inbound: "127.0.0.1:8080", Outbound: "127.0.0.1:8081",
		Debug: "127.0.0.1:9464", EnvoyUID: envoyUID, Credentials: credentialsOf(set),
	}))
	text, err = os.ReadFile(path)
	noError(t, err)
	sc, err = config.ParseSidecar("sidecar.yaml", text)
	noError(t, err)
	return set, sc, dir
}

func TestOwnSetIsGood(t *testing.T) {
	t.Parallel()
	set, sc, dir := ownStackSet(t, envoyUID)
	noError(t, config.CheckPair(set, sc))
	_, err := envoyconf.Translate(sc, set, "rev")
	noError(t, err)
	if _, err := snapshot.Read(dir, os.Geteuid()); err != nil {
		t.Errorf("the sidecar would refuse the files: %v", err)
	}
	src, err := policies.ReadSource(os.DirFS(dir))
	noError(t, err)
	_, err = policies.Compile(t.Context(), src, policies.Options{Entry: set.Policy.Entry})
	noError(t, err)
	report, err := policies.Test(t.Context(), src)
	if err != nil || report.Failed > 0 || report.Passed == 0 {
		t.Errorf("its tests: %+v, %v", report, err)
	}
}

func TestOwnSetSaysWhatTheStackNeeds(t *testing.T) {
	t.Parallel()
	set, sc, _ := ownStackSet(t, ownUID)
	if sc.EnvoyUID != -1 {
		t.Errorf("envoy_uid is %d though the uid is shared", sc.EnvoyUID)
	}
	want := config.Control{Address: "127.0.0.1:8443", CAFile: "/tmp/ca.pem", CredentialFile: "/tmp/sidecar.json"}
	if diff := cmp.Diff(&want, sc.Control); diff != "" {
		t.Errorf("control: -want +got\n%s", diff)
	}
	credentials := map[string]config.Credential{
		"tools": {Env: "GATEHOUSE_DEV_TOOLS_KEY"}, "openai": {Env: "GATEHOUSE_DEV_OPENAI_KEY"}, "anthropic": {Env: "GATEHOUSE_DEV_ANTHROPIC_KEY"},
	}
	if diff := cmp.Diff(credentials, sc.Credentials); diff != "" {
		t.Errorf("credentials: -want +got\n%s", diff)
	}
	var routes []string
	for _, r := range set.Routes {
		routes = append(routes, r.Name)
	}
	names := []string{
		"health", "status", "tasks", "upload", "agents", "limited", "shared", "flaky", "admin", "tools", "open",
		"openai-chat", "openai-models", "anthropic-messages", "anthropic-models", "synthesis",
	}
	if diff := cmp.Diff(names, routes); diff != "" {
		t.Errorf("routes: -want +got\n%s", diff)
	}
	if set.Issuers[0].Issuer != Issuer || set.Issuers[0].Audience != Audience {
		t.Errorf("issuer %+v is not that of the tokens", set.Issuers[0])
	}
	for upstream, want := range map[string]int{"app": 9123, "openai": 9124, "anthropic": 9124} {
		if got := localPort(set, upstream); got != want {
			t.Errorf("the set's %s is at port %d, want %d", upstream, got, want)
		}
	}
	if !set.Issuers[1].JWKS.Control || set.Issuers[1].Issuer != ControlIssuer {
		t.Errorf("issuer %+v is not control", set.Issuers[1])
	}
}

func TestEnvoyUIDIsWritten(t *testing.T) {
	t.Parallel()
	if _, sc, _ := ownStackSet(t, envoyUID); sc.EnvoyUID != envoyUID {
		t.Errorf("envoy_uid is %d, want %d", sc.EnvoyUID, envoyUID)
	}
}

// Calls to models are judged in dev as the shipped set judges them.
func TestOwnSetHasTheShippedModelRoutes(t *testing.T) {
	t.Parallel()
	own, _, _ := ownStackSet(t, ownUID)
	text, err := fs.ReadFile(policies.Shipped(), revision.ConfigFile)
	noError(t, err)
	shipped, err := config.ParseSet(revision.ConfigFile, text)
	noError(t, err)
	models := 0
	for _, r := range shipped.Routes {
		if r.LLM == nil {
			continue
		}
		models++
		i := slices.IndexFunc(own.Routes, func(o config.Route) bool { return o.Name == r.Name })
		if i < 0 {
			t.Errorf("the stack's set has no route %s", r.Name)
			continue
		}
		if diff := cmp.Diff(r, own.Routes[i]); diff != "" {
			t.Errorf("route %s: -shipped +own\n%s", r.Name, diff)
		}
	}
	if models != 4 {
		t.Errorf("the shipped set has %d routes to models, want 4", models)
	}
}

func TestLocalPort(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]int{"127.0.0.1": 7000, "192.0.2.1": 0, "app.test": 0} {
		set := &config.PolicySet{Upstreams: map[string]config.Upstream{"app": {Host: host, Port: 7000}}}
		if got := localPort(set, "app"); got != want {
			t.Errorf("app at %s: port %d, want %d", host, got, want)
		}
	}
	if localPort(nil, "app") != 0 || localPort(&config.PolicySet{}, "app") != 0 {
		t.Error("an upstream that is in no set has a port")
	}
}

func TestCredentials(t *testing.T) {
	set := &config.PolicySet{Upstreams: map[string]config.Upstream{
		"a": {Credential: "other-one"}, "b": {Credential: "tools"}, "c": {Credential: "tools"}, "d": {}, "e": {Credential: "openai"},
	}}
	got := credentialsOf(set)
	want := []credential{
		{"openai", "GATEHOUSE_DEV_OPENAI_KEY"}, {"other-one", "GATEHOUSE_DEV_OTHER_ONE_KEY"}, {"tools", "GATEHOUSE_DEV_TOOLS_KEY"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("credentials: -want +got\n%s", diff)
	}
	if got := credentialsOf(nil); got != nil {
		t.Errorf("credentials of no set: %v", got)
	}
	t.Setenv("GATEHOUSE_DEV_TOOLS_KEY", "mine")
	t.Setenv("GATEHOUSE_DEV_OTHER_ONE_KEY", "")
	t.Setenv("GATEHOUSE_DEV_OPENAI_KEY", "")
	keys := newProviderKeys()
	env := withCredentials([]string{"A=b"}, got, keys)
	if !slices.Equal(env, []string{"A=b", "GATEHOUSE_DEV_OPENAI_KEY=" + keys["openai"], "GATEHOUSE_DEV_OTHER_ONE_KEY=demo-credential-of-other-one", "GATEHOUSE_DEV_TOOLS_KEY=mine"}) {
		t.Errorf("environment: %q", env)
	}
	t.Setenv("GATEHOUSE_DEV_OPENAI_KEY", "a real one")
	if got := keys.valueOf("openai"); got != "a real one" {
		t.Errorf("a key of the user's own is not used: %s", got)
	}
}

func TestProviderKeysAreMadeAnew(t *testing.T) {
	t.Parallel()
	first, second := newProviderKeys(), newProviderKeys()
	seen := map[string]bool{}
	for _, value := range []string{first["openai"], first["anthropic"], second["openai"], second["anthropic"]} {
		if seen[value] || len(value) < 26 {
			t.Errorf("key %q is known, or short", value)
		}
		seen[value] = true
	}
	want := []string{ProviderOpenAIKey + "=" + first["openai"], ProviderAnthropicKey + "=" + first["anthropic"]}
	if diff := cmp.Diff(want, first.environment()); diff != "" {
		t.Errorf("environment: -want +got\n%s", diff)
	}
}

func TestReadSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if readSet(dir) != nil {
		t.Error("a folder without configuration was read as a set")
	}
	noError(t, os.WriteFile(filepath.Join(dir, revision.ConfigFile), []byte("routes: 7\n"), 0o644))
	if readSet(dir) != nil {
		t.Error("a set with faults was read")
	}
}

func TestWriteFileReplaces(t *testing.T) {
	t.Parallel()
	path := touch(t, filepath.Join(t.TempDir(), "f"), 0o666)
	noError(t, wholefile.Replace(path, []byte("new"), 0o600))
	text, err := os.ReadFile(path)
	noError(t, err)
	info, err := os.Stat(path)
	noError(t, err)
	if string(text) != "new" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q with mode %04o, want new with 0600", text, info.Mode().Perm())
	}
	if err := wholefile.Replace(filepath.Join(path, "x"), nil, 0o600); err == nil {
		t.Error("a file within a file was written")
	}
}
