package auth

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
	"gatehouse/internal/token"
)

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(f fixture, tokenID string)
		want   apierr.Code
	}{
		{"as it was", func(fixture, string) {}, ""},
		{"disabled", func(f fixture, _ string) { f.edit(func(u *User) { u.Active = false }) }, apierr.AuthInvalidToken},
		{"deleted", func(f fixture, _ string) { delete(f.store.users, "ada") }, apierr.AuthInvalidToken},
		{"another role", func(f fixture, _ string) { f.edit(func(u *User) { u.Role = request.RoleObserver }) }, apierr.AuthInvalidToken},
		{"another tenant", func(f fixture, _ string) { f.edit(func(u *User) { u.Tenant = "org2" }) }, apierr.AuthInvalidToken},
		{"another project", func(f fixture, _ string) { f.edit(func(u *User) { u.Project = "" }) }, apierr.AuthInvalidToken},
		{"revoked since", func(f fixture, _ string) { f.edit(func(u *User) { u.Revoked = epoch.Add(time.Millisecond) }) }, apierr.AuthInvalidToken},
		{"revoked before", func(f fixture, _ string) { f.edit(func(u *User) { u.Revoked = epoch.Add(-time.Second) }) }, ""},
		{"this token revoked", func(f fixture, id string) { f.store.used["token "+id] = true }, apierr.AuthInvalidToken},
		{"expired", func(f fixture, _ string) {
			*f.now = epoch.Add(AccessTTL + token.Leeway)
		}, apierr.AuthExpiredToken},
		{"keys too old", func(f fixture, _ string) { *f.now = epoch.Add(token.MaxKeyAge + time.Second) }, apierr.AuthUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			s, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
			if err != nil {
				t.Fatal(err)
			}
			p, err := f.Verify(t.Context(), s.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			f.store.set(func() { tt.change(f, p.TokenID) })
			*f.now = f.now.Add(StandingAge)
			_, err = f.Verify(t.Context(), s.AccessToken)
			wantAnswer(t, tt.name, err, tt.want)
		})
	}
}

func (f fixture) edit(change func(*User)) {
	u := f.store.users["ada"]
	change(&u)
	f.store.users["ada"] = u
}

func TestStandingIsAskedForOncePerAge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {StandingAge - 1, 1}, {StandingAge, 2}, {StandingAge + time.Second, 2}} {
		*f.now = epoch.Add(tt.after)
		if _, err := f.Verify(t.Context(), s.AccessToken); err != nil {
			t.Fatal(err)
		}
		if got := f.store.calls["Standing"]; got != tt.want {
			t.Errorf("after %v: asked %d times, want %d", tt.after, got, tt.want)
		}
	}
}

func TestStandingsAreBounded(t *testing.T) {
	t.Parallel()
	s := newStandings(newFakeStore())
	for i := range maxStandings + 10 {
		if _, err := s.of(t.Context(), epoch, request.Principal{Subject: "u", TokenID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.known); n != 10 {
		t.Errorf("%d are remembered, want the last ten", n)
	}
	for i := range maxStandings {
		_, _ = s.of(t.Context(), epoch.Add(StandingAge), request.Principal{Subject: "v", TokenID: fmt.Sprint(i)})
	}
	if n := len(s.known); n != maxStandings {
		t.Errorf("%d are remembered, want %d: the old ones go first", n, maxStandings)
	}
}

func TestTampered(t *testing.T) {
	t.Parallel()
	f, other := newFixture(t), newFixture(t)
	s, err := other.Login(t.Context(), "ada", goodPassword, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{"another's": s.AccessToken, "none": "", "garbage": "a.b.c"} {
		_, err := f.Verify(t.Context(), raw)
		wantAnswer(t, name, err, apierr.AuthInvalidToken)
	}
}

func TestKeySetAges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	doc, err := f.KeySet(t.Context())
	if err != nil || !bytes.Contains(doc, []byte(`"kty":"OKP"`)) || bytes.Contains(doc, []byte(`"d"`)) {
		t.Errorf("got %s and %v", doc, err)
	}
	*f.now = epoch.Add(token.MaxKeyAge + 1)
	_, err = f.KeySet(t.Context())
	wantAnswer(t, "too old", err, apierr.AuthUnavailable)
}

func BenchmarkVerify(b *testing.B) {
	store := newFakeStore()
	hasher := newHasher(cheap())
	store.users["ada"] = User{Subject: Subject{ID: "u1", Role: request.RoleDeveloper, Tenant: "org1"}, Hash: mustHash(b, hasher, goodPassword), Active: true}
	s, err := New(Options{Store: store, Box: newBox(b, "a", ""), Hasher: hasher, Now: func() time.Time { return epoch }})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer s.Stop()
	session, err := s.Login(b.Context(), "ada", goodPassword, nowhere)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(b.Context(), session.AccessToken); err != nil {
			b.Fatal(err)
		}
	}
}
