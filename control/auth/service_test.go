package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var nowhere = netip.Addr{} // never changed

// wantAnswer compares the answer to an error; "" is none.
func wantAnswer(t *testing.T, what string, err error, want apierr.Code) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s: got %v, want no error", what, err)
		}
		return
	}
	if got := apierr.From(err); err == nil || got.Code() != want {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func TestLoginGivesTokensThatVerify(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), " ADA\t", goodPassword, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	if s.ExpiresIn != 10*time.Minute || s.Role != request.RoleDeveloper || s.Tenant != "org1" || !strings.HasPrefix(s.RefreshToken, "ghr_") || len(s.RefreshToken) != 47 {
		t.Errorf("session is %+v", s)
	}
	p, err := f.Verify(t.Context(), s.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	want := request.Principal{
		Kind: request.KindToken, Issuer: "control", Subject: "u1", Tenant: "org1", Project: "proj1",
		Role: request.RoleDeveloper, TokenID: p.TokenID, Issued: epoch, Expires: epoch.Add(AccessTTL),
	}
	if diff := cmp.Diff(want, p); diff != "" || p.TokenID == "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}
}

// TestNoUserOracle compares all that can be seen of a refusal, and what it cost.
func TestNoUserOracle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var first *apierr.Error
	for _, tt := range []struct{ name, username, password string }{
		{"wrong password", "ada", "wrong"},
		{"unknown name", "nobody", goodPassword},
		{"disabled", "off", goodPassword},
		{"disabled and wrong", "off", "wrong"},
		{"no name at all", "", goodPassword},
		{"no possible name", "a\x00b", goodPassword},
		{"a very long one", strings.Repeat("x", 5000), goodPassword},
	} {
		hashes, calls := f.hasher.Evaluations(), f.store.count()
		_, err := f.Login(t.Context(), tt.username, tt.password, nowhere)
		wantAnswer(t, tt.name, err, apierr.AuthInvalidCredentials)
		if n := f.hasher.Evaluations() - hashes; n != 1 {
			t.Errorf("%s: %d hashes, want one", tt.name, n)
		}
		if n := f.store.count() - calls; n != 3 {
			t.Errorf("%s: %d questions to the store, want reserve, look up, fail", tt.name, n)
		}
		e := apierr.From(err)
		if first == nil {
			first = e
		}
		if !bytes.Equal(e.Body("r"), first.Body("r")) || e.HTTP() != first.HTTP() {
			t.Errorf("%s: the answer is %s, others get %s", tt.name, e.Body("r"), first.Body("r"))
		}
	}
}

// count is the number of calls so far, those of the keys aside.
func (f *fakeStore) count() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, c := range f.calls {
		if name != "UpdateKeys" && name != "Prune" {
			n += c
		}
	}
	return n
}

func TestLockout(t *testing.T) {
	t.Parallel()
	for _, username := range []string{"ada", "nobody"} {
		t.Run(username, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			for i := range 5 {
				_, err := f.Login(t.Context(), username, "wrong", nowhere)
				wantAnswer(t, fmt.Sprint("failure ", i), err, apierr.AuthInvalidCredentials)
			}
			hashes := f.hasher.Evaluations()
			_, err := f.Login(t.Context(), strings.ToUpper(username), goodPassword, nowhere)
			wantAnswer(t, "locked", err, apierr.RateLimitExceeded)
			if wait, ok := errors.AsType[lockedFor](err); !ok || wait.RetryAfter() != 900*time.Second {
				t.Errorf("locked: got a wait of %v, want 15m", wait)
			}
			if f.hasher.Evaluations() != hashes {
				t.Error("a password was looked at while the account is locked")
			}
			*f.now = epoch.Add(900 * time.Second)
			if err := f.UpdateKeys(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = f.Login(t.Context(), username, goodPassword, nowhere)
			if wantAnswer(t, "after the lock", err, map[string]apierr.Code{"nobody": apierr.AuthInvalidCredentials}[username]); t.Failed() {
				t.FailNow()
			}
		})
	}
}

func TestSuccessForgetsFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		for range 4 {
			_, err := f.Login(t.Context(), "ada", "wrong", nowhere)
			wantAnswer(t, "wrong", err, apierr.AuthInvalidCredentials)
		}
		_, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
		wantAnswer(t, "right", err, "")
	}
}

// TestBusyIsNoNo fills the hasher: nothing is evaluated and nothing counted.
func TestBusyIsNoNo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range cap(f.hasher.waiting) {
		f.hasher.waiting <- struct{}{}
	}
	for range 10 {
		_, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
		wantAnswer(t, "busy", err, apierr.AuthUnavailable)
	}
	for range cap(f.hasher.waiting) {
		<-f.hasher.waiting
	}
	_, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
	wantAnswer(t, "no more busy", err, "")
}

// TestAwayIsNoNo takes the store away at each call of each way in.
func TestAwayIsNoNo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	for _, down := range []struct {
		err  error
		want apierr.Code
	}{
		{fmt.Errorf("dial: %w", ErrUnavailable), apierr.AuthUnavailable},
		{context.DeadlineExceeded, apierr.AuthUnavailable},
		{errors.New("column is missing"), apierr.Internal},
	} {
		f.store.set(func() { f.store.down = down.err })
		*f.now = f.now.Add(StandingAge)
		for name, call := range map[string]func() error{
			"login":   func() error { _, err := f.Login(t.Context(), "ada", goodPassword, nowhere); return err },
			"refresh": func() error { _, err := f.Refresh(t.Context(), s.RefreshToken); return err },
			"logout":  func() error { return f.Logout(t.Context(), s.RefreshToken) },
			"client":  func() error { _, err := f.ClientToken(t.Context(), "id", "secret", nowhere); return err },
			"verify":  func() error { _, err := f.Verify(t.Context(), s.AccessToken); return err },
		} {
			wantAnswer(t, fmt.Sprint(name, " with ", down.err), call(), down.want)
		}
	}
}

// flaky fails one kind of call of a store.
type flaky struct {
	*fakeStore
	call string
}

var errGone = fmt.Errorf("gone: %w", ErrUnavailable) // never changed

func (f flaky) User(ctx context.Context, name string, now time.Time) (User, error) {
	if f.call == "User" {
		return User{}, errGone
	}
	return f.fakeStore.User(ctx, name, now)
}

func (f flaky) Fail(ctx context.Context, x Failure, r Rule, now time.Time) (bool, error) {
	if f.call == "Fail" {
		return false, errGone
	}
	return f.fakeStore.Fail(ctx, x, r, now)
}

func (f flaky) Open(ctx context.Context, o Opening, now time.Time) error {
	switch f.call {
	case "Open":
		return errGone
	case "changed":
		return ErrRefused
	}
	return f.fakeStore.Open(ctx, o, now)
}

// TestLoginFailsAtEachStep checks the answer, and what stays counted.
func TestLoginFailsAtEachStep(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		call, password  string
		want            apierr.Code
		pending, failed int
	}{
		{"User", goodPassword, apierr.AuthUnavailable, 0, 0},
		{"Fail", "wrong", apierr.AuthUnavailable, 1, 0},
		{"Open", goodPassword, apierr.AuthUnavailable, 1, 0},
		{"changed", goodPassword, apierr.AuthInvalidCredentials, 0, 1},
	} {
		f := newFixture(t)
		f.opts.Store = flaky{f.store, tt.call}
		_, err := f.Login(t.Context(), "ada", tt.password, nowhere)
		wantAnswer(t, tt.call, err, tt.want)
		for _, a := range f.store.attempts {
			if a.Pending != tt.pending || len(a.Failed) != tt.failed {
				t.Errorf("%s: %d open and %d failed, want %d and %d", tt.call, a.Pending, len(a.Failed), tt.pending, tt.failed)
			}
		}
	}
}

