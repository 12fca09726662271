package extauthz

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"gatehouse/internal/rawgrpc"
	"gatehouse/policies"
)

// answer is envoy.service.auth.v3.CheckResponse, written to the wire by hand
// for the same reason that requests are read so.
type answer struct {
	allowed bool

	// Of an allowed request.
	set         []policies.Header // request headers; each replaces what is there
	remove      []string          // request headers, after set
	response    []policies.Header // response headers
	setQuery    []policies.Header
	removeQuery []string

	// Of a refused one; response are its headers.
	status int
	body   string

	metadata []byte // a google.protobuf.Struct
}

// Fields of CheckResponse and of what it holds, and an enumeration's value.
const (
	respStatus, respDenied, respOK, respMetadata = 1, 2, 3, 4

	okHeaders, okRemove, okResponse, okSetQuery, okRemoveQuery = 2, 5, 6, 7, 8

	deniedStatus, deniedHeaders, deniedBody = 1, 2, 3

	optionHeader, optionAction = 1, 3
	overwriteOrAdd             = 2
)

// message encodes the answer.
func (a *answer) message() *rawgrpc.Message {
	out := make(rawgrpc.Message, 0, a.sizeHint())
	if a.allowed {
		out = appendMessage(out, respStatus, nil)
		out = appendMessage(out, respOK, a.ok())
	} else {
		out = appendMessage(out, respStatus, appendVarint(nil, 1, uint64(codes.PermissionDenied)))
		out = appendMessage(out, respDenied, a.denied())
	}
	out = appendMessage(out, respMetadata, a.metadata)
	return &out
}

func (a *answer) sizeHint() int { return 128 + a.partSize() + len(a.metadata) }

// partSize is an upper guess of the larger part, so that it is allocated once.
func (a *answer) partSize() int {
	n := 64 + len(a.body)
	for _, list := range [][]policies.Header{a.set, a.response, a.setQuery} {
		for _, h := range list {
			n += len(h.Name) + len(h.Value) + 16
		}
	}
	for _, list := range [][]string{a.remove, a.removeQuery} {
		for _, s := range list {
			n += len(s) + 4
		}
	}
	return n
}

// ok is OkHttpResponse.
func (a *answer) ok() []byte {
	b := make([]byte, 0, a.partSize())
	for _, h := range a.set {
		b = appendOption(b, okHeaders, h)
	}
	for _, name := range a.remove {
		b = appendString(b, okRemove, name)
	}
	for _, h := range a.response {
		b = appendOption(b, okResponse, h)
	}
	for _, q := range a.setQuery {
		b = appendMessage(b, okSetQuery, pair(q))
	}
	for _, name := range a.removeQuery {
		b = appendString(b, okRemoveQuery, name)
	}
	return b
}

// denied is DeniedHttpResponse.
func (a *answer) denied() []byte {
	b := make([]byte, 0, a.partSize())
	b = appendMessage(b, deniedStatus, appendVarint(nil, 1, uint64(a.status)))
	for _, h := range a.response {
		b = appendOption(b, deniedHeaders, h)
	}
	return appendString(b, deniedBody, a.body)
}

// appendOption appends a HeaderValueOption that replaces a header. Envoy reads
// value in Check's replies; raw_value would give an empty header.
func appendOption(b []byte, number protowire.Number, h policies.Header) []byte {
	size := protowire.SizeBytes(len(h.Name)) + protowire.SizeBytes(len(h.Value)) + 2
	b = protowire.AppendTag(b, number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(1+protowire.SizeBytes(size)+2))
	b = protowire.AppendTag(b, optionHeader, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendString(appendString(b, 1, h.Name), 2, h.Value)
	return appendVarint(b, optionAction, overwriteOrAdd)
}

func pair(h policies.Header) []byte { return appendString(appendString(nil, 1, h.Name), 2, h.Value) }

func appendString(b []byte, number protowire.Number, s string) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendString(b, s)
}

func appendMessage(b []byte, number protowire.Number, m []byte) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendBytes(b, m)
}

func appendVarint(b []byte, number protowire.Number, v uint64) []byte {
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}
