package breakers

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/internal/mesh"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestQuorum(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		called, open int
		want         bool
	}{
		{0, 0, false}, {1, 0, false}, {1, 1, false}, {2, 1, false}, {2, 2, true}, {3, 1, false}, {3, 2, true},
		{4, 2, true}, {5, 2, false}, {5, 3, true}, {100, 49, false}, {100, 50, true},
	} {
		if got := quorum(tt.called, tt.open); got != tt.want {
			t.Errorf("%d of %d: got %v, want %v", tt.open, tt.called, got, tt.want)
		}
	}
}

// said is what one sidecar says of the breaker app.
func said(phase mesh.BreakerPhase, change ...func(*mesh.BreakerState)) mesh.BreakerReport {
	b := mesh.BreakerState{Name: "app", Phase: phase, CalledAt: noon, Failures: 2, Calls: 10, Threshold: 5, Recovery: 30 * time.Second}
	if phase != mesh.BreakerClosed {
		b.Consecutive, b.OpenedAt, b.NextProbe = 5, noon, noon.Add(30*time.Second)
	}
	for _, f := range change {
		f(&b)
	}
	return mesh.BreakerReport{PolicySet: "p", At: noon, Breakers: []mesh.BreakerState{b}}
}

func calledAgo(d time.Duration) func(*mesh.BreakerState) {
	return func(b *mesh.BreakerState) { b.CalledAt = noon.Add(-d) }
}

func followed(order int64) func(*mesh.BreakerState) {
	return func(b *mesh.BreakerState) { b.Order = order }
}

func ordered(b *mesh.BreakerState) { b.Ordered = true }

func never(b *mesh.BreakerState) { b.CalledAt = time.Time{} }

const (
	closed = mesh.BreakerClosed
	open   = mesh.BreakerOpen
	half   = mesh.BreakerHalfOpen
)

// standing is how the breaker app of the mesh stands.
func standing(phase mesh.BreakerPhase, reset, opened int64) Standing {
	s := Standing{Breaker: mesh.Breaker{PolicySet: "p", Name: "app", Phase: phase, UpdatedAt: noon}, Reset: reset, Opened: opened}
	if phase == open {
		s.OpenedAt = noon.Add(-time.Minute)
	}
	return s
}

func TestJudge(t *testing.T) {
	t.Parallel()
	reports := func(r ...mesh.BreakerReport) []mesh.BreakerReport { return r }
	for name, tt := range map[string]struct {
		reports []mesh.BreakerReport
		before  Standing
		want    mesh.BreakerPhase
		called  int
		open    int
	}{
		"all is well":                        {reports(said(closed), said(closed)), standing(closed, 0, 0), closed, 2, 0},
		"one alone":                          {reports(said(open)), standing(closed, 0, 0), closed, 1, 1},
		"one of two":                         {reports(said(open), said(closed)), standing(closed, 0, 0), closed, 2, 1},
		"both":                               {reports(said(open), said(open)), standing(closed, 0, 0), open, 2, 2},
		"half open is open":                  {reports(said(open), said(half), said(closed)), standing(closed, 0, 0), open, 3, 2},
		"two of five":                        {reports(said(open), said(open), said(closed), said(closed), said(closed)), standing(closed, 0, 0), closed, 5, 2},
		"idle sidecars don't count":          {reports(said(open), said(open), said(closed, calledAgo(61*time.Second)), said(closed, never), said(closed, never)), standing(closed, 0, 0), open, 2, 2},
		"idle open ones neither":             {reports(said(open), said(open, calledAgo(61*time.Second))), standing(closed, 0, 0), closed, 1, 1},
		"a minute ago counts":                {reports(said(open), said(open, calledAgo(time.Minute))), standing(closed, 0, 0), open, 2, 2},
		"what was ordered is no evidence":    {reports(said(open), said(open, ordered), said(open, ordered)), standing(closed, 0, 0), closed, 3, 1},
		"from before a reset":                {reports(said(open, followed(6)), said(open, followed(6))), standing(closed, 7, 6), closed, 2, 0},
		"after a reset":                      {reports(said(open, followed(7)), said(open, followed(8))), standing(closed, 7, 6), open, 2, 2},
		"it stays open":                      {reports(said(open), said(half), said(open, ordered)), standing(open, 0, 3), open, 3, 2},
		"it closes when one has":             {reports(said(open), said(closed)), standing(open, 0, 3), closed, 2, 1},
		"it closes when nobody calls":        {reports(said(open, calledAgo(2*time.Minute)), said(open, never)), standing(open, 0, 3), closed, 0, 0},
		"it closes when nobody is connected": {nil, standing(open, 0, 3), closed, 0, 0},
	} {
		out := Judge(noon, tt.reports, []Standing{tt.before})
		got := tt.before
		if len(out.Write) > 0 {
			got = out.Write[0]
		}
		if got.Phase != tt.want || got.Called != tt.called || got.Open != tt.open || len(out.Write) > 1 || len(out.Drop) > 0 {
			t.Errorf("%s: got %+v, want it %s by %d of %d", name, out, tt.want, tt.open, tt.called)
			continue
		}
		turned := got.Phase != tt.before.Phase
		switch {
		case turned && got.Phase == open && (got.Opened != noon.UnixMilli() || !got.OpenedAt.Equal(noon) || got.NextProbe.IsZero()):
			t.Errorf("%s: got %+v, want it opened now", name, got)
		case !turned && (got.Opened != tt.before.Opened || !got.OpenedAt.Equal(tt.before.OpenedAt)):
			t.Errorf("%s: got %+v: it was ordered again", name, got)
		case got.Phase == closed && (!got.OpenedAt.IsZero() || !got.NextProbe.IsZero()):
			t.Errorf("%s: got %+v, want it closed", name, got)
		case got.Reset != tt.before.Reset:
			t.Errorf("%s: a review resets", name)
		}
	}
}

