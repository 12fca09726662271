package ads

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/internal/envoyconf"
)

// revision is resources with a route table that names its clusters.
func revision(name string, clusters ...string) *envoyconf.Resources {
	res := &envoyconf.Resources{
		Revision: name,
		Clusters: map[string]*clusterv3.Cluster{},
		Routes:   map[string]*routev3.RouteConfiguration{"inbound": {Name: name}},
	}
	for _, c := range clusters {
		res.Clusters[c] = &clusterv3.Cluster{Name: c}
	}
	return res
}

// routesOf is the revision whose routes are wanted.
func routesOf(w *Want) string { return w.Routes["inbound"].GetName() }

func clustersOf(w *Want) []string { return slices.Sorted(maps.Keys(w.Clusters)) }

var t0 = time.Unix(1_700_000_000, 0)

func TestSwitchGoesInTwoSteps(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	e := s.Push(t0, revision("a", "c1"))
	if e.Active != "a" || routesOf(e.Set) != "a" {
		t.Fatalf("the first push is not in force at once: %+v", e)
	}
	s.Connected(t0)

	e = s.Push(t0, revision("b", "c2"))
	if routesOf(e.Set) != "a" || !slices.Equal(clustersOf(e.Set), []string{"c1", "c2"}) || e.Active != "" {
		t.Fatalf("first step: routes %s, clusters %v", routesOf(e.Set), clustersOf(e.Set))
	}
	if e := s.Acked(t0, true, e.Set.Version); e.Set != nil {
		t.Fatal("an ACK of routes must not end the step of clusters")
	}
	if e := s.Acked(t0, false, e.Set.Version-1); e.Set != nil {
		t.Fatal("an ACK of an earlier version must not end the step")
	}
	e = s.Acked(t0, false, e.Set.Version)
	if routesOf(e.Set) != "b" || !slices.Equal(clustersOf(e.Set), []string{"c1", "c2"}) || e.Active != "" {
		t.Fatalf("second step: routes %s, clusters %v", routesOf(e.Set), clustersOf(e.Set))
	}
	e = s.Acked(t0, true, e.Set.Version)
	if e.Active != "b" || e.Set != nil || len(e.Dropped) > 0 {
		t.Fatalf("end: %+v", e)
	}

	at := s.Deadline()
	if !at.Equal(t0.Add(Grace)) {
		t.Fatalf("the old revision goes at %v, want %v", at.Sub(t0), Grace)
	}
	if e := s.Tick(at.Add(-time.Nanosecond)); e.Set != nil || len(e.Dropped) > 0 {
		t.Fatalf("dropped before its time: %+v", e)
	}
	e = s.Tick(at)
	if !slices.Equal(e.Dropped, []string{"a"}) || !slices.Equal(clustersOf(e.Set), []string{"c2"}) {
		t.Fatalf("after the grace: %+v", e)
	}
}

// switchTo drives a push to its end.
func switchTo(s *Switch, now time.Time, res *envoyconf.Resources) (effects []Effect) {
	e := s.Push(now, res)
	effects = append(effects, e)
	for s.phase != Idle {
		e = s.Acked(now, s.phase == Routes, s.want.Version)
		effects = append(effects, e)
	}
	return effects
}

func TestSwitchWithoutNewClustersNeedsOneStep(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	s.Push(t0, revision("a", "c1"))
	e := s.Push(t0, revision("b", "c1"))
	if s.phase != Routes || routesOf(e.Set) != "b" {
		t.Fatalf("phase %s, routes %s: Envoy would never answer for clusters it has", s.phase, routesOf(e.Set))
	}
}

