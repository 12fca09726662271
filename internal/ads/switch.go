package ads

import (
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"gatehouse/internal/envoyconf"
)

// Phase is where a switch stands.
type Phase string

// The phases; see the package comment.
const (
	Idle     Phase = "idle"
	Clusters Phase = "clusters"
	Routes   Phase = "routes"
)

// Want is the complete set of resources that Envoy should have now. Version
// grows with each one, so that an answer can be matched to what it answers.
type Want struct {
	Version  int
	Base     *envoyconf.Resources // listeners
	Clusters map[string]*clusterv3.Cluster
	Routes   map[string]*routev3.RouteConfiguration
}

// Effect is what an event makes the shell do, in this order.
type Effect struct {
	Set       *Want    // serve this, when not nil
	Active    string   // this revision's routes are in force now
	Confirmed string   // Envoy has said that it took this revision's routes
	Failed    *Failure // this revision was given up
	Dropped   []string // these revisions can match no request any more
}

// Failure says why a revision is not in force.
type Failure struct {
	Revision string
	Reason   string
}

// Switch is the state of one Envoy's configuration. It is a value machine:
// every method takes the time and returns what to do. It is not safe for
// concurrent use; Server calls it from one goroutine.
type Switch struct {
	grace     time.Duration
	phase     Phase
	since     time.Time // when the phase began, or Envoy connected in it
	connected int

	serving *envoyconf.Resources // the routes that Envoy has confirmed
	target  *envoyconf.Resources // what the switch under way leads to
	queued  *envoyconf.Resources // the newest push that waits
	want    Want

	retired   map[string]retired   // clusters that no route names any more
	revisions map[string]time.Time // replaced revisions and when they may go
}

type retired struct {
	cluster *clusterv3.Cluster
	until   time.Time
}

// NewSwitch begins with nothing to serve. grace is Grace outside of tests.
func NewSwitch(grace time.Duration) *Switch {
	return &Switch{grace: grace, phase: Idle, retired: map[string]retired{}, revisions: map[string]time.Time{}}
}

// Push asks for a revision. The newest push wins over one that waits.
func (s *Switch) Push(now time.Time, res *envoyconf.Resources) Effect {
	if s.serving == nil {
		// Envoy can't hold routes of ours yet, or holds these from before a
		// restart: there is nothing to switch from.
		s.serving = res
		return s.serve(Effect{Active: res.Revision})
	}
	e := Effect{}
	if q := s.queued; q != nil && q.Revision != res.Revision && !s.needed(q.Revision) {
		e.Dropped = []string{q.Revision}
	}
	s.queued = res
	return e.and(s.next(now))
}

// needed reports whether a request can match, or is about to be able to
// match, a revision.
func (s *Switch) needed(revision string) bool {
	_, answered := s.revisions[revision]
	return answered || s.serving.Revision == revision || (s.target != nil && s.target.Revision == revision)
}

// Restore says what Envoy may still hold from before a restart: its clusters
// are served and its revision is answered until their grace is over.
func (s *Switch) Restore(until time.Time, previous *envoyconf.Resources) {
	s.revisions[previous.Revision] = until
	for name, c := range previous.Clusters {
		s.retired[name] = retired{c, until}
	}
}

// Acked says that Envoy took a step's resources: routes says of which type.
func (s *Switch) Acked(now time.Time, routes bool, version int) Effect {
	if version < s.want.Version {
		return Effect{}
	}
	switch {
	case s.phase == Clusters && !routes:
		return s.enterRoutes(now)
	case s.phase == Routes && routes:
		return s.finish(now)
	case s.phase == Idle && routes && s.serving != nil:
		return Effect{Confirmed: s.serving.Revision}
	}
	return Effect{}
}

// Nacked says that Envoy refused a step's resources: the switch goes back.
func (s *Switch) Nacked(now time.Time, version int, reason string) Effect {
	if s.phase == Idle || version < s.want.Version {
		return Effect{}
	}
	return s.abandon(now, reason)
}

// Connected and Disconnected count Envoy's streams. A step that waits begins
// its time anew with the stream that can answer it.
func (s *Switch) Connected(now time.Time) { s.connected++; s.since = now }

// Disconnected is Connected's end.
func (s *Switch) Disconnected() { s.connected-- }

// Tick drops what is past its time and gives up a step that takes too long.
func (s *Switch) Tick(now time.Time) Effect {
	if s.phase != Idle && s.connected > 0 && now.Sub(s.since) >= AckTimeout {
		return s.abandon(now, "Envoy did not answer within "+AckTimeout.String())
	}
	var e Effect
	for _, rev := range slices.Sorted(maps.Keys(s.revisions)) {
		if !now.Before(s.revisions[rev]) && !s.returning(rev) {
			delete(s.revisions, rev)
			e.Dropped = append(e.Dropped, rev)
		}
	}
	if s.phase != Idle {
		return e
	}
	if s.dropClusters(now) {
		e = s.serve(e)
	}
	return e.and(s.next(now))
}

