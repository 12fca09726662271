package extauthz

import (
	"slices"
	"strings"

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
	set         []field  // request headers
	remove      []string // request headers, after set
	response    []field  // response headers
	setQuery    []policies.Header
	removeQuery []string

	// Of a refused one; response are its headers.
	status int
	body   string

	metadata []byte // a google.protobuf.Struct
}

// field is a header of an answer. It replaces what is there, or stands beside it.
type field struct {
	policies.Header
	beside bool
}

// setAll adds a policy's request headers. Envoy replaces before it appends: of a
// name's values the first replaces the client's, and the others stand beside it.
func (a *answer) setAll(list []policies.Header) {
	for i, h := range list {
		a.set = append(a.set, field{h, has(list[:i], h.Name)})
	}
}

// respondAll adds a policy's headers to the upstream's answer, where Envoy
// appends before it replaces: only a single value can replace, several stand
// beside the upstream's.
func (a *answer) respondAll(list []policies.Header) {
	for i, h := range list {
		a.response = append(a.response, field{h, has(list[:i], h.Name) || has(list[i+1:], h.Name)})
	}
}

// denyWith adds headers to our own answer, in which Envoy keeps all values.
func (a *answer) denyWith(list []policies.Header) {
	for _, h := range list {
		a.response = append(a.response, field{Header: h})
	}
}

func has(list []policies.Header, name string) bool {
	return slices.ContainsFunc(list, func(h policies.Header) bool { return h.Name == name })
}

// setHeader sets a request header of ours, which no policy replaces or adds to;
// an empty value sets none.
func (a *answer) setHeader(name, value string) {
	if value != "" {
		a.set = only(a.set, name, value)
	}
}

// respond sets a response header of ours.
func (a *answer) respond(name, value string) { a.response = only(a.response, name, value) }

// responds reports whether the answer has a response header.
func (a *answer) responds(name string) bool {
	return slices.ContainsFunc(a.response, func(f field) bool { return strings.EqualFold(f.Name, name) })
}

func only(fields []field, name, value string) []field {
	fields = slices.DeleteFunc(fields, func(f field) bool { return f.Name == name })
	return append(fields, field{Header: policies.Header{Name: name, Value: value}})
}

// Fields of CheckResponse and of what it holds.
const (
	respStatus, respDenied, respOK, respMetadata = 1, 2, 3, 4

	okHeaders, okRemove, okResponse, okSetQuery, okRemoveQuery = 2, 5, 6, 7, 8

	deniedStatus, deniedHeaders, deniedBody = 1, 2, 3

	optionHeader = 1
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
	for _, list := range [][]field{a.set, a.response} {
		for _, f := range list {
			n += len(f.Name) + len(f.Value) + 16
		}
	}
	for _, q := range a.setQuery {
		n += len(q.Name) + len(q.Value) + 16
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

// What a HeaderValueOption says about what is there, in wire form. Envoy 1.40
// does not tell the append_action APPEND_IF_EXISTS_OR_ADD, which is 0, from none,
// and replaces: what appends is the older member append, a BoolValue.
const (
	replaces    = "\x18\x02"         // append_action: OVERWRITE_IF_EXISTS_OR_ADD
	standBeside = "\x12\x02\x08\x01" // append: {value: true}
)

// appendOption appends a HeaderValueOption. Envoy reads value in Check's replies;
// raw_value would give an empty header.
func appendOption(b []byte, number protowire.Number, f field) []byte {
	mode := replaces
	if f.beside {
		mode = standBeside
	}
	size := protowire.SizeBytes(len(f.Name)) + protowire.SizeBytes(len(f.Value)) + 2
	b = protowire.AppendTag(b, number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(1+protowire.SizeBytes(size)+len(mode)))
	b = protowire.AppendTag(b, optionHeader, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendString(appendString(b, 1, f.Name), 2, f.Value)
	return append(b, mode...)
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