func TestSwitchGoesBack(t *testing.T) {
	t.Parallel()
	for _, phase := range []Phase{Clusters, Routes} {
		for _, how := range []string{"nack", "time-out"} {
			t.Run(string(phase)+" "+how, func(t *testing.T) {
				t.Parallel()
				s := NewSwitch(Grace)
				s.Push(t0, revision("a", "c1"))
				s.Connected(t0)
				s.Push(t0, revision("b", "c2"))
				if phase == Routes {
					s.Acked(t0, false, s.want.Version)
				}
				var e Effect
				if how == "nack" {
					e = s.Nacked(t0, s.want.Version, "bad")
				} else {
					if e := s.Tick(t0.Add(AckTimeout - 1)); e.Failed != nil {
						t.Fatal("gave up too early")
					}
					e = s.Tick(t0.Add(AckTimeout))
				}
				if e.Failed == nil || e.Failed.Revision != "b" || routesOf(e.Set) != "a" {
					t.Fatalf("%+v", e)
				}
				// Routes of b may have matched in the second step only.
				kept := slices.Contains(clustersOf(e.Set), "c2")
				if kept != (phase == Routes) || slices.Contains(e.Dropped, "b") != (phase == Clusters) {
					t.Errorf("clusters %v, dropped %v", clustersOf(e.Set), e.Dropped)
				}
			})
		}
	}
}

// Nobody can answer while Envoy is away: a step waits for it.
func TestSwitchWaitsForEnvoy(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	s.Push(t0, revision("a", "c1"))
	s.Push(t0, revision("b", "c2"))
	if e := s.Tick(t0.Add(time.Hour)); e.Failed != nil {
		t.Fatalf("gave up without an Envoy: %+v", e)
	}
	s.Connected(t0.Add(time.Hour))
	if e := s.Tick(t0.Add(time.Hour + AckTimeout - 1)); e.Failed != nil {
		t.Fatal("the step's time must begin when Envoy connects")
	}
}

func TestSwitchNewestPushWins(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	s.Push(t0, revision("a", "c1"))
	s.Push(t0, revision("b", "c2"))
	s.Push(t0, revision("c", "c3"))
	e := s.Push(t0, revision("d", "c4"))
	if !slices.Equal(e.Dropped, []string{"c"}) {
		t.Fatalf("what never came into force must be dropped, got %v", e.Dropped)
	}
	for s.target.Revision != "d" {
		s.Acked(t0, s.phase == Routes, s.want.Version)
	}
	if s.serving.Revision != "b" {
		t.Errorf("serving %s while switching to d", s.serving.Revision)
	}
}

func TestSwitchWaitsForRoom(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	switchTo(s, t0, revision("r0", "c0"))
	for i := range MaxRetired {
		switchTo(s, t0, revision(fmt.Sprintf("r%d", i+1), fmt.Sprintf("c%d", i+1)))
	}
	if len(s.retired) != MaxRetired {
		t.Fatalf("%d clusters are retired", len(s.retired))
	}
	if e := s.Push(t0.Add(time.Second), revision("late", "late")); e.Set != nil {
		t.Fatal("a push beyond the bound must wait")
	}
	e := s.Tick(t0.Add(Grace))
	if s.phase != Clusters || s.target.Revision != "late" || routesOf(e.Set) == "late" {
		t.Fatalf("phase %s after there was room", s.phase)
	}
}

// Revisions are bounded too: sets that change Rego alone retire no cluster.
func TestSwitchBoundsRevisions(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	switchTo(s, t0, revision("r0", "c"))
	for i := range MaxRetired {
		switchTo(s, t0, revision(fmt.Sprintf("r%d", i+1), "c"))
	}
	if len(s.revisions) != MaxRetired || len(s.retired) != 0 {
		t.Fatalf("%d revisions and %d clusters are retired", len(s.revisions), len(s.retired))
	}
	if e := s.Push(t0.Add(time.Second), revision("late", "c")); e.Set != nil {
		t.Fatal("a push beyond the bound must wait")
	}
	s.Tick(t0.Add(Grace))
	if s.target == nil || s.target.Revision != "late" {
		t.Fatal("it still waits when there is room")
	}
}

