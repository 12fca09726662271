package envoyconf

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	bodylimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/body_size_limit/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Bounds of the filters.
const (
	// CheckTimeout and MessageTimeout are how long Envoy waits for Check and
	// for one message of an Exchange before it refuses the request.
	CheckTimeout   = 500 * time.Millisecond
	MessageTimeout = 2 * time.Second

	// MaxBody is the largest request body of any route, MaxPlainBody that of
	// a route without an Exchange; bytes.
	MaxBody      = 16 << 20
	MaxPlainBody = 1 << 20
)

// filters is the chain that every request passes, in this order:
//
//	body limits  first: an over-limit body hangs behind a filter that waits
//	ext_authz    Check, on every route that is not exempt
//	ext_proc     the Exchange; off here, switched on by the routes that need it
//	hold guard   nothing goes on that Check or the Exchange did not let through
//	router
func filters() []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		httpFilter(filterBodyMax, &bodylimitv3.BodySizeLimit{MaxRequestBytes: wrapperspb.UInt64(MaxBody)}),
		httpFilter(filterBodyPlain, &bodylimitv3.BodySizeLimit{MaxRequestBytes: wrapperspb.UInt64(MaxPlainBody)}),
		httpFilter(filterAuthz, authz()),
		httpFilter(filterProc, processor()),
		httpFilter(filterGuard, guard()),
		httpFilter(filterRouter, &routerv3.Router{SuppressEnvoyHeaders: true}),
	}
}

// authz asks Check about every route. Bodies are packed as bytes here, because
// Envoy 1.40 reads that from the filter alone: as text, it would replace bytes
// that are not UTF-8, and policy would judge another body than the upstream
// gets. Each route says how much of a body Check waits for, most say none.
func authz() *authzv3.ExtAuthz {
	return &authzv3.ExtAuthz{
		WithRequestBody:     &authzv3.BufferSettings{MaxRequestBytes: MaxPlainBody, PackAsBytes: true},
		Services:            &authzv3.ExtAuthz_GrpcService{GrpcService: gateService(CheckTimeout)},
		TransportApiVersion: corev3.ApiVersion_V3,
		FailureModeAllow:    false,
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		EncodeRawHeaders:    true,
		ValidateMutations:   true,
		EmitClientSpan:      boolean(false),
	}
}

// processor is off by its base mode: with any phase on, Envoy would send its
// own replies to requests without a route through the Exchange as well.
func processor() *procv3.ExternalProcessor {
	return &procv3.ExternalProcessor{
		GrpcService:       gateService(0),
		FailureModeAllow:  false,
		StatusOnError:     &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		AllowModeOverride: false,
		MessageTimeout:    duration(MessageTimeout),
		ProcessingMode: &procv3.ProcessingMode{
			RequestHeaderMode:   procv3.ProcessingMode_SKIP,
			RequestBodyMode:     procv3.ProcessingMode_NONE,
			RequestTrailerMode:  procv3.ProcessingMode_SKIP,
			ResponseHeaderMode:  procv3.ProcessingMode_SKIP,
			ResponseBodyMode:    procv3.ProcessingMode_NONE,
			ResponseTrailerMode: procv3.ProcessingMode_SKIP,
		},
		MetadataOptions: &procv3.MetadataOptions{
			ForwardingNamespaces: &procv3.MetadataOptions_MetadataNamespaces{Untyped: []string{AuthzNamespace}},
			ReceivingNamespaces:  &procv3.MetadataOptions_MetadataNamespaces{Untyped: []string{MetadataNamespace}},
		},
		ResponseAttributes: []string{
			"request.id", "response.code", "response.code_details", "response.flags", "upstream.request_attempt_count",
		},
	}
}

// guard refuses whatever neither the Exchange (held) nor Check (nohold) nor an
// exempt route let through. Its rules stand in the filter itself.
//
// INVARIANT: no route carries a configuration of the guard. A mistyped, missing
// or switched-off configuration of another filter then refuses instead of opening.
func guard() *rbacv3.RBAC {
	return &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{
		Action: rbacconfigv3.RBAC_ALLOW,
		Policies: map[string]*rbacconfigv3.Policy{"held_nohold_or_exempt": {
			Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
			Principals: []*rbacconfigv3.Principal{
				metadataRule(rbacconfigv3.MetadataSource_DYNAMIC, MetadataNamespace, KeyHeld, present()),
				metadataRule(rbacconfigv3.MetadataSource_DYNAMIC, AuthzNamespace, KeyNoHold, present()),
				metadataRule(rbacconfigv3.MetadataSource_ROUTE, MetadataNamespace, KeyExempt, isTrue()),
			},
		}},
	}}
}

func metadataRule(source rbacconfigv3.MetadataSource, namespace, key string, value *matcherv3.ValueMatcher) *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_SourcedMetadata{
		SourcedMetadata: &rbacconfigv3.SourcedMetadata{
			MetadataSource: source,
			MetadataMatcher: &matcherv3.MetadataMatcher{
				Filter: namespace,
				Path: []*matcherv3.MetadataMatcher_PathSegment{{
					Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key},
				}},
				Value: value,
			},
		},
	}}
}

func present() *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}}
}

func isTrue() *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_BoolMatch{BoolMatch: true}}
}

func httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(m)}}
}

func networkFilter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(m)}}
}
