package sync

import (
	"time"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
)

// Times of a session.
const (
	helloWithin = 5 * time.Second  // of its beginning
	resendAfter = 10 * time.Second // an activation that is not acknowledged
	beatWithin  = 5 * time.Second  // of the one before
	beatJitter  = 500 * time.Millisecond
	freshFor    = 5 * time.Second // what the database said
	staleRetry  = time.Second     // until it is looked at again whether it is fresh
)

// session is what one stream was told and what its sidecar said: a pure core
// without a clock or a goroutine of its own.
//
//	Hello ──► Welcome ──► Live ──► BreakerOrders ──► Revision ──► Beat, Beat, …
//	          each again when it changes; Stored when a batch is
type session struct {
	sidecar   mesh.Sidecar
	beatEvery time.Duration

	greeted bool
	report  mesh.Report // the newest
	said    revisionKey // what it enforces, of its policy set; none while that is not known
	ofSet   bool        // what it says is of its policy set: a status does not tell of which it is

	welcomed int64 // version of the registration; -1 for none
	live     liveKey
	orders   *ordersMessage // of breakers; nil for none
	revision revisionKey
	first    time.Time // when its sending began, the first time
	last     time.Time // when its sending began or ended, the last time
	acked    bool
	beat     time.Time // when the next is due; the zero time is at once

	storing bool  // a batch is under way: from its arrival until Stored is on its way
	kept    bool  // it is stored
	batch   int64 // its number
}

// newSession is that of a sidecar which was not heard yet. Its registration
// forgets what was reported when it is given another policy set: where something
// is reported, the sidecar speaks of this one.
func newSession(s mesh.Sidecar, beatEvery time.Duration) *session {
	return &session{sidecar: s, beatEvery: beatEvery, welcomed: -1, ofSet: s.Last.Revision != ""}
}

// rebind gives the sidecar another registration. What it said of another
// policy set says nothing of its new one, and what it says next may still be of
// the other.
func (s *session) rebind(to mesh.Sidecar) {
	if to.PolicySet != s.sidecar.PolicySet {
		s.said, s.ofSet = revisionKey{}, false
	}
	s.sidecar = to
}

// kind is what an output is.
type kind int

const (
	nothing kind = iota
	sendWelcome
	sendLive
	sendOrders
	sendRevision
	sendStored
	sendBeat
)

// output is one message to send, and what it puts on record when it was sent.
type output struct {
	kind     kind
	message  any // *pb.Down or *rawgrpc.Message
	version  int64
	live     liveKey
	orders   *ordersMessage
	revision revisionKey
	ahead    bool // the sidecar enforces a later generation than there is
}

// next is the message to send now, nothing if there is none, and when to ask
// again even if nothing happens; the zero time is never. fresh is when the
// database was last asked with success. next changes nothing: see begin.
func (s *session) next(now time.Time, v *view, fresh time.Time) (output, time.Time) {
	if !s.greeted {
		return output{}, time.Time{}
	}
	if s.welcomed != s.sidecar.Version {
		return output{kind: sendWelcome, message: welcome(&s.sidecar), version: s.sidecar.Version}, time.Time{}
	}
	live := v.live[audienceOf(&s.sidecar)]
	if live != nil && live.key != s.live {
		return output{kind: sendLive, message: &live.text, live: live.key}, time.Time{}
	}
	if o := v.orders[s.sidecar.PolicySet]; o != nil && o != s.orders {
		return output{kind: sendOrders, message: &o.text, orders: o}, time.Time{}
	}
	active := v.revisions[s.sidecar.PolicySet]
	if active == nil || live == nil {
		// Not known yet, or not now: a beat would say that it is.
		return s.stored(), time.Time{}
	}
	again, due := s.owed(active)
	if due && !now.Before(again) {
		return s.push(active), time.Time{}
	}
	if o := s.stored(); o.kind != nothing {
		return o, time.Time{}
	}
	o, at := s.pulse(now, v, live.epoch, fresh)
	if due && again.Before(at) {
		at = again
	}
	return o, at
}

// owed says whether the sidecar still has to get what is active, and when.
func (s *session) owed(active *revisionMessage) (time.Time, bool) {
	key := active.key
	switch {
	case active.text == nil || s.said == key:
		return time.Time{}, false
	case s.revision != key:
		return time.Time{}, true
	case s.said.generation >= key.generation || s.refuses(key):
		return time.Time{}, false
	}
	return s.last.Add(resendAfter), true
}

func (s *session) refuses(key revisionKey) bool {
	return s.report.Refused.Generation == key.generation && s.report.Refused.Revision == key.revision
}

func (s *session) push(active *revisionMessage) output {
	return output{
		kind: sendRevision, message: &active.text, revision: active.key,
		ahead: s.said.generation > active.key.generation && s.revision != active.key,
	}
}

func (s *session) stored() output {
	if !s.kept {
		return output{}
	}
	return output{kind: sendStored, message: &pb.Down{Message: &pb.Down_Stored{Stored: &pb.Stored{Batch: s.batch}}}}
}

// pulse is the beat that is due. INVARIANT: it is called only when all that v
// holds for the sidecar was sent, or is held or refused by it, or will be sent
// again.
func (s *session) pulse(now time.Time, v *view, epoch int64, fresh time.Time) (output, time.Time) {
	if now.Before(s.beat) {
		return output{}, s.beat
	}
	if now.Sub(fresh) > freshFor {
		return output{}, now.Add(staleRetry)
	}
	connected := max(v.connected[s.sidecar.PolicySet], 1)
	return output{kind: sendBeat, message: &pb.Down{Message: &pb.Down_Beat{Beat: &pb.Beat{
		Epoch: epoch, NowUnixMs: now.UnixMilli(), Connected: int32(connected),
	}}}}, time.Time{}
}

// begin puts on record that an output of next is on its way. It is called
// before the sending: the sidecar may answer before that has returned.
func (s *session) begin(now time.Time, o output) {
	switch o.kind {
	case sendWelcome:
		s.welcomed = o.version
	case sendLive:
		s.live = o.live
	case sendOrders:
		s.orders = o.orders
	case sendRevision:
		if s.revision != o.revision {
			s.first, s.acked = now, false
		}
		s.revision, s.last = o.revision, now
	case sendStored:
		s.kept, s.storing = false, false
	case sendBeat:
		s.beat = now.Add(s.beatEvery)
	}
}

// end puts on record that the sending took until now, which for a slow receiver
// of a large revision is long.
func (s *session) end(now time.Time, o output) {
	if o.kind == sendRevision {
		s.last = now
	}
}
