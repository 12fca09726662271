package postgres_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/control/auth"
	"gatehouse/internal/apierr"
)

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, f *fixture, refresh string)
		want   apierr.Code
	}{
		{"nothing happens", func(*testing.T, *fixture, string) {}, ""},
		{"user disabled", func(t *testing.T, f *fixture, _ string) {
			f.exec(t, `UPDATE users SET status = 'disabled' WHERE username = 'ada'`)
		}, apierr.AuthInvalidCredentials},
		{"user deleted", func(t *testing.T, f *fixture, _ string) { f.exec(t, `DELETE FROM users WHERE username = 'ada'`) }, apierr.AuthInvalidCredentials},
		{"tenant suspended", func(t *testing.T, f *fixture, _ string) {
			f.exec(t, `UPDATE tenants SET status = 'suspended', suspended_at = now() WHERE id = 'org1'`)
		}, apierr.AuthInvalidCredentials},
		{"logged out", func(t *testing.T, f *fixture, refresh string) {
			wantAnswer(t, "logout", f.Logout(t.Context(), refresh), "")
			wantAnswer(t, "logout again", f.Logout(t.Context(), refresh), "")
		}, apierr.AuthInvalidCredentials},
		{"a moment before its end", func(_ *testing.T, f *fixture, _ string) { f.now = f.now.Add(auth.SessionTTL - time.Second) }, ""},
		{"its end", func(_ *testing.T, f *fixture, _ string) { f.now = f.now.Add(auth.SessionTTL) }, apierr.AuthInvalidCredentials},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			s, err := f.Login(t.Context(), "ada", password, from)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(t, f, s.RefreshToken)
			if err := f.UpdateKeys(t.Context()); err != nil {
				t.Fatal(err)
			}
			next, err := f.Refresh(t.Context(), s.RefreshToken)
			wantAnswer(t, tt.name, err, tt.want)
			if err == nil {
				_, err = f.Refresh(t.Context(), next.RefreshToken)
				wantAnswer(t, "the next one", err, "")
			}
		})
	}
}

func TestResumedTenantFindsItsSessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	f.exec(t, `UPDATE tenants SET status = 'suspended', suspended_at = now() WHERE id = 'org1'`)
	_, err = f.Refresh(t.Context(), s.RefreshToken)
	wantAnswer(t, "suspended", err, apierr.AuthInvalidCredentials)
	_, err = f.Login(t.Context(), "ada", password, from)
	wantAnswer(t, "login while suspended", err, apierr.AuthInvalidCredentials)
	f.exec(t, `UPDATE tenants SET status = 'active', suspended_at = NULL WHERE id = 'org1'`)
	_, err = f.Refresh(t.Context(), s.RefreshToken)
	wantAnswer(t, "resumed", err, "")
}

func TestReuseRevokesTheFamily(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Refresh(t.Context(), first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Refresh(t.Context(), first.RefreshToken)
	wantAnswer(t, "reused", err, apierr.AuthInvalidCredentials)
	_, err = f.Refresh(t.Context(), second.RefreshToken)
	wantAnswer(t, "the honest one", err, apierr.AuthInvalidCredentials)
	_, err = f.Refresh(t.Context(), other.RefreshToken)
	wantAnswer(t, "another session", err, "")
	if got := f.text(t, `SELECT string_agg(action || ' ' || outcome, ', ' ORDER BY seq) FROM audit_log WHERE target_kind = 'user'`); got !=
		"auth.login success, auth.login success, auth.refresh success, auth.refresh_reuse denied, auth.refresh success" {
		t.Errorf("audit: %s", got)
	}
}

// TestParallelRefreshes uses one token many times at once, and its successor
// too: one wins at most, and the family is gone with all its tokens.
func TestParallelRefreshes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	won := 0
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			token := s.RefreshToken
			for range 3 {
				next, err := f.Refresh(t.Context(), token)
				if err != nil {
					wantAnswer(t, "loser", err, apierr.AuthInvalidCredentials)
					return
				}
				mu.Lock()
				won++
				mu.Unlock()
				token = next.RefreshToken
			}
		})
	}
	wait.Wait()
	if won < 1 || won > 3 {
		t.Errorf("%d refreshes won, want one line of them", won)
	}
	if got := f.text(t, `SELECT count(*)::text FROM refresh_tokens WHERE revoked_at IS NULL`); got != "0" {
		t.Errorf("%s tokens of a revoked family are good", got)
	}
}

// TestChangedMeanwhile opens a session for a user who was changed after the
// password was compared.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u, err := f.store.User(t.Context(), "ada", f.now)
	if err != nil {
		t.Fatal(err)
	}
	account, refresh := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("r"))
	o := auth.Opening{Account: account[:], User: u, Refresh: refresh[:], Expires: f.now.Add(time.Hour)}
	for _, change := range []string{`status = 'disabled'`, `status = 'active', role = 'observer'`, `role = 'developer', password_hash = password_hash || 'A'`} {
		f.exec(t, `UPDATE users SET `+change+` WHERE username = 'ada'`)
		if err := f.store.Open(t.Context(), o, f.now); !errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", change, err)
		}
	}
	if got := f.text(t, `SELECT count(*)::text FROM refresh_tokens`); got != "0" {
		t.Errorf("%s sessions were opened", got)
	}
}

func TestRehashIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u, err := f.store.User(t.Context(), "ada", f.now)
	if err != nil {
		t.Fatal(err)
	}
	account, refresh := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("r"))
	fresh := strings.Replace(u.Hash, "m=47104", "m=47105", 1)
	o := auth.Opening{Account: account[:], User: u, Refresh: refresh[:], Expires: f.now.Add(time.Hour), NewHash: fresh}
	if err := f.store.Open(t.Context(), o, f.now); err != nil {
		t.Fatal(err)
	}
	if got := f.text(t, `SELECT password_hash FROM users WHERE username = 'ada'`); got != fresh {
		t.Errorf("the hash is %s", got)
	}
}
