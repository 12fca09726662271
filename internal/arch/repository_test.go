package arch

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are all texts for people, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		paths, err := filepath.Glob(repository(filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			rel := strings.TrimPrefix(filepath.ToSlash(path), "../../")
			docs[rel] = read(t, filepath.FromSlash(rel))
		}
	}
	if docs["README.md"] == "" || docs["docs/ARCHITECTURE.md"] == "" {
		t.Fatal("README.md or docs/ARCHITECTURE.md is missing or empty")
	}
	return docs
}

func TestModulesAreTheirOwn(t *testing.T) {
	t.Parallel()
	replace := regexp.MustCompile(`(?m)^\s*replace\b|=>`)
	for _, path := range []string{"go.mod", "internal/tools/go.mod"} {
		if line := replace.FindString(read(t, filepath.FromSlash(path))); line != "" {
			t.Errorf("%s replaces a module; others would build another program than we do", path)
		}
	}
}

func TestLicense(t *testing.T) {
	t.Parallel()
	text := read(t, "LICENSE")
	for _, want := range []string{"Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"} {
		if !strings.Contains(text, want) {
			t.Errorf("LICENSE does not say %q", want)
		}
	}
}

// numbering says what is wrong with the names of decisions.
func numbering(names []string) (faults []string) {
	slices.Sort(names)
	form := regexp.MustCompile(`^(\d{4})-[a-z0-9-]+\.md$`)
	for i, name := range names {
		m := form.FindStringSubmatch(name)
		if want := fmt.Sprintf("%04d", i+1); m == nil || m[1] != want {
			faults = append(faults, fmt.Sprintf("%s: want %s-title.md", name, want))
		}
	}
	return faults
}

func TestDecisionsAreNumbered(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(repository("docs", "decisions"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		text := read(t, "docs", "decisions", e.Name())
		for _, part := range []string{"## Context", "## Choice", "## Consequences"} {
			if !strings.Contains(text, part+"\n") {
				t.Errorf("docs/decisions/%s has no %q", e.Name(), part)
			}
		}
	}
	if len(names) == 0 {
		t.Error("there are no decisions")
	}
	for _, f := range numbering(names) {
		t.Errorf("docs/decisions/%s", f)
	}
	for _, bad := range [][]string{{"0002-a.md"}, {"0001-a.md", "0003-b.md"}, {"0001-a.md", "0001-b.md"}, {"1-a.md"}} {
		if numbering(bad) == nil {
			t.Errorf("numbering(%v) found nothing", bad)
		}
	}
}

// targets are the targets that the Makefile tells of.
func targets(makefile string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):.*?##`).FindAllStringSubmatch(makefile, -1) {
		names = append(names, m[1])
	}
	return names
}

// called are the targets that a text calls with make, in code.
func called(text string) []string {
	var names []string
	for _, m := range regexp.MustCompile("(?m)(?:`|^\\s*|\\$ )make ([a-z][a-z0-9-]*)").FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

func TestMakeTargetsExist(t *testing.T) {
	t.Parallel()
	known := targets(read(t, "Makefile"))
	texts := documents(t)
	texts[".ci/run"] = read(t, ".ci", "run")
	found := 0
	for path, text := range texts {
		for _, name := range called(text) {
			found++
			if !slices.Contains(known, name) {
				t.Errorf("%s calls make %s; the Makefile has %s", path, name, strings.Join(known, ", "))
			}
		}
	}
	if found == 0 {
		t.Error("no document calls make")
	}
	if got := called("text\n    make demo\nor `make test`, but make sure"); !slices.Equal(got, []string{"demo", "test"}) {
		t.Errorf("called: got %v", got)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	found := 0
	for path, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			if _, err := os.Stat(repository(filepath.Dir(filepath.FromSlash(path)), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	}
	if found == 0 {
		t.Error("no document has a link")
	}
}

// TestAddressesAreTheStacks holds the README against the ports that a dev
// stack takes.
func TestAddressesAreTheStacks(t *testing.T) {
	t.Parallel()
	readme, ports := read(t, "README.md"), read(t, "internal", "devstack", "ports.go")
	m := regexp.MustCompile(`(?m)^\s+(inbound|outbound|debug)Port\s+= (\d+)$`).FindAllStringSubmatch(ports, -1)
	if len(m) != 3 {
		t.Fatalf("internal/devstack/ports.go has %d of the three ports", len(m))
	}
	for _, port := range m {
		if address := "127.0.0.1:" + port[2]; !strings.Contains(readme, address) {
			t.Errorf("README.md does not show the %s address %s", port[1], address)
		}
	}
}

// TestArchitectureNamesWhatIsThere holds docs/ARCHITECTURE.md against the
// tree: every package stands in it, and every Go file that it names exists.
func TestArchitectureNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	text := read(t, "docs", "ARCHITECTURE.md")
	var files []string
	for _, p := range packages(t) {
		for _, file := range p.files(true) {
			files = append(files, filepath.ToSlash(file))
		}
		if p.Name != "main" && !strings.Contains(text, "`"+p.short()+"`") {
			t.Errorf("docs/ARCHITECTURE.md does not name %s", p.short())
		}
	}
	for _, m := range regexp.MustCompile("`([a-z_/]+\\.go)`").FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, "/"+m[1]) }) {
			t.Errorf("docs/ARCHITECTURE.md names %s, which is not there", m[1])
		}
	}
}
