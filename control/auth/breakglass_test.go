package auth

import (
	"errors"
	"strings"
	"testing"

	"gatehouse/internal/request"
)

func emergency(name string) Emergency {
	return Emergency{User: name, Reason: "all are locked out", Host: "h1", OSUser: "op"}
}

// withRoot adds a disabled administrator of all tenants.
func (f fixture) withRoot() fixture {
	root := User{Subject: Subject{ID: "u3", Role: request.RoleAdmin, Tenant: request.AnyTenant}, Hash: "x"}
	f.store.set(func() { f.store.users["root"] = root })
	return f
}

func TestEmergencyIsValidated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*Emergency)
		want   string // part of the fault; "" for none
	}{
		{"good", func(*Emergency) {}, ""},
		{"one character", func(e *Emergency) { e.Reason = "\u00e9" }, ""},
		{"longest", func(e *Emergency) { e.Reason = strings.Repeat("\u00e9", MaxReasonRunes) }, ""},
		{"no reason", func(e *Emergency) { e.Reason = "" }, "reason"},
		{"blank reason", func(e *Emergency) { e.Reason = " \u00a0 " }, "reason"},
		{"too long", func(e *Emergency) { e.Reason = strings.Repeat("a", MaxReasonRunes+1) }, "reason"},
		{"two lines", func(e *Emergency) { e.Reason = "a\nb" }, "reason"},
		{"NUL", func(e *Emergency) { e.Reason = "a\x00" }, "reason"},
		{"no UTF-8", func(e *Emergency) { e.Reason = "a\xff" }, "reason"},
		{"no user", func(e *Emergency) { e.User = " " }, "user"},
		{"user of two lines", func(e *Emergency) { e.User = "a\nb" }, "user"},
	} {
		e := emergency("root")
		tt.change(&e)
		err := e.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestBreakGlassLetsIn(t *testing.T) {
	t.Parallel()
	f := newFixture(t).withRoot()
	session, done, err := f.BreakGlass(t.Context(), emergency(" ROOT"))
	if err != nil {
		t.Fatal(err)
	}
	if session.RefreshToken != "" || session.ExpiresIn != AccessTTL || done.Name != "root" || !done.Enabled {
		t.Errorf("got %+v and %+v", session, done)
	}
	p, err := f.Verify(t.Context(), session.AccessToken)
	if err != nil || p.Subject != "u3" || p.Role != request.RoleAdmin || p.Tenant != request.AnyTenant {
		t.Errorf("the token is of %+v, %v", p, err)
	}
	asked := f.store.rescue
	if string(asked.Account) != string(f.opts.Box.MAC(purposeAccount, []byte("root"))) {
		t.Error("another account is unlocked than logins are counted by")
	}
	if _, err := parsePHC(asked.Hash); err != nil {
		t.Errorf("the hash of a user to be made: %v", err)
	}
}

// TestBreakGlassGivesNothingAway fails at each step: there is no token then.
func TestBreakGlassGivesNothingAway(t *testing.T) {
	t.Parallel()
	stopped := newStopped(t, new(epoch)).withRoot()
	away := newFixture(t).withRoot()
	away.store.set(func() { away.store.down = ErrUnavailable })
	working := newFixture(t).withRoot()
	for _, tt := range []struct {
		name string
		f    fixture
		user string
		want error // nil for any
	}{
		{"no keys", stopped, "root", errStale},
		{"store away", away, "root", ErrUnavailable},
		{"no administrator", working, "ada", ErrRefused},
		{"nobody", working, "nobody", ErrRefused},
		{"no name", working, "", nil},
	} {
		session, done, err := tt.f.BreakGlass(t.Context(), emergency(tt.user))
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if session.AccessToken != "" || done != (Rescued{}) {
			t.Errorf("%s: got %+v and %+v with an error", tt.name, session, done)
		}
	}
	if n := stopped.store.calls["Rescue"]; n != 0 {
		t.Error("the store was asked without keys to sign with")
	}
}
