package token

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of a key set.
const (
	maxSetBytes = 256 << 10
	maxKeys     = 64
)

// key is one usable verification key.
type key struct {
	kid    string // "" means none
	kty    string
	crv    string
	alg    string // "" means any that fits
	public any    // ed25519.PublicKey, *ecdsa.PublicKey, *rsa.PublicKey, or []byte for oct
}

func (k key) fits(a algorithm) bool {
	return k.kty == a.kty && k.crv == a.crv && (k.alg == "" || k.alg == a.name)
}

// keySet is one version of a source's keys. It is immutable.
type keySet struct {
	keys    []key
	ignored int       // keys for another use, or of a type that is not supported
	epoch   uint64    // grows with each replacement; the same while the content is
	fetched time.Time // when the source last said so; zero if the source's keys do not age
}

// fresh reports whether the keys may still be used.
func (s *keySet) fresh(now time.Time) bool {
	return s.fetched.IsZero() || now.Sub(s.fetched) <= MaxKeyAge
}

// find returns the key for a token. known is false if a fresher set could help.
func (s *keySet) find(a algorithm, kid string) (k key, known bool, err error) {
	if kid == "" {
		return s.only(a)
	}
	i := slices.IndexFunc(s.keys, func(k key) bool { return k.kid == kid })
	if i < 0 {
		return key{}, false, invalid("unknown kid")
	}
	if !s.keys[i].fits(a) {
		return key{}, true, invalid("the key does not fit the algorithm")
	}
	return s.keys[i], true, nil
}

// only returns the one key that fits a token without kid.
func (s *keySet) only(a algorithm) (key, bool, error) {
	var fit []key
	for _, k := range s.keys {
		if k.fits(a) {
			fit = append(fit, k)
		}
	}
	if len(fit) != 1 {
		return key{}, true, invalid("no kid, and not exactly one key fits")
	}
	return fit[0], true, nil
}

// parseKeySet reads a JWK set (RFC 7517, 5) of either asymmetric or symmetric
// keys. A fault in any key refuses the whole set: half a set is one that its
// owner never published. An empty set is good, and then no token is.
func parseKeySet(b []byte, symmetric bool) (*keySet, error) {
	if len(b) > maxSetBytes {
		return nil, errors.New("key set is too large")
	}
	doc, err := parseObject(trimSpace(b), maxSetElements)
	if err != nil {
		return nil, err
	}
	list, ok := doc.get("keys")
	if _, alike := doc.lookalike([]string{"keys"}); !ok || alike || list.kind != kindArray {
		return nil, errors.New("no array of keys")
	}
	if len(list.items) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	return readKeys(list.items, symmetric)
}

func readKeys(items []value, symmetric bool) (*keySet, error) {
	set := &keySet{}
	var kids []string
	for i, item := range items {
		j, err := readJWK(item, symmetric)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if j.kid != "" && slices.Contains(kids, j.kid) {
			return nil, fmt.Errorf("key %d: kid is not the only one of its name", i)
		}
		kids = append(kids, j.kid)
		if j.public == nil {
			set.ignored++
			continue
		}
		set.keys = append(set.keys, j)
	}
	return set, nil
}

// trimSpace drops the white space of RFC 8259 around a document, as editors and
// servers leave it.
func trimSpace(b []byte) []byte {
	space := func(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
	for len(b) > 0 && space(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && space(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}
