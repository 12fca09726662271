package auth

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/apierr"
)

// silent is a store that takes one kind of call, and never answers it.
type silent struct {
	*fakeStore
	call string
}

func (s silent) wait(ctx context.Context, call string) error {
	if s.call != call {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s silent) Reserve(ctx context.Context, account []byte, r Rule, now time.Time) (bool, Attempts, error) {
	if err := s.wait(ctx, "Reserve"); err != nil {
		return false, Attempts{}, err
	}
	return s.fakeStore.Reserve(ctx, account, r, now)
}

func (s silent) User(ctx context.Context, name string, now time.Time) (User, error) {
	if err := s.wait(ctx, "User"); err != nil {
		return User{}, err
	}
	return s.fakeStore.User(ctx, name, now)
}

func (s silent) GiveBack(ctx context.Context, account []byte, now time.Time) error {
	if err := s.wait(ctx, "User"); err != nil { // it stays silent
		return err
	}
	return s.fakeStore.GiveBack(ctx, account, now)
}

func (s silent) Fail(ctx context.Context, f Failure, r Rule, now time.Time) (bool, error) {
	if err := s.wait(ctx, "Fail"); err != nil {
		return false, err
	}
	return s.fakeStore.Fail(ctx, f, r, now)
}

func (s silent) Open(ctx context.Context, o Opening, now time.Time) error {
	if err := s.wait(ctx, "Open"); err != nil {
		return err
	}
	return s.fakeStore.Open(ctx, o, now)
}

// TestLoginEndsInTime asks a store that falls silent at each step of a login:
// the login ends, its attempt not being lapsed yet, and says no "no".
func TestLoginEndsInTime(t *testing.T) {
	t.Parallel()
	if loginTimeout+settleTimeout >= PendingLife {
		t.Error("an attempt lapses while its login is under way")
	}
	for _, tt := range []struct {
		call, password string
		took           time.Duration
	}{
		{"Reserve", goodPassword, loginTimeout},
		{"User", goodPassword, loginTimeout + settleTimeout},
		{"Fail", "wrong", settleTimeout},
		{"Open", goodPassword, loginTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			defer f.Stop()
			f.opts.Store = silent{f.store, tt.call}
			began := time.Now()
			_, err := f.Login(t.Context(), "ada", tt.password, nowhere)
			wantAnswer(t, tt.call, err, apierr.AuthUnavailable)
			if took := time.Since(began); took != tt.took {
				t.Errorf("%s: took %v, want %v", tt.call, took, tt.took)
			}
		})
	}
}
