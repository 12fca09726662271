package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"gatehouse/budget"
)

// TestUnseen: silent is who has open holds, all of them old, and reported nothing
// since.
func TestUnseen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	f.limit(t, org, 1000)
	const since = 10 * time.Minute
	holds := 0
	reserve := func(sidecar string) budget.Key {
		holds++
		h := hold(fmt.Sprint(holds), 1)
		h.Origin, h.Sidecar, h.Incarnation, h.TTL = budget.Inline, sidecar, 1, time.Hour
		if a, err := f.Reserve(t.Context(), org, []budget.Hold{h}); err != nil || a[0].Verdict != budget.Held {
			t.Fatal(a, err)
		}
		return h.Key
	}
	want := func(what string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if got, err := f.Unseen(t.Context(), since); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", what, got, err, want)
		}
	}
	seen := func(sidecar string, at time.Time) {
		f.exec(t, `UPDATE sidecars SET last_seen_at = $2 WHERE id = $1`, sidecar, at)
	}
	a, b := f.sidecars[0], f.sidecars[1]
	f.exec(t, `UPDATE sidecars SET created_at = $1`, f.clock.Now())
	first := reserve(a)
	reserve(b)
	seen(a, f.clock.Now())
	want("at once")
	f.clock.Advance(since + time.Second)
	want("long after", a, b)
	seen(a, f.clock.Now())
	want("after a report", b)
	reserve(b)
	want("after a new hold")
	f.clock.Advance(since + time.Second)
	want("later", a, b)
	if _, err := f.Settle(t.Context(), org, []budget.Settlement{{Key: first, Action: budget.Commit, Tokens: 1, Sidecar: a}}); err != nil {
		t.Fatal(err)
	}
	want("without holds", b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Unseen(ctx, since); !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("a caller who left: %v", err)
	}
}
