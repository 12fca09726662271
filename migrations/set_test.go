package migrations

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files makes a file system of names and texts.
func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

func loaded(t *testing.T, pairs ...string) Set {
	t.Helper()
	set, err := Load(files(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("got error %v, want one that says %q", err, p)
		}
	}
}

func TestShipped(t *testing.T) {
	t.Parallel()
	set, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"001_core_schema.sql", "002_circuit_breaker.sql", "003_learning_governance.sql", "004_control.sql", "005_mesh.sql", "006_ledger.sql", "007_breakers.sql"}
	var got []string
	for _, m := range set {
		got = append(got, m.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("shipped files (-want +got):\n%s", diff)
	}
}

func TestLineEndsDoNotCount(t *testing.T) {
	t.Parallel()
	unix, dos := loaded(t, "001_a.sql", "SELECT 1;\nSELECT 2;\n"), loaded(t, "001_a.sql", "SELECT 1;\r\nSELECT 2;\r\n")
	if diff := cmp.Diff(unix, dos); diff != "" {
		t.Errorf("LF and CRLF differ:\n%s", diff)
	}
	// printf 'SELECT 1;\nSELECT 2;\n' | sha256sum
	if want := "82efb67f3010c6eb7ead02e4f6d9550633dbc1407f99aa487468e7b2567aebbc"; unix[0].Checksum != want {
		t.Errorf("checksum %s, want %s", unix[0].Checksum, want)
	}
	if other := loaded(t, "001_a.sql", "SELECT 1;\n"); other[0].Checksum == unix[0].Checksum {
		t.Error("another text has the same checksum")
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	many := fstest.MapFS{}
	for i := range maxFiles + 1 {
		many[fmt.Sprintf("%04d_a.sql", i)] = &fstest.MapFile{}
	}
	for _, tt := range []struct {
		name string
		fsys fstest.MapFS
		want []string
	}{
		{"gap", files("001_a.sql", "", "003_b.sql", ""), []string{"003_b.sql", "gap", "want 002"}},
		{"double", files("001_a.sql", "", "001_b.sql", ""), []string{"001_b.sql", "double", "want 002"}},
		{"not from the start", files("002_a.sql", ""), []string{"want 001"}},
		{"name", files("1_a.sql", ""), []string{"1_a.sql: want a name like"}},
		{"large", files("001_a.sql", strings.Repeat(" ", maxFileSize+1)), []string{"more than 1048576"}},
		{"many", many, []string{"1000 migrations, more than 999"}},
		{"commit", files("001_a.sql", "SELECT 1;\n\ncommit ;\n"), []string{"001_a.sql:3: ", "transaction"}},
		{"rollback", files("001_a.sql", "ROLLBACK TO x;"), []string{"001_a.sql:1: "}},
	} {
		_, err := Load(tt.fsys)
		t.Run(tt.name, func(t *testing.T) { wantError(t, err, tt.want...) })
	}
	for _, good := range []string{"-- COMMIT;\n", "CREATE FUNCTION f() RETURNS int AS $$\nBEGIN\n RETURN 1;\nEND;\n$$ LANGUAGE plpgsql;"} {
		loaded(t, "001_a.sql", good)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	set := loaded(t, "001_a.sql", "a", "002_b.sql", "b", "003_c.sql", "c")
	row := func(version, text string) applied {
		return applied{version, loaded(t, "001_x.sql", text)[0].Checksum, time.Unix(1, 0), time.Second}
	}
	for _, tt := range []struct {
		name    string
		rows    []applied
		states  []State
		pending int
		faults  []string // parts of the error; none: there is none
	}{
		{"empty", nil, []State{StatePending, StatePending, StatePending}, 3, nil},
		{"started", []applied{row("001", "a")}, []State{StateApplied, StatePending, StatePending}, 2, nil},
		{"done", []applied{row("001", "a"), row("002", "b"), row("003", "c")}, []State{StateApplied, StateApplied, StateApplied}, 0, nil},
		{"changed", []applied{row("001", "x")}, []State{StateChanged, StatePending, StatePending}, 2,
			[]string{"001_a.sql: changed", set[0].Checksum, row("001", "x").checksum}},
		{"out of order", []applied{row("001", "a"), row("003", "c")}, []State{StateApplied, StateOutOfOrder, StateApplied}, 0,
			[]string{"002_b.sql: comes before"}},
		{"newer build", []applied{row("001", "a"), row("002", "b"), row("003", "c"), row("004", "d")},
			[]State{StateApplied, StateApplied, StateApplied, StateUnknown}, 0, []string{"version 004: was applied, but is unknown"}},
		{"all at once", []applied{row("001", "x"), row("003", "c"), row("004", "d")},
			[]State{StateChanged, StateOutOfOrder, StateApplied, StateUnknown}, 0, []string{"001_a", "002_b", "004"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			entries := compare(set, tt.rows)
			var states []State
			for _, e := range entries {
				states = append(states, e.State)
			}
			if diff := cmp.Diff(tt.states, states); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if got := pending(set, entries); len(got) != tt.pending {
				t.Errorf("pending: got %d, want %d", len(got), tt.pending)
			}
			err := faults(entries)
			if wantError(t, err, tt.faults...); tt.faults == nil && err != nil {
				t.Errorf("unexpected fault: %v", err)
			}
		})
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ char, line, column int }{{1, 1, 1}, {3, 1, 3}, {4, 2, 1}, {5, 2, 2}, {99, 3, 1}} {
		if line, column := position("äö\nb\n", tt.char); line != tt.line || column != tt.column {
			t.Errorf("character %d: got %d:%d, want %d:%d", tt.char, line, column, tt.line, tt.column)
		}
	}
}

func BenchmarkShipped(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Shipped(); err != nil {
			b.Fatal(err)
		}
	}
}
