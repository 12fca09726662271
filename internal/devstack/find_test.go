package devstack

import (
	"path/filepath"
	"testing"

	"gatehouse/internal/pgserver"
)

func TestFindBeside(t *testing.T) {
	for _, program := range []string{sidecarBinary, controlBinary} {
		bin, path := t.TempDir(), t.TempDir()
		t.Setenv("PATH", path)
		self := filepath.Join(bin, "gatehouse")
		_, err := findBeside(self, program, "")
		wantError(t, err, "no "+program, self, "make build")
		onPath := touch(t, filepath.Join(path, program), 0o755)
		if got, err := findBeside(self, program, ""); err != nil || got != onPath {
			t.Errorf("on PATH: %s, %v, want %s", got, err, onPath)
		}
		beside := touch(t, filepath.Join(bin, program), 0o755)
		if got, err := findBeside(self, program, ""); err != nil || got != beside {
			t.Errorf("beside: %s, %v, want %s", got, err, beside)
		}
		if got, err := findBeside(self, program, "/named"); err != nil || got != "/named" {
			t.Errorf("named: %s, %v", got, err)
		}
	}
}

func TestFindPostgres(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := touch(t, filepath.Join(dir, "postgres"), 0o755)
	writeProgram(t, program, "#!/bin/sh\necho 'postgres (PostgreSQL) 16.1'\n")
	touch(t, filepath.Join(dir, "initdb"), 0o755)
	if got, err := findPostgres(dir); err != nil || got != dir {
		t.Errorf("got %s, %v, want %s", got, err, dir)
	}
	_, err := findPostgres("/nowhere")
	wantError(t, err, "POSTGRES_BIN", "/nowhere")
	wantError(t, noPostgres(pgserver.ErrMissing), "PostgreSQL 14 or newer", "scripts/postgres.sh", "--postgres")
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
