package mesh

import (
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gatehouse/internal/mesh"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

// Bounds of what is reported, those of the table.
const (
	maxStatement = 5000 // sidecars of one statement
	maxBuild     = 128  // bytes
	revisionSize = 64   // hex digits
)

// silentAfter is how long a process must have been silent for an older one to
// speak for its sidecar again: incarnations are dated by the sidecar's clock,
// and a clock that was once far ahead must not make it silent for ever.
const silentAfter = 2 * time.Minute

// Rows are locked in the order of ids, so that two statements never wait for
// each other. The conditions are on the row as it is after that wait.
const storeReports = `
WITH r AS (
	SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::text[],
		$9::timestamptz[], $10::text[], $11::text[], $12::bigint[])
		AS r (id, at, incarnation, generation, revision, live_epoch, skew_ms, build, nack_at, nack_revision, nack_reason, nack_generation)
), locked AS (
	SELECT s.id FROM sidecars s WHERE s.id IN (SELECT id FROM r) ORDER BY s.id FOR NO KEY UPDATE
)
UPDATE sidecars s SET last_seen_at = r.at, incarnation = r.incarnation, generation = r.generation, revision_id = nullif(r.revision, ''),
	live_epoch = r.live_epoch, skew_ms = r.skew_ms, build = r.build,
	nack_at = r.nack_at, nack_revision = nullif(r.nack_revision, ''), nack_reason = CASE WHEN r.nack_at IS NOT NULL THEN r.nack_reason END,
	nack_generation = CASE WHEN r.nack_at IS NOT NULL THEN r.nack_generation END
FROM r JOIN locked USING (id)
WHERE s.id = r.id AND s.status = 'active'
	AND (r.incarnation >= s.incarnation OR s.last_seen_at < r.at - $13::interval)`

// Report stores what sidecars said last, by id. Unknown and revoked ones are
// passed over, and so is an older process of one whose newer process was heard
// of within silentAfter. Texts that are too long are cut.
func (s *Store) Report(ctx context.Context, reports map[string]mesh.Report) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(reports)), maxStatement) {
		c := columns{}
		for _, id := range ids {
			if postgres.IsUUID(id) {
				c.add(id, reports[id])
			}
		}
		if _, err := s.o.Pool.Exec(ctx, storeReports, c.ids, c.at, c.incarnation, c.generation, c.revision, c.epoch, c.skew, c.build,
			c.nackAt, c.nackRevision, c.nackReason, c.nackGeneration, silentAfter); err != nil {
			return answer(err)
		}
	}
	return nil
}

// columns are reports as the statement takes them.
type columns struct {
	ids                                  []string
	at                                   []time.Time
	incarnation, generation, epoch, skew []int64
	revision, build                      []string
	nackAt                               []*time.Time // nil where nothing is refused
	nackRevision, nackReason             []string
	nackGeneration                       []int64
}

func (c *columns) add(id string, r mesh.Report) {
	c.ids, c.at = append(c.ids, id), append(c.at, r.At)
	c.incarnation, c.generation = append(c.incarnation, max(r.Incarnation, 0)), append(c.generation, r.Generation)
	c.epoch, c.skew = append(c.epoch, r.LiveEpoch), append(c.skew, r.Skew.Milliseconds())
	c.revision, c.build = append(c.revision, revisionID(r.Revision)), append(c.build, clean(r.Build, maxBuild))
	c.nackAt = append(c.nackAt, refusedAt(r))
	c.nackRevision = append(c.nackRevision, revisionID(r.Refused.Revision))
	c.nackGeneration = append(c.nackGeneration, max(r.Refused.Generation, 0))
	c.nackReason = append(c.nackReason, clean(r.Refused.Reason, mesh.MaxReason))
}

// refusedAt is when an activation was refused; nil for never.
func refusedAt(r mesh.Report) *time.Time {
	if r.Refused == (mesh.Refusal{}) {
		return nil
	}
	if r.Refused.At.IsZero() {
		return &r.At
	}
	return &r.Refused.At
}

// revisionID is id, or "" where it can be none: a sidecar may say what it wants.
func revisionID(id string) string {
	if _, err := hex.DecodeString(id); err != nil || len(id) != revisionSize || strings.ToLower(id) != id {
		return ""
	}
	return id
}

// clean makes a text one that Postgres takes: valid UTF-8 of at most limit
// bytes, without NUL.
func clean(text string, limit int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

func scanSidecar(r row) (sc mesh.Sidecar, err error) {
	var role string
	var seen, refused *time.Time
	var skew int64
	last := &sc.Last
	err = r.Scan(&sc.ID, &sc.Tenant, &sc.Project, &sc.Agent, &sc.Name, &role, &sc.Shared, &sc.PolicySet,
		&sc.Revoked, &sc.Version, &sc.CreatedAt, &sc.UpdatedAt,
		&seen, &last.Incarnation, &last.Generation, &last.Revision, &last.LiveEpoch, &skew,
		&last.Build, &refused, &last.Refused.Revision, &last.Refused.Reason, &last.Refused.Generation)
	sc.Role, last.Skew = request.Role(role), time.Duration(skew)*time.Millisecond
	if seen != nil {
		last.At = *seen
	}
	if refused != nil {
		last.Refused.At = *refused
	}
	return sc, err
}

const countSeen = `
SELECT policy_set, count(*) FROM sidecars WHERE status = 'active' AND last_seen_at > $1 GROUP BY policy_set LIMIT $2`

// Connected counts the sidecars that any control heard of within a time, by
// policy set.
func (s *Store) Connected(ctx context.Context, within time.Duration) (map[string]int, error) {
	return collect[int](ctx, s, maxPolicySets, countSeen, s.o.Now().Add(-within))
}
