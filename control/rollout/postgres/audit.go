package postgres

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// maxActor bounds, in characters, who pushed and who activated.
const maxActor = 256

// change is what the audit log says of one change.
type change struct {
	by     request.Principal // the zero value is control itself
	action string
	kind   string // of the thing
	target string
	detail map[string]any
}

// audit adds the row of a change to its transaction. Policy sets are of no one
// tenant.
func (s *Store) audit(ctx context.Context, tx pgx.Tx, c change) error {
	kind, actor, err := postgres.Actor(ctx, tx, c.by)
	if err != nil {
		return err
	}
	return postgres.Audit(ctx, tx, postgres.Event{
		Tenant: request.AnyTenant, ActorKind: kind, Actor: actor, Action: c.kind + "." + c.action,
		TargetKind: c.kind, Target: c.target, RequestID: s.requestID(ctx), Details: c.detail,
	})
}

// subject is who is named in the rows themselves.
func subject(by request.Principal) string {
	s := []rune(cmp.Or(by.Subject, "control"))
	return string(s[:min(len(s), maxActor)])
}
