package sync

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
	"gatehouse/internal/rawgrpc"
)

var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func bound(set string) mesh.Sidecar {
	return mesh.Sidecar{ID: "id", Name: "a", Tenant: "org1", PolicySet: set, Version: 1}
}

// known is a sidecar that has reported something of its policy set before.
func known(set string) mesh.Sidecar {
	s := bound(set)
	s.Last.Generation, s.Last.Revision = 1, fakeID(1)
	return s
}

// viewOf is a view with live data for everybody in org1 and one activation.
func viewOf(version int64, keys ...revisionKey) *view {
	v := &view{
		live:      map[audience]*liveMessage{{tenant: "org1"}: {key: liveKey{version, audience{tenant: "org1"}}, epoch: version, text: rawgrpc.Message("live")}},
		revisions: map[string]*revisionMessage{},
	}
	for _, k := range keys {
		v.revisions[k.set] = &revisionMessage{key: k, text: rawgrpc.Message("revision")}
	}
	return v
}

func helloOf(st *pb.Status) *pb.Up {
	return &pb.Up{Message: &pb.Up_Hello{Hello: &pb.Hello{Incarnation: 7, Build: "b1", Status: st}}}
}

func statusOf(st *pb.Status) *pb.Up { return &pb.Up{Message: &pb.Up_Status{Status: st}} }

// drive lets a session say all that it has to at now.
func drive(s *session, now time.Time, v *view, fresh time.Time) []kind {
	var out []kind
	for range 20 {
		o, _ := s.next(now, v, fresh)
		if o.kind == nothing {
			return out
		}
		s.begin(now, o)
		s.end(now, o)
		out = append(out, o.kind)
	}
	return append(out, -1)
}

func mustTake(t *testing.T, s *session, now time.Time, up *pb.Up) heard {
	t.Helper()
	h, err := s.take(now, up)
	if err != nil {
		t.Fatalf("take %v: %v", up, err)
	}
	return h
}

func greeted(t *testing.T, st *pb.Status) *session {
	t.Helper()
	s := newSession(known("p"), beatWithin)
	mustTake(t, s, start, helloOf(st))
	return s
}

func TestOrder(t *testing.T) {
	t.Parallel()
	key := revisionKey{"p", 2, fakeID(2)}
	for _, tt := range []struct {
		name  string
		held  *pb.Status
		view  *view
		fresh time.Time
		want  []kind
	}{
		{"nothing is held", nil, viewOf(1, key), start, []kind{sendWelcome, sendLive, sendRevision, sendBeat}},
		{"it holds what is active", &pb.Status{Generation: 2, Revision: fakeID(2)}, viewOf(1, key), start, []kind{sendWelcome, sendLive, sendBeat}},
		{"it holds an older one", &pb.Status{Generation: 1, Revision: fakeID(1)}, viewOf(1, key), start, []kind{sendWelcome, sendLive, sendRevision, sendBeat}},
		{"it holds another of that generation", &pb.Status{Generation: 2, Revision: fakeID(9)}, viewOf(1, key), start, []kind{sendWelcome, sendLive, sendRevision, sendBeat}},
		{"it holds a later one", &pb.Status{Generation: 3, Revision: fakeID(3)}, viewOf(1, key), start, []kind{sendWelcome, sendLive, sendRevision, sendBeat}},
		{"it refused it before", &pb.Status{Refused: &pb.Refused{Generation: 2, Revision: fakeID(2)}}, viewOf(1, key), start, []kind{sendWelcome, sendLive, sendRevision, sendBeat}},
		{"the set has no activation", nil, &view{live: viewOf(1).live, revisions: map[string]*revisionMessage{"p": {}}}, start, []kind{sendWelcome, sendLive, sendBeat}},
		{"the set is not known now", nil, viewOf(1), start, []kind{sendWelcome, sendLive}},
		{"the live data are not known now", nil, &view{revisions: viewOf(1, key).revisions}, start, []kind{sendWelcome}},
		{"nothing is known", nil, &view{}, start, []kind{sendWelcome}},
		{"the database was asked 5 s ago", nil, viewOf(1, key), start.Add(-freshFor), []kind{sendWelcome, sendLive, sendRevision, sendBeat}},
		{"the database was asked longer ago", nil, viewOf(1, key), start.Add(-freshFor - 1), []kind{sendWelcome, sendLive, sendRevision}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, drive(greeted(t, tt.held), start, tt.view, tt.fresh)); d != "" {
				t.Errorf("sent (-want +got):\n%s", d)
			}
		})
	}
}

