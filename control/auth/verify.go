package auth

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
	"gatehouse/internal/token"
)

// Bounds of what is remembered of subjects.
const (
	StandingAge     = 5 * time.Second // how old it can be: how long a change takes to hold
	standingTimeout = 3 * time.Second // of one look-up
	maxStandings    = 10000
)

// Verify returns the principal of an access token of ours. Errors:
// auth.invalid_token, auth.expired_token, auth.unavailable.
func (s *Service) Verify(ctx context.Context, raw string) (request.Principal, error) {
	now := s.opts.Now()
	p, err := s.verifier.Verify(ctx, now, raw)
	if err != nil {
		return request.Principal{}, tokenError(err)
	}
	st, err := s.standing.of(ctx, now, p)
	if err != nil {
		return request.Principal{}, failure(err)
	}
	if cause := st.against(p); cause != "" {
		return request.Principal{}, apierr.New(apierr.AuthInvalidToken, apierr.Options{Cause: errors.New(cause)})
	}
	return p, nil
}

// KeySet returns the key set document (RFC 7517, 5) of all keys that tokens are
// or will be signed with, from memory; auth.unavailable before there is one, and
// when it is too old to be any help.
func (s *Service) KeySet(context.Context) ([]byte, error) {
	r := s.ring.Load()
	if r == nil || s.opts.Now().Sub(r.at) > token.MaxKeyAge {
		return nil, unavailable(errStale)
	}
	return r.jwks, nil
}

func tokenError(err error) error {
	code := apierr.AuthInvalidToken
	if e, ok := errors.AsType[*token.Error](err); ok {
		code = apierr.Code(e.Code)
	}
	return apierr.New(code, apierr.Options{Cause: err})
}

// against says why a verified token is not accepted as things stand, "" if it
// is. A token that tells of another role or tenant than the subject has now
// must be changed for a new one.
func (st Standing) against(p request.Principal) string {
	issued := p.Expires.Add(-AccessTTL).Unix()
	switch {
	case !st.Active:
		return "subject is unknown or disabled, or its tenant is suspended"
	case st.TokenRevoked:
		return "token is revoked"
	case !st.Revoked.IsZero() && issued <= st.Revoked.Unix():
		return "the subject's tokens are revoked"
	case st.Role != p.Role || st.Tenant != p.Tenant || st.Project != p.Project || st.Agent != p.Agent:
		return "the subject's role, tenant, project or agent is another now"
	}
	return ""
}

// standings remembers what the store says of subjects, for StandingAge. It is
// safe for concurrent use.
type standings struct {
	store   Accounts
	flights singleflight.Group // by subject and token id

	mu    sync.Mutex
	known map[standingKey]seen // guarded by mu; at most maxStandings
}

type standingKey struct{ subject, tokenID string }

type seen struct {
	Standing
	at time.Time // before it was asked for
}

func newStandings(store Accounts) *standings {
	return &standings{store: store, known: make(map[standingKey]seen)}
}

// of returns the standing of a principal, at most StandingAge old. There is no
// older one to fall back on: a store that is away is an error.
func (s *standings) of(ctx context.Context, now time.Time, p request.Principal) (Standing, error) {
	k := standingKey{p.Subject, p.TokenID}
	s.mu.Lock()
	known, ok := s.known[k]
	s.mu.Unlock()
	if ok && known.fresh(now) {
		return known.Standing, nil
	}
	// INVARIANT: neither part holds a NUL, a control character, so that two keys
	// are never one flight.
	flight := s.flights.DoChan(k.subject+"\x00"+k.tokenID, func() (any, error) { return s.ask(ctx, now, k) })
	select {
	case r := <-flight:
		if r.Err != nil {
			return Standing{}, r.Err
		}
		return r.Val.(seen).Standing, nil
	case <-ctx.Done():
		return Standing{}, ctx.Err()
	}
}

// fresh reports whether it can be used; a clock that went back makes it old.
func (s seen) fresh(now time.Time) bool {
	age := now.Sub(s.at)
	return age >= 0 && age < StandingAge
}

// ask asks the store for all who wait, whoever of them leaves.
func (s *standings) ask(ctx context.Context, now time.Time, k standingKey) (seen, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), standingTimeout)
	defer cancel()
	st, err := s.store.Standing(ctx, k.subject, k.tokenID, now)
	if err != nil {
		return seen{}, err
	}
	v := seen{Standing: st, at: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeRoomLocked(now)
	s.known[k] = v
	return v, nil
}

// makeRoomLocked drops what is old, and if nothing is, all: asking again costs
// one look-up each.
func (s *standings) makeRoomLocked(now time.Time) {
	if len(s.known) < maxStandings {
		return
	}
	for k, v := range s.known {
		if !v.fresh(now) {
			delete(s.known, k)
		}
	}
	if len(s.known) >= maxStandings {
		clear(s.known)
	}
}
