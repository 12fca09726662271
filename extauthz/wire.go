package extauthz

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"gatehouse/policies"
)

// envoyRequest is what Check reads of envoy.service.auth.v3.CheckRequest. It
// is read from the wire by hand: the generated messages cost more than all
// of the decision. Fields that are not named here are skipped, and of a field
// that stands twice the last one counts, as protobuf has it.
type envoyRequest struct {
	ID, Method, Path, Host, Scheme, Protocol string
	Size                                     int64
	Time                                     time.Time
	Body                                     []byte
	Headers                                  headers
	RawHeaders                               bool // Envoy sent header_map, duplicates kept
	Source, Destination                      policies.Peer
	Extensions                               []policies.Header // Check's context extensions
}

// errMessage is the error of every message that can not be read.
var errMessage = errors.New("the message is not well-formed")

// text is a part of a message as bytes and as a string, so that reading a
// string field copies nothing.
type text struct {
	b []byte
	s string
}

// field is one field of a message. A field that comes with another wire type
// than it has is an unknown field to protobuf: one of the numbers is always 0.
type field struct {
	number  protowire.Number // of a length-delimited field
	bytes   text
	integer protowire.Number // of a varint field
	varint  uint64
}

// each visits the fields of a message that are strings, messages or integers.
func (t text) each(visit func(field) error) error {
	for len(t.b) > 0 {
		number, kind, n := protowire.ConsumeTag(t.b)
		if n < 0 {
			return errMessage
		}
		t = t.from(n)
		var f field
		switch kind {
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(t.b); n >= 0 {
				f.number, f.bytes = number, text{v, t.s[n-len(v) : n]}
			}
		case protowire.VarintType:
			f.integer = number
			f.varint, n = protowire.ConsumeVarint(t.b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, t.b)
		}
		if n < 0 {
			return errMessage
		}
		t = t.from(n)
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

func (t text) from(n int) text { return text{t.b[n:], t.s[n:]} }

// readRequest reads a CheckRequest. An error means that no decision can be
// made of it.
func readRequest(message []byte) (*envoyRequest, error) {
	r := &envoyRequest{}
	err := text{message, string(message)}.each(func(f field) error {
		if f.number == 1 {
			return f.bytes.each(r.attribute)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check request: %w", err)
	}
	return r, nil
}

// attribute reads a field of AttributeContext.
func (r *envoyRequest) attribute(f field) error {
	switch f.number {
	case 1:
		return readPeer(&r.Source, f.bytes)
	case 2:
		return readPeer(&r.Destination, f.bytes)
	case 4:
		return f.bytes.each(r.request)
	case 10:
		entry, err := readPair(f.bytes)
		r.Extensions = append(r.Extensions, entry)
		return err
	}
	return nil
}

// request reads a field of AttributeContext.Request.
func (r *envoyRequest) request(f field) error {
	switch f.number {
	case 1:
		return r.readTime(f.bytes)
	case 2:
		return f.bytes.each(r.http)
	}
	return nil
}

// http reads a field of AttributeContext.HttpRequest.
func (r *envoyRequest) http(f field) error {
	if f.integer == 9 {
		r.Size = int64(f.varint)
	}
	switch f.number {
	case 1:
		r.ID = f.bytes.s
	case 2:
		r.Method = f.bytes.s
	case 4:
		r.Path = f.bytes.s
	case 5:
		r.Host = f.bytes.s
	case 6:
		r.Scheme = f.bytes.s
	case 10:
		r.Protocol = f.bytes.s
	case 12:
		r.Body = f.bytes.b
	case 13:
		r.RawHeaders = true
		if r.Headers == nil {
			r.Headers = make(headers, 0, typicalHeaders)
		}
		return f.bytes.each(r.header)
	}
	return nil
}

// typicalHeaders is what a request usually has, pseudo-headers included.
const typicalHeaders = 24

// header reads a field of core.v3.HeaderMap: a name, and a value that Envoy
// sends raw.
func (r *envoyRequest) header(f field) error {
	if f.number != 1 {
		return nil
	}
	var h policies.Header
	var value string
	err := f.bytes.each(func(f field) error {
		switch f.number {
		case 1:
			h.Name = strings.ToLower(f.bytes.s)
		case 2:
			value = f.bytes.s
		case 3:
			h.Value = f.bytes.s
		}
		return nil
	})
	if h.Value == "" {
		h.Value = value
	}
	r.Headers = append(r.Headers, h)
	return err
}

func (r *envoyRequest) readTime(t text) error {
	var seconds, nanos int64
	err := t.each(func(f field) error {
		switch f.integer {
		case 1:
			seconds = int64(f.varint)
		case 2:
			nanos = int64(int32(f.varint))
		}
		return nil
	})
	r.Time = time.Unix(seconds, nanos).UTC()
	return err
}

// readPair reads an entry of a map of strings.
func readPair(t text) (policies.Header, error) {
	var h policies.Header
	err := t.each(func(f field) error {
		switch f.number {
		case 1:
			h.Name = f.bytes.s
		case 2:
			h.Value = f.bytes.s
		}
		return nil
	})
	return h, err
}

// readPeer reads AttributeContext.Peer: its socket address and principal.
func readPeer(p *policies.Peer, t text) error {
	return t.each(func(f field) error {
		switch f.number {
		case 1:
			return f.bytes.each(func(f field) error {
				if f.number != 1 {
					return nil
				}
				return f.bytes.each(func(f field) error { return socketAddress(p, f) })
			})
		case 4:
			p.Principal = f.bytes.s
		}
		return nil
	})
}

// socketAddress reads a field of core.v3.SocketAddress.
func socketAddress(p *policies.Peer, f field) error {
	if f.number == 2 {
		p.Address = f.bytes.s
	}
	if f.integer == 3 {
		p.Port = uint32(f.varint)
	}
	return nil
}

// extension is the value of a context extension.
func (r *envoyRequest) extension(name string) string {
	for i := len(r.Extensions) - 1; i >= 0; i-- {
		if r.Extensions[i].Name == name {
			return r.Extensions[i].Value
		}
	}
	return ""
}
