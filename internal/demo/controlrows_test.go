package demo

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/devstack"
)

// reaction is how a scripted control answers one call.
type reaction struct {
	status int
	body   string
}

// scripted is a control that answers calls in order, the last answer again and
// again, and notes what it was asked.
type scripted struct {
	*probe
	asked []string // name, password, token
}

func newScripted(t *testing.T, script ...reaction) *scripted {
	t.Helper()
	s := &scripted{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var who struct{ Username, Password string }
		if err := json.NewDecoder(r.Body).Decode(&who); err != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		next := script[min(len(s.asked), len(script)-1)]
		s.asked = append(s.asked, strings.TrimSpace(who.Username+" "+who.Password+" "+r.Header.Get("authorization")))
		w.WriteHeader(next.status)
		_, _ = w.Write([]byte(next.body))
	}))
	t.Cleanup(srv.Close)
	s.probe = &probe{client: http.DefaultClient, ready: devstack.Ready{API: srv.URL}, tokens: map[string]string{}}
	return s
}

var (
	welcome = reaction{200, `{"access_token": "t"}`}
	wrong   = reaction{401, `{"error_code": "auth.invalid_credentials"}`}
	created = reaction{201, `{}`}
)

func TestUserLogsInOnce(t *testing.T) {
	t.Parallel()
	s := newScripted(t, welcome)
	for range 2 {
		if token, err := s.tokenOf(t.Context(), "observer"); token != "t" || err != nil {
			t.Errorf("got %q, %v", token, err)
		}
	}
	if diff := cmp.Diff([]string{"observer observer123"}, s.asked); diff != "" {
		t.Errorf("logins: -want +got\n%s", diff)
	}
}

func TestLoginsThatFailAreSeen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		script reaction
		want   string
	}{
		{"refused", wrong, "observer's login was answered 401 auth.invalid_credentials"},
		{"no token", reaction{200, `{}`}, "no access_token"},
		{"no JSON", reaction{200, `hello`}, "control's answer"},
	} {
		s := newScripted(t, tt.script)
		_, err := loggedIn("observer", try{path: "/"})(t.Context(), s.probe)
		wantFault(t, tt.what, outcome{fault: err}, tt.want)
		if len(s.tokens) > 0 {
			t.Errorf("%s: a token is kept: %v", tt.what, s.tokens)
		}
	}
}

func TestNothingListensIsAnAnswer(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	p := &probe{client: http.DefaultClient, ready: devstack.Ready{API: gone.URL}}
	a, err := logIn("observer", "x")(t.Context(), p)
	if err != nil || a.String() != noConnection {
		t.Errorf("got %s, %v, want %s", a, err, noConnection)
	}
}

func TestLockOut(t *testing.T) {
	t.Parallel()
	script := []reaction{welcome, created, welcome, wrong}
	s := newScripted(t, script...)
	if _, err := lockOut(t.Context(), s.probe); err != nil {
		t.Fatal(err)
	}
	fails := slices.Repeat([]string{lockedUser + " " + wrongPassword}, lockAfter)
	want := append([]string{
		"admin admin123", lockedUser + " " + lockedPassword + " Bearer t", lockedUser + " " + lockedPassword,
	}, fails...)
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("calls: -want +got\n%s", diff)
	}
	// Each step that goes another way is a fault.
	for i, said := range []string{"admin's login", "making user carol", "carol's login", "carol's login"} {
		broken := slices.Clone(script)
		broken[i] = reaction{418, `{"error_code": "odd"}`}
		_, err := lockOut(t.Context(), newScripted(t, broken...).probe)
		wantFault(t, said, outcome{fault: err}, said, "418 odd")
	}
}

// victim is a process that can be killed.
func victim(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	noError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func TestKillControl(t *testing.T) {
	t.Parallel()
	s := newScripted(t, welcome)
	cmd := victim(t)
	s.ready.PIDs.Control = cmd.Process.Pid
	// The script's server stands for one that outlives the kill.
	ctx, cancel := context.WithCancelCause(t.Context())
	given := errors.New("enough")
	cancel(given)
	s.tokens["developer"], s.tokens["observer"] = "t", "t"
	if _, err := killControl(ctx, s.probe); !errors.Is(err, given) {
		t.Errorf("control still answers: %v, want %v", err, given)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("control ended with %v, want killed", cmd.ProcessState)
	}
	_, err := killControl(t.Context(), s.probe)
	wantFault(t, "gone already", outcome{fault: err}, "killing control")
	s.ready.PIDs.Control = 0
	_, err = killControl(t.Context(), s.probe)
	wantFault(t, "none", outcome{fault: err}, "no control")
}

func TestKillControlNeedsTokensBefore(t *testing.T) {
	t.Parallel()
	s := newScripted(t, wrong)
	_, err := killControl(t.Context(), s.probe)
	wantFault(t, "no token", outcome{fault: err}, "developer's login")
}

func TestSilenceIsAwaited(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	p := &probe{client: http.DefaultClient, ready: devstack.Ready{API: gone.URL}}
	noError(t, p.awaitSilence(t.Context()))
}

// A stack that stays up keeps its control.
func TestOnlyADemoThatEndsKillsControl(t *testing.T) {
	t.Parallel()
	stays, ends := rows(false), rows(true)
	if len(ends)-len(stays) != len(killRows()) {
		t.Errorf("%d rows where it stays, %d where it ends", len(stays), len(ends))
	}
	for _, r := range stays {
		if strings.Contains(r.what, "killed") {
			t.Errorf("%s: in a demo that stays up", r.what)
		}
	}
}
