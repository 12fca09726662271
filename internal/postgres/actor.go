package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/internal/request"
)

const isClient = `SELECT EXISTS (SELECT FROM clients WHERE id = $1)`

// Actor says in the audit log's words who by is; the zero value is control
// itself. A token doesn't say whether its subject is a user or a client.
func Actor(ctx context.Context, tx pgx.Tx, by request.Principal) (kind, actor string, err error) {
	switch {
	case by == request.Principal{}:
		return "system", "control", nil
	case by.Kind == request.KindWorkload:
		return "workload", by.Subject, nil
	case by.Kind != request.KindToken:
		return "anonymous", "anonymous", nil
	case !IsUUID(by.Subject):
		return "user", by.Subject, nil
	}
	client := false
	if err := tx.QueryRow(ctx, isClient, by.Subject).Scan(&client); err != nil {
		return "", "", err
	}
	if client {
		return "client", by.Subject, nil
	}
	return "user", by.Subject, nil
}

// IsUUID reports whether a text can be the id of a row: nothing else is asked
// for, or Postgres would answer with an error that is not one of the caller's.
func IsUUID(text string) bool {
	var u pgtype.UUID
	return u.Scan(text) == nil
}
