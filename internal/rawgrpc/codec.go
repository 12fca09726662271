// Package rawgrpc lets a gRPC handler take a message's bytes and give bytes,
// beside handlers that use generated messages on the same server. A handler
// that reads a few fields of a large message need not build all of it: it walks
// the fields with Text.Each.
//
// It refuses what is no protobuf, and knows no message: what a field means, and
// how much of a message is kept, is for its reader. The gRPC server bounds the
// size of a message. All of it is safe for concurrent use; a Text is a value
// that nobody changes.
package rawgrpc

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Message is a protobuf message in its wire form. A handler's request is its
// own copy; a handler's response must not be changed after it was returned.
type Message []byte

// codec passes *Message through and leaves the rest to protobuf's codec.
type codec struct {
	proto encoding.CodecV2
}

// Codec is the server's codec, for grpc.ForceServerCodecV2. It is safe for
// concurrent use.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*Message); ok {
		return mem.BufferSlice{mem.SliceBuffer(*m)}, nil
	}
	return c.proto.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*Message); ok {
		*m = data.Materialize()
		return nil
	}
	if err := c.proto.Unmarshal(data, v); err != nil {
		return fmt.Errorf("rawgrpc: %w", err)
	}
	return nil
}

// Name implements encoding.CodecV2: on the wire it is protobuf.
func (codec) Name() string { return proto.Name }
