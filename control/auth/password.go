package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// Bounds of hashing. One hash takes 46 MiB: maxHashes of them bound the memory,
// and what waits for them is bounded in number and time.
const (
	maxHashes  = 4
	maxWaiting = 64
	hashWait   = 2 * time.Second
)

// cost is what argon2id (RFC 9106) takes: memory in KiB, passes, lanes.
type cost struct {
	memory uint32
	passes uint32
	lanes  uint8
}

// The cost of new hashes, and the bounds of what a stored one may ask for, so
// that a row can't take the process's memory.
const (
	memoryKiB    = 46 << 10
	saltBytes    = 16
	hashBytes    = 32
	maxMemoryKiB = 256 << 10
	maxPasses    = 16
	maxLanes     = 4
	maxPHCBytes  = 512
)

// errBusy says that no hash could be had in time.
var errBusy = errors.New("too many passwords are being hashed")

// errHash says that a stored hash can't be read. It doesn't quote it.
var errHash = errors.New("stored password hash is not argon2id in PHC form, or out of bounds")

// Hasher hashes passwords by argon2id, maxHashes at a time. It is safe for
// concurrent use; a process has one, since it is what bounds the memory.
type Hasher struct {
	cost        cost
	waiting     chan struct{} // holds one per caller, the hashing included
	slots       chan struct{} // holds one per hash under way
	evaluations atomic.Int64
}

// NewHasher returns a Hasher with the product's cost.
func NewHasher() *Hasher { return newHasher(cost{memoryKiB, 1, 1}) }

func newHasher(c cost) *Hasher {
	return &Hasher{cost: c, waiting: make(chan struct{}, maxHashes+maxWaiting), slots: make(chan struct{}, maxHashes)}
}

// Evaluations is how many hashes were computed.
func (h *Hasher) Evaluations() int64 { return h.evaluations.Load() }

// HashNew hashes a password for a user of that name, if it is good enough for a
// new one (CheckPassword): an *apierr.Error otherwise, or if no hash can be had
// in time.
func (h *Hasher) HashNew(ctx context.Context, username, password string) (string, error) {
	if err := CheckPassword(username, password); err != nil {
		return "", err
	}
	phc, err := h.Hash(ctx, password)
	if err != nil {
		return "", unavailable(err)
	}
	return phc, nil
}

// Hash hashes any password, in PHC form with a random salt.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails: crypto/rand ends the process instead
	stored := phc{cost: h.cost, salt: salt, hash: make([]byte, hashBytes)}
	sum, err := h.evaluate(ctx, stored, password)
	if err != nil {
		return "", err
	}
	stored.hash = sum
	return stored.String(), nil
}

// verdict is what comparing a password with a stored hash says.
type verdict struct {
	match bool
	stale bool // the hash has another cost than new ones
}

// compare hashes the password once, whatever stored is: "" stands for nobody's
// hash, which costs the same and matches nothing.
func (h *Hasher) compare(ctx context.Context, stored, password string) (verdict, error) {
	known, nobody := stored, stored == ""
	if nobody {
		known = h.decoy()
	}
	parsed, err := parsePHC(known)
	if err != nil {
		return verdict{}, err
	}
	sum, err := h.evaluate(ctx, parsed, password)
	if err != nil {
		return verdict{}, err
	}
	match := subtle.ConstantTimeCompare(sum, parsed.hash) == 1 && !nobody
	return verdict{match: match, stale: parsed.cost != h.cost || len(parsed.salt) != saltBytes || len(parsed.hash) != hashBytes}, nil
}

// decoy is a hash in the form of new ones that nobody has a password for.
func (h *Hasher) decoy() string {
	random := make([]byte, saltBytes+hashBytes)
	rand.Read(random) // never fails: crypto/rand ends the process instead
	return phc{cost: h.cost, salt: random[:saltBytes], hash: random[saltBytes:]}.String()
}

func (h *Hasher) evaluate(ctx context.Context, p phc, password string) ([]byte, error) {
	if err := h.acquire(ctx); err != nil {
		return nil, err
	}
	defer h.release()
	h.evaluations.Add(1)
	return argon2.IDKey([]byte(password), p.salt, p.cost.passes, p.cost.memory, p.cost.lanes, uint32(len(p.hash))), nil
}

// acquire takes a slot, or errBusy.
func (h *Hasher) acquire(ctx context.Context) error {
	select {
	case h.waiting <- struct{}{}:
	default:
		return errBusy
	}
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-timer.C:
		<-h.waiting
		return errBusy
	case <-ctx.Done():
		<-h.waiting
		return ctx.Err()
	}
}

func (h *Hasher) release() {
	<-h.slots
	<-h.waiting
}

// phc is a hash in the PHC string format
// (https://github.com/P-H-C/phc-string-format, argon2id, version 19).
type phc struct {
	cost cost
	salt []byte
	hash []byte
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.cost.memory, p.cost.passes, p.cost.lanes,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.hash))
}

// parsePHC reads exactly what String writes, within the bounds.
func parsePHC(s string) (phc, error) {
	parts := strings.Split(s[:min(len(s), maxPHCBytes+1)], "$")
	if len(s) > maxPHCBytes || len(parts) != 6 {
		return phc{}, errHash
	}
	var p phc
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.cost.memory, &p.cost.passes, &p.cost.lanes); err != nil {
		return phc{}, errHash
	}
	var errSalt, errSum error
	p.salt, errSalt = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	p.hash, errSum = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	// INVARIANT: a text that String would not write is refused, so that nothing
	// is left unread.
	if errSalt != nil || errSum != nil || !p.inBounds() || p.String() != s {
		return phc{}, errHash
	}
	return p, nil
}

func (p phc) inBounds() bool {
	c := p.cost
	return c.memory >= 8*uint32(c.lanes) && c.memory <= maxMemoryKiB && c.passes >= 1 && c.passes <= maxPasses &&
		c.lanes >= 1 && c.lanes <= maxLanes && len(p.salt) >= 8 && len(p.salt) <= 64 && len(p.hash) >= 16 && len(p.hash) <= 64
}
