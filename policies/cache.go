package policies

import "sync"

// Limits of the decision cache.
const (
	maxCached       = 4096 // decisions of one engine
	maxCachedKey    = 512  // bytes; a longer key is decided afresh each time
	cacheBufferSize = 256  // bytes of a key that are built without allocating
)

// cache holds decisions by the values of the declared input paths. It lives and
// dies with its engine, so a decision never outlives the Rego that made it.
// Safe for concurrent use; the decisions in it are shared and never written to.
type cache struct {
	key cacheKey

	mu        sync.RWMutex
	decisions map[string]*Decision // guarded by mu
}

func newCache(key cacheKey) *cache {
	return &cache{key: key, decisions: map[string]*Decision{}}
}

// get returns the decision under key, nil if there is none.
func (c *cache) get(key []byte) *Decision {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.decisions[string(key)]
}

// put keeps d under key. When the cache is full any one entry goes: which one
// hardly matters, as a miss costs one evaluation.
func (c *cache) put(key []byte, d *Decision) {
	if len(key) > maxCachedKey {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.decisions) >= maxCached {
		for k := range c.decisions {
			delete(c.decisions, k)
			break
		}
	}
	c.decisions[string(key)] = d
}
