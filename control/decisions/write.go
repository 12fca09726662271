package decisions

import (
	"context"
	"fmt"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
)

// A batch is one statement. Within it seq rises in the order of the records.
const insertRecords = `
INSERT INTO decisions (id, tenant_id, sidecar_id, at, request_id, revision, route, subject, allowed, would_deny, error_code, rule_id, record, stored_at)
SELECT r.id, r.tenant, $1, r.at, r.request_id, r.revision, r.route, r.subject, r.allowed, r.would_deny, r.error_code, r.rule_id, r.record::jsonb, $2
FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::boolean[], $11::boolean[],
	$12::text[], $13::text[], $14::text[]) WITH ORDINALITY
	AS r (id, tenant, at, request_id, revision, route, subject, allowed, would_deny, error_code, rule_id, record, place)
ORDER BY r.place ON CONFLICT (id) DO NOTHING`

// maxAhead is how far ahead of our clock a record may be dated. One of a later
// time is dated so, in the column only: lists have the newest first, and a
// sidecar's wrong clock must not keep its records on top of them.
const maxAhead = time.Minute

// Store keeps a batch of records that a sidecar sent, mesh.MaxRecords at most,
// and returns how many of them it refused: those that are no decision records,
// and those of another tenant than the sidecar serves. One whose id is there
// already changes nothing. With an error none is stored, or it is not known;
// the batch may be stored again.
func (s *Store) Store(ctx context.Context, sc mesh.Sidecar, records [][]byte) (refused int, err error) {
	if len(records) > mesh.MaxRecords {
		return 0, apierr.New(apierr.ValidationTooLarge, apierr.Options{
			Cause: fmt.Errorf("a batch of %d records, at most %d are taken", len(records), mesh.MaxRecords),
		})
	}
	now := s.o.Now()
	b := batch{latest: now.Add(maxAhead)}
	for _, line := range records {
		if !b.take(sc, line) {
			refused++
		}
	}
	if len(b.id) == 0 {
		return refused, nil
	}
	_, err = s.o.Pool.Exec(ctx, insertRecords, sc.ID, now, b.id, b.tenant, b.at, b.requestID, b.revision, b.route, b.subject,
		b.allowed, b.wouldDeny, b.errorCode, b.ruleID, b.record)
	return refused, answer(err)
}

// batch is records as the statement takes them.
type batch struct {
	latest time.Time // that a record may be of

	id, tenant, requestID, revision, route, subject, errorCode, ruleID, record []string
	at                                                                         []time.Time
	allowed, wouldDeny                                                         []bool
}

// take adds a record, if it is one that the sidecar may send.
func (b *batch) take(sc mesh.Sidecar, line []byte) bool {
	r, err := parse(line)
	if err != nil {
		return false
	}
	tenant, err := r.tenant(sc)
	if err != nil {
		return false
	}
	b.id, b.tenant, b.at = append(b.id, r.DecisionID), append(b.tenant, tenant), append(b.at, earlier(r.Time, b.latest))
	b.requestID = append(b.requestID, cut(r.RequestID, maxText))
	b.revision = append(b.revision, cut(r.Revision, maxShort))
	b.route, b.subject = append(b.route, cut(r.Route, maxText)), append(b.subject, cut(r.Principal.Subject, maxText))
	b.allowed, b.wouldDeny = append(b.allowed, *r.Allowed), append(b.wouldDeny, r.WouldDeny)
	b.errorCode, b.ruleID = append(b.errorCode, cut(r.ErrorCode, maxShort)), append(b.ruleID, cut(r.RuleID, maxText))
	b.record = append(b.record, string(r.text))
	return true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
