package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/pgtest"
)

// asCommand in the environment makes this test process the command.
const asCommand = "GATEHOUSE_CONTROL_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "" {
		os.Exit(m.Run())
	}
	main()
}

// command runs the process with an environment of its own.
func command(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append([]string{asCommand + "=1"}, env...)
	var out, says bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &says
	err = cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), says.String()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	full := []string{"DATABASE_URL=postgres://u@127.0.0.1:1/none", "JWT_SECRET=" + strings.Repeat("s", 32)}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		says string
	}{
		{"no environment", nil, nil, 2, "DATABASE_URL"},
		{"an argument", full, []string{"serve"}, 2, "takes no arguments"},
		{"no reason", full, []string{"break-glass", "--user", "root"}, 2, "--reason"},
		{"disabled", append(full, "GATEHOUSE_BREAK_GLASS=off"), []string{"break-glass", "--user", "root", "--reason", "x"}, 1, "disabled"},
		{"no database", full, []string{"break-glass", "--user", "root", "--reason", "x"}, 1, "gatehouse-control: break-glass:"},
		{"help", nil, []string{"break-glass", "--help"}, 0, ""},
	} {
		code, stdout, stderr := command(t, tt.env, tt.args...)
		if code != tt.code || (stdout == "") != (code != 0) || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", tt.name, code, tt.code, tt.says, stdout, stderr)
		}
	}
}

// TestBreakGlass lets the process make the first administrator. That it did is
// in the audit log, though nobody uses the token.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	env := []string{"DATABASE_URL=" + database, "JWT_SECRET=" + strings.Repeat("s", 32)}
	code, stdout, stderr := command(t, env, "break-glass", "--user", "root", "--reason", "it burns")
	if code != 0 || strings.Count(stdout, "\n") != 1 || strings.Count(stdout, ".") != 2 || !strings.Contains(stderr, "audit log") {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	const row = `SELECT count(*) FROM audit_log a JOIN users u ON u.id::text = a.target
		WHERE action = 'auth.break_glass' AND actor_kind = 'break_glass' AND details->>'reason' = 'it burns' AND details->>'host' = $1 AND details->>'os_user' <> ''`
	if err := conn.QueryRow(t.Context(), row, host).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows in the audit log, want one; %v", n, err)
	}
}
