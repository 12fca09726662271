package extauthz

import (
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse/policies"
)

func peer(address string, port uint32, principal string) *authv3.AttributeContext_Peer {
	return &authv3.AttributeContext_Peer{Principal: principal, Service: "s", Address: &corev3.Address{
		Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}},
	}}
}

func sample() *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer("192.0.2.1", 40000, "spiffe://a"), Destination: peer("192.0.2.2", 8080, ""),
		Request: &authv3.AttributeContext_Request{
			Time: &timestamppb.Timestamp{Seconds: 1_700_000_000, Nanos: 5},
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "7", Method: "POST", Path: "/p?q=1", Host: "a.test", Scheme: "https", Protocol: "HTTP/2",
				Size: -1, RawBody: []byte{0xff, 0}, Query: "ignored", HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
					{Key: "X-One", RawValue: []byte("1\xff")}, {Key: "x-one", RawValue: []byte("2")}, {Key: "text", Value: "v"}, {Key: "none"},
				}},
			},
		},
		ContextExtensions: map[string]string{"rev": "r", "route": "tasks"},
	}}
}

// generated is the same reading through the generated messages.
func generated(m *authv3.CheckRequest) *envoyRequest {
	a := m.GetAttributes()
	http := a.GetRequest().GetHttp()
	r := &envoyRequest{
		ID: http.GetId(), Method: http.GetMethod(), Path: http.GetPath(), Host: http.GetHost(), Scheme: http.GetScheme(),
		Protocol: http.GetProtocol(), Size: http.GetSize(), Body: http.GetRawBody(), RawHeaders: http.GetHeaderMap() != nil,
		Source: generatedPeer(a.GetSource()), Destination: generatedPeer(a.GetDestination()),
	}
	if t := a.GetRequest().GetTime(); t != nil {
		r.Time = time.Unix(t.GetSeconds(), int64(t.GetNanos())).UTC()
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		value := string(h.GetRawValue())
		if value == "" {
			value = h.GetValue()
		}
		r.Headers = append(r.Headers, policies.Header{Name: strings.ToLower(h.GetKey()), Value: value})
	}
	return r
}

func generatedPeer(p *authv3.AttributeContext_Peer) policies.Peer {
	a := p.GetAddress().GetSocketAddress()
	return policies.Peer{Address: a.GetAddress(), Port: a.GetPortValue(), Principal: p.GetPrincipal()}
}

func compare(t *testing.T, m *authv3.CheckRequest, got *envoyRequest) {
	t.Helper()
	want := generated(m)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(envoyRequest{}, "Extensions")); diff != "" {
		t.Fatalf("read otherwise than protobuf does (-want +got):\n%s", diff)
	}
	for name, value := range m.GetAttributes().GetContextExtensions() {
		if got.extension(name) != value {
			t.Fatalf("extension %q is %q, want %q", name, got.extension(name), value)
		}
	}
}

func TestReadRequest(t *testing.T) {
	t.Parallel()
	m := sample()
	message, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRequest(message)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, m, got)
	for n := range len(message) {
		if cut, err := readRequest(message[:n]); err == nil && proto.Unmarshal(message[:n], &authv3.CheckRequest{}) != nil {
			t.Fatalf("cut at %d of %d: read as %+v", n, len(message), cut)
		}
	}
}

// Whatever protobuf reads is read alike, whatever it refuses is no request.
// Only the text of strings is not checked: Envoy's paths and headers are bytes.
func FuzzReadRequest(f *testing.F) {
	message, err := proto.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x02, 0x20, 0x01}) // a message where an integer stands
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readRequest(b)
		m := &authv3.CheckRequest{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		if err != nil {
			t.Fatalf("protobuf reads %x, we do not: %v", b, err)
		}
		compare(t, m, got)
	})
}
