package control

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"gatehouse/control/auth"
	"gatehouse/internal/pgtest"
)

// breakGlass runs the command, and returns what it printed.
func breakGlass(t *testing.T, env func(string) string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, says bytes.Buffer
	err = BreakGlass(t.Context(), args, env, &out, &says)
	return out.String(), says.String(), err
}

// The token is taken by replicas that run, for what needs an administrator of
// all tenants, though they just refused its user.
func TestBreakGlassAtTheAPI(t *testing.T) {
	t.Parallel()
	database := pgtest.Empty(t)
	r := start(t, database)
	for range 5 {
		r.login("admin", "wrong")
	}
	if status, body, _ := r.login("admin", "admin123"); status != 429 {
		t.Fatalf("login of who is locked out: %d %v", status, body)
	}
	stdout, stderr, err := breakGlass(t, environment(database), "--user", "Admin", "--reason", "locked out")
	if err != nil {
		t.Fatal(err)
	}
	access, ok := strings.CutSuffix(stdout, "\n")
	if !ok || strings.Count(access, ".") != 2 || strings.ContainsAny(access, " \n") || strings.Contains(stderr, access) {
		t.Errorf("stdout is not the token alone: %q, stderr %q", stdout, stderr)
	}
	for _, want := range []string{"admin is let in", "Failed logins were forgotten", "audit log", auth.AccessTTL.String()} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr has no word of %q: %s", want, stderr)
		}
	}
	if status, body, _ := r.call("GET", "/api/v1/tenants", access, nil); status != 200 {
		t.Errorf("the API with the token: %d %v", status, body)
	}
	r.token("admin", "admin123")
}

// Where nobody is, the first administrator is made, who sets a password.
func TestBreakGlassMakesTheFirst(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	access, stderr, err := breakGlass(t, environment(database), "--user", "First", "--reason", "new installation")
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := strings.Cut(stderr, "PATCH /api/v1/users/")
	id, _, ok := strings.Cut(id, ".")
	if !ok {
		t.Fatalf("no word of the password: %s", stderr)
	}
	r := start(t, database)
	_, _, header := r.call("GET", "/api/v1/users/"+id, strings.TrimSpace(access), nil)
	status, body := r.patch("/api/v1/users/"+id, strings.TrimSpace(access), header.Get("etag"), map[string]string{"password": "correct horse battery"})
	if status != 200 {
		t.Fatalf("setting the password: %d %v", status, body)
	}
	r.token("first", "correct horse battery")
}

func TestBreakGlassRefuses(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	call := []string{"--user", "root", "--reason", "it burns"}
	for _, tt := range []struct {
		name string
		env  func(string) string
		args []string
		code int
		want string
	}{
		{"no reason", environment(database), call[:2], 2, "reason"},
		{"no user", environment(database), call[2:], 2, "user"},
		{"reason too long", environment(database), []string{"--user", "root", "--reason", strings.Repeat("a", 1001)}, 2, "reason"},
		{"unknown flag", environment(database), append([]string{"--nonsense"}, call...), 2, "nonsense"},
		{"more", environment(database), append(call[:4:4], "more"), 2, "more"},
		{"no environment", environment("", "JWT_SECRET", ""), call, 2, "JWT_SECRET"},
		{"off", environment(database, breakGlassSwitch, "off"), call, 1, "disabled"},
		{"anything but on", environment(database, breakGlassSwitch, "False"), call, 1, "disabled"},
		{"no database", environment("postgres://u:hunter2@127.0.0.1:1/none"), call, 1, "database"},
		{"no schema", environment(pgtest.Empty(t)), call, 1, "gatehouse migrate up"},
	} {
		stdout, stderr, err := breakGlass(t, tt.env, tt.args...)
		if err == nil || ExitCode(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v (%d), want %q (%d)", tt.name, err, ExitCode(err), tt.want, tt.code)
		}
		if stdout != "" || stderr != "" || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: printed %q and %q", tt.name, stdout, stderr)
		}
	}
	if _, _, err := breakGlass(t, environment(database, breakGlassSwitch, "on"), call...); err != nil {
		t.Errorf("on: %v", err)
	}
}

// Keys that another secret sealed are proof of nothing.
func TestBreakGlassNeedsTheSecret(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	call := []string{"--user", "root", "--reason", "it burns"}
	if _, _, err := breakGlass(t, environment(database), call...); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := breakGlass(t, environment(database, "JWT_SECRET", strings.Repeat("x", 32)), call...)
	if err == nil || stdout != "" || !strings.Contains(err.Error(), "JWT_SECRET") {
		t.Errorf("another secret: printed %q, %v", stdout, err)
	}
}

// broken is a writer that is gone.
type broken struct{}

var errGone = errors.New("gone")

func (broken) Write([]byte) (int, error) { return 0, errGone }

func TestBreakGlassSaysThatTheTokenIsLost(t *testing.T) {
	t.Parallel()
	call := []string{"--user", "root", "--reason", "it burns"}
	err := BreakGlass(t.Context(), call, environment(pgtest.URL(t)), broken{}, io.Discard)
	if !errors.Is(err, errGone) || !strings.Contains(err.Error(), "was done") {
		t.Errorf("got %v", err)
	}
}

func TestBreakGlassHelp(t *testing.T) {
	t.Parallel()
	stdout, _, err := breakGlass(t, environment(""), "--help")
	if err != nil || stdout != breakGlassHelp {
		t.Errorf("got %q, %v", stdout, err)
	}
}
