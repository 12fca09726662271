package operator

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"gatehouse/api/v1/client"
	"gatehouse/internal/revision"
)

// Push makes a revision of a policy set. Nothing comes into force by it. created
// is false where the same files were pushed before.
func (c *Client) Push(ctx context.Context, set string, files revision.Files, note string) (rev *client.Revision, created bool, err error) {
	body := client.RevisionPush{Files: client.PolicyFiles{}}
	for path, text := range files {
		if !utf8.Valid(text) {
			return nil, false, fmt.Errorf("%s: is not text in UTF-8", path)
		}
		body.Files[path] = string(text)
	}
	if note != "" {
		body.Note = &note
	}
	r, err := c.api.PushRevisionWithResponse(ctx, set, body)
	rev, err = Answer(r, err, func(r *client.PushRevisionResponse) *client.Revision {
		if created = r.JSON201 != nil; created {
			return r.JSON201
		}
		return r.JSON200
	})
	return rev, created, err
}

// Activate puts a pushed revision in force, whether or not it was before.
func (c *Client) Activate(ctx context.Context, set, id string) (*client.PolicySet, error) {
	r, err := c.api.ActivateRevisionWithResponse(ctx, set, nil, client.RevisionActivate{RevisionId: id})
	active, err := Answer(r, err, func(r *client.ActivateRevisionResponse) *client.PolicySet { return r.JSON200 })
	if e, ok := errors.AsType[*Error](err); ok && e.Reason() == "use_rollback" {
		return c.Rollback(ctx, set, id)
	}
	return active, err
}

// Rollback puts a revision in force that was before; "" is the one before the
// present one.
func (c *Client) Rollback(ctx context.Context, set, id string) (*client.PolicySet, error) {
	var body client.RevisionRollback
	if id != "" {
		body.RevisionId = &id
	}
	r, err := c.api.RollbackPolicySetWithResponse(ctx, set, nil, body)
	return Answer(r, err, func(r *client.RollbackPolicySetResponse) *client.PolicySet { return r.JSON200 })
}
