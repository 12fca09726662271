package decisions_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gatehouse/control/decisions"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/pgtest"
)

func TestFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store(t, bound(), line("a", "org1", map[string]any{"allowed": false, "rule_id": "r1"}), line("b", "org1", map[string]any{"route": "agents"}))
	f.store(t, shared(), line("c", "org1", map[string]any{"principal": map[string]any{"tenant": "org1", "subject": "bob"}}), line("d", "org2", nil))
	for name, tt := range map[string]struct {
		tenant string
		filter mesh.DecisionFilter
		want   []string
	}{
		"none":           {"org1", mesh.DecisionFilter{}, []string{"a", "b", "c"}},
		"allowed":        {"org1", mesh.DecisionFilter{Allowed: new(true)}, []string{"b", "c"}},
		"denied":         {"org1", mesh.DecisionFilter{Allowed: new(false)}, []string{"a"}},
		"subject":        {"org1", mesh.DecisionFilter{Subject: "bob"}, []string{"c"}},
		"route":          {"org1", mesh.DecisionFilter{Route: "agents"}, []string{"b"}},
		"rule":           {"org1", mesh.DecisionFilter{RuleID: "r1"}, []string{"a"}},
		"sidecar":        {"org1", mesh.DecisionFilter{Sidecar: shared().ID}, []string{"c"}},
		"no id":          {"org1", mesh.DecisionFilter{Sidecar: "x' OR '1'='1"}, nil},
		"all together":   {"org1", mesh.DecisionFilter{Allowed: new(true), Subject: "ada", Route: "agents", Sidecar: bound().ID}, []string{"b"}},
		"of all":         {"*", mesh.DecisionFilter{}, []string{"a", "b", "c", "d"}},
		"of another":     {"org2", mesh.DecisionFilter{}, []string{"d"}},
		"others' things": {"org2", mesh.DecisionFilter{Sidecar: bound().ID}, nil},
		"of none":        {"", mesh.DecisionFilter{}, nil},
	} {
		if diff := cmp.Diff(tt.want, f.list(t, tt.tenant, tt.filter)); diff != "" {
			t.Errorf("%s: list (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tt.want, f.follow(t, tt.tenant, tt.filter, len(tt.want))); diff != "" {
			t.Errorf("%s: tail (-want +got):\n%s", name, diff)
		}
	}
}

// follow reads from the first record on until it has n, or the present is past
// all that is stored.
func (f fixture) follow(t *testing.T, tenant string, filter mesh.DecisionFilter, n int) (got []string) {
	t.Helper()
	f.passed(t)
	for from := "0-0"; ; {
		items, next, err := f.DecisionsSince(t.Context(), tenant, filter, from, 2)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids(items)...)
		if len(items) == 0 || len(got) > n {
			return got
		}
		from = next
	}
}

// passed waits until all that is stored is before the present: transactions of
// other tests on the server may hold it up.
func (f fixture) passed(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const passed = `SELECT coalesce(max(tx::text::bigint), 0) < pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM decisions`
	for done := false; !done; {
		if err := f.pool.QueryRow(ctx, passed).Scan(&done); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneDecision(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store(t, bound(), line("a", "org1", nil))
	for _, tenant := range []string{"org1", "*"} {
		if d, err := f.Decision(t.Context(), tenant, "a"); err != nil || d.ID != "a" || d.Tenant != "org1" {
			t.Errorf("%s: got %+v and %v", tenant, d, err)
		}
	}
	for tenant, id := range map[string]string{"org2": "a", "": "a", "org1": "b", "*": "a\x00\xff"} {
		d, err := f.Decision(t.Context(), tenant, id)
		wantCode(t, tenant+" "+id, err, apierr.ResourceNotFound)
		if d.Record != nil {
			t.Errorf("%s: got %s", tenant, d.Record)
		}
	}
}

// TestPages walks records of few moments in parts, while newer ones are stored.
func TestPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var want []string
	for i := range 20 {
		id, at := fmt.Sprintf("d%02d", i), noon().Add(time.Duration(i/4)*time.Microsecond)
		f.store(t, bound(), line(id, "org1", map[string]any{"time": at}))
		want = append(want, id)
	}
	// The newest moment first, by id within each.
	slices.SortStableFunc(want, func(a, b string) int { return strings.Compare(moment(b), moment(a)) })
	for _, tenant := range []string{"org1", "*"} {
		var got []string
		for after, pages := "", 0; ; pages++ {
			p, err := f.Decisions(t.Context(), tenant, mesh.DecisionFilter{}, after, 3)
			if err != nil || len(p.Items) > 3 || pages > 20 {
				t.Fatalf("page %d behind %q: %d items, %v", pages, after, len(p.Items), err)
			}
			got = append(got, ids(p.Items)...)
			f.store(t, bound(), line(fmt.Sprint("newer", tenant, pages), "org1", map[string]any{"time": noon().Add(time.Hour), "route": "new"}))
			if after = p.Next; after == "" {
				break
			}
		}
		got = slices.DeleteFunc(got, func(id string) bool { return strings.HasPrefix(id, "newer") })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tenant, diff)
		}
	}
}

