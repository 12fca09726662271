package httpapi

import (
	"context"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

// The document gives policies the tenancy all: a policy set decides for all
// tenants whose sidecars follow it.
const policiesPath = "/api/v1/policies"

// ListPolicySets lists the policy sets.
func (a *api) ListPolicySets(ctx context.Context, r apiv1.ListPolicySetsRequestObject) (apiv1.ListPolicySetsResponseObject, error) {
	l, err := a.list(policiesPath, request.AnyTenant, nil, r.Params.Limit, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Policies.PolicySets(ctx, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	out := apiv1.ListPolicySets200JSONResponse{Body: apiv1.PolicySetList{Items: each(page.Items, showPolicySet)}}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// GetPolicySet returns one policy set.
func (a *api) GetPolicySet(ctx context.Context, r apiv1.GetPolicySetRequestObject) (apiv1.GetPolicySetResponseObject, error) {
	s, err := a.opts.Policies.PolicySet(ctx, r.PolicySet)
	if err != nil {
		return nil, err
	}
	return apiv1.GetPolicySet200JSONResponse{
		Body: showPolicySet(s), Headers: apiv1.GetPolicySet200ResponseHeaders{ETag: etag(s.Version)},
	}, nil
}

// ListRevisions lists the revisions of a policy set.
func (a *api) ListRevisions(ctx context.Context, r apiv1.ListRevisionsRequestObject) (apiv1.ListRevisionsResponseObject, error) {
	l, err := a.list(revisionsPath(r.PolicySet), request.AnyTenant, nil, r.Params.Limit, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Policies.Revisions(ctx, r.PolicySet, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	out := apiv1.ListRevisions200JSONResponse{Body: apiv1.RevisionList{Items: each(page.Items, showRevision)}}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

func revisionsPath(set string) string { return policiesPath + "/" + set + "/revisions" }

// PushRevision keeps a revision, which does not come into force by it.
func (a *api) PushRevision(ctx context.Context, r apiv1.PushRevisionRequestObject) (apiv1.PushRevisionResponseObject, error) {
	files := make(revision.Files, len(r.Body.Files))
	for path, text := range r.Body.Files {
		files[path] = []byte(text)
	}
	var note string
	set(&note, r.Body.Note)
	pushed, created, err := a.opts.Policies.PushRevision(ctx, callOf(ctx).principal, r.PolicySet, files, note)
	if err != nil {
		return nil, err
	}
	pushed.Files = nil // its pusher has them
	if !created {
		return apiv1.PushRevision200JSONResponse(showRevision(pushed)), nil
	}
	return apiv1.PushRevision201JSONResponse{
		Body:    showRevision(pushed),
		Headers: apiv1.PushRevision201ResponseHeaders{Location: revisionsPath(pushed.PolicySet) + "/" + pushed.ID},
	}, nil
}

// GetRevision returns a revision with its files.
func (a *api) GetRevision(ctx context.Context, r apiv1.GetRevisionRequestObject) (apiv1.GetRevisionResponseObject, error) {
	rev, err := a.opts.Policies.Revision(ctx, r.PolicySet, r.RevisionId)
	if err != nil {
		return nil, err
	}
	return apiv1.GetRevision200JSONResponse(showRevision(rev)), nil
}

// ActivateRevision puts a revision in force.
func (a *api) ActivateRevision(ctx context.Context, r apiv1.ActivateRevisionRequestObject) (apiv1.ActivateRevisionResponseObject, error) {
	c := callOf(ctx)
	version, err := a.matchedVersion(ctx, r.PolicySet)
	if err != nil {
		return nil, err
	}
	s, err := a.opts.Policies.ActivateRevision(ctx, c.principal, r.PolicySet, r.Body.RevisionId, version)
	if err != nil {
		return nil, err
	}
	return apiv1.ActivateRevision200JSONResponse{
		Body: showPolicySet(s), Headers: apiv1.ActivateRevision200ResponseHeaders{ETag: etag(s.Version)},
	}, nil
}

// RollbackPolicySet puts a revision in force again.
func (a *api) RollbackPolicySet(ctx context.Context, r apiv1.RollbackPolicySetRequestObject) (apiv1.RollbackPolicySetResponseObject, error) {
	c := callOf(ctx)
	version, err := a.matchedVersion(ctx, r.PolicySet)
	if err != nil {
		return nil, err
	}
	var to string
	set(&to, r.Body.RevisionId)
	s, err := a.opts.Policies.Rollback(ctx, c.principal, r.PolicySet, to, version)
	if err != nil {
		return nil, err
	}
	return apiv1.RollbackPolicySet200JSONResponse{
		Body: showPolicySet(s), Headers: apiv1.RollbackPolicySet200ResponseHeaders{ETag: etag(s.Version)},
	}, nil
}

// matchedVersion is the version of a policy set that has to be in force: 0 is
// any, where the caller named none.
func (a *api) matchedVersion(ctx context.Context, set string) (int64, error) {
	match := callOf(ctx).match
	s, err := a.opts.Policies.PolicySet(ctx, set)
	if err != nil {
		return 0, err
	}
	return match.version(s.Version), match.holds(s.Version)
}

func showPolicySet(s mesh.PolicySet) apiv1.PolicySet {
	out := apiv1.PolicySet{Name: s.Name, Sidecars: s.Sidecars, InForce: s.InForce, CreatedAt: s.CreatedAt.UTC(), Version: s.Version}
	if on := s.Active; on != nil {
		out.Active = &apiv1.PolicyActivation{
			Revision: on.Revision, Generation: on.Generation, Kind: apiv1.PolicyActivationKind(on.Kind), ActivatedAt: s.ActiveAt.UTC(),
		}
	}
	return out
}

func showRevision(r mesh.Revision) apiv1.Revision {
	out := apiv1.Revision{
		PolicySet: r.PolicySet, Id: r.ID, Note: r.Note, PushedBy: r.PushedBy, PushedAt: r.PushedAt.UTC(), Active: r.Active,
	}
	if r.Files == nil {
		return out
	}
	files := make(apiv1.PolicyFiles, len(r.Files))
	for path, text := range r.Files {
		files[path] = string(text)
	}
	out.Files = &files
	return out
}
