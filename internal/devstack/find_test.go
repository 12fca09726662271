package devstack

import (
	"path/filepath"
	"testing"
)

func TestFindSidecar(t *testing.T) {
	bin, path := t.TempDir(), t.TempDir()
	t.Setenv("PATH", path)
	self := filepath.Join(bin, "gatehouse")
	_, err := findSidecar(self)
	wantError(t, err, sidecarBinary, self, "make build")
	onPath := touch(t, filepath.Join(path, sidecarBinary), 0o755)
	if got, err := findSidecar(self); err != nil || got != onPath {
		t.Errorf("on PATH: %s, %v, want %s", got, err, onPath)
	}
	beside := touch(t, filepath.Join(bin, sidecarBinary), 0o755)
	if got, err := findSidecar(self); err != nil || got != beside {
		t.Errorf("beside: %s, %v, want %s", got, err, beside)
	}
}

func TestFindEnvoy(t *testing.T) {
	root, path := t.TempDir(), t.TempDir()
	t.Setenv("PATH", path)
	self := filepath.Join(root, "bin", "gatehouse")
	_, err := findEnvoy(self, "")
	wantError(t, err, "no Envoy 1.40.0", "ENVOY", "scripts/envoy.sh")
	_, err = findEnvoy(self, touch(t, filepath.Join(root, "text"), 0o644))
	wantError(t, err, "ENVOY names", "no program")

	onPath := touch(t, filepath.Join(path, "envoy"), 0o755)
	if got, err := findEnvoy(self, ""); err != nil || got != onPath {
		t.Errorf("on PATH: %s, %v, want %s", got, err, onPath)
	}
	fetched := touch(t, filepath.Join(root, ".tools", "envoy-1.40.0-"+machine(), "envoy"), 0o755)
	if got, err := findEnvoy(self, ""); err != nil || got != fetched {
		t.Errorf("fetched: %s, %v, want %s", got, err, fetched)
	}
	if got, err := findEnvoy(self, onPath); err != nil || got != onPath {
		t.Errorf("named: %s, %v, want %s", got, err, onPath)
	}
}