// A revision that comes back before its time is over must not be dropped by
// the timer of its first life.
func TestSwitchRevisionReturns(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	switchTo(s, t0, revision("a", "c1"))
	switchTo(s, t0, revision("b", "c2"))
	switchTo(s, t0.Add(Grace-1), revision("a", "c1"))
	e := s.Tick(t0.Add(Grace))
	if slices.Contains(e.Dropped, "a") {
		t.Fatal("the revision in force was dropped")
	}
	if e.Set != nil && !slices.Contains(clustersOf(e.Set), "c1") {
		t.Fatalf("its cluster was dropped: %v", clustersOf(e.Set))
	}
}

func TestSwitchRestores(t *testing.T) {
	t.Parallel()
	s := NewSwitch(Grace)
	s.Restore(t0.Add(10*time.Second), revision("old", "c0"))
	e := s.Push(t0, revision("a", "c1"))
	if diff := cmp.Diff([]string{"c0", "c1"}, clustersOf(e.Set)); diff != "" {
		t.Fatalf("Envoy may hold both (-want +got):\n%s", diff)
	}
	if e := s.Tick(t0.Add(10 * time.Second)); !slices.Equal(e.Dropped, []string{"old"}) {
		t.Fatalf("dropped %v", e.Dropped)
	}
}

// Whatever happens in whatever order: the routes served name only clusters
// that are served, no revision is dropped that a request can match, and the
// clusters of each such revision are served.
func TestSwitchInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, now := NewSwitch(Grace), t0
		all := map[string]*envoyconf.Resources{}
		known := map[string]bool{}        // in the table
		matched := map[string]time.Time{} // until when requests may carry a revision
		last := ""                        // whose routes Envoy may have

		apply := func(e Effect) {
			if e.Set != nil {
				rev := routesOf(e.Set)
				for c := range all[rev].Clusters {
					if e.Set.Clusters[c] == nil {
						t.Fatalf("routes of %s served without cluster %s", rev, c)
					}
				}
				if last != "" && last != rev {
					matched[last] = now.Add(Grace)
				}
				last = rev
				matched[rev] = time.Time{}
				for r, until := range matched {
					if !until.IsZero() && !now.Before(until) {
						continue
					}
					for c := range all[r].Clusters {
						if e.Set.Clusters[c] == nil {
							t.Fatalf("requests may carry %s, but cluster %s is gone", r, c)
						}
					}
				}
			}
			for _, r := range e.Dropped {
				if until, ok := matched[r]; ok && (until.IsZero() || now.Before(until)) {
					t.Fatalf("%s was dropped while requests may carry it", r)
				}
				delete(known, r)
			}
			if e.Active != "" && !known[e.Active] {
				t.Fatalf("%s is in force and not in the table", e.Active)
			}
			if len(s.retired) > MaxRetired+8 {
				t.Fatalf("%d clusters are retired", len(s.retired))
			}
		}
		push := func(t *rapid.T) {
			n := rapid.IntRange(0, 6).Draw(t, "revision")
			name := fmt.Sprintf("r%d", n)
			if all[name] == nil {
				all[name] = revision(name, "shared", fmt.Sprintf("c%d", n))
			}
			known[name] = true
			apply(s.Push(now, all[name]))
		}
		push(t)
		t.Repeat(map[string]func(*rapid.T){
			"push": push,
			"ack": func(t *rapid.T) {
				apply(s.Acked(now, rapid.Bool().Draw(t, "routes"), s.want.Version-rapid.IntRange(0, 1).Draw(t, "stale")))
			},
			"nack": func(t *rapid.T) { apply(s.Nacked(now, s.want.Version, "no")) },
			"connect": func(*rapid.T) {
				if s.connected == 0 {
					s.Connected(now)
				}
			},
			"disconnect": func(*rapid.T) {
				if s.connected > 0 {
					s.Disconnected()
				}
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(Grace)).Draw(t, "ns")))
				apply(s.Tick(now))
			},
		})
	})
}