// returning reports whether a replaced revision is on its way back.
func (s *Switch) returning(revision string) bool {
	return (s.queued != nil && s.queued.Revision == revision) || (s.target != nil && s.target.Revision == revision)
}

// Deadline is when Tick next has something to do; zero means never.
func (s *Switch) Deadline() time.Time {
	var at time.Time
	earliest := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for rev, until := range s.revisions {
		if !s.returning(rev) {
			earliest(until)
		}
	}
	for _, r := range s.retired {
		if s.phase == Idle {
			earliest(r.until)
		}
	}
	if s.phase != Idle && s.connected > 0 {
		earliest(s.since.Add(AckTimeout))
	}
	return at
}

// next begins the waiting switch when there is room for what it will retire.
func (s *Switch) next(now time.Time) Effect {
	if s.phase != Idle || s.queued == nil {
		return Effect{}
	}
	res := s.queued
	if len(s.retired)+len(missing(s.serving.Clusters, res.Clusters)) > MaxRetired || len(s.revisions) >= MaxRetired {
		return Effect{}
	}
	s.queued = nil
	if res.Revision == s.serving.Revision {
		return Effect{Active: res.Revision}
	}
	s.target, s.phase, s.since = res, Clusters, now
	if len(missing(res.Clusters, s.want.Clusters)) == 0 {
		return s.enterRoutes(now) // Envoy has them all: it would send no ACK
	}
	return s.serve(Effect{})
}

func (s *Switch) enterRoutes(now time.Time) Effect {
	s.phase, s.since = Routes, now
	return s.serve(Effect{})
}

// finish makes the target the revision in force. The revision before is
// answered, and its clusters are served, until their own timers end.
func (s *Switch) finish(now time.Time) Effect {
	old := s.serving
	s.serving, s.target, s.phase = s.target, nil, Idle
	s.retire(now, old)
	delete(s.revisions, s.serving.Revision)
	for name := range s.serving.Clusters {
		delete(s.retired, name)
	}
	return Effect{Active: s.serving.Revision, Confirmed: s.serving.Revision}.and(s.next(now))
}

// abandon goes back to the routes in force. Once the target's routes were
// served, requests may have matched them: it is retired like any other.
func (s *Switch) abandon(now time.Time, reason string) Effect {
	failed, seen := s.target, s.phase == Routes
	s.target, s.phase = nil, Idle
	e := Effect{Failed: &Failure{Revision: failed.Revision, Reason: reason}}
	if seen {
		s.retire(now, failed)
	} else if !s.needed(failed.Revision) && !s.returning(failed.Revision) {
		e.Dropped = []string{failed.Revision}
	}
	return s.serve(e).and(s.next(now))
}

func (s *Switch) retire(now time.Time, res *envoyconf.Resources) {
	until := now.Add(s.grace)
	s.revisions[res.Revision] = until
	for name, c := range missing(res.Clusters, s.serving.Clusters) {
		s.retired[name] = retired{c, until}
	}
}

func (s *Switch) dropClusters(now time.Time) bool {
	before := len(s.retired)
	maps.DeleteFunc(s.retired, func(_ string, r retired) bool { return !now.Before(r.until) })
	return len(s.retired) < before
}

// serve makes the resources of the present phase what is wanted.
func (s *Switch) serve(e Effect) Effect {
	s.want.Version++
	s.want.Base, s.want.Routes = s.serving, s.serving.Routes
	// INVARIANT: what is served names every cluster of the routes in force,
	// of the switch under way, and of each request that may still be open.
	s.want.Clusters = maps.Clone(s.serving.Clusters)
	if s.target != nil {
		maps.Copy(s.want.Clusters, s.target.Clusters)
	}
	for name, r := range s.retired {
		s.want.Clusters[name] = r.cluster
	}
	if s.phase == Routes {
		s.want.Routes = s.target.Routes
	}
	want := s.want
	e.Set = &want
	return e
}

// and joins two effects of one event; the later Set wins.
func (e Effect) and(next Effect) Effect {
	if next.Set != nil {
		e.Set = next.Set
	}
	if next.Active != "" {
		e.Active = next.Active
	}
	if next.Confirmed != "" {
		e.Confirmed = next.Confirmed
	}
	if next.Failed != nil {
		e.Failed = next.Failed
	}
	e.Dropped = append(e.Dropped, next.Dropped...)
	return e
}

// missing is what of a is not in b.
func missing(a, b map[string]*clusterv3.Cluster) map[string]*clusterv3.Cluster {
	out := map[string]*clusterv3.Cluster{}
	for name, c := range a {
		if b[name] == nil {
			out[name] = c
		}
	}
	return out
}
