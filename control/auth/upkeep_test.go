package auth

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/token"
)

// TestRotationUnderLoad logs in and verifies all the while keys change: by a
// verifier that learns of them as late as a sidecar may.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	feed := token.NewFeed("late", nil)
	keys := token.NewKeys(token.KeysOptions{})
	defer keys.Stop()
	late, err := token.NewVerifier([]config.Issuer{f.issuer()}, keys, token.Options{Feeds: map[string]*token.Feed{IssuerName: feed}})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	type minted struct {
		raw string
		at  time.Time
	}
	var out []minted
	rotations := 0
	for step := range 90 { // of a minute
		*f.now = epoch.Add(time.Duration(step) * time.Minute)
		if step%5 == 0 { // the sidecar asks, before anything else happens
			doc, err := f.KeySet(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := feed.Replace(doc, *f.now); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.RotateKeys(t.Context()); err == nil {
			rotations++
		} else if !errors.Is(err, errTooSoon) {
			t.Fatal(err)
		} else if err := f.UpdateKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, minted{s.AccessToken, *f.now})
		for _, m := range out {
			if f.now.Sub(m.at) > AccessTTL {
				continue
			}
			if _, err := f.Verify(t.Context(), m.raw); err != nil {
				t.Fatalf("minute %d: control refuses a token of %v: %v", step, m.at.Sub(epoch), err)
			}
			if _, err := late.Verify(t.Context(), *f.now, m.raw); err != nil {
				t.Fatalf("minute %d: a sidecar refuses a token of %v: %v", step, m.at.Sub(epoch), err)
			}
		}
	}
	if rotations < 5 {
		t.Errorf("keys changed %d times, want several", rotations)
	}
}

// TestUpkeep runs the goroutine through an outage.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newStopped(t, nil)
		f.store.down = fmt.Errorf("dial: %w", ErrUnavailable)
		if err := f.Start(t.Context()); err != nil {
			t.Fatalf("a database that is away keeps control from starting: %v", err)
		}
		_, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
		wantAnswer(t, "away from the start", err, apierr.AuthUnavailable)
		f.store.set(func() { f.store.down = nil })
		time.Sleep(ringRetry)
		synctest.Wait()
		_, err = f.Login(t.Context(), "ada", goodPassword, nowhere)
		wantAnswer(t, "back", err, "")

		f.store.set(func() { f.store.down = errGone })
		time.Sleep(maxRingAge + ringRefresh)
		f.store.set(func() { f.store.down = nil; clear(f.store.calls) })
		_, err = f.Login(t.Context(), "ada", goodPassword, nowhere)
		wantAnswer(t, "with old keys", err, apierr.AuthUnavailable)
		time.Sleep(ringRetry)
		synctest.Wait()
		_, err = f.Login(t.Context(), "ada", goodPassword, nowhere)
		wantAnswer(t, "back again", err, "")
		time.Sleep(time.Hour)
		synctest.Wait()
		f.store.set(func() {
			if n := f.store.calls["UpdateKeys"]; n != 1+int(time.Hour/ringRefresh) || f.store.calls["Prune"] != n {
				t.Errorf("kept keys %d times and pruned %d in an hour", n, f.store.calls["Prune"])
			}
		})
		f.Stop()
		f.Stop()
		if err := f.Start(t.Context()); err != nil {
			t.Errorf("start after stop: %v", err)
		}
	})
}

func TestStartRefusesKeysOfAnotherSecret(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := New(Options{Store: f.store, Box: newBox(t, "z", ""), Hasher: f.hasher, Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "JWT_SECRET_PREVIOUS") {
		t.Errorf("got %v, want an error that says what is missing", err)
	}
}

func TestStartAndStopInAnyOrder(t *testing.T) {
	t.Parallel()
	for range 20 {
		f := newStopped(t, new(epoch))
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				if err := f.Start(t.Context()); err != nil {
					t.Error(err)
				}
			})
			wait.Go(f.Stop)
		}
		wait.Wait()
		f.Stop()
	}
}
