package token

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/request"
)

// Bounds of one verifier's cache.
const (
	maxCached      = 10000 // entries
	maxCachedBytes = 4096  // of one token; a larger one is verified each time
	cacheShards    = 64
	shardEntries   = maxCached / cacheShards
)

// cacheTail is how much of a token's end, which is its signature, picks the
// shard. Only verified tokens are stored, so nobody can crowd one shard with
// made-up ones.
const cacheTail = 16

// cache holds verified tokens, found by the whole token. Each shard drops its
// oldest entry when full; an entry that died early waits for that.
type cache struct {
	seed   maphash.Seed
	shards [cacheShards]shard
}

type shard struct {
	mu      sync.RWMutex
	entries map[string]*entry // guarded by mu
	ring    []*entry          // guarded by mu; in order of arrival, from next on when full
	next    int               // guarded by mu; the slot to be used next
}

// entry is one verified token. It is immutable but for slot.
type entry struct {
	token     string
	principal request.Principal
	dates     dates
	source    *source
	keyEpoch  uint64
	slot      int // guarded by the shard's mu
}

// alive reports whether verifying again would still accept: the same keys, fresh
// enough, and the dates in range.
func (e *entry) alive(now time.Time) bool {
	set := e.source.set.Load()
	return set.epoch == e.keyEpoch && set.fresh(now) &&
		e.dates.begun(now) && e.dates.live(now)
}

func newCache() *cache { return &cache{seed: maphash.MakeSeed()} }

func (c *cache) shard(token string) *shard {
	tail := token[max(0, len(token)-cacheTail):]
	return &c.shards[maphash.String(c.seed, tail)%cacheShards]
}

func (c *cache) get(now time.Time, token string) (request.Principal, bool) {
	if len(token) > maxCachedBytes {
		return request.Principal{}, false
	}
	s := c.shard(token)
	s.mu.RLock()
	e := s.entries[token]
	s.mu.RUnlock()
	if e == nil || !e.alive(now) {
		return request.Principal{}, false
	}
	return e.principal, true
}

// has reports whether the token was verified before, whatever became of it.
func (c *cache) has(token string) bool {
	if len(token) > maxCachedBytes {
		return false
	}
	s := c.shard(token)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.entries[token] != nil
}

// put stores a copy of the token, as the caller's may be part of a larger buffer.
func (c *cache) put(e *entry) {
	if len(e.token) > maxCachedBytes {
		return
	}
	e.token = strings.Clone(e.token)
	s := c.shard(e.token)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(e)
}

func (s *shard) putLocked(e *entry) {
	if s.entries == nil {
		s.entries = make(map[string]*entry)
	}
	old, known := s.entries[e.token]
	switch {
	case known:
		e.slot = old.slot
	case len(s.ring) < shardEntries:
		e.slot = len(s.ring)
		s.ring = append(s.ring, nil)
	default:
		e.slot, s.next = s.next, (s.next+1)%shardEntries
		delete(s.entries, s.ring[e.slot].token)
	}
	delete(s.entries, e.token) // so that the map's key is the new entry's string
	s.ring[e.slot], s.entries[e.token] = e, e
}

// len counts the entries, dead ones included.
func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.entries)
		s.mu.RUnlock()
	}
	return n
}