// moment is equal for four ids that follow each other.
func moment(id string) string {
	var n int
	_, _ = fmt.Sscanf(id, "d%d", &n) // the test's own ids
	return fmt.Sprint(n / 4)
}

func TestBounds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var batch [][]byte
	for i := range 300 {
		batch = append(batch, line(fmt.Sprint(i), "org1", nil))
	}
	f.store(t, bound(), batch...)
	f.passed(t)
	for limit, want := range map[int]int{-1: 1, 0: 1, 7: 7, 1 << 40: 200} {
		p, err := f.Decisions(t.Context(), "org1", mesh.DecisionFilter{}, "", limit)
		if err != nil || len(p.Items) != want || p.Next == "" {
			t.Errorf("limit %d: a page of %d, %v, want %d and a next", limit, len(p.Items), err, want)
		}
		items, _, err := f.DecisionsSince(t.Context(), "org1", mesh.DecisionFilter{}, "0-0", limit)
		if err != nil || len(items) != want {
			t.Errorf("limit %d: %d of the tail, %v, want %d", limit, len(items), err, want)
		}
	}
}

func TestMalformedCursors(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, bad := range []string{"x", "1", "1-", "-1", "-1-1", "1--1", "1-1-1", "1-99999999999999999999", "99999999999999999999-1", "1/x", "' OR 1=1"} {
		_, next, err := f.DecisionsSince(t.Context(), "*", mesh.DecisionFilter{}, bad, 1)
		wantCode(t, bad, err, apierr.ValidationInvalid)
		if err != nil && !strings.Contains(string(apierr.From(err).Body("")), "/query/cursor") || next != "" {
			t.Errorf("%s: got %q and %v", bad, next, err)
		}
	}
	for _, bad := range []string{"x", "1", "/", "/x", "x/x", "-1/x", "99999999999999999999/x", "1-1"} {
		_, err := f.Decisions(t.Context(), "*", mesh.DecisionFilter{}, bad, 1)
		wantCode(t, bad, err, apierr.ValidationInvalid)
	}
	for _, good := range []string{"0/", "9223372036854775807/x\x00"} {
		if _, err := f.Decisions(t.Context(), "*", mesh.DecisionFilter{}, good, 1); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// insert adds a record in a transaction that stays open.
func (f fixture) insert(t *testing.T, tx pgx.Tx, id string) {
	t.Helper()
	const row = `INSERT INTO decisions (id, tenant_id, sidecar_id, at, revision, route, allowed, record) VALUES ($1, 'org1', $2, now(), '', '', true, '{}')`
	if _, err := tx.Exec(t.Context(), row, id, bound().ID); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) begin(t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // committed, unless the test failed
	return tx
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestTailMissesNoneAndDoublesNone commits transactions in another order than
// they began in, and reads after each step.
func TestTailMissesNoneAndDoublesNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store(t, bound(), line("before", "org1", nil))
	f.passed(t)
	items, from, err := f.DecisionsSince(t.Context(), "org1", mesh.DecisionFilter{}, "", 10)
	if err != nil || len(items) != 0 || from == "" {
		t.Fatalf("the present: got %v, %q and %v", ids(items), from, err)
	}
	var got []string
	read := func() {
		t.Helper()
		items, next, err := f.DecisionsSince(t.Context(), "org1", mesh.DecisionFilter{}, from, 10)
		if err != nil {
			t.Fatal(err)
		}
		got, from = append(got, ids(items)...), next
	}
	first, second, lost := f.begin(t), f.begin(t), f.begin(t)
	f.insert(t, first, "first 1")
	f.insert(t, second, "second 1")
	f.insert(t, lost, "lost")
	f.insert(t, first, "first 2")
	read()
	commit(t, second)
	read()
	f.store(t, bound(), line("third", "org1", nil))
	read()
	if len(got) != 0 {
		t.Fatalf("got %v while an older transaction is under way", got)
	}
	commit(t, first)
	read() // the lost one still holds up what began after it
	if err := lost.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.passed(t)
	read()
	read()
	if diff := cmp.Diff([]string{"first 1", "first 2", "second 1", "third"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTailUnderLoad follows while several store at once.
func TestTailUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const writers, batches = 4, 10
	errs := make(chan error, writers*batches)
	for w := range writers {
		go func() {
			for b := range batches {
				_, err := f.Store.Store(t.Context(), shared(), [][]byte{line(fmt.Sprintf("%d-%d", w, b), "org1", nil), line(fmt.Sprintf("%d-%d'", w, b), "org2", nil)})
				errs <- err
			}
		}()
	}
	seen := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for from := "0-0"; len(seen) < 2*writers*batches; {
		items, next, err := f.DecisionsSince(ctx, "*", mesh.DecisionFilter{}, from, 7)
		if err != nil {
			t.Fatalf("after %d: %v", len(seen), err)
		}
		for _, d := range items {
			seen[d.ID]++
		}
		from = next
	}
	for range writers * batches {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

func TestTailGoesOnFromItems(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store(t, bound(), line("a", "org1", nil), line("b", "org1", nil), line("c", "org1", nil))
	f.passed(t)
	a, err := f.Decision(t.Context(), "org1", "a")
	if err != nil {
		t.Fatal(err)
	}
	items, _, err := f.DecisionsSince(t.Context(), "org1", mesh.DecisionFilter{}, a.Cursor, 10)
	if err != nil || !slices.Equal(ids(items), []string{"b", "c"}) {
		t.Errorf("behind a: got %v and %v", ids(items), err)
	}
	items, next, err := f.DecisionsSince(t.Context(), "org1", mesh.DecisionFilter{}, "18446744073709551615-1", 10)
	if err != nil || len(items) != 0 || strings.HasPrefix(next, "18446744073709551615") {
		t.Errorf("a cursor of the future: got %v, %q and %v", ids(items), next, err)
	}
}

// TestPrune keeps by age, and by number.
func TestPrune(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		room int64
		now  time.Time
		want string
	}{
		{"all young", 0, noon().Add(time.Hour), "0 1 2 3 4 5 6 7 8 9"},
		{"the first at its age", 0, noon().Add(decisions.Retention), "1 2 3 4 5 6 7 8 9"},
		{"some old", 0, noon().Add(decisions.Retention + 3*time.Second), "4 5 6 7 8 9"},
		{"all old", 0, noon().Add(2 * decisions.Retention), ""},
		{"room for all", 10, noon().Add(time.Hour), "0 1 2 3 4 5 6 7 8 9"},
		{"room for some", 4, noon().Add(time.Hour), "6 7 8 9"},
		{"old, and no room", 4, noon().Add(decisions.Retention + 7*time.Second), "8 9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now, pool := noon(), pgtest.New(t)
			f := fixture{newStore(t, decisions.Options{Pool: pool, MaxRows: tt.room, Now: func() time.Time { return now }}), pool}
			for i := range 10 {
				f.store(t, bound(), line(fmt.Sprint(i), "org1", nil))
				now = now.Add(time.Second)
			}
			n, err := f.Prune(t.Context(), tt.now)
			got := f.text(t, `SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM decisions`)
			if err != nil || got != tt.want || int(n) != 10-len(strings.Fields(tt.want)) {
				t.Errorf("%d deleted, %v, %q are left, want %q", n, err, got, tt.want)
			}
		})
	}
}

// TestPruneInParts deletes more than one statement does, by two at once.
func TestPruneInParts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const fill = `INSERT INTO decisions (id, tenant_id, sidecar_id, at, revision, route, allowed, record, stored_at)
		SELECT n::text, 'org1', gen_random_uuid(), now(), '', '', true, '{}', '2026-03-01' FROM generate_series(1, 12001) n`
	if _, err := f.pool.Exec(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	f.store(t, bound(), line("new", "org1", nil))
	type result struct {
		n   int64
		err error
	}
	results := make(chan result, 2)
	for range cap(results) {
		go func() {
			n, err := f.Prune(t.Context(), time.Now())
			results <- result{n, err}
		}()
	}
	total := int64(0)
	for range cap(results) {
		r := <-results
		if total += r.n; r.err != nil {
			t.Error(r.err)
		}
	}
	if got := f.text(t, `SELECT string_agg(id, ' ') FROM decisions`); total != 12001 || got != "new" {
		t.Errorf("%d deleted, %q left", total, got)
	}
}
