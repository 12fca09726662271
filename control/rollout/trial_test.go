package rollout

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/revision"
)

// untilEnd is work that ends with its ctx.
func untilEnd(ctx context.Context) (Findings, error) {
	<-ctx.Done()
	return Findings{}, ctx.Err()
}

// TestTrialsAreBounded fills all places: the next one waits and gives up, or
// gets the place that becomes free.
func TestTrialsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial()
		for range maxTrials {
			go func() {
				if _, err := tr.run(t.Context(), untilEnd); !errors.Is(err, errTooSlow) {
					t.Errorf("work without an end: got %v, want that it is too slow", err)
				}
			}()
		}
		synctest.Wait()
		begin := time.Now()
		if _, err := tr.run(t.Context(), untilEnd); !errors.Is(err, errBusy) || time.Since(begin) != trialWait {
			t.Errorf("without a place: got %v after %v, want that all are taken after %v", err, time.Since(begin), trialWait)
		}
		tr.wait = trialLimit
		ran := false
		_, err := tr.run(t.Context(), func(context.Context) (Findings, error) { ran = true; return Findings{}, nil })
		if err != nil || !ran || time.Since(begin) != trialLimit {
			t.Errorf("with a place that became free: got %v, ran %v after %v", err, ran, time.Since(begin))
		}
	})
}

// TestUnstoppableKeepsItsPlace shows that work which doesn't heed its ctx is
// answered in time, and counted until it has ended.
func TestUnstoppableKeepsItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial()
		release := make(chan struct{})
		for range maxTrials {
			_, err := tr.run(t.Context(), func(context.Context) (Findings, error) { <-release; return Findings{}, nil })
			if !errors.Is(err, errTooSlow) {
				t.Fatalf("got %v, want that it is too slow", err)
			}
		}
		if _, err := tr.run(t.Context(), untilEnd); !errors.Is(err, errBusy) {
			t.Errorf("while both go on: got %v, want that there is no place", err)
		}
		close(release)
		synctest.Wait()
		if _, err := tr.run(t.Context(), func(context.Context) (Findings, error) { return Findings{}, nil }); err != nil {
			t.Errorf("after both have ended: %v", err)
		}
	})
}

func TestTrialPassesOn(t *testing.T) {
	t.Parallel()
	tr := newTrial()
	want := Findings{Faults: []Fault{{Message: "no"}}}
	got, err := tr.run(t.Context(), func(context.Context) (Findings, error) { return want, nil })
	if err != nil || len(got.Faults) != 1 {
		t.Errorf("findings: got %v and %v", got, err)
	}
	broken := errors.New("broken")
	if _, err := tr.run(t.Context(), func(context.Context) (Findings, error) { return Findings{}, broken }); !errors.Is(err, broken) {
		t.Errorf("error: got %v", err)
	}
	if _, err := tr.run(t.Context(), func(context.Context) (Findings, error) { panic("boom") }); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("panic: got %v, want an error", err)
	}
	if len(tr.places) != 0 {
		t.Errorf("%d places are still taken", len(tr.places))
	}
}

// TestCallerLeaves ends the caller while it waits, and while its work runs.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		others, end := context.WithCancel(t.Context())
		defer end()
		go tr.run(others, untilEnd)
		if _, err := tr.run(ctx, untilEnd); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errTooSlow) {
			t.Errorf("running: got %v, want the caller's end", err)
		}
		go tr.run(others, untilEnd)
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tr.run(ctx, untilEnd); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errBusy) {
			t.Errorf("waiting: got %v, want the caller's end", err)
		}
	})
}

// TestEndlessTests pushes a test of a set's own that would run for years.
func TestEndlessTests(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Store: noStore{}, Box: box(t, "s", "")})
	if err != nil {
		t.Fatal(err)
	}
	s.trial.limit = 200 * time.Millisecond
	endless := "package app_test\n\ntest_x if count([1 | numbers.range(1, 100000)[_]; numbers.range(1, 100000)[_]]) == 0\n"
	_, _, err = s.PushRevision(t.Context(), admin(), "set", files("app_test.rego", endless), "")
	if body := string(apierr.From(err).Body("")); !strings.Contains(body, `"/files","code":"test_failed"`) || !strings.Contains(body, "did not end") {
		t.Errorf("got %s, want that it is too slow", body)
	}
	for range maxTrials { // hangs if the evaluation goes on
		s.trial.places <- struct{}{}
	}
}

// TestMuchRegoHoldsNothingUp pushes more Rego than may be compiled, as often as
// there are places and once more. None of it takes the time of compiling, so
// that all are answered by their fault, and the places are free afterwards.
func TestMuchRegoHoldsNothingUp(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Store: noStore{}, Box: box(t, "s", "")})
	if err != nil {
		t.Fatal(err)
	}
	push := func(f revision.Files) string {
		_, _, err := s.PushRevision(t.Context(), admin(), "set", f, "")
		if e := apierr.From(err); e.HTTP() != 422 {
			t.Errorf("got %v (%d), want 422", err, e.HTTP())
		}
		return string(apierr.From(err).Body(""))
	}
	for range maxTrials + 1 {
		if body := push(files("a.rego", manyRules(6000))); !strings.Contains(body, `"/files","code":"too_large"`) {
			t.Errorf("got %s, want too_large", body)
		}
	}
	if body := push(files("app.rego", "package app\n\nallow if {")); !strings.Contains(body, `"code":"rego_invalid"`) {
		t.Errorf("the next push: got %s, want that it was looked at", body)
	}
	for range maxTrials { // hangs if a compiler goes on for ever
		s.trial.places <- struct{}{}
	}
}

// noStore has nothing, and takes nothing.
type noStore struct{ Store }

func (noStore) Revision(context.Context, string, string) (Stored, error) {
	return Stored{}, ErrNotFound
}

// TestPushWithoutAPlace is told apart from a push that is wrong.
func TestPushWithoutAPlace(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Store: noStore{}, Box: box(t, "s", "")})
	if err != nil {
		t.Fatal(err)
	}
	s.trial = &trial{places: make(chan struct{}), wait: time.Millisecond, limit: time.Second}
	_, _, err = s.PushRevision(t.Context(), admin(), "set", files(), "")
	if e := apierr.From(err); e.Code() != apierr.PolicyUnavailable || e.HTTP() != 503 || !e.Retryable() {
		t.Errorf("got %v (%d), want that it can't be checked now", err, e.HTTP())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = s.PushRevision(ctx, admin(), "set", revision.Files{}, "")
	if e := apierr.From(err); e.HTTP() != 503 {
		t.Errorf("the caller has left: got %v (%d)", err, e.HTTP())
	}
}
