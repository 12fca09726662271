package sync

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse/internal/mesh"
)

// Bounds of proving who calls.
const (
	maxCredential = 512             // bytes of the authorization metadata
	maxWaiting    = 4096            // callers whose credential is being looked up, or waits to be
	maxAsking     = 64              // questions to the registry at once
	knockTimeout  = 2 * time.Second // of one look-up, waiting included
	recentFor     = 5 * time.Second // that a caller without a stream is remembered
	maxRecent     = 4096            // callers without a stream that are remembered
)

// Answers to callers that are let in nowhere.
var (
	errNoCredential = status.Error(codes.Unauthenticated, "want one authorization: Bearer with a sidecar's credential")
	errUnknown      = status.Error(codes.Unauthenticated, "the credential is unknown or revoked")
	errUnasked      = status.Error(codes.Unavailable, "the credential can't be verified now")
)

// hash is the SHA-256 of a secret.
type hash = [sha256.Size]byte

// credential is what a caller proves itself by.
type credential struct {
	secret string
	hash   hash
}

// caller is an authenticated sidecar.
type caller struct {
	credential
	sidecar mesh.Sidecar
}

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf is who calls. INVARIANT: admit lets no call pass without.
func callerOf(ctx context.Context) caller { return ctx.Value(callerKey{}).(caller) }

// presented reads the credential of a call: exactly one, in its one form.
func presented(ctx context.Context) (credential, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 || len(values[0]) > maxCredential {
		return credential{}, errNoCredential
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" || strings.Trim(secret, " ") != secret {
		return credential{}, errNoCredential
	}
	return credential{secret, sha256.Sum256([]byte(secret))}, nil
}

// door asks the registry who callers are, a bounded number at once: a flood of
// wrong credentials doesn't reach the database unbounded.
type door struct {
	registry Registry
	waiting  chan struct{}
	asking   chan struct{}

	mu     sync.Mutex // guards recent
	recent map[hash]seen
}

// seen is a caller that was let in at a time.
type seen struct {
	sidecar mesh.Sidecar
	at      time.Time
}

func newDoor(r Registry) *door {
	return &door{
		registry: r, recent: map[hash]seen{},
		waiting: make(chan struct{}, maxWaiting), asking: make(chan struct{}, maxAsking),
	}
}

// knock lets a caller in, or answers with an error of gRPC.
func (d *door) knock(ctx context.Context, c credential) (caller, error) {
	select {
	case d.waiting <- struct{}{}:
		defer func() { <-d.waiting }()
	default:
		return caller{}, errUnasked
	}
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	s, err := d.ask(ctx, c.secret)
	switch {
	case errors.Is(err, mesh.ErrUnknown):
		return caller{}, errUnknown
	case err != nil:
		return caller{}, errUnasked
	}
	return caller{c, s}, nil
}

// ask is the registry's answer, when it is this question's turn.
func (d *door) ask(ctx context.Context, secret string) (mesh.Sidecar, error) {
	select {
	case d.asking <- struct{}{}:
		defer func() { <-d.asking }()
	case <-ctx.Done():
		return mesh.Sidecar{}, ctx.Err()
	}
	return d.registry.Authenticate(ctx, secret)
}

// knockOften is knock for callers without a stream that come again and again:
// who was let in stays so for recentFor.
func (d *door) knockOften(ctx context.Context, c credential, now time.Time) (caller, error) {
	if s, ok := d.remembered(c.hash, now); ok {
		return caller{c, s}, nil
	}
	out, err := d.knock(ctx, c)
	if err == nil {
		d.remember(out, now)
	}
	return out, err
}

func (d *door) remembered(h hash, now time.Time) (mesh.Sidecar, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.recent[h]
	return s.sidecar, ok && now.Sub(s.at) <= recentFor
}

// remember makes room by forgetting what is old, or else everybody.
func (d *door) remember(c caller, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.recent) >= maxRecent {
		for h, s := range d.recent {
			if now.Sub(s.at) > recentFor {
				delete(d.recent, h)
			}
		}
	}
	if len(d.recent) >= maxRecent {
		clear(d.recent)
	}
	d.recent[c.hash] = seen{c.sidecar, now}
}
