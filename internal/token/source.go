package token

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/config"
)

// Times of a key source.
const (
	MaxKeyAge       = time.Hour              // of fetched keys, since they were last confirmed
	refreshInterval = 5 * time.Minute        // between fetches of a URL, less up to a tenth
	retryInterval   = 10 * time.Second       // after a failed fetch, plus up to a tenth; and the least time between any two
	fileInterval    = 30 * time.Second       // between looks at a file, for events that got lost
	loadTimeout     = 5 * time.Second        // of one fetch, body included
	unknownKidWait  = 300 * time.Millisecond // from the start of the fetch that an unknown kid asks for
)

// maxWaiters is how many requests may wait for one source's fetch.
const maxWaiters = 64

// sourceID names a source. The same place read as symmetric and as asymmetric
// keys is two sources, of which at most one can ever have keys.
type sourceID struct {
	jwks      config.JWKS
	symmetric bool
	fed       string // name of a Feed, for logs; "" for others
}

// source is one place that a key set comes from. One goroutine, run, loads it;
// a slow or bad source holds up nobody else's.
type source struct {
	id     sourceID
	load   func(context.Context) ([]byte, error)
	log    *slog.Logger
	copies saved
	set    atomic.Pointer[keySet] // nil until the first good load
	kick   chan struct{}          // capacity 1: asks run to load now

	loading sync.Mutex // serialises loads; guards last
	last    []byte     // the document that set was read from

	mu      sync.Mutex    // guards the rest
	flight  chan struct{} // closed when the load under way ends; nil if there is none
	tried   time.Time     // when the last load began
	waiting int
	failure string // of the last load, "" if it was good

	refs   int           // guarded by Keys.mu
	cancel func()        // guarded by Keys.mu; nil unless run was started
	done   chan struct{} // closed when run and its watcher have ended
}

func (s *source) fromURL() bool { return s.id.jwks.URL != "" }

func (s *source) fromFile() bool { return s.id.jwks.File != "" }

func (s *source) fromFeed() bool { return s.id.jwks == config.JWKS{} }

// place names the source in logs and in Status.
func (s *source) place() string { return s.id.jwks.URL + s.id.jwks.File + s.id.fed }

// key finds the key for a token, and the epoch of the set it is in.
func (s *source) key(ctx context.Context, now time.Time, a algorithm, kid string) (key, uint64, error) {
	set, err := s.usable(now)
	if err != nil {
		return key{}, 0, err
	}
	k, known, err := set.find(a, kid)
	if known || !s.await(ctx) {
		return k, set.epoch, err
	}
	if set, err = s.usable(now); err != nil {
		return key{}, 0, err
	}
	k, _, err = set.find(a, kid)
	return k, set.epoch, err
}

func (s *source) usable(now time.Time) (*keySet, error) {
	set := s.set.Load()
	if set == nil {
		return nil, unavailable("no keys of this issuer yet")
	}
	if !set.fresh(now) {
		return nil, unavailable("the keys of this issuer are too old")
	}
	return set, nil
}

// await asks for a fetch on account of an unknown kid and waits for its end,
// until unknownKidWait after its start at most. It reports whether it waited:
// not for files and feeds, not if the last fetch is recent, not with maxWaiters waiting.
func (s *source) await(ctx context.Context) bool {
	flight, left := s.join(time.Now())
	if flight == nil {
		return false
	}
	defer s.leave()
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-flight:
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// join returns the flight to wait for, if one may be begun or waited for, and
// for how long: not at all if it is slow already.
func (s *source) join(now time.Time) (<-chan struct{}, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fromURL() || s.waiting >= maxWaiters {
		return nil, 0
	}
	if s.flight == nil {
		if now.Sub(s.tried) < retryInterval {
			return nil, 0
		}
		s.flight, s.tried = make(chan struct{}), now
		s.nudge()
	}
	s.waiting++
	return s.flight, s.tried.Add(unknownKidWait).Sub(now)
}

func (s *source) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
}

// nudge asks run to load; one request that is not yet served is enough.
func (s *source) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run loads at once, then at intervals and when nudged, until ctx ends.
func (s *source) run(ctx context.Context) {
	for {
		s.refresh(ctx)
		timer := time.NewTimer(s.interval())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.kick:
			timer.Stop()
		}
	}
}

// interval is the time to the next load. The random part keeps the sidecars of
// a mesh from asking all at once.
func (s *source) interval() time.Duration {
	if !s.fromURL() {
		return fileInterval
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != "" {
		return retryInterval + rand.N(retryInterval/10)
	}
	return refreshInterval - rand.N(refreshInterval/10)
}

// refresh loads the source once. A document that cannot be had or is refused
// leaves the last good set as it is.
func (s *source) refresh(ctx context.Context) {
	s.loading.Lock()
	defer s.loading.Unlock()
	if !s.begin(time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	doc, err := s.load(ctx)
	if err == nil {
		err = s.replaceLocked(doc, time.Now())
	}
	if err != nil {
		s.restoreLocked()
	}
	s.end(err)
}

// begin opens the flight, unless one was asked for and is open already. A nudge
// that a load in the meantime has served is dropped.
func (s *source) begin(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return true
	}
	if s.fromURL() && now.Sub(s.tried) < retryInterval {
		return false
	}
	s.flight, s.tried = make(chan struct{}), now
	return true
}

// end closes the flight and logs a failure, or a recovery, once.
func (s *source) end(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	s.mu.Lock()
	close(s.flight)
	s.flight = nil
	changed := failure != s.failure
	s.failure = failure
	s.mu.Unlock()
	if changed && err != nil {
		s.log.Warn("key set not loaded, last good one kept", "source", s.place(), "error", failure)
	}
	if changed && err == nil {
		s.log.Info("key set loads again", "source", s.place())
	}
}

// replaceLocked publishes the set of a document, whole. The same document again
// only confirms the keys: the epoch and with it cached tokens live on. It needs
// s.loading.
func (s *source) replaceLocked(doc []byte, now time.Time) error {
	old := s.set.Load()
	set := &keySet{epoch: 1}
	if old != nil && bytes.Equal(doc, s.last) {
		*set = *old
	} else {
		var err error
		if set, err = parseKeySet(doc, s.id.symmetric); err != nil {
			return err
		}
		set.epoch = 1
		if old != nil {
			set.epoch = old.epoch + 1
		}
	}
	if !s.fromFile() {
		set.fetched = now
	}
	s.set.Store(set)
	s.last = doc
	if old == nil || set.epoch != old.epoch {
		s.saveLocked(doc)
		s.log.Info("key set replaced", "source", s.place(), "keys", len(set.keys), "ignored", set.ignored, "epoch", set.epoch)
	}
	return nil
}
