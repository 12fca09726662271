package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
	"gatehouse/internal/seal"
	"gatehouse/internal/token"
)

// What control's tokens say of themselves where Options leave it open, and the
// name of their issuer in principals.
const (
	DefaultIssuer   = "https://gatehouse.internal"
	DefaultAudience = "gatehouse"
	IssuerName      = "control"
)

// Times of the goroutine that keeps the keys.
const (
	ringRefresh  = 30 * time.Second // below maxRingAge by enough for failures
	ringRetry    = 5 * time.Second
	upkeepWithin = 10 * time.Second
)

// Options are what New needs.
type Options struct {
	Store  Store
	Box    *seal.Box
	Hasher *Hasher // the process's one

	Lockout  Rule   // the zero value means DefaultRule
	Issuer   string // the claim iss; "" means DefaultIssuer
	Audience string // the claim aud; "" means DefaultAudience

	Log *slog.Logger     // nil discards
	Now func() time.Time // nil means time.Now

	// RequestID returns the id of a call for the audit log; nil means none.
	RequestID func(context.Context) string
}

// Service proves callers and issues tokens. See the package comment.
type Service struct {
	opts     Options
	keys     *token.Keys // has no sources: all keys come from feed
	feed     *token.Feed
	verifier *token.Verifier
	standing *standings
	ring     atomic.Pointer[ring] // nil until the first good load

	updating sync.Mutex // serialises updates of the ring

	mu      sync.Mutex // guards the rest
	cancel  context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended; nil before Start
	stopped bool
}

// New returns a Service, which can neither sign nor verify before Start.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Box == nil || o.Hasher == nil {
		return nil, errors.New("auth: needs a store, a box and a hasher")
	}
	if o.Lockout == (Rule{}) {
		o.Lockout = DefaultRule()
	}
	if err := o.Lockout.validate(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	o.Issuer, o.Audience = cmp.Or(o.Issuer, DefaultIssuer), cmp.Or(o.Audience, DefaultAudience)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RequestID == nil {
		o.RequestID = func(context.Context) string { return "" }
	}
	s := &Service{opts: o, keys: token.NewKeys(token.KeysOptions{}), feed: token.NewFeed(IssuerName, o.Log), standing: newStandings(o.Store)}
	var err error
	s.verifier, err = token.NewVerifier([]config.Issuer{s.issuer()}, s.keys, token.Options{Feeds: map[string]*token.Feed{IssuerName: s.feed}})
	return s, err
}

// issuer is control as its own verifier knows it.
func (s *Service) issuer() config.Issuer {
	return config.Issuer{
		Name: IssuerName, Issuer: s.opts.Issuer, Audience: s.opts.Audience, Algorithms: []string{"EdDSA"},
		Tenants: []string{"any", request.AnyTenant}, Roles: []string{"any", string(request.RoleAdmin)},
		Claims: config.Claims{Role: "role", Tenant: "tenant_id", Project: "project_id", Agent: "agent_id", Run: "run_id"},
	}
}

// Start loads the keys, or makes the first, and begins to keep them. A database
// that is away is no error: calls are auth.unavailable until it is back. Keys
// that the secret does not open are one. It does nothing after Stop, or when
// called again.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.done != nil {
		return nil
	}
	err := s.UpdateKeys(ctx)
	if err != nil && !away(err) {
		return fmt.Errorf("auth: %w", err)
	}
	running, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan struct{})
	go s.run(running, err)
	return nil
}

// Stop ends the goroutine and waits for it. Tokens can be verified until the
// keys grow old. It is idempotent, and legal before Start.
func (s *Service) Stop() {
	s.mu.Lock()
	s.stopped = true
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if done != nil {
		cancel()
		<-done
	}
	s.verifier.Close()
	s.keys.Stop()
}

// run keeps the keys and clears what has expired, until ctx ends. last is the
// outcome of the update before.
func (s *Service) run(ctx context.Context, last error) {
	defer close(s.done)
	for {
		wait := ringRefresh
		if last != nil {
			wait = ringRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := s.upkeep(ctx)
		s.note(ctx, last, err)
		last = err
	}
}

func (s *Service) upkeep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upkeepWithin)
	defer cancel()
	if err := s.UpdateKeys(ctx); err != nil {
		return err
	}
	return s.opts.Store.Prune(ctx, s.opts.Lockout, s.opts.Now())
}

// note logs that the keys can't be kept, and that they can again, once each.
func (s *Service) note(ctx context.Context, last, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && last == nil:
		s.opts.Log.Warn("signing keys can't be kept up", "error", err)
	case err == nil && last != nil:
		s.opts.Log.Info("signing keys are kept up again")
	}
}

// UpdateKeys brings the stored keys to where they should be now, and this
// process to what is stored.
func (s *Service) UpdateKeys(ctx context.Context) error { return s.updateKeys(ctx, false) }

// RotateKeys lets the next key sign from now on, before its time. A next key
// that not every sidecar can have yet is an error, and nothing changes.
func (s *Service) RotateKeys(ctx context.Context) error { return s.updateKeys(ctx, true) }

func (s *Service) updateKeys(ctx context.Context, hurry bool) error {
	s.updating.Lock()
	defer s.updating.Unlock()
	now := s.opts.Now()
	keys, err := s.opts.Store.UpdateKeys(ctx, func(keys []SigningKey) ([]SigningKey, error) {
		next, err := advance(keys, now, hurry, func(at time.Time) (SigningKey, error) { return newKey(s.opts.Box, at) })
		if err != nil {
			return nil, err
		}
		return next, reseal(s.opts.Box, next)
	})
	if err != nil {
		return err
	}
	return s.adopt(keys, now)
}

// adopt publishes keys in this process: first to the verifier, so that no token
// is signed which it would refuse.
func (s *Service) adopt(keys []SigningKey, now time.Time) error {
	r, err := newRing(keys, s.opts.Box, now)
	if err != nil {
		return err
	}
	if err := s.feed.Replace(r.jwks, now); err != nil {
		return fmt.Errorf("own key set: %w", err)
	}
	s.ring.Store(r)
	return nil
}

// origin is where a call came from.
func (s *Service) origin(ctx context.Context, from netip.Addr) Origin {
	return Origin{Address: from, RequestID: s.opts.RequestID(ctx)}
}
