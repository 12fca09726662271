package mesh_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
)

// listener is a Listen under way.
type listener struct {
	told   chan string
	ended  chan error
	cancel context.CancelFunc
}

// listen begins to listen, and returns when it is in force.
func (f fixture) listen(t *testing.T) listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := listener{make(chan string, 100), make(chan error, 1), cancel}
	t.Cleanup(cancel)
	go func() { l.ended <- f.Listen(ctx, func(table string) { l.told <- table }) }()
	l.want(t, "")
	return l
}

func (l listener) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-l.told:
		if got != want {
			t.Errorf("told of %q, want %q", got, want)
		}
	case err := <-l.ended:
		t.Fatalf("ended with %v, want to be told of %q", err, want)
	case <-time.After(time.Minute):
		t.Fatalf("not told of %q", want)
	}
}

func (l listener) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
		return nil
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sc, _ := f.register(t, asked("one"))
	l, other := f.listen(t), f.listen(t)
	f.report(t, sc.ID, mesh.Report{At: noon()}) // of which nobody is told
	steps := []struct {
		table string
		do    func()
	}{
		{"live_epoch", func() { f.exec(t, `SELECT next_live_epoch()`) }},
		{"sidecars", func() { wantCode(t, "update", second(f.UpdateSidecar(t.Context(), root(), sc)), "") }},
		{"sidecars", func() { sc.Version = 0; wantCode(t, "rotation", third(f.RotateSidecar(t.Context(), root(), sc)), "") }},
		{"sidecars", func() { wantCode(t, "revocation", f.RevokeSidecar(t.Context(), root(), sc), "") }},
		{"policy_activations", func() { f.activate(t, "main", 1, "a", "activate") }},
	}
	for _, s := range steps {
		s.do()
		l.want(t, s.table)
	}
	for _, s := range steps {
		other.want(t, s.table)
	}
	l.cancel()
	if err := l.end(t); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	const left = `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gatehouse mesh'`
	f.until(t, "its connection goes", left, "1")
}

// TestListenerIsCut ends the listener's connection at the server.
func TestListenerIsCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.listen(t)
	const cut = `SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gatehouse mesh'`
	if n := f.text(t, cut); n != "1" {
		t.Fatalf("%s listeners were cut", n)
	}
	if err := l.end(t); err == nil || apierr.From(err).HTTP() != http.StatusServiceUnavailable {
		t.Errorf("ended with %v, want internal.error with 503", err)
	}
	f.exec(t, `SELECT next_live_epoch()`) // the pool is well
	again := f.listen(t)
	f.exec(t, `SELECT next_live_epoch()`)
	again.want(t, "live_epoch")
}
