package postgres

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

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
	kind, actor, err := actorOf(ctx, tx, c.by)
	if err != nil {
		return err
	}
	return postgres.Audit(ctx, tx, postgres.Event{
		Tenant: request.AnyTenant, ActorKind: kind, Actor: actor, Action: c.kind + "." + c.action,
		TargetKind: c.kind, Target: c.target, RequestID: s.requestID(ctx), Details: c.detail,
	})
}

const isClient = `SELECT EXISTS (SELECT FROM clients WHERE id = $1)`

// actorOf says in the audit log's words who by is. A token doesn't say whether
// its subject is a user or a client.
func actorOf(ctx context.Context, tx pgx.Tx, by request.Principal) (kind, actor string, err error) {
	var id pgtype.UUID
	switch {
	case by == request.Principal{}:
		return "system", "control", nil
	case by.Kind == request.KindWorkload:
		return "workload", by.Subject, nil
	case by.Kind != request.KindToken:
		return "anonymous", "anonymous", nil
	case id.Scan(by.Subject) != nil:
		return "user", by.Subject, nil
	}
	client := false
	if err := tx.QueryRow(ctx, isClient, id).Scan(&client); err != nil {
		return "", "", err
	}
	if client {
		return "client", by.Subject, nil
	}
	return "user", by.Subject, nil
}

// subject is who is named in the rows themselves.
func subject(by request.Principal) string {
	s := []rune(cmp.Or(by.Subject, "control"))
	return string(s[:min(len(s), maxActor)])
}