func TestNothingBeforeHello(t *testing.T) {
	t.Parallel()
	if got := drive(newSession(bound("p"), beatWithin), start, viewOf(1), start); got != nil {
		t.Errorf("sent %v before Hello", got)
	}
}

func TestAheadIsNoticedOnce(t *testing.T) {
	t.Parallel()
	s := greeted(t, &pb.Status{Generation: 3, Revision: fakeID(3)})
	v := viewOf(1, revisionKey{"p", 2, fakeID(2)})
	for range 2 { // Welcome, Live
		o, _ := s.next(start, v, start)
		s.begin(start, o)
	}
	if o, _ := s.next(start, v, start); o.kind != sendRevision || !o.ahead {
		t.Errorf("got %+v, want the revision, with a sign that the sidecar is ahead", o)
	} else {
		s.begin(start, o)
	}
	if got := drive(s, start.Add(time.Hour), v, start); len(got) != 0 {
		t.Errorf("sent %v an hour later, want nothing", got)
	}
}

func TestResend(t *testing.T) {
	t.Parallel()
	key := revisionKey{"p", 2, fakeID(2)}
	v := viewOf(1, key)
	for _, tt := range []struct {
		name string
		said *pb.Status
		want []kind
	}{
		{"nothing was said", nil, []kind{sendRevision}},
		{"an older one is in force", &pb.Status{Generation: 1, Revision: fakeID(1)}, []kind{sendRevision}},
		{"an older one is refused", &pb.Status{Refused: &pb.Refused{Generation: 1, Revision: fakeID(1)}}, []kind{sendRevision}},
		{"another of that generation is in force", &pb.Status{Generation: 2, Revision: fakeID(9)}, nil},
		{"a later one is in force", &pb.Status{Generation: 3, Revision: fakeID(3)}, nil},
		{"it is acknowledged", &pb.Status{Generation: 2, Revision: fakeID(2)}, nil},
		{"it is refused", &pb.Status{Generation: 1, Revision: fakeID(1), Refused: &pb.Refused{Generation: 2, Revision: fakeID(2)}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := greeted(t, nil)
			drive(s, start, v, time.Time{})
			if tt.said != nil {
				mustTake(t, s, start, statusOf(tt.said))
			}
			if got := drive(s, start.Add(resendAfter-1), v, time.Time{}); got != nil {
				t.Errorf("sent %v too early", got)
			}
			if d := cmp.Diff(tt.want, drive(s, start.Add(resendAfter), v, time.Time{})); d != "" {
				t.Errorf("sent after 10 s (-want +got):\n%s", d)
			}
		})
	}
}

func TestNextSaysWhen(t *testing.T) {
	t.Parallel()
	v := viewOf(1, revisionKey{"p", 2, fakeID(2)})
	s := greeted(t, nil)
	s.beatEvery = 7 * time.Second
	drive(s, start, v, start)
	if _, at := s.next(start, v, start); !at.Equal(start.Add(s.beatEvery)) {
		t.Errorf("after a beat: %v, want when the next is due", at.Sub(start))
	}
	later := start.Add(s.beatEvery)
	if _, at := s.next(later, v, start.Add(-1)); !at.Equal(later.Add(staleRetry)) {
		t.Errorf("while nothing is fresh: %v, want a second later", at.Sub(start))
	}
	drive(s, later, v, later)
	if _, at := s.next(later, v, later); !at.Equal(start.Add(resendAfter)) {
		t.Errorf("after the second beat: %v, want when the revision is to be sent again", at.Sub(start))
	}
	slow := greeted(t, nil)
	for range 3 {
		o, _ := slow.next(start, v, start)
		slow.begin(start, o)
		slow.end(start.Add(20*time.Second), o) // a slow receiver
	}
	if o, _ := slow.next(start.Add(20*time.Second), v, time.Time{}); o.kind != nothing {
		t.Errorf("sent %v again as soon as it was sent", o.kind)
	}
}

