package envoyconf

import (
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse/proxy/llm"
)

// reply is one kind of answer that Envoy makes on its own, in our format. The
// code and message are fixed: Envoy's own details name sockets and addresses.
type reply struct {
	when    *accesslogv3.AccessLogFilter
	status  uint32 // 0 keeps Envoy's
	code    string
	message string
}

// localReplies gives every reply that Envoy makes itself our error body. The
// first match wins, so the order is from cause to status.
func localReplies() *hcmv3.LocalReplyConfig {
	out := &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{ours()}}
	for _, format := range []llm.Format{llm.OpenAI, llm.Anthropic} {
		for _, r := range replies() {
			out.Mappers = append(out.Mappers, shaped(format, r))
		}
	}
	for _, r := range replies() {
		out.Mappers = append(out.Mappers, r.mapper(r.when, errorBody(r.code, r.message)))
	}
	return out
}

func (r reply) mapper(when *accesslogv3.AccessLogFilter, body *corev3.SubstitutionFormatString) *hcmv3.ResponseMapper {
	m := &hcmv3.ResponseMapper{Filter: when, BodyFormatOverride: body}
	if r.status != 0 {
		m.StatusCode = wrapperspb.UInt32(r.status)
	}
	return m
}

// shaped is a reply on a route of a language model: as its provider would say it,
// so that the provider's own clients show it, and don't repeat in vain.
func shaped(format llm.Format, r reply) *hcmv3.ResponseMapper {
	d := llm.Denial{Code: r.code, Message: r.message, RequestID: requestID}
	m := r.mapper(both(ofFormat(format), r.when), formBody(format, d))
	if d.NoRetry() {
		m.HeadersToAdd = []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: llm.ShouldRetry, Value: "false"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}
	}
	return m
}

func ofFormat(format llm.Format) *accesslogv3.AccessLogFilter {
	return details("xds.route_metadata.filter_metadata['" + MetadataNamespace + "']['" + keyFormat + "'] == '" + string(format) + "'")
}

func both(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: filters}}}
}

// formBody is a denial in a provider's form, as a format of Envoy's.
func formBody(format llm.Format, d llm.Denial) *corev3.SubstitutionFormatString {
	text, err := llm.AppendDenial(nil, format, d)
	body := &structpb.Struct{}
	if err == nil {
		err = protojson.Unmarshal(text, body)
	}
	if err != nil {
		panic("envoyconf: a denial is no JSON object: " + err.Error()) // of constants alone
	}
	return jsonBody(body)
}

// ours lets what Check and the Exchange answered pass as it is.
func ours() *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{
		Filter: details("response.code_details == 'ext_authz_denied' || response.code_details.startsWith('gatehouse_')"),
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: "%LOCAL_REPLY_BODY%"},
			}},
		},
	}
}

func replies() []reply {
	return []reply{
		// Without a route the guard is the first to refuse. All routes have names.
		{when: details("response.code_details.startsWith('rbac_access_denied') && !has(xds.route_name)"),
			status: 404, code: "resource.not_found", message: "no such resource"},
		{when: detailsBegin("ext_authz_error", "ext_proc", "spurious_message", "mismatch_between", "per-message_timeout", "rbac_access_denied"),
			status: 503, code: "policy.unavailable", message: "policy enforcement is unavailable"},
		{when: detailsBegin("upgrade_failed"), status: 426, code: "validation.upgrade", message: "protocol upgrades are not accepted"},
		{when: flags("UF", "UH", "UO", "NC", "UR", "UC", "LR", "URX", "UPE"),
			status: 503, code: "upstream.unavailable", message: "the upstream is unavailable"},
		{when: flags("UT", "SI", "DT", "UMSDR"), status: 504, code: "upstream.timeout", message: "the upstream did not answer in time"},
		{when: statusIs(404), code: "resource.not_found", message: "no such resource"},
		{when: statusIs(405), code: "validation.method_not_allowed", message: "the method is not allowed"},
		{when: statusIs(408), code: "validation.timeout", message: "the request was not received in time"},
		{when: statusIs(413), code: "validation.too_large", message: "the request body is too large"},
		{when: statusIs(415), code: "validation.unsupported_media_type", message: "the media type is not supported"},
		{when: statusIs(426), code: "validation.upgrade", message: "HTTP/1.1 or HTTP/2 is required"},
		{when: statusIs(431), code: "validation.too_large", message: "the request headers are too large"},
		{when: statusFrom(500), code: "internal.error", message: "internal error"},
		{when: statusFrom(400), code: "validation.malformed", message: "the request is malformed"},
	}
}

// errorBody is {error_code, message, request_id}. Two operators in one value
// make Envoy write "" where there is no request id yet; one alone would give null.
func errorBody(code, message string) *corev3.SubstitutionFormatString {
	return jsonBody(&structpb.Struct{Fields: map[string]*structpb.Value{
		"error_code": structpb.NewStringValue(code),
		"message":    structpb.NewStringValue(message),
		"request_id": structpb.NewStringValue(requestID),
	}})
}

// requestID is the request's id in a format of Envoy's.
const requestID = "%STREAM_ID%%REQ(x-gatehouse-none)%"

func jsonBody(body *structpb.Struct) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{
		OmitEmptyValues: true,
		ContentType:     "application/json",
		Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: body},
	}
}

func detailsBegin(prefixes ...string) *accesslogv3.AccessLogFilter {
	terms := make([]string, len(prefixes))
	for i, p := range prefixes {
		terms[i] = "response.code_details.startsWith('" + p + "')"
	}
	return details(strings.Join(terms, " || "))
}

func details(expression string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: pack(&celv3.ExpressionFilter{Expression: expression})},
		},
	}}
}

func flags(names ...string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: names},
	}}
}

func statusIs(code uint32) *accesslogv3.AccessLogFilter {
	return status(accesslogv3.ComparisonFilter_EQ, code, "gatehouse.local_reply.is")
}

func statusFrom(code uint32) *accesslogv3.AccessLogFilter {
	return status(accesslogv3.ComparisonFilter_GE, code, "gatehouse.local_reply.from")
}

// status compares with a runtime key that nothing sets: the API demands one.
func status(op accesslogv3.ComparisonFilter_Op, code uint32, key string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: code, RuntimeKey: key},
		}},
	}}
}
