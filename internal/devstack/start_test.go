package devstack

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// What succeeds is tested with the real programs, in e2e_test.go.
func TestFailedStartLeavesNothing(t *testing.T) {
	public, dir := publicDir(t), publicDir(t)
	t.Setenv("TMPDIR", dir)
	program := touch(t, filepath.Join(public, "program"), 0o755)
	data := filepath.Join(public, "data")
	file := touch(t, filepath.Join(t.TempDir(), "file"), 0o644)
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"no Envoy", Options{Sidecar: program, Envoy: "/nowhere/envoy"}, "/nowhere/envoy"},
		{"no policies", Options{Sidecar: program, Envoy: program, Policies: "/nowhere"}, "is no folder"},
		{"bad ready file", Options{Sidecar: program, Envoy: program, ReadyFile: filepath.Join(file, "x")}, "--ready-file"},
		{"bad data", Options{Sidecar: program, Envoy: program, Data: filepath.Join(file, "x")}, "not a directory"},
		{"no control", Options{Sidecar: program, Envoy: program, Data: data, Control: "/nowhere/control"}, "starting control"},
	}
	for _, tt := range tests {
		o := withControl(t, tt.o)
		o.Control = cmp.Or(tt.o.Control, o.Control)
		s, err := Start(t.Context(), o)
		wantError(t, err, tt.want)
		if s != nil {
			t.Errorf("%s: a stack came with the error", tt.name)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "gatehouse-dev-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestStartIsCanceled(t *testing.T) {
	t.Parallel()
	dir := publicDir(t)
	sleeper := filepath.Join(dir, "sleeper")
	writeProgram(t, sleeper, "#!/bin/sh\nexec sleep 600\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, withControl(t, Options{Sidecar: sleeper, Envoy: sleeper, Data: filepath.Join(dir, "data")}))
	wantError(t, err, "did not come up", "canceled")
}

func TestChildThatDiesBeforeReadyEndsTheStart(t *testing.T) {
	t.Parallel()
	dir, out := publicDir(t), &buffer{}
	broken := filepath.Join(dir, "broken")
	writeProgram(t, broken, "#!/bin/sh\necho the reason; exit 7\n")
	o := withControl(t, Options{Sidecar: broken, Envoy: broken, Data: filepath.Join(dir, "data"), Out: out})
	o.Control = broken
	_, err := Start(t.Context(), o)
	wantError(t, err, "a child ended before all was ready: control")
	if got := out.String(); !strings.Contains(got, "control ended by itself: exit status 7") || !strings.Contains(got, "| the reason") {
		t.Errorf("the child is not named:\n%s", got)
	}
}

// Postgres is no child of the spawner's, and ends with a failed start too.
func TestPostgresThatCantStartEndsTheStart(t *testing.T) {
	t.Parallel()
	dir := publicDir(t)
	program := touch(t, filepath.Join(dir, "program"), 0o755)
	data := filepath.Join(dir, "data")
	touch(t, filepath.Join(data, "postgres"), 0o644)
	o := withControl(t, Options{Sidecar: program, Envoy: program, Data: data})
	o.Postgres = ""
	_, err := Start(t.Context(), o)
	wantError(t, err, "did not come up", "PostgreSQL", "not a directory")
}
