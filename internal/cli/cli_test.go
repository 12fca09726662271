package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"gatehouse/internal/envoytest"
)

const (
	shippedSet     = "../../policies/shipped"
	exampleSidecar = "../../deploy/sidecar.example.yaml"
)

// result is what a command printed and how it ended.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// want checks the exit code, and that stderr says all parts.
func (r result) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	for _, p := range parts {
		if !strings.Contains(r.stderr, p) {
			t.Errorf("stderr does not say %q:\n%s", p, r.stderr)
		}
	}
	if code != ExitOK && r.stdout != "" {
		t.Errorf("a failed command printed to stdout: %q", r.stdout)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// changedSet is a copy of the shipped set with some files replaced.
func changedSet(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	noError(t, os.Chmod(dir, 0o755))
	noError(t, os.CopyFS(dir, os.DirFS(shippedSet)))
	for name, text := range files {
		noError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"nonsense"}, {"check-config"}, {"check-config", "a", "b"}, {"check-config", "--nonsense", "a"},
		{"envoy-config", shippedSet}, {"token"}, {"token", "--data", "/nowhere", "--role", "root"},
		{"token", "--data", "/nowhere", "--ttl", "1ms"}, {"token", "--data", "/nowhere", "--ttl", "10"},
		{"dev", "more"}, {"demo", "more"}, {"version", "more"},
		{"migrate"}, {"migrate", "down"}, {"migrate", "up", "more"}, {"migrate", "status", "--nonsense"},
	} {
		run(t, args...).want(t, ExitUsage, "gatehouse:", "--help")
	}
}

func TestHelpSaysTheExitCodes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "check-config", "envoy-config", "token", "dev", "demo", "migrate", "migrate up", "migrate status", "migrate verify"} {
		r := run(t, append(strings.Fields(name), "--help")...)
		r.want(t, ExitOK)
		if !strings.Contains(r.stdout, "Exit codes: 0 all is well; 1 faults were found, or something failed; 2") {
			t.Errorf("help of %q does not say the exit codes:\n%s", name, r.stdout)
		}
	}
	for _, name := range []string{"demo-app", "fake-llm"} {
		if strings.Contains(run(t, "--help").stdout, name) {
			t.Errorf("%s is not hidden", name)
		}
	}
}

// TestCommandsAreDocumented holds docs/CLI.md against the commands, both ways.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/CLI.md")
	noError(t, err)
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(gatehouse(?: [a-z][a-z-]*)+)").FindAllStringSubmatch(string(text), -1) {
		named[m[1]] = true
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if path := cmd.CommandPath(); !cmd.HasSubCommands() && !cmd.Hidden {
			if !named[path] {
				t.Errorf("docs/CLI.md has no row for %s", path)
			}
			delete(named, path)
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot(world{}))
	for path := range named {
		t.Errorf("docs/CLI.md has a row for %s, which is not there", path)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := run(t, "version")
	r.want(t, ExitOK)
	if strings.TrimSpace(r.stdout) == "" {
		t.Error("no version")
	}
}

func TestShippedSetIsGood(t *testing.T) {
	t.Parallel()
	r := run(t, "check-config", shippedSet, "--sidecar", exampleSidecar)
	r.want(t, ExitOK)
	want := regexp.MustCompile(`^ok: 10 routes, 4 upstreams, 1 issuers, 1 limits, \d+ tests passed, revision [0-9a-f]{64}\n$`)
	if !want.MatchString(r.stdout) {
		t.Errorf("got %q, want %s", r.stdout, want)
	}
}

func TestAllFaultsAreSaidAtOnce(t *testing.T) {
	t.Parallel()
	dir := changedSet(t, map[string]string{
		"gatehouse.yaml": "rotes: []\nupstreams: {}\n",
		"broken.rego":    "package broken\n\nallow if if\n",
	})
	sidecar := filepath.Join(dir, "sidecar.yaml")
	noError(t, os.WriteFile(sidecar, []byte("name: x\n"), 0o644))
	noError(t, os.Chmod(filepath.Join(dir, "authz.rego"), 0o666))
	run(t, "check-config", dir, "--sidecar", sidecar).want(t, ExitFindings,
		dir+"/gatehouse.yaml:1:1:", "rotes", dir+"/broken.rego:3:", sidecar+":1:1:", "authz.rego: is writable by others")
}

func TestFindings(t *testing.T) {
	t.Parallel()
	read := func(path string) string {
		text, err := os.ReadFile(path)
		noError(t, err)
		return string(text)
	}
	config := read(filepath.Join(shippedSet, "gatehouse.yaml"))
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"failing test", map[string]string{"my_test.rego": "package my_test\n\ntest_no if false\n"}, "my_test.rego:3: data.my_test.test_no"},
		{"unknown entry", map[string]string{"gatehouse.yaml": config + "policy: {entry: data.nowhere.allow}\n"}, "data.nowhere.allow"},
		{"credential without source", map[string]string{"gatehouse.yaml": strings.Replace(config, "credential: tools", "credential: other", 1)}, `credential "other" is not configured`},
		{"large Rego", map[string]string{"large.rego": strings.Repeat("#", 2<<20)}, "large.rego"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			run(t, "check-config", changedSet(t, tt.files), "--sidecar", exampleSidecar).want(t, ExitFindings, "can't be used", tt.want)
		})
	}
}

func TestCompileFaultsAreSaidOnce(t *testing.T) {
	t.Parallel()
	dir := changedSet(t, map[string]string{"broken.rego": "package broken\n\nallow if if\n"})
	r := run(t, "check-config", dir)
	r.want(t, ExitFindings, dir+"/broken.rego:3:")
	if n := strings.Count(r.stderr, "broken.rego"); n != 1 {
		t.Errorf("the fault is said %d times:\n%s", n, r.stderr)
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	run(t, "check-config", "/nowhere").want(t, ExitFindings, "/nowhere is no folder", "gatehouse.yaml")
	run(t, "check-config", t.TempDir()).want(t, ExitFindings, "gatehouse.yaml: no such file")
	run(t, "check-config", shippedSet, "--sidecar", "/nowhere").want(t, ExitFindings, "/nowhere: no such file")
	run(t, "envoy-config", "/nowhere", "--sidecar", exampleSidecar).want(t, ExitFindings, "no such file", "gatehouse check-config /nowhere")
	run(t, "envoy-config", shippedSet, "--sidecar", "/nowhere").want(t, ExitFindings, "/nowhere: no such file")
	run(t, "token", "--data", "/nowhere").want(t, ExitFindings, "dev-key.json", "gatehouse dev")
}

func TestEnvoyConfig(t *testing.T) {
	t.Parallel()
	r := run(t, "envoy-config", shippedSet, "--sidecar", exampleSidecar)
	r.want(t, ExitOK)
	if err := envoytest.Validate(t, []byte(r.stdout)); err != nil {
		t.Errorf("Envoy refuses it: %v", err)
	}
	unfit := changedSet(t, map[string]string{"gatehouse.yaml": `
upstreams: {a: {url: "https://a.test", credential: none}}
routes: [{name: a, match: {listener: outbound, prefix: /}, permission: task.view, upstream: a}]
`})
	run(t, "envoy-config", unfit, "--sidecar", exampleSidecar).want(t, ExitFindings, `credential "none"`, "gatehouse check-config")
}
