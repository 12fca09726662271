package breaker

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clocked is a Set with plain gates and a clock that stands.
type clocked struct {
	*Set
	now   time.Time
	made  []*plain
	turns int
}

func newClocked() *clocked {
	c := &clocked{now: time.Unix(1_800_000_000, 0)}
	c.Set = newSet(Options{Now: func() time.Time { return c.now }, Changed: func() { c.turns++ }}, func() gate {
		c.made = append(c.made, &plain{})
		return c.made[len(c.made)-1]
	})
	return c
}

// open opens the breaker of a name.
func (c *clocked) open(t testing.TB, name string) {
	t.Helper()
	for range config.Failures {
		if ok, _ := c.Allow(name, config, name); !ok {
			t.Fatalf("%s is refused", name)
		}
		c.Done(name, true)
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	c := newClocked()
	began := c.now
	c.open(t, "b")
	c.now = c.now.Add(time.Second)
	c.Allow("b", config, "refused")
	c.Allow("a", Config{}, "x")
	c.Done("x", false)
	c.Allow("a", Config{}, "y")
	want := []State{
		{Name: "a", Phase: Closed, Config: Config{defaultFailures, defaultRecovery}, TotalCalls: 1, LastCall: c.now},
		{
			Name: "b", Phase: Open, Config: config, ConsecutiveFailures: 3, TotalFailures: 3, TotalCalls: 3,
			OpenedAt: began, NextProbe: began.Add(recovery), LastCall: c.now,
		},
	}
	if diff := cmp.Diff(want, c.States()); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// TestStaleOrders: a replica that is behind says nothing new, nor does the one that is
// not when it is back.
func TestStaleOrders(t *testing.T) {
	t.Parallel()
	c := newClocked()
	c.Allow("a", config, "x")
	for _, o := range []Order{{Name: "a", Reset: 8}, {Name: "a", Open: 7}, {Name: "a"}} {
		c.Apply([]Order{o})
		if a := c.States()[0]; a.Order != 8 || a.Phase != Closed {
			t.Fatalf("after %+v: %+v", o, a)
		}
	}
	c.open(t, "a")
	c.Apply([]Order{{Name: "a", Reset: 8}})
	if a := c.States()[0]; a.Phase != Open {
		t.Errorf("a reset is followed twice: %+v", a)
	}
}

// TestOldCallGivenBack: that one of before the trip came to nothing does not let
// another call through beside the probe.
func TestOldCallGivenBack(t *testing.T) {
	t.Parallel()
	c := newClocked()
	c.Allow("a", config, "old")
	c.open(t, "a")
	c.now = c.now.Add(recovery)
	if ok, _ := c.Allow("a", config, "probe"); !ok {
		t.Fatal("the probe is refused")
	}
	c.Release("old")
	if ok, _ := c.Allow("a", config, "beside"); ok {
		t.Error("two probes are under way")
	}
	c.Done("probe", false)
	if a := c.States()[0]; a.Phase != Closed {
		t.Errorf("the probe came back: %+v", a)
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	c := newClocked()
	c.Allow("a", config, "under way")
	c.Apply([]Order{{Name: "a", Open: 7}, {Name: "b", Open: 3}, {Name: "c", Reset: 4}})
	if a := c.States()[0]; a.Phase != Open || !a.Ordered || a.Order != 7 || c.turns != 1 || len(c.States()) != 1 {
		t.Errorf("got %+v and %d turns, want one breaker, open by order 7", c.States(), c.turns)
	}
	c.Done("under way", false)
	if ok, wait := c.Allow("a", config, "x"); ok || wait != recovery {
		t.Errorf("got %v after %v, want a refusal for %v", ok, wait, recovery)
	}
	if ok, wait := c.Allow("b", config, "x"); ok || wait != recovery {
		t.Errorf("a breaker that is new: got %v after %v, want it to have followed the order", ok, wait)
	}
	if ok, _ := c.Allow("c", config, "x"); !ok || c.States()[2].Order != 4 {
		t.Errorf("got %v and %+v, want it to have followed the reset", ok, c.States()[2])
	}
	c.now = c.now.Add(recovery)
	c.Allow("a", config, "probe")
	c.Done("probe", true)
	if a := c.States()[0]; a.Phase != Open || a.Ordered {
		t.Errorf("got %+v, want it open by what was seen", a)
	}
	c.now = c.now.Add(recovery)
	c.Allow("a", config, "probe")
	c.Done("probe", false)
	c.Apply([]Order{{Name: "a", Open: 7}}) // still in force
	if a := c.States()[0]; a.Phase != Closed {
		t.Errorf("got %+v: what its own probe said is overruled", a)
	}
	c.Apply([]Order{{Name: "a", Reset: 8, Open: 9}}) // both were missed
	if a := c.States()[0]; a.Phase != Open || a.Order != 9 {
		t.Errorf("got %+v, want it open by order 9", a)
	}
	c.Apply(nil)
	if a := c.States()[0]; a.Phase != Open {
		t.Errorf("got %+v: the end of an order is no reset", a)
	}
}

func TestOrdersAreBounded(t *testing.T) {
	t.Parallel()
	c := newClocked()
	var orders []Order
	for i := range MaxBreakers + 1 {
		orders = append(orders, Order{Name: fmt.Sprint(i), Open: 1})
	}
	c.Apply(orders)
	for i, want := range map[int]bool{MaxBreakers - 1: false, MaxBreakers: true} {
		if ok, _ := c.Allow(fmt.Sprint(i), config, "x"); ok != want {
			t.Errorf("order %d: passed %v, want %v", i, ok, want)
		}
	}
}

// TestRoomForBreakers: the one that was asked for least lately goes, and its gate
// is used again, open.
func TestRoomForBreakers(t *testing.T) {
	t.Parallel()
	c := newClocked()
	c.open(t, "old")
	c.now = c.now.Add(time.Second)
	c.Allow("kept", config, "late")
	c.now = c.now.Add(time.Second)
	for i := range MaxBreakers - 2 {
		c.Allow(fmt.Sprint(i), config, "x")
	}
	if len(c.made) != MaxBreakers || !c.made[0].shut {
		t.Fatalf("%d gates, the first shut %v", len(c.made), c.made[0].shut)
	}
	c.Allow("new", config, "x")
	if len(c.made) != MaxBreakers || c.made[0].shut || len(c.States()) != MaxBreakers {
		t.Errorf("%d gates for %d breakers, the first shut %v", len(c.made), len(c.States()), c.made[0].shut)
	}
	if ok, _ := c.Allow("old", config, "x"); !ok {
		t.Error("the one that went is refused, want it anew")
	}
	for range config.Failures { // "kept" has gone now
		c.Done("late", true)
	}
	for _, g := range c.made {
		if g.shut {
			t.Error("a call of a breaker that has gone shut the gate of another")
		}
	}
}

// TestRoomForCalls: the newest are remembered.
func TestRoomForCalls(t *testing.T) {
	t.Parallel()
	c := newClocked()
	c.calls.limit = 4
	for i, id := range ids(100) {
		c.Allow("up", config, id)
		c.now = c.now.Add(time.Second)
		if n := len(c.calls.byID); n > 4 || i >= 4 && n != 4 {
			t.Fatalf("%d calls are remembered after %d, want at most 4", n, i+1)
		}
	}
	for _, id := range ids(100)[96:] {
		if _, ok := c.calls.take(id); !ok {
			t.Errorf("%s is forgotten, want the oldest to be", id)
		}
	}
	for _, id := range ids(4) {
		c.Allow("up", config, id)
	}
	c.now = c.now.Add(forgotten)
	c.Allow("up", config, "new")
	if n := len(c.calls.byID); n != 1 {
		t.Errorf("%d calls are remembered, want those of a day ago forgotten", n)
	}
}

// TestShorterRecovery counts at once, and so does a clock that was set back.
func TestShorterRecovery(t *testing.T) {
	t.Parallel()
	c := newClocked()
	c.open(t, "up")
	shorter := Config{Failures: 3, Recovery: time.Second}
	if ok, wait := c.Allow("up", shorter, "x"); ok || wait != time.Second {
		t.Errorf("got %v after %v, want a refusal for a second", ok, wait)
	}
	c.now = c.now.Add(-time.Hour)
	if ok, wait := c.Allow("up", shorter, "x"); ok || wait != time.Second {
		t.Errorf("an hour back: got %v after %v, want a refusal for a second", ok, wait)
	}
	c.now = c.now.Add(time.Second)
	c.Allow("up", shorter, "x") // the gate still has the longer one
	c.now = c.now.Add(time.Second)
	if ok, _ := c.Allow("up", shorter, "x"); !ok {
		t.Error("refused, want the gate passed over")
	}
}

// TestUnknownCalls come to nothing.
func TestUnknownCalls(t *testing.T) {
	t.Parallel()
	c := newClocked()
	c.Done("x", true)
	c.Release("x")
	c.Allow("up", config, "x")
	for range 2 * config.Failures {
		c.Done("x", true) // all but the first
	}
	if s := c.States()[0]; s.TotalCalls != 1 || s.Phase != Closed {
		t.Errorf("got %+v, want one call", s)
	}
}

// TestSetsAreApart: hystrix knows circuits by name in the whole process.
func TestSetsAreApart(t *testing.T) {
	t.Parallel()
	one, two := New(Options{}), New(Options{})
	for _, call := range ids(config.Failures) {
		one.Allow("up", config, call)
		one.Done(call, true)
	}
	if ok, wait := one.Allow("up", config, "x"); ok || wait <= 0 || wait > recovery {
		t.Errorf("got %v after %v, want a refusal for up to %v", ok, wait, recovery)
	}
	if ok, _ := two.Allow("up", config, "x"); !ok {
		t.Error("the other set refuses")
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := New(Options{Changed: func() {}})
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for j := range 200 {
				call := fmt.Sprint(i, " ", j)
				if ok, _ := s.Allow(fmt.Sprint(j%3), Config{Failures: 2, Recovery: time.Microsecond}, call); ok {
					s.Done(call, j%2 == 0)
				}
				s.Release(call)
				s.States()
				s.Apply([]Order{{Name: "1", Open: int64(j)}})
			}
		})
	}
	wait.Wait()
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status         int
		flags, details string
		want           Verdict
	}{
		"good":                        {200, "", "via_upstream", Success},
		"not there":                   {404, "", "via_upstream", Success},
		"too many":                    {429, "", "via_upstream", Success},
		"informational":               {101, "", "via_upstream", Success},
		"upstream's error":            {500, "", "via_upstream", Failure},
		"upstream's 503":              {503, "", "via_upstream", Failure},
		"connect":                     {503, "UF", "upstream_reset_before_response_started", Failure},
		"nobody healthy":              {503, "UH", "no_healthy_upstream", Failure},
		"overflow":                    {503, "UO", "upstream_reset_before_response_started", Failure},
		"closed":                      {503, "UC", "upstream_reset_before_response_started", Failure},
		"reset":                       {503, "UR", "upstream_reset_before_response_started", Failure},
		"retries":                     {503, "UC,URX", "upstream_reset_before_response_started", Failure},
		"time-out":                    {504, "UT", "response_timeout", Failure},
		"idle":                        {504, "SI", "stream_idle_timeout", Failure},
		"duration":                    {504, "DT", "duration_timeout", Failure},
		"reset after it began":        {200, "UPE", "upstream_reset_after_response_started", Failure},
		"time-out after it began":     {200, "UT", "via_upstream", Failure},
		"name not resolved":           {503, "DF", "dns_resolution_failure", Failure},
		"client left":                 {0, "DC", "downstream_remote_disconnect", Nothing},
		"client left in the answer":   {200, "DC", "via_upstream", Nothing},
		"client left in an error":     {500, "DC", "via_upstream", Nothing},
		"client reset":                {0, "DR", "http2.remote_reset", Nothing},
		"client left what failed":     {503, "DC,UC", "upstream_reset_before_response_started", Failure},
		"denied":                      {403, "UAEX", "ext_authz_denied", Nothing},
		"guarded":                     {503, "", "rbac_access_denied_matched_policy", Nothing},
		"refused by the exchange":     {503, "", "", Nothing},
		"gate down":                   {503, "", "ext_proc_error_gRPC_error_14", Nothing},
		"no route":                    {404, "NR", "route_not_found", Nothing},
		"no cluster":                  {503, "NC", "cluster_not_found", Nothing},
		"nothing":                     {0, "", "", Nothing},
		"nothing, and nobody says so": {0, "", "via_upstream", Nothing},
		"a flag that is no name":      {200, "UFO", "via_upstream", Success},
	} {
		if got := Judge(tt.status, tt.flags, tt.details); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Judge(503, "UC,URX", viaUpstream) != Failure {
			b.Fatal("no failure")
		}
	}
}

func BenchmarkAllowDone(b *testing.B) {
	for name, failed := range map[string]bool{"closed": false, "open": true} {
		b.Run(name, func(b *testing.B) {
			s := New(Options{})
			calls := ids(1024)
			for i := 0; failed && i < config.Failures; i++ {
				s.Allow("up", config, calls[i])
				s.Done(calls[i], true)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				call := calls[i&1023]
				i++
				if ok, _ := s.Allow("up", config, call); ok {
					s.Done(call, false)
				}
			}
		})
	}
}
