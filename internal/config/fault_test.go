package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines returns the faults of an error as text, and fails for any other error.
func lines(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("error is a %T, want Faults: %v", err, err)
	}
	out := make([]string, len(faults))
	for i, f := range faults {
		out[i] = f.String()
	}
	return out
}

func TestFaultsAreSortedByPosition(t *testing.T) {
	t.Parallel()
	r := &report{file: "f"}
	r.add(place{2, 1}, "b", "second line")
	r.add(place{1, 9}, "a", "later column")
	r.add(place{1, 2}, "", "first of two at a place")
	r.add(place{1, 2}, "", "second of two at a place")
	want := "f:1:2: first of two at a place\nf:1:2: second of two at a place\nf:1:9: a: later column\nf:2:1: b: second line"
	if got := r.err().Error(); got != want {
		t.Errorf("faults:\n%s\nwant:\n%s", got, want)
	}
}

func TestFaultWithoutPosition(t *testing.T) {
	t.Parallel()
	if got := (Fault{File: "f", Message: "m"}).String(); got != "m" {
		t.Errorf("fault without a position = %q, want its message only", got)
	}
}

func TestFaultsStandWithinTheText(t *testing.T) {
	t.Parallel()
	r := newReport("f", []byte("é\nab\n"))
	for _, row := range []struct{ in, want place }{
		{place{1, 1}, place{1, 1}}, {place{1, 3}, place{1, 2}}, {place{0, 0}, place{1, 1}},
		{place{2, 9}, place{2, 3}}, {place{9, 9}, place{3, 1}}, {place{-1, -1}, place{1, 1}},
	} {
		if got := r.within(row.in); got != row.want {
			t.Errorf("within(%v) = %v, want %v", row.in, got, row.want)
		}
	}
}

func TestNoFaultsIsNil(t *testing.T) {
	t.Parallel()
	if err := (&report{}).err(); err != nil {
		t.Errorf("err = %v, want nil", err)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	for _, n := range []int{maxFaults, maxFaults + 1, maxCollected + 7} {
		r := &report{file: "f"}
		for i := range n {
			r.add(place{i + 1, 1}, "", "fault %d", i)
		}
		got := lines(t, r.err())
		want := min(n, maxFaults+1)
		if len(got) != want {
			t.Errorf("%d faults gave %d lines, want %d", n, len(got), want)
		}
		last := fmt.Sprintf("f:%d:1: and %d more", maxFaults+1, n-maxFaults)
		if n > maxFaults && got[maxFaults] != last {
			t.Errorf("last line of %d faults = %q, want %q", n, got[maxFaults], last)
		}
		if len(r.faults) > maxCollected {
			t.Errorf("kept %d faults, want at most %d", len(r.faults), maxCollected)
		}
	}
}

func TestQuoteIsShortAndOnOneLine(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ in, want string }{
		{"a", `"a"`},
		{"a\nb", `"a\nb"`},
		{strings.Repeat("x", maxQuoted), `"` + strings.Repeat("x", maxQuoted) + `"`},
		{strings.Repeat("x", maxQuoted+1), `"` + strings.Repeat("x", maxQuoted) + `"...`},
		{strings.Repeat("x", maxQuoted-1) + "é", `"` + strings.Repeat("x", maxQuoted-1) + `"...`},
	} {
		if diff := cmp.Diff(row.want, quote(row.in)); diff != "" {
			t.Errorf("quote(%q): -want +got\n%s", row.in, diff)
		}
	}
}
