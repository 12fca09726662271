package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/internal/seal"
	"gatehouse/internal/token"
)

// Times of tokens and of the keys that sign them.
const (
	AccessTTL  = 10 * time.Minute
	SessionTTL = 8 * time.Hour       // of a family of refresh tokens, from the login
	KeyLife    = 30 * 24 * time.Hour // how long a key signs

	jwksRefresh = 5 * time.Minute // how old a sidecar's key set can be
	maxRingAge  = 2 * time.Minute // how old the keys of a process that signs can be

	// publishLead is how long a key is published before it signs: every sidecar
	// has asked twice by then, also one whose answer came from an old ring.
	publishLead = 2*jwksRefresh + maxRingAge

	// retireAfter is how long a key is published after it signed: another
	// process may have signed with it until its ring was too old.
	retireAfter = maxRingAge + AccessTTL + token.Leeway + jwksRefresh
)

// KeyState is the state of a signing key.
type KeyState string

// The states of a signing key, in their order. All but the last are published;
// only the active one signs.
const (
	KeyNext     KeyState = "next"
	KeyActive   KeyState = "active"
	KeyRetiring KeyState = "retiring"
	KeyRetired  KeyState = "retired"
)

// SigningKey is one key as it is stored. Sealed is the seed of its private half.
type SigningKey struct {
	KID       string
	State     KeyState
	Public    ed25519.PublicKey
	Sealed    []byte // nil when retired
	Created   time.Time
	Activated time.Time
	Retiring  time.Time
	Retired   time.Time
}

var errTooSoon = errors.New("the next key is not published long enough")

// advance returns the keys as they should be at now: exactly one active, one
// next, and none retiring for longer than it must. It is pure but for fresh,
// which makes a key. hurry lets the next one sign before its time, as soon as
// every sidecar has it; errTooSoon until then.
//
// With no active key there is nothing to wait for: no token is out that another
// key than the new one signed, or its key is gone.
func advance(keys []SigningKey, now time.Time, hurry bool, fresh func(time.Time) (SigningKey, error)) ([]SigningKey, error) {
	keys = slices.Clone(keys)
	retire(keys, now)
	active, next := find(keys, KeyActive), find(keys, KeyNext)
	switch {
	case active != nil && next != nil && (hurry || now.Sub(active.Activated) >= KeyLife):
		if now.Sub(next.Created) >= publishLead {
			active.State, active.Retiring = KeyRetiring, now
			next.State, next.Activated = KeyActive, now
		} else if hurry {
			return nil, errTooSoon
		}
	case active == nil && next != nil:
		next.State, next.Activated = KeyActive, now
	case active == nil:
		k, err := fresh(now)
		if err != nil {
			return nil, err
		}
		k.State, k.Activated = KeyActive, now
		keys = append(keys, k)
	}
	return withNext(keys, now, fresh)
}

// retire retires the keys whose last token has expired everywhere.
func retire(keys []SigningKey, now time.Time) {
	for i := range keys {
		if k := &keys[i]; k.State == KeyRetiring && now.Sub(k.Retiring) >= retireAfter {
			k.State, k.Retired, k.Sealed = KeyRetired, now, nil
		}
	}
}

// withNext publishes a next key if there is none, so that there is always one
// which every sidecar has.
func withNext(keys []SigningKey, now time.Time, fresh func(time.Time) (SigningKey, error)) ([]SigningKey, error) {
	if find(keys, KeyNext) != nil {
		return keys, nil
	}
	k, err := fresh(now)
	if err != nil {
		return nil, err
	}
	return append(keys, k), nil
}

func find(keys []SigningKey, state KeyState) *SigningKey {
	if i := slices.IndexFunc(keys, func(k SigningKey) bool { return k.State == state }); i >= 0 {
		return &keys[i]
	}
	return nil
}

// purposeKey is what signing keys are sealed for; each is bound to its kid.
const purposeKey = "token signing key"

// newKey makes a key in state next.
func newKey(box *seal.Box, now time.Time) (SigningKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return SigningKey{}, fmt.Errorf("signing key: %w", err)
	}
	kid := thumbprint(public)
	return SigningKey{
		KID: kid, State: KeyNext, Public: public, Created: now,
		Sealed: box.Seal(purposeKey, []byte(kid), private.Seed()),
	}, nil
}

// open unseals the private half of a key.
func (k SigningKey) open(box *seal.Box) (ed25519.PrivateKey, error) {
	seed, err := box.Open(purposeKey, []byte(k.KID), k.Sealed)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w; JWT_SECRET_PREVIOUS must hold the secret in use before", k.KID, err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("signing key %s: has a wrong size", k.KID)
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !k.Public.Equal(private.Public()) {
		return nil, fmt.Errorf("signing key %s: the halves don't belong together", k.KID)
	}
	return private, nil
}

// reseal seals again what is not under the current secret, so that the previous
// one can go.
func reseal(box *seal.Box, keys []SigningKey) error {
	for i := range keys {
		k := &keys[i]
		if k.State == KeyRetired || !box.Stale(k.Sealed) {
			continue
		}
		private, err := k.open(box)
		if err != nil {
			return err
		}
		k.Sealed = box.Seal(purposeKey, []byte(k.KID), private.Seed())
	}
	return nil
}

// thumbprint is the key's name (RFC 7638, RFC 8037 appendix A.3).
func thumbprint(public ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(public) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
