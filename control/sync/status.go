package sync

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
)

// Bounds of what a sidecar says of itself.
const (
	maxBuild      = 128 // bytes
	revisionBytes = 64  // of an id, in hex
)

// heard is what a message from the sidecar comes to.
type heard struct {
	report   *mesh.Report        // to keep
	breakers *mesh.BreakerReport // to keep
	batch    *pb.Records         // to store
	acked    bool                // the sidecar enforces what was sent, the first time it says so
	after    time.Duration
}

// take takes one message of the sidecar in. Its error, of gRPC, ends the stream.
func (s *session) take(now time.Time, up *pb.Up) (heard, error) {
	switch m := up.GetMessage().(type) {
	case *pb.Up_Hello:
		return s.hello(now, m.Hello)
	case *pb.Up_Status:
		if s.greeted {
			return s.status(now, m.Status)
		}
	case *pb.Up_Records:
		if s.greeted {
			return s.records(m.Records)
		}
	default:
		if s.greeted {
			return heard{}, nil // of a later build
		}
	}
	return heard{}, status.Error(codes.InvalidArgument, "a stream begins with Hello")
}

func (s *session) hello(now time.Time, h *pb.Hello) (heard, error) {
	if s.greeted {
		return heard{}, status.Error(codes.InvalidArgument, "Hello comes once")
	}
	if h.GetIncarnation() < 1 {
		return heard{}, status.Error(codes.InvalidArgument, "Hello has no incarnation")
	}
	// What was refused before goes on from when it was first seen.
	s.report = mesh.Report{
		Incarnation: h.GetIncarnation(), Build: clean(h.GetBuild(), maxBuild), Refused: s.sidecar.Last.Refused,
	}
	out, err := s.status(now, h.GetStatus())
	s.greeted = err == nil
	return out, err
}

func (s *session) status(now time.Time, st *pb.Status) (heard, error) {
	if err := check(st); err != nil {
		return heard{}, err
	}
	r := &s.report
	r.At, r.LiveEpoch = now, st.GetLiveEpoch()
	r.Skew = 0
	if ms := st.GetNowUnixMs(); ms > 0 {
		r.Skew = time.UnixMilli(ms).Sub(now)
	}
	s.ofSet = s.ofSet || s.answers(st)
	s.enforced(now, st)
	out := heard{report: new(*r), breakers: s.breakers(now, st)}
	if !s.acked && s.revision.generation > 0 && s.said == s.revision {
		s.acked = true
		out.acked, out.after = true, now.Sub(s.first)
	}
	return out, nil
}

// answers reports whether a status can only be of the sidecar's policy set: it
// enforces, or refuses, what was sent of that set on this stream.
func (s *session) answers(st *pb.Status) bool {
	sent, refused := s.revision, st.GetRefused()
	if sent.generation == 0 || sent.set != s.sidecar.PolicySet {
		return false
	}
	return sent == revisionKey{sent.set, st.GetGeneration(), st.GetRevision()} ||
		sent == revisionKey{sent.set, refused.GetGeneration(), refused.GetRevision()}
}

// enforced puts on record what the sidecar enforces and refuses, if it is known
// to be of its policy set. Else nothing is, and what is active there is sent,
// though it may be the same content under the same number.
func (s *session) enforced(now time.Time, st *pb.Status) {
	r := &s.report
	if !s.ofSet {
		r.Generation, r.Revision, r.Refused, s.said = 0, "", mesh.Refusal{}, revisionKey{}
		return
	}
	r.Generation, r.Revision = st.GetGeneration(), st.GetRevision()
	r.Refused = refusal(now, st.GetRefused(), r.Refused)
	s.said = revisionKey{s.sidecar.PolicySet, r.Generation, r.Revision}
}

// check refuses a status that no sidecar of any build means.
func check(st *pb.Status) error {
	refused := st.GetRefused()
	switch {
	case st.GetGeneration() < 0, st.GetLiveEpoch() < 0, refused.GetGeneration() < 0:
		return status.Error(codes.InvalidArgument, "a status counts from 0")
	case (st.GetGeneration() > 0 || st.GetRevision() != "") && !revisionID(st.GetRevision()):
		return status.Error(codes.InvalidArgument, "the revision of a status is 64 hexadecimal digits")
	case refused != nil && !revisionID(refused.GetRevision()):
		return status.Error(codes.InvalidArgument, "the refused revision of a status is 64 hexadecimal digits")
	case st.GetNowUnixMs() < 0 || st.GetNowUnixMs() > math.MaxInt64/int64(time.Millisecond):
		return status.Error(codes.InvalidArgument, "the clock of a status is out of range")
	case len(st.GetBreakers()) > mesh.MaxBreakers:
		return status.Errorf(codes.InvalidArgument, "a status has at most %d breakers", mesh.MaxBreakers)
	}
	return nil
}

func revisionID(s string) bool {
	return len(s) == revisionBytes && strings.Trim(s, "0123456789abcdef") == ""
}

// refusal is what the sidecar refuses, since when it was first heard of.
func refusal(now time.Time, r *pb.Refused, before mesh.Refusal) mesh.Refusal {
	if r == nil {
		return mesh.Refusal{}
	}
	at := now
	// A stored refusal may not tell its generation.
	same := before.Revision == r.GetRevision() && (before.Generation == 0 || before.Generation == r.GetGeneration())
	if same && !before.At.IsZero() {
		at = before.At
	}
	return mesh.Refusal{Generation: r.GetGeneration(), Revision: r.GetRevision(), Reason: clean(r.GetReason(), mesh.MaxReason), At: at}
}

// clean makes of a sidecar's text one that can be stored: at most limit bytes,
// and without NUL, which Postgres has no place for.
func clean(text string, limit int) string {
	text = strings.ReplaceAll(text, "\x00", "")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// records takes a batch, the only one until its Stored is on its way.
func (s *session) records(m *pb.Records) (heard, error) {
	if s.storing {
		return heard{}, status.Error(codes.ResourceExhausted, "a batch of records is under way")
	}
	if len(m.GetRecords()) > mesh.MaxRecords {
		return heard{}, status.Errorf(codes.InvalidArgument, "a batch has at most %d records", mesh.MaxRecords)
	}
	for _, r := range m.GetRecords() {
		if len(r) > mesh.MaxRecordBytes {
			return heard{}, status.Errorf(codes.InvalidArgument, "a record has at most %d bytes", mesh.MaxRecordBytes)
		}
	}
	s.storing, s.kept, s.batch = true, false, m.GetBatch()
	return heard{batch: m}, nil
}

// done says what became of the batch under way: it is kept, and Stored is to
// be sent, or it was let go, and the sidecar may send it again.
func (s *session) done(kept bool) { s.kept, s.storing = kept, kept }
