package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// maxSeries bounds the label sets of one metric. Routes, rules and issuers are
// bounded by the configuration; this bounds what many revisions add up to.
const maxSeries = 2048

// other is the label value of what came after maxSeries label sets.
const other = "other"

// series keeps the resolved series of one metric by their labels, so that
// counting a request neither hashes labels again nor allocates. Reading takes
// no lock; adding copies the map, which is rare.
type series[K comparable, V any] struct {
	make     func(K) V
	overflow K // stands for all label sets after the first maxSeries

	known atomic.Pointer[map[K]V]
	mu    sync.Mutex // held while known is replaced
}

func newSeries[K comparable, V any](overflow K, make func(K) V) *series[K, V] {
	s := &series[K, V]{make: make, overflow: overflow}
	s.known.Store(&map[K]V{})
	return s
}

// get returns the series of k.
func (s *series[K, V]) get(k K) V {
	if v, ok := (*s.known.Load())[k]; ok {
		return v
	}
	return s.add(k)
}

func (s *series[K, V]) add(k K) V {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := *s.known.Load()
	if len(known) >= maxSeries {
		k = s.overflow
	}
	if v, ok := known[k]; ok {
		return v
	}
	next := maps.Clone(known)
	v := s.make(k)
	next[k] = v
	s.known.Store(&next)
	return v
}
