package decisions

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// One statement for a tenant and one for all, so that each can use its index.
// $1 to $6 are the tenant and the filter.
const (
	columns = `d.id, d.tenant_id, d.sidecar_id::text, d.at, d.record::text, d.tx::text, d.seq`

	ofTenant = `d.tenant_id = $1`
	ofAll    = `$1 = '*'`
	selected = ` AND ($2::boolean IS NULL OR d.allowed = $2) AND ($3 = '' OR d.subject = $3) AND ($4 = '' OR d.route = $4)
	AND ($5 = '' OR d.rule_id = $5) AND ($6 = '' OR d.sidecar_id::text = $6)`
	newest = selected + ` AND ($7::timestamptz IS NULL OR (d.at <= $7 AND (d.at < $7 OR d.id > $8))) ORDER BY d.at DESC, d.id LIMIT $9`
	since  = selected + ` AND (d.tx, d.seq) > ($7::text::xid8, $8::bigint) AND d.tx < $9::text::xid8 ORDER BY d.tx, d.seq LIMIT $10`

	selectDecision = `SELECT ` + columns + ` FROM decisions d WHERE d.id = $1 AND ($2 = '*' OR d.tenant_id = $2)`
	selectNewest   = `SELECT ` + columns + ` FROM decisions d WHERE ` + ofTenant + newest
	selectAll      = `SELECT ` + columns + ` FROM decisions d WHERE ` + ofAll + newest
	selectSince    = `SELECT ` + columns + ` FROM decisions d WHERE ` + ofTenant + since
	selectAllSince = `SELECT ` + columns + ` FROM decisions d WHERE ` + ofAll + since

	// All transactions before the horizon have ended.
	selectHorizon = `SELECT pg_snapshot_xmin(pg_current_snapshot())::text`
)

// byTenant chooses a statement.
func byTenant(tenant, one, all string) string {
	if tenant == request.AnyTenant {
		return all
	}
	return one
}

func filterArgs(tenant string, f mesh.DecisionFilter, more ...any) []any {
	return append([]any{tenant, f.Allowed, clean(f.Subject), clean(f.Route), clean(f.RuleID), clean(f.Sidecar)}, more...)
}

func scan(r pgx.CollectableRow) (d mesh.Decision, err error) {
	var c cursor
	var tx string
	if err := r.Scan(&d.ID, &d.Tenant, &d.SidecarID, &d.At, &d.Record, &tx, &c.seq); err != nil {
		return d, err
	}
	c.tx, err = strconv.ParseUint(tx, 10, 64)
	d.Cursor = c.String()
	return d, err
}

// read runs a statement that returns decisions.
func (s *Store) read(ctx context.Context, sql string, args ...any) ([]mesh.Decision, error) {
	rows, err := s.o.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, answer(err)
	}
	items, err := pgx.CollectRows(rows, scan)
	return items, answer(err)
}

// Decision returns one record within a tenant.
func (s *Store) Decision(ctx context.Context, tenant, id string) (mesh.Decision, error) {
	found, err := s.read(ctx, selectDecision, clean(id), tenant)
	if err != nil {
		return mesh.Decision{}, err
	}
	if len(found) == 0 {
		return mesh.Decision{}, apierr.New(apierr.ResourceNotFound, apierr.Options{})
	}
	return found[0], nil
}

// Decisions returns a page of the records of a tenant that f selects, the
// newest first by the sidecars' clocks.
func (s *Store) Decisions(ctx context.Context, tenant string, f mesh.DecisionFilter, after string, limit int) (account.Page[mesh.Decision], error) {
	at, id, err := parsePosition(after)
	if err != nil {
		return account.Page[mesh.Decision]{}, err
	}
	limit = min(max(limit, 1), maxPage)
	items, err := s.read(ctx, byTenant(tenant, selectNewest, selectAll), filterArgs(tenant, f, at, id, limit+1)...)
	if err != nil {
		return account.Page[mesh.Decision]{}, err
	}
	p := account.Page[mesh.Decision]{Items: items}
	if len(items) > limit {
		p.Items, p.Next = items[:limit], position(items[limit-1])
	}
	return p, nil
}

// positionMark stands between a time in microseconds, Postgres's resolution,
// and an id.
const positionMark = "/"

func position(d mesh.Decision) string {
	return strconv.FormatInt(d.At.UnixMicro(), 10) + positionMark + d.ID
}

// parsePosition reads what position made; "" is before all, with a nil time.
func parsePosition(after string) (at *time.Time, id string, err error) {
	if after == "" {
		return nil, "", nil
	}
	micro, id, ok := strings.Cut(after, positionMark)
	n, err := strconv.ParseInt(micro, 10, 64)
	if !ok || err != nil || n < 0 {
		return nil, "", badCursor()
	}
	return new(time.UnixMicro(n)), clean(id), nil
}

func badCursor() error {
	fields := []apierr.Field{{Pointer: "/query/cursor", Code: "cursor", Message: "is not one of this list"}}
	return apierr.New(apierr.ValidationInvalid, apierr.Options{Details: []apierr.Detail{apierr.Fields(fields)}})
}

// cursor is a place in the order in which records were stored: (tx, seq).
type cursor struct {
	tx  uint64 // of the transaction
	seq int64  // from 1; 0 is before all of the transaction
}

const cursorMark = "-"

func (c cursor) String() string {
	return strconv.FormatUint(c.tx, 10) + cursorMark + strconv.FormatInt(c.seq, 10)
}

func parseCursor(text string) (c cursor, err error) {
	tx, seq, ok := strings.Cut(text, cursorMark)
	if c.tx, err = strconv.ParseUint(tx, 10, 64); err != nil || !ok {
		return c, badCursor()
	}
	if c.seq, err = strconv.ParseInt(seq, 10, 64); err != nil || c.seq < 0 {
		return c, badCursor()
	}
	return c, nil
}

// DecisionsSince returns the records of a tenant that f selects and that were
// stored behind a cursor, the oldest first, and the cursor to go on from. None
// is left out and none comes twice, whatever is being stored meanwhile: a record
// comes once all transactions that began before its own have ended, those of
// other databases of the server too. "" is the present: it returns nothing but
// a cursor. A cursor of the future, which another server gave, goes on from the
// present.
func (s *Store) DecisionsSince(ctx context.Context, tenant string, f mesh.DecisionFilter, from string, limit int) (items []mesh.Decision, next string, err error) {
	var start cursor
	if from != "" {
		if start, err = parseCursor(from); err != nil {
			return nil, "", err
		}
	}
	end, err := s.horizon(ctx)
	if err != nil {
		return nil, "", err
	}
	if from == "" {
		return nil, end.String(), nil
	}
	limit = min(max(limit, 1), maxPage)
	// INVARIANT: this statement sees all that was stored before the horizon,
	// because it begins later.
	items, err = s.read(ctx, byTenant(tenant, selectSince, selectAllSince),
		filterArgs(tenant, f, strconv.FormatUint(start.tx, 10), start.seq, strconv.FormatUint(end.tx, 10), limit)...)
	if err != nil {
		return nil, "", err
	}
	if len(items) == limit {
		return items, items[limit-1].Cursor, nil
	}
	return items, end.String(), nil
}

// horizon is behind all that is stored for good, and before all that is not.
func (s *Store) horizon(ctx context.Context) (c cursor, err error) {
	var tx string
	if err := s.o.Pool.QueryRow(ctx, selectHorizon).Scan(&tx); err != nil {
		return c, answer(err)
	}
	c.tx, err = strconv.ParseUint(tx, 10, 64)
	return c, answer(err)
}
