package rollout

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/internal/mesh"
	"gatehouse/internal/revision"
	"gatehouse/internal/seal"
)

// purposeKey is what the keys are sealed for; each is bound to its id.
const purposeKey = "revision signing key"

// kidBytes of the public key's SHA-256 name a key.
const kidBytes = 16

// errSealed says that a key is there and can't be used. Making another would
// leave every registered sidecar without one that it knows.
var errSealed = errors.New("the key of revisions can't be opened; JWT_SECRET_PREVIOUS must hold the secret in use before")

// ring is the opened keys.
type ring struct {
	id        string
	private   ed25519.PrivateKey // the active one
	verifiers revision.Keys
}

// Keys returns the public keys by which a sidecar knows what is meant for it.
// The first call makes the key.
func (s *Service) Keys(ctx context.Context) ([]mesh.RevisionKey, error) {
	r, err := s.ring(ctx)
	if err != nil {
		return nil, answer(err)
	}
	return []mesh.RevisionKey{{ID: r.id, Public: r.verifiers[r.id]}}, nil
}

// ring reads and opens the keys. It makes the first one, and seals again what is
// not under the present secret, so that the previous one can go. Nothing is
// remembered: a database that was restored has the keys that it has.
func (s *Service) ring(ctx context.Context) (*ring, error) {
	keys, err := s.o.Store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	if !settled(s.o.Box, keys) {
		keys, err = s.o.Store.UpdateKeys(ctx, func(keys []Key) ([]Key, error) { return settle(s.o.Box, keys, s.o.Now()) })
	}
	if err != nil {
		return nil, err
	}
	return newRing(s.o.Box, keys)
}

// settled reports whether there is a key that signs, and all are sealed under
// the present secret.
func settled(box *seal.Box, keys []Key) bool {
	return slices.ContainsFunc(keys, func(k Key) bool { return k.Active }) &&
		!slices.ContainsFunc(keys, func(k Key) bool { return box.Stale(k.Sealed) })
}

// settle returns keys as they should be.
func settle(box *seal.Box, keys []Key, now time.Time) ([]Key, error) {
	keys = slices.Clone(keys)
	for i := range keys {
		k := &keys[i]
		if !box.Stale(k.Sealed) {
			continue
		}
		private, err := k.open(box)
		if err != nil {
			return nil, err
		}
		k.Sealed = box.Seal(purposeKey, []byte(k.ID), private.Seed())
	}
	if slices.ContainsFunc(keys, func(k Key) bool { return k.Active }) {
		return keys, nil
	}
	k, err := newKey(box, now)
	return append(keys, k), err
}

func newKey(box *seal.Box, now time.Time) (Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("key of revisions: %w", err)
	}
	sum := sha256.Sum256(public)
	id := hex.EncodeToString(sum[:kidBytes])
	sealed := box.Seal(purposeKey, []byte(id), private.Seed())
	return Key{ID: id, Public: public, Sealed: sealed, Active: true, Created: now}, nil
}

// open unseals the private half. That it belongs to the public one is what makes
// the public one trusted: anybody who writes to the database could put one there.
func (k Key) open(box *seal.Box) (ed25519.PrivateKey, error) {
	seed, err := box.Open(purposeKey, []byte(k.ID), k.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%w (key %s: %w)", errSealed, k.ID, err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w (key %s has a wrong size)", errSealed, k.ID)
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !k.Public.Equal(private.Public()) {
		return nil, fmt.Errorf("%w (key %s: the halves don't belong together)", errSealed, k.ID)
	}
	return private, nil
}

func newRing(box *seal.Box, keys []Key) (*ring, error) {
	r := &ring{verifiers: revision.Keys{}}
	for _, k := range keys {
		private, err := k.open(box)
		if err != nil {
			return nil, err
		}
		r.verifiers[k.ID] = k.Public
		if k.Active {
			r.id, r.private = k.ID, private
		}
	}
	if r.private == nil {
		return nil, errors.New("no key of revisions is active")
	}
	return r, nil
}