func TestAcknowledgement(t *testing.T) {
	t.Parallel()
	key := revisionKey{"p", 2, fakeID(2)}
	s := greeted(t, nil)
	drive(s, start, viewOf(1, key), start)
	ack := statusOf(&pb.Status{Generation: 2, Revision: fakeID(2)})
	if h := mustTake(t, s, start.Add(time.Second), statusOf(&pb.Status{Generation: 2, Revision: fakeID(3)})); h.acked {
		t.Error("another revision acknowledges")
	}
	if h := mustTake(t, s, start.Add(2*time.Second), ack); !h.acked || h.after != 2*time.Second {
		t.Errorf("got %+v, want acknowledged after 2 s", h)
	}
	if h := mustTake(t, s, start.Add(3*time.Second), ack); h.acked {
		t.Error("acknowledged twice")
	}
}

// TestAcknowledgedWhileSending: the answer may come before the sending returns.
func TestAcknowledgedWhileSending(t *testing.T) {
	t.Parallel()
	s := greeted(t, nil)
	v := viewOf(1, revisionKey{"p", 1, fakeID(1)})
	for {
		o, _ := s.next(start, v, start)
		s.begin(start, o)
		if o.kind == sendRevision {
			break
		}
	}
	if h := mustTake(t, s, start, statusOf(&pb.Status{Generation: 1, Revision: fakeID(1)})); !h.acked {
		t.Error("not acknowledged")
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	v := viewOf(1)
	s := greeted(t, nil)
	drive(s, start, v, start)
	batch := func(n int64) *pb.Up {
		return &pb.Up{Message: &pb.Up_Records{Records: &pb.Records{Batch: n, Records: [][]byte{[]byte("{}")}}}}
	}
	if h := mustTake(t, s, start, batch(4)); h.batch.GetBatch() != 4 {
		t.Fatalf("got %+v", h)
	}
	if _, err := s.take(start, batch(5)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second one: %v", err)
	}
	if got := drive(s, start, v, start); got != nil {
		t.Errorf("sent %v before it was kept", got)
	}
	s.done(true)
	if _, err := s.take(start, batch(5)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one before Stored: %v", err)
	}
	o, _ := s.next(start, v, start)
	if got := o.message.(*pb.Down).GetStored().GetBatch(); o.kind != sendStored || got != 4 {
		t.Fatalf("got %v of %d", o.kind, got)
	}
	s.begin(start, o)
	mustTake(t, s, start, batch(5)) // before the sending returned
	s.done(false)
	if got := drive(s, start, v, start); got != nil {
		t.Errorf("sent %v for one that was let go", got)
	}
	mustTake(t, s, start, batch(5))
}

func TestTakeRefuses(t *testing.T) {
	t.Parallel()
	big := make([][]byte, mesh.MaxRecords+1)
	records := func(r ...[]byte) *pb.Up { return &pb.Up{Message: &pb.Up_Records{Records: &pb.Records{Records: r}}} }
	for _, tt := range []struct {
		name  string
		first bool
		up    *pb.Up
	}{
		{"a status first", true, statusOf(&pb.Status{})},
		{"records first", true, records()},
		{"nothing first", true, &pb.Up{}},
		{"no incarnation", true, &pb.Up{Message: &pb.Up_Hello{Hello: &pb.Hello{}}}},
		{"a bad status in Hello", true, helloOf(&pb.Status{Generation: -1})},
		{"Hello twice", false, helloOf(nil)},
		{"a negative generation", false, statusOf(&pb.Status{Generation: -1, Revision: fakeID(1)})},
		{"a negative epoch", false, statusOf(&pb.Status{LiveEpoch: -1})},
		{"a generation of no revision", false, statusOf(&pb.Status{Generation: 1})},
		{"a revision that is none", false, statusOf(&pb.Status{Revision: "x"})},
		{"a revision in capitals", false, statusOf(&pb.Status{Revision: strings.Repeat("A", revisionBytes)})},
		{"a refusal of no revision", false, statusOf(&pb.Status{Refused: &pb.Refused{Generation: 1}})},
		{"a refusal of a negative generation", false, statusOf(&pb.Status{Refused: &pb.Refused{Generation: -1, Revision: fakeID(1)}})},
		{"a clock before 1970", false, statusOf(&pb.Status{NowUnixMs: -1})},
		{"a clock past all", false, statusOf(&pb.Status{NowUnixMs: math.MaxInt64})},
		{"too many records", false, records(big...)},
		{"a record too large", false, records(make([]byte, mesh.MaxRecordBytes+1))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(bound("p"), beatWithin)
			if !tt.first {
				s = greeted(t, nil)
			}
			if _, err := s.take(start, tt.up); status.Code(err) != codes.InvalidArgument {
				t.Errorf("got %v, want InvalidArgument", err)
			}
			if tt.first && s.greeted {
				t.Error("it counts as greeted")
			}
		})
	}
	if _, err := greeted(t, nil).take(start, &pb.Up{}); err != nil {
		t.Errorf("a message of a later build: %v", err)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	s := newSession(known("p"), beatWithin)
	first := start.Add(-time.Hour)
	s.sidecar.Last.Refused = mesh.Refusal{Revision: fakeID(2), At: first}
	up := &pb.Up{Message: &pb.Up_Hello{Hello: &pb.Hello{
		Incarnation: 9, Build: "v1\x00" + strings.Repeat("é", maxBuild),
		Status: &pb.Status{
			Generation: 1, Revision: fakeID(1), LiveEpoch: 4, NowUnixMs: start.Add(1500 * time.Millisecond).UnixMilli(),
			Refused: &pb.Refused{Generation: 2, Revision: fakeID(2), Reason: "no\x00 " + strings.Repeat("x", mesh.MaxReason)},
		},
	}}}
	want := mesh.Report{
		At: start, Incarnation: 9, Generation: 1, Revision: fakeID(1), LiveEpoch: 4, Skew: 1500 * time.Millisecond,
		Build:   "v1" + strings.Repeat("é", (maxBuild-2)/2),
		Refused: mesh.Refusal{Generation: 2, Revision: fakeID(2), Reason: "no " + strings.Repeat("x", mesh.MaxReason-3), At: first},
	}
	if d := cmp.Diff(&want, mustTake(t, s, start, up).report); d != "" {
		t.Errorf("of Hello (-want +got):\n%s", d)
	}
	later := start.Add(time.Minute)
	h := mustTake(t, s, later, statusOf(&pb.Status{Refused: &pb.Refused{Generation: 3, Revision: fakeID(2)}}))
	if h.report.Refused.At != later || h.report.Skew != 0 || h.report.Incarnation != 9 {
		t.Errorf("of another refusal, without a clock: %+v", h.report)
	}
	if h := mustTake(t, s, later, statusOf(nil)); h.report.Refused != (mesh.Refusal{}) {
		t.Errorf("after a refusal: %+v", h.report.Refused)
	}
}

// TestSessionModel plays random histories: what is in force is always sent in
// the end, what was acknowledged or refused is not sent again, nothing is sent
// again within 10 s, and no beat says more than is so.
func TestSessionModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSession(bound("p"), beatWithin)
		now, fresh := start, start
		active := revisionKey{"p", 1, fakeID(1)}
		v := viewOf(1, active)
		if _, err := s.take(now, helloOf(nil)); err != nil {
			t.Fatal(err)
		}
		said, refused := revisionKey{}, revisionKey{} // by the newest status
		pushed := map[revisionKey]time.Time{}
		say := func(st *pb.Status) {
			if _, err := s.take(now, statusOf(st)); err != nil {
				t.Fatal(err)
			}
			said, refused = revisionKey{"p", st.GetGeneration(), st.GetRevision()}, revisionKey{}
			if r := st.GetRefused(); r != nil {
				refused = revisionKey{"p", r.GetGeneration(), r.GetRevision()}
			}
		}
		status := func(k revisionKey) *pb.Status { return &pb.Status{Generation: k.generation, Revision: k.revision} }
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 12000).Draw(t, "ms")) * time.Millisecond)
			},
			"activate": func(*rapid.T) {
				active = revisionKey{"p", active.generation + 1, fakeID(int(active.generation) + 1)}
				v = viewOf(s.live.version, active)
			},
			"live":  func(*rapid.T) { v = viewOf(s.live.version+1, active) },
			"fresh": func(*rapid.T) { fresh = now },
			"ack":   func(*rapid.T) { say(status(active)) },
			"old":   func(*rapid.T) { say(status(revisionKey{"p", 0, ""})) },
			"nack": func(*rapid.T) {
				say(&pb.Status{Refused: &pb.Refused{Generation: active.generation, Revision: active.revision}})
			},
			"": func(t *rapid.T) {
				for range 10 {
					o, at := s.next(now, v, fresh)
					switch o.kind {
					case nothing:
						if s.live != v.live[audience{tenant: "org1"}].key {
							t.Fatal("the live data were not sent")
						}
						if _, ok := pushed[active]; !ok && said != active {
							t.Fatalf("%v was not sent", active)
						}
						if at.IsZero() || !at.After(now) {
							t.Fatalf("to ask again at %v, now is %v", at, now)
						}
						return
					case sendRevision:
						if last, again := pushed[active]; said == active || again && (refused == active || now.Sub(last) < resendAfter) {
							t.Fatalf("sent %v again", active)
						}
						if o.revision != active {
							t.Fatalf("sent %v, active is %v", o.revision, active)
						}
						pushed[active] = now
					case sendBeat:
						if now.Sub(fresh) > freshFor {
							t.Fatal("a beat without word of the database")
						}
					}
					s.begin(now, o)
					s.end(now, o)
				}
				t.Fatal("it never ends")
			},
		})
	})
}

func TestBeatSays(t *testing.T) {
	t.Parallel()
	s := greeted(t, nil)
	v := viewOf(6, revisionKey{"p", 1, fakeID(1)})
	v.connected = map[string]int{"p": 12, "q": 40}
	for {
		o, _ := s.next(start, v, start)
		s.begin(start, o)
		if o.kind == sendBeat {
			want := &pb.Beat{Epoch: 6, NowUnixMs: start.UnixMilli(), Connected: 12}
			if got := o.message.(*pb.Down).GetBeat(); !proto.Equal(want, got) {
				t.Errorf("got %v, want %v", got, want)
			}
			return
		}
	}
}

// BenchmarkNothingToSend is a wake-up that concerns another policy set.
func BenchmarkNothingToSend(b *testing.B) {
	s := newSession(bound("p"), beatWithin)
	if _, err := s.take(start, helloOf(nil)); err != nil {
		b.Fatal(err)
	}
	v := viewOf(1, revisionKey{"p", 1, fakeID(1)})
	drive(s, start, v, start)
	b.ReportAllocs()
	for b.Loop() {
		if o, _ := s.next(start, v, start); o.kind != nothing {
			b.Fatal(o.kind)
		}
	}
}
