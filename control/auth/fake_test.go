package auth

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/request"
)

// fakeStore is a Store in memory that can be away. What the real one adds, and
// that it counts alike, is tested in the package postgres below.
type fakeStore struct {
	mu       sync.Mutex
	down     error
	users    map[string]User
	clients  map[string]Client
	attempts map[string]Attempts
	sessions map[string]Opening
	used     map[string]bool
	keys     []SigningKey
	calls    map[string]int
	rescue   Rescue // the last one
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		users: map[string]User{}, clients: map[string]Client{}, attempts: map[string]Attempts{},
		sessions: map[string]Opening{}, used: map[string]bool{}, calls: map[string]int{},
	}
}

// enter counts a call and says whether the store is away.
func (f *fakeStore) enter(name string) (func(), error) {
	f.mu.Lock()
	f.calls[name]++
	return f.mu.Unlock, f.down
}

func (f *fakeStore) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeStore) User(_ context.Context, name string, _ time.Time) (User, error) {
	done, err := f.enter("User")
	defer done()
	return f.users[name], err
}

func (f *fakeStore) Client(_ context.Context, id string, _ time.Time) (Client, error) {
	done, err := f.enter("Client")
	defer done()
	return f.clients[id], err
}

func (f *fakeStore) Standing(_ context.Context, subject, tokenID string, _ time.Time) (Standing, error) {
	done, err := f.enter("Standing")
	defer done()
	for _, u := range f.users {
		if u.ID == subject {
			return Standing{Subject: u.Subject, Active: u.Active, TokenRevoked: f.used["token "+tokenID]}, err
		}
	}
	return Standing{}, err
}

func (f *fakeStore) Reserve(_ context.Context, account []byte, r Rule, now time.Time) (bool, Attempts, error) {
	done, err := f.enter("Reserve")
	defer done()
	a := f.attempts[string(account)]
	_, ok := r.Admit(a, now)
	if ok && err == nil {
		a.Pending, a.PendingUntil = a.Pending+1, now.Add(PendingLife)
		f.attempts[string(account)] = a
	}
	return ok, a, err
}

func (f *fakeStore) GiveBack(_ context.Context, account []byte, _ time.Time) error {
	done, err := f.enter("GiveBack")
	defer done()
	f.change(account, func(a *Attempts) { a.Pending-- })
	return err
}

func (f *fakeStore) Fail(_ context.Context, x Failure, r Rule, now time.Time) (locked bool, err error) {
	done, err := f.enter("Fail")
	defer done()
	f.change(x.Account, func(a *Attempts) {
		a.Pending--
		a.Failed = append(a.Failed, now)
		if locked = len(a.Failed) >= r.MaxFailures; locked {
			a.Failed, a.LockedUntil = nil, now.Add(r.Lockout)
		}
	})
	return locked, err
}

func (f *fakeStore) change(account []byte, by func(*Attempts)) {
	a := f.attempts[string(account)]
	by(&a)
	f.attempts[string(account)] = a
}

func (f *fakeStore) Open(_ context.Context, o Opening, _ time.Time) error {
	done, err := f.enter("Open")
	defer done()
	if err == nil && !slices.Contains(slices.Collect(maps.Values(f.users)), o.User) {
		return ErrRefused
	}
	f.change(o.Account, func(a *Attempts) { *a = Attempts{Pending: a.Pending - 1} })
	f.sessions[string(o.Refresh)] = o
	return err
}

func (f *fakeStore) Rotate(_ context.Context, used, next []byte, _ Origin, _ time.Time) (Subject, error) {
	done, err := f.enter("Rotate")
	defer done()
	o, ok := f.sessions[string(used)]
	switch {
	case err != nil:
		return Subject{}, err
	case !ok:
		return Subject{}, ErrRefused
	case f.used[string(used)]:
		return Subject{}, ErrReused
	}
	f.used[string(used)], f.sessions[string(next)] = true, o
	return o.User.Subject, nil
}

func (f *fakeStore) End(_ context.Context, hash []byte, _ Origin, _ time.Time) error {
	done, err := f.enter("End")
	defer done()
	delete(f.sessions, string(hash))
	return err
}

func (f *fakeStore) UpdateKeys(_ context.Context, step func([]SigningKey) ([]SigningKey, error)) ([]SigningKey, error) {
	done, err := f.enter("UpdateKeys")
	defer done()
	if err != nil {
		return nil, err
	}
	keys, err := step(slices.DeleteFunc(slices.Clone(f.keys), func(k SigningKey) bool { return k.State == KeyRetired }))
	if err == nil {
		f.keys = keys
	}
	return keys, err
}

// Rescue knows one administrator, whose name is in users.
func (f *fakeStore) Rescue(_ context.Context, r Rescue, _ time.Time) (Rescued, error) {
	done, err := f.enter("Rescue")
	defer done()
	u, ok := f.users[r.User]
	switch {
	case err != nil:
		return Rescued{}, err
	case !ok || u.Tenant != request.AnyTenant:
		return Rescued{}, ErrRefused
	}
	u.Active, f.rescue = true, r
	f.users[r.User] = u
	return Rescued{User: u.Subject, Name: r.User, Enabled: true}, nil
}

func (f *fakeStore) Prune(context.Context, Rule, time.Time) error {
	done, err := f.enter("Prune")
	defer done()
	return err
}

// fixture is a service over a fake store with two users, started.
type fixture struct {
	*Service
	store  *fakeStore
	hasher *Hasher
	now    *time.Time // the service's clock; guarded by nothing
}

const goodPassword = "correct horse battery"

func newFixture(t *testing.T) fixture {
	t.Helper()
	f := newStopped(t, new(epoch))
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func newStopped(t *testing.T, now *time.Time) fixture {
	t.Helper()
	f := fixture{store: newFakeStore(), hasher: newHasher(cheap()), now: now}
	clock := func() time.Time { return *f.now }
	if now == nil {
		clock = time.Now
	}
	hash := mustHash(t, f.hasher, goodPassword)
	f.store.users["ada"] = User{Subject: Subject{ID: "u1", Role: request.RoleDeveloper, Tenant: "org1", Project: "proj1"}, Hash: hash, Active: true}
	f.store.users["off"] = User{Subject: Subject{ID: "u2", Role: request.RoleDeveloper, Tenant: "org1"}, Hash: hash}
	var err error
	f.Service, err = New(Options{Store: f.store, Box: newBox(t, "a", ""), Hasher: f.hasher, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	return f
}
