package extauthz

import (
	"fmt"
	"strings"
	"time"

	"gatehouse/internal/rawgrpc"
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

// readRequest reads a CheckRequest. An error means that no decision can be
// made of it.
func readRequest(message rawgrpc.Message) (*envoyRequest, error) {
	r := &envoyRequest{}
	err := message.Text().Each(func(f rawgrpc.Field) error {
		if f.Number == 1 {
			return f.Text.Each(r.attribute)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check request: %w", err)
	}
	return r, nil
}

// attribute reads a field of AttributeContext.
func (r *envoyRequest) attribute(f rawgrpc.Field) error {
	switch f.Number {
	case 1:
		return readPeer(&r.Source, f.Text)
	case 2:
		return readPeer(&r.Destination, f.Text)
	case 4:
		return f.Text.Each(r.request)
	case 10:
		entry, err := readPair(f.Text)
		r.Extensions = append(r.Extensions, entry)
		return err
	}
	return nil
}

// request reads a field of AttributeContext.Request.
func (r *envoyRequest) request(f rawgrpc.Field) error {
	switch f.Number {
	case 1:
		return r.readTime(f.Text)
	case 2:
		return f.Text.Each(r.http)
	}
	return nil
}

// http reads a field of AttributeContext.HttpRequest.
func (r *envoyRequest) http(f rawgrpc.Field) error {
	if f.Integer == 9 {
		r.Size = int64(f.Varint)
	}
	switch f.Number {
	case 1:
		r.ID = f.Text.String()
	case 2:
		r.Method = f.Text.String()
	case 4:
		r.Path = f.Text.String()
	case 5:
		r.Host = f.Text.String()
	case 6:
		r.Scheme = f.Text.String()
	case 10:
		r.Protocol = f.Text.String()
	case 12:
		r.Body = f.Text.Bytes()
	case 13:
		r.RawHeaders = true
		if r.Headers == nil {
			r.Headers = make(headers, 0, typicalHeaders)
		}
		return f.Text.Each(r.header)
	}
	return nil
}

// typicalHeaders is what a request usually has, pseudo-headers included.
const typicalHeaders = 24

// header reads a field of core.v3.HeaderMap: a name, and a value that Envoy
// sends raw.
func (r *envoyRequest) header(f rawgrpc.Field) error {
	if f.Number != 1 {
		return nil
	}
	var h policies.Header
	var value string
	err := f.Text.Each(func(f rawgrpc.Field) error {
		switch f.Number {
		case 1:
			h.Name = strings.ToLower(f.Text.String())
		case 2:
			value = f.Text.String()
		case 3:
			h.Value = f.Text.String()
		}
		return nil
	})
	if h.Value == "" {
		h.Value = value
	}
	r.Headers = append(r.Headers, h)
	return err
}

func (r *envoyRequest) readTime(t rawgrpc.Text) error {
	var seconds, nanos int64
	err := t.Each(func(f rawgrpc.Field) error {
		switch f.Integer {
		case 1:
			seconds = int64(f.Varint)
		case 2:
			nanos = int64(int32(f.Varint))
		}
		return nil
	})
	r.Time = time.Unix(seconds, nanos).UTC()
	return err
}

// readPair reads an entry of a map of strings.
func readPair(t rawgrpc.Text) (policies.Header, error) {
	var h policies.Header
	err := t.Each(func(f rawgrpc.Field) error {
		switch f.Number {
		case 1:
			h.Name = f.Text.String()
		case 2:
			h.Value = f.Text.String()
		}
		return nil
	})
	return h, err
}

// readPeer reads AttributeContext.Peer: its socket address and principal.
func readPeer(p *policies.Peer, t rawgrpc.Text) error {
	return t.Each(func(f rawgrpc.Field) error {
		switch f.Number {
		case 1:
			return f.Text.Each(func(f rawgrpc.Field) error {
				if f.Number != 1 {
					return nil
				}
				return f.Text.Each(func(f rawgrpc.Field) error { return socketAddress(p, f) })
			})
		case 4:
			p.Principal = f.Text.String()
		}
		return nil
	})
}

// socketAddress reads a field of core.v3.SocketAddress.
func socketAddress(p *policies.Peer, f rawgrpc.Field) error {
	if f.Number == 2 {
		p.Address = f.Text.String()
	}
	if f.Integer == 3 {
		p.Port = uint32(f.Varint)
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
