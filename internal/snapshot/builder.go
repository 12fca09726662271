package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"

	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/revision"
	"gatehouse/internal/token"
	"gatehouse/policies"
)

// Builder compiles policy sets for one sidecar. Compiled Rego and verifiers
// are shared by content between the revisions that have the same. It is safe
// for concurrent use.
type Builder struct {
	sidecar   *config.Sidecar
	keys      *token.Keys
	control   *token.Feed
	engines   pool[*policies.Engine]
	verifiers pool[*token.Verifier]
}

// NewBuilder makes a builder for a sidecar with the process's key sets. control
// is where the keys of issuers with jwks: control come from; nil at a sidecar
// without control.
func NewBuilder(sc *config.Sidecar, keys *token.Keys, control *token.Feed) *Builder {
	return &Builder{sidecar: sc, keys: keys, control: control}
}

// Build compiles a set. The error says what is wrong with it: config.Faults,
// policies.Faults, what can't be sanitized so, or what Envoy would not enforce.
func (b *Builder) Build(ctx context.Context, files revision.Files) (*Snapshot, error) {
	set, err := config.ParseSet(revision.ConfigFile, files[revision.ConfigFile])
	if err != nil {
		return nil, err
	}
	if err := config.CheckPair(set, b.sidecar); err != nil {
		return nil, err
	}
	s := &Snapshot{Revision: revision.ID(files), Set: set, Files: files, routes: routesOf(set)}
	if err := compileSanitizers(s.routes, set.Routes); err != nil {
		return nil, fmt.Errorf("%s: %w", revision.ConfigFile, err)
	}
	if err := b.fill(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (b *Builder) fill(ctx context.Context, s *Snapshot) error {
	var err error
	if s.Resources, err = envoyconf.Translate(b.sidecar, s.Set, s.Revision); err != nil {
		return err
	}
	release := func(f func()) { s.release = append(s.release, f) }
	s.Policy, err = b.engines.acquire(policyKey(s), release, func() (*policies.Engine, func(), error) {
		e, err := policies.Compile(ctx, policies.Source(s.Files), policyOptions(s.Set.Policy))
		return e, func() {}, err
	})
	if err != nil {
		return err
	}
	s.Tokens, err = b.verifiers.acquire(jsonKey(s.Set.Issuers), release, func() (*token.Verifier, func(), error) {
		v, err := token.NewVerifier(s.Set.Issuers, b.keys, token.Options{Feeds: b.feeds(s.Set)})
		if err != nil {
			return nil, nil, err
		}
		return v, v.Close, nil
	})
	return err
}

// feeds are the key sources of the issuers whose keys control sends.
func (b *Builder) feeds(set *config.PolicySet) map[string]*token.Feed {
	out := map[string]*token.Feed{}
	for _, is := range set.Issuers {
		if is.JWKS.Control {
			out[is.Name] = b.control
		}
	}
	return out
}

func policyOptions(p config.Policy) policies.Options {
	return policies.Options{Entry: p.Entry, Timeout: p.Timeout, ExposeToken: p.ExposeToken}
}

// policyKey is equal for sets whose Rego and options are.
func policyKey(s *Snapshot) string {
	rego := revision.Files{}
	for path, text := range s.Files {
		if path != revision.ConfigFile {
			rego[path] = text
		}
	}
	return revision.ID(rego) + jsonKey(policyOptions(s.Set.Policy))
}

func jsonKey(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("snapshot: %T has no JSON: %v", v, err)) // plain structs always have
	}
	sum := sha256.Sum256(b)
	return string(sum[:])
}

// pool shares values by key among those that hold them. The zero value is ready.
type pool[T any] struct {
	mu    sync.Mutex
	items map[string]*item[T]
}

type item[T any] struct {
	value T
	close func()
	users int
}

// acquire returns the value of key, made by build where nobody holds one, and
// registers how to give it back.
func (p *pool[T]) acquire(key string, release func(func()), build func() (T, func(), error)) (T, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := p.items[key]
	if it == nil {
		value, closeValue, err := build()
		if err != nil {
			return value, err
		}
		it = &item[T]{value: value, close: closeValue}
		if p.items == nil {
			p.items = map[string]*item[T]{}
		}
		p.items[key] = it
	}
	it.users++
	release(sync.OnceFunc(func() { p.giveBack(key, it) }))
	return it.value, nil
}

func (p *pool[T]) giveBack(key string, it *item[T]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it.users--; it.users == 0 {
		delete(p.items, key)
		it.close()
	}
}