// TestFigures: they are those of all, and written when somebody may miss them.
func TestFigures(t *testing.T) {
	t.Parallel()
	late := said(half, func(b *mesh.BreakerState) { b.Consecutive, b.Threshold, b.NextProbe = 9, 7, noon.Add(time.Second) })
	late.At = noon.Add(time.Second)
	reports := []mesh.BreakerReport{late, said(open), said(closed)}
	fresh := Judge(noon, reports, nil)
	want := Standing{Opened: noon.UnixMilli(), Breaker: mesh.Breaker{
		PolicySet: "p", Name: "app", Phase: open, Consecutive: 9, Failures: 6, Calls: 30, OpenedAt: noon, NextProbe: noon.Add(time.Second),
		Threshold: 7, Recovery: 30 * time.Second, Called: 3, Open: 2, HalfOpen: 1,
	}}
	if diff := cmp.Diff(Outcome{Write: []Standing{want}}, fresh); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
	fresh.Write[0].UpdatedAt = noon // the store says so
	for after, n := range map[time.Duration]int{time.Second: 0, -figuresEvery: 1, figuresEvery - 1: 0, figuresEvery: 1} {
		if out := Judge(noon.Add(after), reports, fresh.Write); len(out.Write) != n {
			t.Errorf("after %v: %d are written, want %d", after, len(out.Write), n)
		}
	}
	if out := Judge(noon.Add(time.Second), reports[:2], fresh.Write); len(out.Write) != 1 || out.Write[0].Called != 2 {
		t.Errorf("one sidecar less: %+v", out)
	}
	huge := said(closed, func(b *mesh.BreakerState) { b.Calls, b.Failures = math.MaxInt64, math.MaxInt64 })
	if s := Judge(noon, []mesh.BreakerReport{huge, huge, huge}, nil).Write[0]; s.Calls < 0 || s.Failures < 0 || s.Failures > s.Calls {
		t.Errorf("huge figures: %+v", s)
	}
}

// TestRoom: a policy set has room for so many breakers, whoever makes up names.
func TestRoom(t *testing.T) {
	t.Parallel()
	flood := mesh.BreakerReport{PolicySet: "p", At: noon}
	for i := range mesh.MaxBreakers {
		flood.Breakers = append(flood.Breakers, mesh.BreakerState{Name: fmt.Sprint("x", i), Phase: closed})
	}
	other := said(closed)
	other.PolicySet = "q"
	out := Judge(noon, []mesh.BreakerReport{flood, other}, []Standing{standing(closed, 0, 0)})
	sets := map[string]int{}
	for _, s := range out.Write {
		sets[s.PolicySet]++
	}
	if sets["p"] != mesh.MaxBreakers-1 || sets["q"] != 1 {
		t.Errorf("new are %v, want what there is room for", sets)
	}
}

