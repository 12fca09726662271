package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
)

// Options are a Verifier's optional dependencies.
type Options struct {
	// Feeds are the key sources of issuers whose keys stand neither in a file
	// nor at a URL, by the issuer's name.
	Feeds map[string]*Feed
}

// Verifier recognises and verifies the tokens of one revision's issuers.
// Its methods are safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer // by the exact value of iss; immutable
	cache   *cache
	close   func() // idempotent
}

// NewVerifier checks the issuers and takes their key sources from keys. A key
// set that is missing or bad is not an error: tokens are Unavailable until it is
// there. An issuer that could never be verified is one: an unsupported
// algorithm, an unknown role, a bad URL, a name or iss used twice.
//
// Close gives the sources back.
func NewVerifier(issuers []config.Issuer, keys *Keys, opts Options) (*Verifier, error) {
	v := &Verifier{issuers: make(map[string]*issuer, len(issuers)), cache: newCache()}
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
	if feed == nil && c.JWKS.Control {
		return nil, errors.New("its keys come from control, and there is none")
	}
	if feed == nil {
		return keys.acquire(sourceID{jwks: c.JWKS, symmetric: c.Symmetric})
	}
	if c.JWKS.File != "" || c.JWKS.URL != "" || c.Symmetric {
		return nil, errors.New("an issuer with a feed has no other key set, and no symmetric keys")
	}
	return feed.s, nil
}

// Close releases the verifier's key sources. It is idempotent. A closed verifier
// must not be asked again: nobody refreshes its keys. Build the next revision's
// verifier first, and the sources that both name stay loaded.
func (v *Verifier) Close() { v.close() }

// Verify returns the principal of a token, or a *Error. Whether the token is
// revoked is for who asks: that may change at any time, and the principal says
// all that it depends on. It neither trims nor
// unwraps: raw is the bare token. ctx bounds only the wait for an unknown kid.
func (v *Verifier) Verify(ctx context.Context, now time.Time, raw string) (request.Principal, error) {
	if p, ok := v.cache.get(now, raw); ok {
		return p, nil
	}
	e, err := v.verify(ctx, now, raw)
	if err != nil {
		return request.Principal{}, err
	}
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
