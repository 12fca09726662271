package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Bounds of an audit row's texts, those of its table.
const (
	maxActor     = 256
	maxTarget    = 256
	maxRequestID = 255
)

// Event is one row of the audit log: who did what to whom.
type Event struct {
	Tenant     string // "*" for what concerns no one tenant
	ActorKind  string // user, client, sidecar, workload, system, break_glass or anonymous
	Actor      string
	Action     string // such as user.create
	TargetKind string
	Target     string
	Outcome    string // success, denied or failed; "" is success
	RequestID  string
	Details    map[string]any // never a secret; nil is none
}

const appendAudit = `SELECT append_audit($1, $2, $3, $4, $5, $6, $7, $8, $9)`

// Audit adds a row in the transaction of the change that it tells of, so that
// there is neither without the other.
func Audit(ctx context.Context, tx pgx.Tx, e Event) error {
	details := []byte("{}")
	if len(e.Details) > 0 {
		var err error
		if details, err = json.Marshal(e.Details); err != nil {
			return fmt.Errorf("audit %s: %w", e.Action, err)
		}
	}
	_, err := tx.Exec(ctx, appendAudit, e.Tenant, e.ActorKind, cut(e.Actor, maxActor), e.Action,
		e.TargetKind, cut(e.Target, maxTarget), cmp.Or(e.Outcome, "success"), cut(e.RequestID, maxRequestID), details)
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	return nil
}

// cut shortens a text to max bytes, between characters, so that a long name of
// something can't keep its change from being recorded.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
