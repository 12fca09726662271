package rollout

import (
	"context"

	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

// ActivateRevision puts a revision in force that was not before. id is as for
// Revision. version is the policy set's, 0 for any; another is
// state.precondition_failed. The one in force already is left so. One that was
// in force before is state.conflict, reason use_rollback.
func (s *Service) ActivateRevision(ctx context.Context, by request.Principal, set, id string, version int64) (mesh.PolicySet, error) {
	id, err := s.resolve(ctx, set, id)
	if err != nil {
		return mesh.PolicySet{}, answer(err)
	}
	return s.put(ctx, by, set, move{revision.Activate, id, version})
}

// Rollback puts a revision in force that was before. id is as for Revision, or
// "" for the one that was in force before the present one: state.conflict,
// reason nothing_before, if there was none. One that was never in force is
// state.conflict, reason never_in_force. version is as for ActivateRevision.
func (s *Service) Rollback(ctx context.Context, by request.Principal, set, id string, version int64) (mesh.PolicySet, error) {
	if id != "" {
		var err error
		if id, err = s.resolve(ctx, set, id); err != nil {
			return mesh.PolicySet{}, answer(err)
		}
	} else if !setName.MatchString(set) {
		return mesh.PolicySet{}, answer(ErrNotFound)
	}
	return s.put(ctx, by, set, move{revision.Rollback, id, version})
}

// move is what somebody wants to put in force. id is whole, or "" for the one
// before.
type move struct {
	kind    revision.Kind
	id      string
	version int64
}

// put carries a move out.
func (s *Service) put(ctx context.Context, by request.Principal, set string, m move) (mesh.PolicySet, error) {
	r, err := s.ring(ctx)
	if err != nil {
		return mesh.PolicySet{}, answer(err)
	}
	now, err := s.o.Store.Activate(ctx, by, set, m.id, func(st Standing) (*revision.Signed, error) {
		next, err := m.plan(set, st)
		if err != nil || next == nil {
			return nil, err
		}
		if err := st.Target.verify(r.verifiers); err != nil {
			return nil, s.tampered(ctx, *st.Target, err)
		}
		return new(next.Sign(r.id, r.private)), nil
	})
	return now, answer(err)
}

// plan returns what a move makes of the standing of a set; nil where that is so
// already, whoever made it so: who asks again has lost the first answer.
func (m move) plan(set string, st Standing) (*revision.Activation, error) {
	switch {
	case m.version != 0 && m.version != st.Version:
		return nil, apierr.New(apierr.StatePreconditionFailed, apierr.Options{})
	case st.Target == nil && m.id == "":
		return nil, apierr.Conflict("nothing_before", nil)
	case st.Target == nil:
		return nil, ErrNotFound
	case st.Active != nil && st.Active.Revision == st.Target.ID:
		return nil, nil
	case m.kind == revision.Activate && st.Before:
		return nil, apierr.Conflict("use_rollback", nil)
	case m.kind == revision.Rollback && !st.Before:
		return nil, apierr.Conflict("never_in_force", nil)
	}
	return &revision.Activation{PolicySet: set, Generation: st.Highest + 1, Revision: st.Target.ID, Kind: m.kind}, nil
}