// TestMadeUpNamesMakeRoom: one sidecar that makes up names keeps no upstream of
// several others from being watched.
func TestMadeUpNamesMakeRoom(t *testing.T) {
	t.Parallel()
	flood := mesh.BreakerReport{PolicySet: "p", At: noon}
	var before []Standing
	for i := range mesh.MaxBreakers {
		s := standing(closed, 0, 0)
		s.Name = fmt.Sprint("0", i)
		before = append(before, s)
		flood.Breakers = append(flood.Breakers, mesh.BreakerState{Name: s.Name, Phase: closed, CalledAt: noon})
	}
	late := mesh.BreakerReport{PolicySet: "p", At: noon, Breakers: []mesh.BreakerState{{Name: "made-up-too", Phase: open, CalledAt: noon}}}
	out := Judge(noon, []mesh.BreakerReport{flood, said(open), said(open), late}, before)
	names := map[string]mesh.BreakerPhase{}
	for _, s := range out.Write {
		if !slices.ContainsFunc(before, func(b Standing) bool { return b.Name == s.Name }) {
			names[s.Name] = s.Phase
		}
	}
	if diff := cmp.Diff(map[string]mesh.BreakerPhase{"app": open}, names); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
	if len(out.Drop) != 1 || slices.ContainsFunc(out.Write, func(s Standing) bool { return s.Name == out.Drop[0].Name }) {
		t.Errorf("dropped are %+v", out.Drop)
	}

	// At first, too, the names of several come before those of one.
	flood.Breakers = append(flood.Breakers, mesh.BreakerState{Name: "0", Phase: closed})
	out = Judge(noon, []mesh.BreakerReport{flood, said(closed), said(closed)}, nil)
	if len(out.Write) != mesh.MaxBreakers || out.Write[0].Name != "app" {
		t.Errorf("%d are new, %s the first", len(out.Write), out.Write[0].Name)
	}
}

// TestWhoMakesNoRoom: what is open, or of several sidecars, stays, and few go at once.
func TestWhoMakesNoRoom(t *testing.T) {
	t.Parallel()
	judge := func(phase mesh.BreakerPhase, reporting, fresh int) Outcome {
		var before []Standing
		old := mesh.BreakerReport{PolicySet: "p", At: noon}
		for i := range mesh.MaxBreakers {
			s := standing(phase, 0, 1)
			s.Name = fmt.Sprint("old", i)
			before = append(before, s)
			old.Breakers = append(old.Breakers, mesh.BreakerState{Name: s.Name, Phase: phase, CalledAt: noon})
		}
		new := mesh.BreakerReport{PolicySet: "p", At: noon}
		for i := range fresh {
			new.Breakers = append(new.Breakers, mesh.BreakerState{Name: fmt.Sprint("new", i), Phase: closed})
		}
		reports := []mesh.BreakerReport{new, new}
		for range reporting {
			reports = append(reports, old)
		}
		return Judge(noon, reports, before)
	}
	for name, tt := range map[string]struct {
		phase            mesh.BreakerPhase
		reporting, fresh int
		want             int
	}{
		"closed, and of nobody":  {closed, 0, 1, 1},
		"closed, and of one":     {closed, 1, 1, 1},
		"closed, and of several": {closed, 2, 1, 0},
		"open":                   {open, 1, 1, 0},
		"many at once":           {closed, 1, mesh.MaxBreakers, maxDisplaced},
	} {
		if out := judge(tt.phase, tt.reporting, tt.fresh); len(out.Drop) != tt.want {
			t.Errorf("%s: %d go, want %d", name, len(out.Drop), tt.want)
		}
	}
}

func TestForgotten(t *testing.T) {
	t.Parallel()
	old := standing(closed, 7, 6)
	for after, want := range map[time.Duration]int{forgottenIn - 1: 0, forgottenIn: 1} {
		if out := Judge(noon.Add(after), nil, []Standing{old}); len(out.Drop) != want || len(out.Write) != 0 {
			t.Errorf("after %v: got %+v, want %d dropped", after, out, want)
		}
	}
	if out := Judge(noon.Add(forgottenIn), []mesh.BreakerReport{said(closed)}, []Standing{old}); len(out.Drop) != 0 {
		t.Errorf("dropped though it is reported: %+v", out)
	}
}

// TestOrders: whatever happens, numbers rise, and what is in force is the newest.
func TestOrders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now, s, last := noon, standing(closed, 0, 0), int64(0)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-2, 2).Draw(t, "ms")) * time.Millisecond) // replicas' clocks differ
			before := s
			if rapid.Bool().Draw(t, "reset") {
				s = s.Close(now)
				if s.Order() != (mesh.BreakerOrder{Name: "app", Reset: s.Reset}) || s.Phase != closed || s.Reset <= last {
					t.Fatalf("after a reset: %+v after %d", s, last)
				}
			} else {
				n := rapid.IntRange(0, 3).Draw(t, "open")
				var reports []mesh.BreakerReport
				for range n {
					reports = append(reports, said(open, followed(s.Reset), func(b *mesh.BreakerState) { b.CalledAt = now }))
				}
				if out := Judge(now, reports, []Standing{s}); len(out.Write) > 0 {
					s = out.Write[0]
				}
				if (s.Phase == open) != (n >= 2) || (s.Order().Open > 0) != (n >= 2) {
					t.Fatalf("by %d sidecars: %+v", n, s)
				}
				if before.Phase == closed && s.Phase == open && s.Opened <= last {
					t.Fatalf("opened by order %d after %d", s.Opened, last)
				}
			}
			last = max(last, s.Reset, s.Opened)
		}
	})
}