// TestLeavingCallersAreCounted cancels a login: its failure still counts.
func TestLeavingCallersAreCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, err := f.begin(t.Context(), "ada", nowhere)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantAnswer(t, "failing", f.fail(ctx, a, User{}, "x"), apierr.AuthInvalidCredentials)
	if got := f.store.attempts[string(a.account)]; len(got.Failed) != 1 || got.Pending != 0 {
		t.Errorf("counted %+v, want one failure", got)
	}
}

func TestRehash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.store.users["ada"]
	u.Hash = mustHash(t, newHasher(cost{memory: 128, passes: 1, lanes: 1}), goodPassword)
	f.store.users["ada"] = u
	if _, err := f.Login(t.Context(), "ada", goodPassword, nowhere); err != nil {
		t.Fatal(err)
	}
	for _, o := range f.store.sessions {
		if v, err := f.hasher.compare(t.Context(), o.NewHash, goodPassword); v != (verdict{match: true}) || err != nil {
			t.Errorf("the new hash: got %+v and %v", v, err)
		}
	}
}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Refresh(t.Context(), first.RefreshToken)
	if err != nil || second.RefreshToken == first.RefreshToken || second.RefreshToken == "" {
		t.Fatalf("got %+v and %v", second, err)
	}
	if _, err := f.Verify(t.Context(), second.AccessToken); err != nil {
		t.Error(err)
	}
	_, err = f.Refresh(t.Context(), first.RefreshToken)
	wantAnswer(t, "reused", err, apierr.AuthInvalidCredentials)
	_, err = f.Refresh(t.Context(), "ghr_unknown")
	wantAnswer(t, "unknown", err, apierr.AuthInvalidCredentials)
	wantAnswer(t, "logout", f.Logout(t.Context(), second.RefreshToken), "")
	_, err = f.Refresh(t.Context(), second.RefreshToken)
	wantAnswer(t, "after logout", err, apierr.AuthInvalidCredentials)
}

func TestClientToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret, hash := NewClientSecret()
	f.store.clients["c1"] = Client{Subject: Subject{ID: "c1", Role: request.RoleObserver, Tenant: "org1", Agent: "builder"}, SecretHash: hash, Active: true}
	f.store.clients["off"] = Client{Subject: Subject{ID: "off", Role: request.RoleObserver, Tenant: "org1"}, SecretHash: hash}
	s, err := f.ClientToken(t.Context(), "c1", secret, nowhere)
	if err != nil || s.RefreshToken != "" || s.Role != request.RoleObserver {
		t.Fatalf("got %+v and %v", s, err)
	}
	for name, tt := range map[string][2]string{
		"wrong secret": {"c1", secret + "x"}, "no secret": {"c1", ""}, "unknown": {"c2", secret}, "unknown and empty": {"c2", ""}, "disabled": {"off", secret},
	} {
		_, err := f.ClientToken(t.Context(), tt[0], tt[1], nowhere)
		wantAnswer(t, name, err, apierr.AuthInvalidCredentials)
	}
}

// TestNothingBeforeStart asks a service that has no keys.
func TestNothingBeforeStart(t *testing.T) {
	t.Parallel()
	f := newStopped(t, new(epoch))
	_, err := f.Login(t.Context(), "ada", goodPassword, nowhere)
	wantAnswer(t, "login", err, apierr.AuthUnavailable)
	_, err = f.KeySet(t.Context())
	wantAnswer(t, "key set", err, apierr.AuthUnavailable)
	if n := f.store.count(); n != 0 {
		t.Errorf("%d questions to the store: a login that can't succeed must not count", n)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := Options{Store: newFakeStore(), Box: newBox(t, "a", ""), Hasher: newHasher(cheap())}
	for name, change := range map[string]func(*Options){
		"no store":  func(o *Options) { o.Store = nil },
		"no box":    func(o *Options) { o.Box = nil },
		"no hasher": func(o *Options) { o.Hasher = nil },
		"bad rule":  func(o *Options) { o.Lockout = Rule{MaxFailures: 1000} },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
