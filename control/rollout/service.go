package rollout

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/seal"
)

// Options are what New needs. Store and Box must be set.
type Options struct {
	Store Store
	Box   *seal.Box

	Log *slog.Logger     // nil discards
	Now func() time.Time // nil means time.Now
}

// Service rolls policy sets out. See the package comment.
type Service struct {
	o     Options
	trial *trial
}

// New returns a Service.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Box == nil {
		return nil, errors.New("rollout: needs a store and a box")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{o, newTrial()}, nil
}

// idLen is the length of a whole id of a revision.
const idLen = 64

var (
	setName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`) // never changed
	idPrefix = regexp.MustCompile(`^[0-9a-f]{8,64}$`)           // never changed; eight are seldom ambiguous
)

// PolicySets returns a page of the policy sets, by name. after is the Next of
// the page before.
func (s *Service) PolicySets(ctx context.Context, after string, limit int) (account.Page[mesh.PolicySet], error) {
	if after != "" && !setName.MatchString(after) {
		return account.Page[mesh.PolicySet]{}, answer(ErrPosition)
	}
	p, err := s.o.Store.PolicySets(ctx, after, limit)
	return p, answer(err)
}

// PolicySet returns a policy set, or resource.not_found.
func (s *Service) PolicySet(ctx context.Context, name string) (mesh.PolicySet, error) {
	if !setName.MatchString(name) {
		return mesh.PolicySet{}, answer(ErrNotFound)
	}
	set, err := s.o.Store.PolicySet(ctx, name)
	return set, answer(err)
}

// Revisions returns a page of a set's revisions without their files, newest
// first, or resource.not_found without the set. after is the Next of the page
// before.
func (s *Service) Revisions(ctx context.Context, set, after string, limit int) (account.Page[mesh.Revision], error) {
	if !setName.MatchString(set) {
		return account.Page[mesh.Revision]{}, answer(ErrNotFound)
	}
	p, err := s.o.Store.Revisions(ctx, set, after, limit)
	return p, answer(err)
}

// Revision returns a revision with its files. id may be the beginning of one,
// of eight characters or more, if no other begins so: resource.not_found, or
// state.conflict with reason ambiguous.
func (s *Service) Revision(ctx context.Context, set, id string) (mesh.Revision, error) {
	id, err := s.resolve(ctx, set, id)
	if err != nil {
		return mesh.Revision{}, answer(err)
	}
	stored, err := s.o.Store.Revision(ctx, set, id)
	if err != nil {
		return mesh.Revision{}, answer(err)
	}
	r := stored.Revision
	if r.Files, err = stored.open(); err != nil {
		return mesh.Revision{}, s.tampered(ctx, stored, err)
	}
	return r, nil
}

// resolve returns the whole id of a revision, which needs not be there if the
// caller named a whole one.
func (s *Service) resolve(ctx context.Context, set, id string) (string, error) {
	switch {
	case !setName.MatchString(set) || !idPrefix.MatchString(id):
		return "", ErrNotFound
	case len(id) == idLen:
		return id, nil
	}
	return s.o.Store.Resolve(ctx, set, id)
}
