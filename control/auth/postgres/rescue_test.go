package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gatehouse/control/auth"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

func emergency(name string) auth.Emergency {
	return auth.Emergency{User: name, Reason: "it burns", Host: "h1", OSUser: "op"}
}

const (
	rescues = `SELECT coalesce(string_agg(concat_ws(' ', outcome, tenant_id, actor_kind, actor, target_kind, details->>'reason', details->>'host',
		details->>'os_user', details->>'username', details->>'made', details->>'enabled', details->>'unlocked'), E'\n' ORDER BY seq), '')
		FROM audit_log WHERE action = 'auth.break_glass'`
	told  = `SELECT count(*)::text FROM outbox WHERE kind = 'auth.break_glass' AND tenant_id = '*' AND payload->>'reason' = 'it burns'`
	state = `SELECT string_agg(concat_ws(' ', username, tenant_id, role, status), ', ' ORDER BY username) FROM users`
)

// TestBreakGlass goes through all that a name can be.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	const users = "ada org1 developer active, off org1 developer disabled, root * admin "
	for _, tt := range []struct {
		name, prepare, user string
		refused             string // part of the sentence; "" for let in
		users, audit        string // afterwards; the audit row without what all have
	}{
		{"active", "", "ROOT ", "", users + "active", "root false false false"},
		{"disabled", `UPDATE users SET status = 'disabled' WHERE username = 'root'`, "root", "", users + "disabled to active", "root false true false"},
		{"no administrator", `UPDATE users SET status = 'disabled' WHERE username = 'root'`, "ada", `"ada" is no administrator of all tenants`, users + "disabled", "ada"},
		{"of one tenant", `UPDATE users SET role = 'admin' WHERE username = 'ada'`, "ada", `"ada" is no administrator`, strings.Replace(users, "developer", "admin", 1) + "active", "ada"},
		{"nobody, others", "", "eve", `there is no user "eve", but there are administrators of all tenants; name one of them: root`, users + "active", "eve"},
		{"nobody at all", `UPDATE users SET status = 'disabled' WHERE username = 'root'`, "Eve", "", strings.Replace(users, "off", "eve * admin active, off", 1) + "disabled", "eve true false false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if tt.prepare != "" {
				f.exec(t, tt.prepare)
			}
			session, done, err := f.BreakGlass(t.Context(), emergency(tt.user))
			outcome, events := "success", "1"
			if tt.refused != "" {
				outcome, events = "denied", "0"
				if !errors.Is(err, auth.ErrRefused) || !strings.Contains(err.Error(), tt.refused) || session.AccessToken != "" {
					t.Errorf("got %v and token %q, want a refusal: %s", err, session.AccessToken, tt.refused)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if p, err := f.Verify(t.Context(), session.AccessToken); err != nil || p.Subject != done.User.ID || p.Role != request.RoleAdmin || p.Tenant != request.AnyTenant {
				t.Errorf("the token is of %+v, %v", p, err)
			}
			if got, want := f.text(t, state), strings.Replace(tt.users, "disabled to ", "", 1); got != want {
				t.Errorf("users are %s, want %s", got, want)
			}
			if got, want := f.text(t, rescues), outcome+" * break_glass op@h1 user it burns h1 op "+tt.audit; got != want {
				t.Errorf("audit: got %q, want %q", got, want)
			}
			if got := f.text(t, told); got != events {
				t.Errorf("%s events, want %s", got, events)
			}
		})
	}
}

// TestBreakGlassUnlocks locks an administrator out, and lets them in: with the
// password too.
func TestBreakGlassUnlocks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 5 {
		_, _ = f.Login(t.Context(), "root", "wrong", from)
	}
	_, err := f.Login(t.Context(), "root", password, from)
	wantAnswer(t, "locked out", err, apierr.RateLimitExceeded)
	_, done, err := f.BreakGlass(t.Context(), emergency("root"))
	if err != nil || !done.Unlocked || done.Enabled || done.Made {
		t.Fatalf("got %+v, %v", done, err)
	}
	_, err = f.Login(t.Context(), "root", password, from)
	wantAnswer(t, "login afterwards", err, "")
}

// TestBreakGlassOutlivesRevocation revokes all of an administrator's tokens
// just now: the new one is not among them.
func TestBreakGlassOutlivesRevocation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `INSERT INTO revocations (tenant_id, kind, subject, issued_before, epoch, created_by, expires_at)
		SELECT '*', 'subject', id::text, $1, 1, 'x', $1::timestamptz + interval '15 minutes' FROM users WHERE username = 'root'`, f.now)
	session, _, err := f.BreakGlass(t.Context(), emergency("root"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Verify(t.Context(), session.AccessToken)
	wantAnswer(t, "the token", err, "")
}

// TestBreakGlassIsRecordedOrNotDone lets the audit row, and the event, fail.
func TestBreakGlassIsRecordedOrNotDone(t *testing.T) {
	t.Parallel()
	for _, wall := range []string{
		`ALTER TABLE audit_log ADD CONSTRAINT wall CHECK (action <> 'auth.break_glass')`,
		`ALTER TABLE outbox ADD CONSTRAINT wall CHECK (kind <> 'auth.break_glass')`,
	} {
		f := newFixture(t)
		f.exec(t, `UPDATE users SET status = 'disabled' WHERE username = 'root'`)
		f.exec(t, wall)
		for _, name := range []string{"root", "eve"} {
			session, _, err := f.BreakGlass(t.Context(), emergency(name))
			if err == nil || session.AccessToken != "" {
				t.Errorf("%s: %s: got a token, %v", wall, name, err)
			}
		}
		if got := f.text(t, `SELECT count(*)::text FROM users WHERE username = 'eve' OR username = 'root' AND status = 'active'`); got != "0" {
			t.Errorf("%s: %s users were made usable", wall, got)
		}
		if got := f.text(t, rescues); got != "" {
			t.Errorf("%s: audited without being done: %s", wall, got)
		}
	}
}

// TestBreakGlassMakesOne asks for many new administrators at once, at two
// services: one is made, and the others are told of it.
func TestBreakGlassMakesOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `DELETE FROM users`)
	services := []*auth.Service{f.Service, f.service(t)}
	errs := make([]error, 8)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() { _, _, errs[i] = services[i%2].BreakGlass(t.Context(), emergency(fmt.Sprint("new", i))) })
	}
	wait.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !errors.Is(err, auth.ErrRefused) {
			t.Errorf("got %v, want a refusal", err)
		}
	}
	if n := f.text(t, `SELECT count(*)::text FROM users`); made != 1 || n != "1" {
		t.Errorf("%d were let in and %s users made, want one", made, n)
	}
}

// TestBreakGlassNamesSome bounds what a refusal names.
func TestBreakGlassNamesSome(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `INSERT INTO users (tenant_id, username, password_hash, role) SELECT '*', 'a' || to_char(i, 'FM00'), '$argon2id$', 'admin' FROM generate_series(1, 30) i`)
	_, _, err := f.BreakGlass(t.Context(), emergency("eve"))
	if err == nil || !strings.HasSuffix(err.Error(), "a01, a02, a03, a04, a05, a06, a07, a08, a09, a10, and more") {
		t.Errorf("got %v", err)
	}
}
