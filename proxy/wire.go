package proxy

import (
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	procconf "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/envoyconf"
)

// header returns the value of a header, "" where there is none. Envoy sends
// values as raw_value.
func header(m *corev3.HeaderMap, name string) string {
	for _, h := range m.GetHeaders() {
		if h.GetKey() != name {
			continue
		}
		if raw := h.GetRawValue(); len(raw) > 0 {
			return string(raw)
		}
		return h.GetValue()
	}
	return ""
}

// configured reports whether the stream works as the translator has it. Only the
// first message of a stream says so.
func configured(c *pb.ProtocolConfiguration) bool {
	return c.GetRequestBodyMode() == procconf.ProcessingMode_BUFFERED &&
		c.GetResponseBodyMode() == procconf.ProcessingMode_FULL_DUPLEX_STREAMED
}

// mutation is a change of headers.
type mutation struct {
	pb.HeaderMutation
}

// set replaces a header. Envoy reads raw_value in these replies; value would
// give an empty header.
func (m *mutation) set(name, value string) {
	m.SetHeaders = append(m.SetHeaders, &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	})
}

// removeAll removes every header of a map.
func (m *mutation) removeAll(all *corev3.HeaderMap) {
	for _, h := range all.GetHeaders() {
		m.RemoveHeaders = append(m.RemoveHeaders, h.GetKey())
	}
}

// confirmation is the metadata that the hold guard looks for.
func confirmation(value string) *structpb.Struct {
	held := &structpb.Struct{Fields: map[string]*structpb.Value{envoyconf.KeyHeld: structpb.NewStringValue(value)}}
	return &structpb.Struct{Fields: map[string]*structpb.Value{envoyconf.MetadataNamespace: structpb.NewStructValue(held)}}
}

func headersReply(m *mutation) *pb.HeadersResponse {
	if m == nil {
		return &pb.HeadersResponse{}
	}
	return &pb.HeadersResponse{Response: &pb.CommonResponse{HeaderMutation: &m.HeaderMutation}}
}

func requestHead(m *mutation) *pb.ProcessingResponse {
	return &pb.ProcessingResponse{Response: &pb.ProcessingResponse_RequestHeaders{RequestHeaders: headersReply(m)}}
}

func requestBody(m *mutation, body []byte) *pb.ProcessingResponse {
	return &pb.ProcessingResponse{Response: &pb.ProcessingResponse_RequestBody{RequestBody: &pb.BodyResponse{
		Response: &pb.CommonResponse{
			HeaderMutation: &m.HeaderMutation,
			BodyMutation:   &pb.BodyMutation{Mutation: &pb.BodyMutation_Body{Body: body}},
		},
	}}}
}

func responseHead(m *mutation) *pb.ProcessingResponse {
	return &pb.ProcessingResponse{Response: &pb.ProcessingResponse_ResponseHeaders{ResponseHeaders: headersReply(m)}}
}

func responseBody(body []byte, end bool) *pb.ProcessingResponse {
	return &pb.ProcessingResponse{Response: &pb.ProcessingResponse_ResponseBody{ResponseBody: &pb.BodyResponse{
		Response: &pb.CommonResponse{BodyMutation: &pb.BodyMutation{Mutation: &pb.BodyMutation_StreamedResponse{
			StreamedResponse: &pb.StreamedBodyResponse{Body: body, EndOfStream: end},
		}}},
	}}}
}

func responseTrailers(m *mutation) *pb.ProcessingResponse {
	return &pb.ProcessingResponse{Response: &pb.ProcessingResponse_ResponseTrailers{ResponseTrailers: &pb.TrailersResponse{HeaderMutation: &m.HeaderMutation}}}
}

// immediate replaces whatever Envoy would have answered. Its details begin with
// gatehouse_, by which Envoy's own mapping of replies leaves it alone.
func immediate(status int, m *mutation, body []byte, rule string) *pb.ProcessingResponse {
	return &pb.ProcessingResponse{Response: &pb.ProcessingResponse_ImmediateResponse{ImmediateResponse: &pb.ImmediateResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(status)},
		Headers: &m.HeaderMutation,
		Body:    body,
		Details: "gatehouse_" + rule,
	}}}
}

// Bits of response.flags (Envoy 1.40) of replies for which nothing was sent.
const (
	flagNoHealthy   = 1 << 1 // UH
	flagConnect     = 1 << 5 // UF
	flagOverflow    = 1 << 7 // UO
	flagNoRoute     = 1 << 8 // NR
	flagsNotReached = flagNoHealthy | flagConnect | flagOverflow | flagNoRoute
)

// origin is where a response comes from, as its attributes say.
type origin struct {
	upstream  bool // it says that it is the upstream's
	local     bool // Envoy's own
	unreached bool // and nothing went upstream
}

// originOf reads the attributes that come with a response's headers. Retries are
// off, so that one attempt is all there can be. Of what is not said nothing is
// believed: without a code a response is for the upstream's to explain, without a
// count it may have reached it.
func originOf(attributes map[string]*structpb.Struct) origin {
	f := attributes["envoy.filters.http.ext_proc"].GetFields()
	details := f["response.code_details"].GetStringValue()
	if details == "via_upstream" || details == "" {
		return origin{upstream: details != ""}
	}
	count, counted := f["upstream.request_attempt_count"]
	attempts, flags := count.GetNumberValue(), int64(f["response.flags"].GetNumberValue())
	return origin{local: true, unreached: counted && (attempts == 0 || attempts == 1 && flags&flagsNotReached != 0)}
}

// mediaType is the type of a content-type header, without parameters.
func mediaType(value string) string {
	kind, _, _ := strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// isUTF8 reports whether a content-type names no charset but UTF-8 and what it
// contains: in that everything here is read.
func isUTF8(contentType string) bool {
	for parameter := range strings.SplitSeq(strings.ToLower(contentType), ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.HasPrefix(strings.TrimSpace(name), "charset") {
			continue
		}
		switch strings.Trim(value, " \t\"'") {
		case "utf-8", "utf8", "us-ascii":
		default:
			return false
		}
	}
	return true
}

// isJSON accepts application/json and types built on it (RFC 6839).
func isJSON(kind string) bool {
	return kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}

// plain reports whether a content-encoding leaves the body as it is.
func plain(encoding string) bool {
	return encoding == "" || strings.EqualFold(strings.TrimSpace(encoding), "identity")
}

func number(n int) string { return strconv.Itoa(n) }
