package decisions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/decisions"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/pgtest"
)

// fixture is a store over an empty database.
type fixture struct {
	*decisions.Store
	pool *pgxpool.Pool
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	pool := pgtest.New(t)
	return fixture{newStore(t, decisions.Options{Pool: pool}), pool}
}

func newStore(t *testing.T, o decisions.Options) *decisions.Store {
	t.Helper()
	s, err := decisions.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bound() mesh.Sidecar {
	return mesh.Sidecar{ID: "00000000-0000-0000-0000-000000000001", Tenant: "org1", Name: "one"}
}

func shared() mesh.Sidecar {
	return mesh.Sidecar{ID: "00000000-0000-0000-0000-000000000002", Tenant: "org1", Name: "two", Shared: true}
}

// noon is when the records of these tests were made.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// line is a record as a sidecar writes it, with some members set or, by nil,
// left out.
func line(id, tenant string, set map[string]any) []byte {
	members := map[string]any{
		"kind": "decision", "time": noon(), "decision_id": id, "request_id": "req-" + id, "revision": strings.Repeat("a", 64), "route": "tasks",
		"listener": "inbound", "method": "GET", "path": "/tasks", "principal": map[string]any{"kind": "token", "subject": "ada", "tenant": tenant},
		"allowed": true, "would_deny": false, "mode": "enforce", "error_code": "", "rule_id": "", "limits": []string{}, "latency_us": 12,
	}
	for name, value := range set {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	b, err := json.Marshal(members)
	if err != nil {
		panic(err) // only a test's own mistake can do that
	}
	return append(b, '\n')
}

func (f fixture) store(t *testing.T, s mesh.Sidecar, records ...[]byte) {
	t.Helper()
	if refused, err := f.Store.Store(t.Context(), s, records); refused != 0 || err != nil {
		t.Fatalf("storing: %d refused, %v", refused, err)
	}
}

func (f fixture) text(t *testing.T, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := f.pool.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// clear forgets all records.
func (f fixture) clear(t *testing.T) {
	t.Helper()
	if _, err := f.pool.Exec(t.Context(), `DELETE FROM decisions`); err != nil {
		t.Fatal(err)
	}
}

func ids(items []mesh.Decision) (out []string) {
	for _, d := range items {
		out = append(out, d.ID)
	}
	return out
}

// list returns the ids of the first page.
func (f fixture) list(t *testing.T, tenant string, filter mesh.DecisionFilter) []string {
	t.Helper()
	p, err := f.Decisions(t.Context(), tenant, filter, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return ids(p.Items)
}

func wantCode(t *testing.T, what string, err error, want apierr.Code) {
	t.Helper()
	if err == nil || apierr.From(err).Code() != want {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for name, o := range map[string]decisions.Options{"no pool": {}, "no room": {Pool: pool, MaxRows: -1}} {
		if _, err := decisions.New(o); err == nil {
			t.Errorf("%s: made a store", name)
		}
	}
}

func TestRecordIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	set := map[string]any{"allowed": false, "would_deny": true, "error_code": "auth.forbidden", "rule_id": "no_writes", "a_later_build": map[string]any{"says": []int{1, 2}}}
	in := line("d1", "org1", set)
	f.store(t, bound(), in)
	got, err := f.Decision(t.Context(), "org1", "d1")
	if err != nil {
		t.Fatal(err)
	}
	var want, record map[string]any
	if err := json.Unmarshal(in, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got.Record, &record); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if got.ID != "d1" || got.Tenant != "org1" || got.SidecarID != bound().ID || !got.At.Equal(noon()) || got.Cursor == "" {
		t.Errorf("got %+v", got)
	}
	const row = `SELECT concat_ws(' ', request_id, revision = repeat('a', 64), route, subject, allowed, would_deny, error_code, rule_id) FROM decisions`
	if got, want := f.text(t, row), "req-d1 t tasks ada f t auth.forbidden no_writes"; got != want {
		t.Errorf("columns: got %q, want %q", got, want)
	}
}

// TestBadRecordsAreRefusedAlone sends each between two good ones.
func TestBadRecordsAreRefusedAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	with := func(name string, value any) []byte { return line("bad", "org1", map[string]any{name: value}) }
	raw := func(member string) []byte {
		return fmt.Appendf(nil, `{%s,%s`, member, line("bad", "org1", nil)[1:])
	}
	for name, bad := range map[string][]byte{
		"nothing":              nil,
		"no JSON":              []byte("{"),
		"an array":             []byte("[1]"),
		"a string":             []byte(`"x"`),
		"two objects":          append(line("bad", "org1", nil), "{}"...),
		"something behind":     append(line("bad", "org1", nil), "x"...),
		"outcome":              with("kind", "outcome"),
		"no kind":              with("kind", nil),
		"no id":                with("decision_id", nil),
		"an empty id":          with("decision_id", ""),
		"a long id":            with("decision_id", strings.Repeat("x", 65)),
		"no time":              with("time", nil),
		"a time that is none":  with("time", "yesterday"),
		"a time before clocks": with("time", "0001-01-01T00:00:00Z"),
		"no verdict":           with("allowed", nil),
		"a verdict of text":    with("allowed", "true"),
		"a number as id":       with("decision_id", 7),
		"invalid UTF-8":        raw("\"x\":\"\xff\""),
		"half a surrogate":     raw(`"x":"\ud800"`),
		"a member twice":       raw(`"kind":"decision"`),
		"NULs that collide":    raw(`"\u0000":1,"\ufffd":2`),
		"a huge number":        raw(`"x":1e400000`),
		"a tiny number":        raw(`"x":1e-400000`),
		"a long number":        raw(`"x":` + strings.Repeat("9", 40)),
		"deep":                 raw(`"x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16)),
		"too long":             with("x", strings.Repeat("x", mesh.MaxRecordBytes)),
		"too long with spaces": with("x", make([]int, 30_000)),
		"of another tenant":    line("bad", "org2", nil),
	} {
		refused, err := f.Store.Store(t.Context(), bound(), [][]byte{line("a", "org1", nil), bad, line("b", "org1", nil)})
		if refused != 1 || err != nil {
			t.Errorf("%s: %d refused, %v, want 1", name, refused, err)
		}
		if diff := cmp.Diff([]string{"a", "b"}, f.list(t, "*", mesh.DecisionFilter{})); diff != "" {
			t.Errorf("%s: stored (-want +got):\n%s", name, diff)
		}
		f.clear(t)
	}
}

// TestOddRecordsAreKept stores what only looks bad, or can be put right.
func TestOddRecordsAreKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// The record's own text without the member x, as Postgres writes it.
	frame := `{"x": "", "kind": "decision", "time": "2026-03-01T12:00:00Z", "decision_id": "full", "allowed": true}`
	full := strings.Replace(frame, `""`, `"`+strings.Repeat("x", mesh.MaxRecordBytes-len(frame))+`"`, 1)
	f.store(t, bound(),
		line("nul", "org1", map[string]any{"route": "a\x00b", "principal": map[string]any{"tenant": "org1", "subject": "x\x00"}}),
		line("written", "org1", map[string]any{"route": `a\u0000b`}),
		line("long", "org1", map[string]any{"route": strings.Repeat("é", 200), "error_code": strings.Repeat("x", 100), "revision": strings.Repeat("r", 70)}),
		line("deep", "org1", map[string]any{"x": json.RawMessage(strings.Repeat("[", 15) + strings.Repeat("]", 15))}),
		line("nobody", "", map[string]any{"principal": nil}),
		line("number", "org1", map[string]any{"x": json.RawMessage("-1234567890123.0625")}),
		line("escapes", "org1", map[string]any{"x": "\b\f\n\r\t\x01\x7f\"\\/<>&\u2028😀"}),
		[]byte(full))
	want := []string{"deep", "escapes", "full", "long", "nobody", "nul", "number", "written"}
	if diff := cmp.Diff(want, f.list(t, "org1", mesh.DecisionFilter{})); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	for route, want := range map[string]string{"a\ufffdb": "nul", "a\x00b": "nul", `a\u0000b`: "written", strings.Repeat("é", 128): "long"} {
		if got := f.list(t, "org1", mesh.DecisionFilter{Route: route}); !slices.Equal(got, []string{want}) {
			t.Errorf("route %q: got %v, want %s", route, got, want)
		}
	}
}

// TestWhoseRecordItIs sends records of several tenants by a bound and by a
// shared sidecar, both of org1.
func TestWhoseRecordItIs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tt := range []struct {
		sidecar mesh.Sidecar
		tenant  string
		want    string // "" for refused
	}{
		{bound(), "org1", "org1"}, {bound(), "", "org1"}, {bound(), "*", "org1"}, {bound(), "org2", ""}, {bound(), "ORG1", ""},
		{shared(), "org1", "org1"}, {shared(), "", "org1"}, {shared(), "*", "org1"}, {shared(), "org2", "org2"},
		{shared(), strings.Repeat("x", 64), ""},
	} {
		f.clear(t)
		refused, err := f.Store.Store(t.Context(), tt.sidecar, [][]byte{line("d", tt.tenant, nil)})
		if err != nil || refused != 0 != (tt.want == "") {
			t.Errorf("%s from %s: %d refused, %v", tt.tenant, tt.sidecar.Name, refused, err)
		}
		if got := f.text(t, `SELECT coalesce(max(tenant_id), '') FROM decisions`); got != tt.want {
			t.Errorf("%s from %s: stored as %q, want %q", tt.tenant, tt.sidecar.Name, got, tt.want)
		}
	}
}

func TestRepeatedRecordsChangeNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store(t, bound(), line("a", "org1", nil), line("b", "org1", nil), line("a", "org1", map[string]any{"route": "other"}))
	f.store(t, bound(), line("c", "org1", nil), line("b", "org1", map[string]any{"allowed": false}))
	f.store(t, bound())
	const all = `SELECT string_agg(concat_ws(' ', id, route, allowed), ', ' ORDER BY id) FROM decisions`
	if got, want := f.text(t, all), "a tasks t, b tasks t, c tasks t"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err := f.Store.Store(t.Context(), bound(), make([][]byte, mesh.MaxRecords+1))
	wantCode(t, "too many", err, apierr.ValidationTooLarge)
}

func TestFullBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var batch [][]byte
	for i := range mesh.MaxRecords {
		batch = append(batch, line(fmt.Sprintf("d%03d", i), "org1", nil))
	}
	f.store(t, bound(), batch...)
	const inOrder = `SELECT (count(*) = 512 AND count(DISTINCT tx) = 1 AND array_agg(id ORDER BY seq) = array_agg(id ORDER BY id))::text FROM decisions`
	if got := f.text(t, inOrder); got != "true" {
		t.Error("the batch isn't all there, or not in its order, or not of one statement")
	}
}

// TestAway asks a database whose pool is closed, and one for which no time is
// left.
func TestAway(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := newStore(t, decisions.Options{Pool: pool})
	pool.Close()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	last := func(_, _ any, err error) error { return err }
	for name, err := range map[string]error{
		"store":   second(s.Store(t.Context(), bound(), [][]byte{line("a", "org1", nil)})),
		"one":     second(s.Decision(t.Context(), "*", "a")),
		"list":    second(s.Decisions(t.Context(), "*", mesh.DecisionFilter{}, "", 1)),
		"now":     last(s.DecisionsSince(t.Context(), "*", mesh.DecisionFilter{}, "", 1)),
		"since":   last(s.DecisionsSince(t.Context(), "*", mesh.DecisionFilter{}, "1-0", 1)),
		"prune":   second(s.Prune(t.Context(), noon())),
		"no time": second(newStore(t, decisions.Options{Pool: pgtest.New(t)}).Store(late, bound(), [][]byte{line("a", "org1", nil)})),
	} {
		if e := apierr.From(err); err == nil || e.Code() != apierr.Internal || e.HTTP() != http.StatusServiceUnavailable {
			t.Errorf("%s: got %v, want internal.error with 503", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestBrokenSchema tells a defect from a database that is away.
func TestBrokenSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.pool.Exec(t.Context(), `ALTER TABLE decisions RENAME TO gone`); err != nil {
		t.Fatal(err)
	}
	last := func(_, _ any, err error) error { return err }
	for name, err := range map[string]error{
		"store": second(f.Store.Store(t.Context(), bound(), [][]byte{line("a", "org1", nil)})),
		"list":  second(f.Decisions(t.Context(), "*", mesh.DecisionFilter{}, "", 1)),
		"since": last(f.DecisionsSince(t.Context(), "*", mesh.DecisionFilter{}, "1-0", 1)),
		"prune": second(f.Prune(t.Context(), noon())),
	} {
		if e := apierr.From(err); err == nil || e.HTTP() != http.StatusInternalServerError {
			t.Errorf("%s: got %v, want 500", name, err)
		}
	}
}

// TestRecordsOfTheFuture are dated a minute from now at most, so that no wrong
// clock keeps them on top of all lists. The record itself stays as it was sent.
func TestRecordsOfTheFuture(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	f := fixture{newStore(t, decisions.Options{Pool: pool, Now: noon}), pool}
	far := noon().AddDate(100, 0, 0)
	f.store(t, bound(), line("past", "org1", map[string]any{"time": noon().Add(-time.Hour)}), line("soon", "org1", map[string]any{"time": noon().Add(time.Minute)}),
		line("far", "org1", map[string]any{"time": far}))
	for id, want := range map[string]time.Time{"past": noon().Add(-time.Hour), "soon": noon().Add(time.Minute), "far": noon().Add(time.Minute)} {
		var at, said time.Time
		if err := pool.QueryRow(t.Context(), `SELECT at, (record->>'time')::timestamptz FROM decisions WHERE id = $1`, id).Scan(&at, &said); err != nil {
			t.Fatal(err)
		}
		if !at.Equal(want) || id == "far" && !said.Equal(far) {
			t.Errorf("%s is dated %v and says %v, want %v", id, at, said, want)
		}
	}
}
