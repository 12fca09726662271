package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
)

// Epoch counts revocations. Whoever learns of one bumps it, and every cached
// token is verified anew. The zero value is ready; it is safe for concurrent use.
type Epoch struct{ n atomic.Uint64 }

// Bump makes all cached tokens of all verifiers that share the epoch unknown.
func (e *Epoch) Bump() { e.n.Add(1) }

// Options are a Verifier's optional dependencies.
type Options struct {
	// Revocations is shared by the verifiers of all revisions. Nil means that
	// nothing is ever revoked.
	Revocations *Epoch

	// Feeds are the key sources of issuers whose keys stand neither in a file
	// nor at a URL, by the issuer's name. Such an issuer's JWKS is empty.
	Feeds map[string]*Feed
}

// Verifier recognises and verifies the tokens of one revision's issuers.
// Its methods are safe for concurrent use.
type Verifier struct {
	issuers     map[string]*issuer // by the exact value of iss; immutable
	revocations *Epoch
	cache       *cache
	close       func() // idempotent
}

// NewVerifier checks the issuers and takes their key sources from keys. A key
// set that is missing or bad is not an error: tokens are Unavailable until it is
// there. An issuer that could never be verified is one: an unsupported
// algorithm, an unknown role, a bad URL, a name or iss used twice.
//
// Close gives the sources back.
func NewVerifier(issuers []config.Issuer, keys *Keys, opts Options) (*Verifier, error) {
	v := &Verifier{issuers: make(map[string]*issuer, len(issuers)), revocations: opts.Revocations, cache: newCache()}
	if v.revocations == nil {
		v.revocations = new(Epoch)
	}
	v.close = sync.OnceFunc(func() {
		for _, is := range v.issuers {
			if !is.source.fromFeed() {
				keys.release(is.source)
			}
		}
	})
	for _, c := range issuers {
		if err := v.add(c, keys, opts.Feeds[c.Name]); err != nil {
			v.Close()
			return nil, err
		}
	}
	return v, nil
}

func (v *Verifier) add(c config.Issuer, keys *Keys, feed *Feed) error {
	is, err := newIssuer(c)
	if err != nil {
		return err
	}
	for _, other := range v.issuers {
		if other.Issuer.Issuer == c.Issuer || other.Name == c.Name {
			return fmt.Errorf("issuer %q: name or issuer is used twice", c.Name)
		}
	}
	if is.source, err = sourceOf(c, keys, feed); err != nil {
		return fmt.Errorf("issuer %q: %w", c.Name, err)
	}
	v.issuers[c.Issuer] = is
	return nil
}

// sourceOf returns the issuer's feed, or acquires its source from keys.
func sourceOf(c config.Issuer, keys *Keys, feed *Feed) (*source, error) {
	if feed == nil {
		return keys.acquire(sourceID{jwks: c.JWKS, symmetric: c.Symmetric})
	}
	if c.JWKS != (config.JWKS{}) || c.Symmetric {
		return nil, errors.New("an issuer with a feed has no other key set, and no symmetric keys")
	}
	return feed.s, nil
}

// Close releases the verifier's key sources. It is idempotent. A closed verifier
// must not be asked again: nobody refreshes its keys. Build the next revision's
// verifier first, and the sources that both name stay loaded.
func (v *Verifier) Close() { v.close() }

// Verify returns the principal of a token, or a *Error. It neither trims nor
// unwraps: raw is the bare token. ctx bounds only the wait for an unknown kid.
func (v *Verifier) Verify(ctx context.Context, now time.Time, raw string) (request.Principal, error) {
	// INVARIANT: the epoch is read before the token is looked at, so a
	// revocation in between leaves a dead entry and never a live one.
	revocation := v.revocations.n.Load()
	if p, ok := v.cache.get(now, raw, revocation); ok {
		return p, nil
	}
	e, err := v.verify(ctx, now, raw)
	if err != nil {
		return request.Principal{}, err
	}
	e.revocation = revocation
	v.cache.put(e)
	return e.principal, nil
}

// verify is the whole way: form, issuer, claims, key, signature, clock.
func (v *Verifier) verify(ctx context.Context, now time.Time, raw string) (*entry, error) {
	t, err := parse(raw)
	if err != nil {
		return nil, err
	}
	is, alg, err := v.issuerOf(t)
	if err != nil {
		return nil, err
	}
	p, d, err := is.principal(t.claims)
	if err != nil {
		return nil, err
	}
	k, epoch, err := is.source.key(ctx, now, alg, t.kid)
	if err != nil {
		return nil, err
	}
	if err := verifySignature(k, alg.name, t); err != nil {
		return nil, err
	}
	if err := d.check(now); err != nil {
		return nil, err
	}
	return &entry{token: raw, principal: p, dates: d, source: is.source, keyEpoch: epoch}, nil
}

// issuerOf finds the issuer by its exact name, and the token's algorithm among
// those that this issuer may use.
func (v *Verifier) issuerOf(t parsed) (*issuer, algorithm, error) {
	iss, _ := t.claims.get("iss")
	is, ok := v.issuers[iss.text]
	if !ok || iss.kind != kindString {
		return nil, algorithm{}, invalid("iss is not a configured issuer")
	}
	alg, ok := algorithmOf(t.alg)
	if !ok || !slices.Contains(is.Algorithms, t.alg) {
		return nil, algorithm{}, invalid("the issuer may not use this alg")
	}
	return is, alg, nil
}
