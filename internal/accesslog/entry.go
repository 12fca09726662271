package accesslog

import (
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse/internal/rawgrpc"
)

// entry is what an outcome is made of, out of
// envoy.data.accesslog.v3.HTTPAccessLogEntry. It is read from the wire by
// hand: the generated messages, with their maps of metadata, cost more than
// all else that is done for an entry. Its strings are cut from the message.
type entry struct {
	common       bool // has common properties
	start        span // since 1970
	duration     span
	lastByte     span // until the last byte went to the client
	flags        responseFlags
	check        said
	routeName    string
	sentDown     uint64 // bytes on the wire, as the next
	sentUp       uint64
	logType      datav3.AccessLogType
	intermediate bool

	requestID string
	status    uint32
	details   string // Envoy's response code details
}

// said is what Check said of the request.
type said struct{ decisionID, revision, route string }

// field reads a field of HTTPAccessLogEntry.
func (e *entry) field(f rawgrpc.Field) error {
	switch f.Number {
	case 1:
		e.common = true
		return f.Text.Each(e.commonField)
	case 3:
		return f.Text.Each(e.requestField)
	case 4:
		return f.Text.Each(e.responseField)
	}
	return nil
}

// commonField reads a field of AccessLogCommon.
func (e *entry) commonField(f rawgrpc.Field) error {
	switch f.Number {
	case 5:
		return e.start.read(f.Text)
	case 12:
		return e.lastByte.read(f.Text)
	case 16:
		return f.Text.Each(e.flags.field)
	case 17:
		return f.Text.Each(e.metadataField)
	case 19:
		e.routeName = f.Text.String()
	case 23:
		return e.duration.read(f.Text)
	}
	switch f.Integer {
	case 27:
		e.intermediate = f.Varint != 0
	case 29:
		e.sentDown = f.Varint
	case 31:
		e.sentUp = f.Varint
	case 33:
		e.logType = datav3.AccessLogType(f.Varint)
	}
	return nil
}

// metadataField reads a field of core.v3.Metadata: an entry of its map of
// structs by filter.
func (e *entry) metadataField(f rawgrpc.Field) error {
	if f.Number != 1 {
		return nil
	}
	filter, err := mapKey(f.Text)
	if err != nil || filter != checkNamespace {
		return err
	}
	e.check = said{} // a later entry of the same key replaces it
	return mapValue(f.Text, e.check.field)
}

// field reads a field of google.protobuf.Struct: an entry of its map of values.
func (s *said) field(f rawgrpc.Field) error {
	if f.Number != 1 {
		return nil
	}
	name, err := mapKey(f.Text)
	if err != nil {
		return err
	}
	var into *string
	switch name {
	case "decision_id":
		into = &s.decisionID
	case "revision":
		into = &s.revision
	case "route":
		into = &s.route
	default:
		return nil
	}
	*into = ""
	return mapValue(f.Text, func(f rawgrpc.Field) error {
		readValue(into, f)
		return nil
	})
}

// readValue reads a field of google.protobuf.Value. A value of another type
// than string is as good as none.
func readValue(into *string, f rawgrpc.Field) {
	switch {
	case f.Number == 3:
		*into = f.Text.String()
	case f.Integer == 1, f.Fixed64 == 2, f.Integer == 4, f.Number == 5, f.Number == 6:
		*into = ""
	}
}

// requestField reads a field of HTTPRequestProperties.
func (e *entry) requestField(f rawgrpc.Field) error {
	if f.Number == 9 {
		e.requestID = f.Text.String()
	}
	return nil
}

// responseField reads a field of HTTPResponseProperties.
func (e *entry) responseField(f rawgrpc.Field) error {
	switch f.Number {
	case 1:
		return f.Text.Each(e.statusField)
	case 6:
		e.details = f.Text.String()
	}
	return nil
}

// statusField reads a field of google.protobuf.UInt32Value.
func (e *entry) statusField(f rawgrpc.Field) error {
	if f.Integer == 1 {
		e.status = uint32(f.Varint)
	}
	return nil
}

// mapKey is the key of a map's entry. Maps are on the wire as messages of a
// key, 1, and a value, 2, in any order.
func mapKey(pair rawgrpc.Text) (key string, err error) {
	err = pair.Each(func(f rawgrpc.Field) error {
		if f.Number == 1 {
			key = f.Text.String()
		}
		return nil
	})
	return key, err
}

// mapValue visits the fields of the value of a map's entry, a message.
func mapValue(pair rawgrpc.Text, visit func(rawgrpc.Field) error) error {
	return pair.Each(func(f rawgrpc.Field) error {
		if f.Number != 2 {
			return nil
		}
		return f.Text.Each(visit)
	})
}

// span is a google.protobuf.Timestamp or Duration.
type span struct {
	set     bool
	seconds int64
	nanos   int32
}

func (s *span) read(t rawgrpc.Text) error {
	s.set = true
	return t.Each(func(f rawgrpc.Field) error {
		switch f.Integer {
		case 1:
			s.seconds = int64(f.Varint)
		case 2:
			s.nanos = int32(f.Varint)
		}
		return nil
	})
}

// asTime is the zero time where the span is missing or out of range.
func (s *span) asTime() time.Time {
	ts := timestamppb.Timestamp{Seconds: s.seconds, Nanos: s.nanos}
	if !s.set || !ts.IsValid() {
		return time.Time{}
	}
	return ts.AsTime()
}

// asDuration is false where the span is missing or out of range. A negative
// one is 0.
func (s *span) asDuration() (time.Duration, bool) {
	d := durationpb.Duration{Seconds: s.seconds, Nanos: s.nanos}
	if !s.set || !d.IsValid() {
		return 0, false
	}
	return max(d.AsDuration(), 0), true
}
