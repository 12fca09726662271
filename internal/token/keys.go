package token

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// maxSources bounds the key sources of all revisions together.
const maxSources = 64

// KeysOptions are the optional dependencies of Keys.
type KeysOptions struct {
	Log     *slog.Logger   // nil discards
	RootCAs *x509.CertPool // for https sources; nil means the system's
	Saved   string         // folder for copies of key files; "" keeps none
}

// Keys holds the key sets of all sources. It is shared by the verifiers of all
// revisions, since keys are live data and no part of a revision. Its methods are
// safe for concurrent use.
type Keys struct {
	log    *slog.Logger
	roots  *x509.CertPool
	copies saved
	ctx    context.Context // ends with Stop
	cancel context.CancelFunc

	mu      sync.Mutex           // guards the rest, and refs and cancel of each source
	sources map[sourceID]*source // at most maxSources
	started bool
	stopped bool
}

// NewKeys returns Keys without sources; verifiers bring them. Files are read when
// a verifier first names them, URLs only between Start and Stop.
func NewKeys(opts KeysOptions) *Keys {
	ctx, cancel := context.WithCancel(context.Background())
	return &Keys{
		log: cmp.Or(opts.Log, slog.New(slog.DiscardHandler)), roots: opts.RootCAs, copies: saved{opts.Saved},
		ctx: ctx, cancel: cancel, sources: make(map[sourceID]*source),
	}
}

// Start begins to load and to watch, one goroutine per URL and two per file.
// It is idempotent, and does nothing after Stop.
func (k *Keys) Start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.started || k.stopped {
		return
	}
	k.started = true
	for _, s := range k.sources {
		k.runLocked(s)
	}
}

// Stop ends all loading and waits for it. It is idempotent. Keys from files stay
// good; keys from URLs grow too old.
func (k *Keys) Stop() {
	k.cancel()
	k.mu.Lock()
	k.stopped = true
	sources := k.runningLocked()
	k.mu.Unlock()
	for _, s := range sources {
		<-s.done
	}
}

// Reload reads all files again, now, and returns when that is done.
func (k *Keys) Reload() {
	k.mu.Lock()
	var files []*source
	for _, s := range k.sources {
		if !s.fromURL() {
			files = append(files, s)
		}
	}
	k.mu.Unlock()
	for _, s := range files {
		s.refresh(k.ctx)
	}
}

// SourceStatus tells the state of one source, for metrics and readiness.
type SourceStatus struct {
	Source    string    `json:"source"` // the URL or path
	Symmetric bool      `json:"symmetric,omitempty"`
	Loaded    bool      `json:"loaded"`            // has, or had, a good key set
	Keys      int       `json:"keys"`              // usable ones
	Ignored   int       `json:"ignored,omitempty"` // for another use, or of an unsupported type
	Epoch     uint64    `json:"epoch"`             // number of the set, from 1
	Fetched   time.Time `json:"fetched,omitzero"`  // zero for files
	Failure   string    `json:"failure,omitempty"` // of the last load
}

// Status returns the state of all sources, sorted.
func (k *Keys) Status() []SourceStatus {
	k.mu.Lock()
	out := make([]SourceStatus, 0, len(k.sources))
	for _, s := range k.sources {
		out = append(out, s.status())
	}
	k.mu.Unlock()
	slices.SortFunc(out, func(a, b SourceStatus) int { return cmp.Compare(a.Source, b.Source) })
	return out
}

func (s *source) status() SourceStatus {
	s.mu.Lock()
	st := SourceStatus{Source: s.place(), Symmetric: s.id.symmetric, Failure: s.failure}
	s.mu.Unlock()
	if set := s.set.Load(); set != nil {
		st.Loaded, st.Keys, st.Ignored = true, len(set.keys), set.ignored
		st.Epoch, st.Fetched = set.epoch, set.fetched
	}
	return st
}

// acquire returns the source of that id, new or shared. Each acquire needs one
// release.
func (k *Keys) acquire(id sourceID) (*source, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.sources[id]
	if !ok {
		if len(k.sources) >= maxSources {
			return nil, errors.New("too many key sources")
		}
		var err error
		if s, err = k.newSource(id); err != nil {
			return nil, err
		}
		k.addLocked(s)
	}
	s.refs++
	return s, nil
}

func (k *Keys) newSource(id sourceID) (*source, error) {
	s := &source{id: id, log: k.log, copies: k.copies, kick: make(chan struct{}, 1), done: make(chan struct{})}
	var err error
	switch {
	case (id.jwks.File == "") == (id.jwks.URL == ""):
		return nil, errors.New("key set needs exactly one of a file and a URL")
	case id.jwks.File != "":
		s.load, err = newFileLoader(id.jwks.File)
	default:
		s.load, err = newFetcher(id.jwks.URL, k.roots)
	}
	return s, err
}

func (k *Keys) addLocked(s *source) {
	k.sources[s.id] = s
	if !s.fromURL() {
		s.refresh(k.ctx) // a good file serves the first request
	}
	if k.started {
		k.runLocked(s)
	}
}

// runLocked starts the source's goroutines; done is closed when both have ended.
func (k *Keys) runLocked(s *source) {
	if k.stopped {
		return
	}
	ctx, cancel := context.WithCancel(k.ctx)
	s.cancel = cancel
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	if !s.fromURL() {
		running.Go(func() { s.watch(ctx) })
	}
	go func() {
		running.Wait()
		close(s.done)
	}()
}

func (k *Keys) runningLocked() []*source {
	var out []*source
	for _, s := range k.sources {
		if s.cancel != nil {
			out = append(out, s)
		}
	}
	return out
}

// release gives a source back; the last one out ends its goroutines and waits.
func (k *Keys) release(s *source) {
	k.mu.Lock()
	s.refs--
	last := s.refs == 0
	if last {
		delete(k.sources, s.id)
	}
	cancel := s.cancel
	k.mu.Unlock()
	if last && cancel != nil {
		cancel()
		<-s.done
	}
}
