package envoyconf

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// pack marshals m into an Any.
//
// INVARIANT: deterministic. Envoy names what it has by the bytes' hash when it
// reconnects; maps in another order would change a listener at each restart.
func pack(m proto.Message) *anypb.Any {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Only a message that this package built wrongly (invalid UTF-8 that
		// the configuration refuses) can get here.
		panic("envoyconf: " + err.Error())
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: value}
}

func duration(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
func u32(n int) *wrapperspb.UInt32Value             { return wrapperspb.UInt32(uint32(n)) }
func boolean(b bool) *wrapperspb.BoolValue          { return wrapperspb.Bool(b) }
