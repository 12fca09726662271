package sync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/internal/mesh"
)

// Bounds and times of the roster.
const (
	maxSidecars     = 20000            // streams of one process
	reviewEvery     = 5 * time.Second  // of registrations, without a sign of change
	registrationFor = 10 * time.Second // since the last review
	connectedWithin = 15 * time.Second // three beats
	reauthLimit     = 16               // registrations that are read again at once
)

// member is a stream as the roster knows it.
type member struct {
	credential
	incarnation  int64
	registration atomic.Pointer[mesh.Sidecar] // never nil
	wake         chan struct{}                // holds one
	cause        atomic.Pointer[error]        // why it must end; nil while it need not
}

func newMember(c caller, incarnation int64) *member {
	m := &member{credential: c.credential, incarnation: incarnation, wake: make(chan struct{}, 1)}
	m.registration.Store(&c.sidecar)
	return m
}

func (m *member) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// end makes the stream end with err, unless it must for another reason.
func (m *member) end(err error) {
	m.cause.CompareAndSwap(nil, &err)
	m.poke()
}

// roster is who is connected to this process: one stream of each sidecar.
type roster struct {
	registry Registry
	ask      func(ctx context.Context, secret string) (mesh.Sidecar, error)

	doubt atomic.Bool // registrations may have changed

	mu       sync.Mutex // guards all below
	members  map[string]*member
	hashes   map[hash]*member
	reviewed time.Time
	mesh     map[string]int // sidecars of the whole mesh, by policy set
}

func newRoster(r Registry, ask func(ctx context.Context, secret string) (mesh.Sidecar, error)) *roster {
	return &roster{registry: r, ask: ask, members: map[string]*member{}, hashes: map[hash]*member{}}
}

// Errors that end a stream.
var (
	errSuperseded = status.Error(codes.Aborted, "another stream of this sidecar took over")
	errOlder      = status.Error(codes.Aborted, "a later process of this sidecar is connected")
)

// join takes a stream in. Of two of one sidecar the larger incarnation stays,
// of the same the newer stream.
func (r *roster) join(m *member) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := m.registration.Load().ID
	if other := r.members[id]; other != nil {
		if other.incarnation > m.incarnation {
			return errOlder
		}
		r.removeLocked(id, other)
		other.end(errSuperseded)
	}
	r.members[id] = m
	r.hashes[m.hash] = m
	return nil
}

// leave takes a stream out, if it is still in.
func (r *roster) leave(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id := m.registration.Load().ID; r.members[id] == m {
		r.removeLocked(id, m)
	}
}

func (r *roster) removeLocked(id string, m *member) {
	delete(r.members, id)
	if r.hashes[m.hash] == m {
		delete(r.hashes, m.hash)
	}
}

// known is the registration of a connected sidecar, if it was confirmed lately.
func (r *roster) known(h hash, now time.Time) (mesh.Sidecar, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.hashes[h]
	if m == nil || m.cause.Load() != nil || now.Sub(r.reviewed) > registrationFor {
		return mesh.Sidecar{}, false
	}
	return *m.registration.Load(), true
}

// wanted counts who is connected by what they are to be told.
type wanted struct {
	audiences map[audience]int
	sets      map[string]int
}

func (r *roster) wanted() wanted {
	w := wanted{map[audience]int{}, map[string]int{}}
	for _, m := range r.all() {
		s := m.registration.Load()
		w.audiences[audienceOf(s)]++
		w.sets[s.PolicySet]++
	}
	return w
}

func (r *roster) all() []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*member, 0, len(r.members))
	for _, m := range r.members {
		out = append(out, m)
	}
	return out
}

func (r *roster) wakeAll() {
	for _, m := range r.all() {
		m.poke()
	}
}

// connected counts the sidecars of each set in the whole mesh: what the
// registry said last, and never less than are connected here.
func (r *roster) connected(w wanted) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]int, len(w.sets))
	for set, here := range w.sets {
		out[set] = max(here, r.mesh[set])
	}
	return out
}

// suspect makes the next review read all registrations.
func (r *roster) suspect() { r.doubt.Store(true) }

// review holds the registrations of all who are connected against the
// registry, if it is time to: a stream whose registration ended ends, and one
// whose registration changed gets the new one.
func (r *roster) review(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	due := now.Sub(r.reviewed) >= reviewEvery
	r.mu.Unlock()
	if !r.doubt.Swap(false) && !due {
		return nil
	}
	counts, err := r.registry.Connected(ctx, connectedWithin)
	err = errors.Join(err, r.compare(ctx))
	if err != nil {
		r.suspect()
		return fmt.Errorf("ask for the registrations: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reviewed, r.mesh = now, counts
	return nil
}

func (r *roster) compare(ctx context.Context) error {
	all := r.all()
	if len(all) == 0 {
		return nil
	}
	ids := make([]string, len(all))
	for i, m := range all {
		ids[i] = m.registration.Load().ID
	}
	versions, err := r.registry.Versions(ctx, ids)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(reauthLimit)
	for i, m := range all {
		switch version, ok := versions[ids[i]]; {
		case !ok:
			m.end(errUnknown)
		case version != m.registration.Load().Version:
			group.Go(func() error { return r.renew(ctx, m) })
		}
	}
	return group.Wait()
}

// renew reads a registration again, by the credential of its stream: that may
// be another's, or nobody's, by now.
func (r *roster) renew(ctx context.Context, m *member) error {
	s, err := r.ask(ctx, m.secret)
	if errors.Is(err, mesh.ErrUnknown) || err == nil && s.ID != m.registration.Load().ID {
		m.end(errUnknown)
		return nil
	}
	if err != nil {
		return err
	}
	m.registration.Store(&s)
	m.poke()
	return nil
}
