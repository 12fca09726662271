package sync

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
)

func TestRebind(t *testing.T) {
	t.Parallel()
	// The sets have the same content and generation: what was held of one
	// stands for nothing of the other.
	v := viewOf(1, revisionKey{"p", 1, fakeID(1)}, revisionKey{"q", 1, fakeID(1)})
	s := greeted(t, &pb.Status{Generation: 1, Revision: fakeID(1)})
	drive(s, start, v, start)
	to := bound("q")
	to.Version = 2
	s.rebind(to)
	if d := cmp.Diff([]kind{sendWelcome, sendRevision}, drive(s, start, v, start)); d != "" {
		t.Errorf("another set (-want +got):\n%s", d)
	}
	to.Version, to.Tenant = 3, "org2"
	s.rebind(to)
	v.live[audience{tenant: "org2"}] = &liveMessage{key: liveKey{1, audience{tenant: "org2"}}}
	if d := cmp.Diff([]kind{sendWelcome, sendLive}, drive(s, start, v, start)); d != "" {
		t.Errorf("another tenant (-want +got):\n%s", d)
	}
	to.Version, to.Name = 4, "b"
	s.rebind(to)
	if d := cmp.Diff([]kind{sendWelcome}, drive(s, start, v, start)); d != "" {
		t.Errorf("another name (-want +got):\n%s", d)
	}
}

// TestRebindFromAHigherGeneration: generations of two sets have no order.
func TestRebindFromAHigherGeneration(t *testing.T) {
	t.Parallel()
	v := viewOf(1, revisionKey{"p", 9, fakeID(9)}, revisionKey{"q", 1, fakeID(1)})
	s := greeted(t, &pb.Status{Generation: 9, Revision: fakeID(9)})
	drive(s, start, v, start)
	to := bound("q")
	to.Version = 2
	s.rebind(to)
	drive(s, start, v, start)
	if got := drive(s, start.Add(resendAfter), v, time.Time{}); len(got) != 1 || got[0] != sendRevision {
		t.Errorf("sent %v after 10 s, want the revision again", got)
	}
}

// TestMovedSidecar: until it has answered to what its new set has, a status is of
// the set before, and says nothing of the new one, on this stream or on its next.
func TestMovedSidecar(t *testing.T) {
	t.Parallel()
	v := viewOf(1, revisionKey{"p", 9, fakeID(9)}, revisionKey{"q", 1, fakeID(1)}, revisionKey{"r", 9, fakeID(9)})
	before := &pb.Status{Generation: 9, Revision: fakeID(9), Refused: &pb.Refused{Generation: 10, Revision: fakeID(10)}}
	none := mesh.Report{At: start, Incarnation: 7, Build: "b1"}
	for _, tt := range []struct {
		name, set string
		begin     func(to mesh.Sidecar) *session
		first     []kind
	}{
		{"on this stream", "q", func(to mesh.Sidecar) *session {
			s := greeted(t, before)
			drive(s, start, v, start)
			s.rebind(to)
			return s
		}, []kind{sendWelcome, sendRevision}},
		{"to the same content under the same number", "r", func(to mesh.Sidecar) *session {
			s := greeted(t, before)
			drive(s, start, v, start)
			s.rebind(to)
			return s
		}, []kind{sendWelcome, sendRevision}},
		{"between two streams", "q", func(to mesh.Sidecar) *session { return newSession(to, beatWithin) }, []kind{sendWelcome, sendLive, sendRevision, sendBeat}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := bound(tt.set)
			to.Version = 2
			s, up := tt.begin(to), statusOf(before)
			if !s.greeted {
				up = helloOf(before)
			}
			if d := cmp.Diff(&none, mustTake(t, s, start, up).report); d != "" {
				t.Errorf("reported before anything was sent (-want +got):\n%s", d)
			}
			o := output{}
			for _, want := range tt.first {
				if o, _ = s.next(start, v, start); o.kind != want || o.ahead {
					t.Fatalf("got %+v, want kind %d, and no word of a database that was set back", o, want)
				}
				s.begin(start, o)
				s.end(start, o)
			}
			active := v.revisions[tt.set].key
			if tt.set == "q" { // else the two can't be told apart, and need not be
				if h := mustTake(t, s, start, statusOf(before)); h.acked || h.report.Generation != 0 || h.report.Refused != (mesh.Refusal{}) {
					t.Errorf("a late word of the set before: %+v", h)
				}
				if got := drive(s, start.Add(resendAfter), v, time.Time{}); len(got) != 1 || got[0] != sendRevision {
					t.Errorf("sent %v after 10 s, want the revision again", got)
				}
			}
			h := mustTake(t, s, start, statusOf(&pb.Status{Generation: active.generation, Revision: active.revision}))
			if !h.acked || h.report.Generation != active.generation || h.report.Revision != active.revision || s.said != active {
				t.Errorf("the answer: %+v, said %+v", h, s.said)
			}
			if got := drive(s, start.Add(2*resendAfter), v, time.Time{}); len(got) > 0 {
				t.Errorf("sent %v after the answer", got)
			}
		})
	}
}

// TestMovedSidecarRefuses what its new set has: that is an answer too.
func TestMovedSidecarRefuses(t *testing.T) {
	t.Parallel()
	v := viewOf(1, revisionKey{"p", 1, fakeID(1)})
	s := newSession(bound("p"), beatWithin)
	mustTake(t, s, start, helloOf(nil))
	drive(s, start, v, start)
	h := mustTake(t, s, start, statusOf(&pb.Status{Generation: 3, Revision: fakeID(3), Refused: &pb.Refused{Generation: 1, Revision: fakeID(1), Reason: "older"}}))
	if h.report.Generation != 3 || h.report.Refused.Reason != "older" {
		t.Errorf("got %+v, want what it says", h.report)
	}
	if got := drive(s, start.Add(2*resendAfter), v, time.Time{}); len(got) > 0 {
		t.Errorf("sent %v again though it is refused", got)
	}
}
