package accesslog

import (
	"math"
	"strings"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse/internal/telemetry"
)

// checkNamespace is where Envoy keeps what Check said of a request.
const checkNamespace = "envoy.filters.http.ext_authz"

// maxClass bounds the constant part of the response code details, in bytes.
const maxClass = 64

// kind says what an entry is.
type kind int

const (
	malformed kind = iota // tells nothing: no common properties
	ignored               // of a request that has not ended, or of one attempt of it
	unrouted              // ended, but no route matched
	finished              // ended
)

// guardDenied is the hold guard's refusal. A request without a route meets it
// before the router can say that there is no route.
const guardDenied = "rbac_access_denied"

// outcome turns an entry into an outcome, valid when the kind is unrouted or
// finished. It copies no header, no path and no raw text. The proof that the
// upstream was not reached is that no byte went there: Envoy sums over all
// attempts, while upstream address and attempt count are set for connects that
// were refused, too.
func outcome(e *datav3.HTTPAccessLogEntry) (telemetry.Outcome, kind) {
	c, resp := e.GetCommonProperties(), e.GetResponse()
	if c == nil {
		return telemetry.Outcome{}, malformed
	}
	if !ended(c) {
		return telemetry.Outcome{}, ignored
	}
	said := c.GetMetadata().GetFilterMetadata()[checkNamespace].GetFields()
	o := telemetry.Outcome{
		Time:              instant(c.GetStartTime()),
		DecisionID:        said["decision_id"].GetStringValue(),
		RequestID:         e.GetRequest().GetRequestId(),
		Revision:          said["revision"].GetStringValue(),
		Route:             said["route"].GetStringValue(),
		Status:            int(min(resp.GetResponseCode().GetValue(), math.MaxInt32)),
		ResponseFlags:     flags(c.GetResponseFlags()),
		CodeDetailsClass:  detailsClass(resp.GetResponseCodeDetails()),
		UpstreamReached:   c.GetUpstreamWireBytesSent() > 0,
		UpstreamBytesSent: c.GetUpstreamWireBytesSent(),
		Bytes:             c.GetDownstreamWireBytesSent(),
		Duration:          duration(c),
	}
	if o.Route == "" {
		o.Route = c.GetRouteName()
	}
	if o.Route == "" && (c.GetResponseFlags().GetNoRouteFound() || strings.HasPrefix(o.CodeDetailsClass, guardDenied)) {
		return o, unrouted
	}
	return o, finished
}

// ended reports whether an entry is a request's last; Envoys before 1.26 and
// other loggers leave the type unset.
func ended(c *datav3.AccessLogCommon) bool {
	switch c.GetAccessLogType() {
	case datav3.AccessLogType_NotSet, datav3.AccessLogType_DownstreamEnd:
		return !c.GetIntermediateLogEntry()
	}
	return false
}

// instant is the zero time where ts is missing or out of range.
func instant(ts *timestamppb.Timestamp) time.Time {
	if ts == nil || !ts.IsValid() {
		return time.Time{}
	}
	return ts.AsTime()
}

// duration is how long the whole request took, 0 when the entry does not tell.
func duration(c *datav3.AccessLogCommon) time.Duration {
	for _, d := range []*durationpb.Duration{c.GetDuration(), c.GetTimeToLastDownstreamTxByte()} {
		if d != nil && d.IsValid() {
			return max(d.AsDuration(), 0)
		}
	}
	return 0
}

// detailsClass is the constant part of Envoy's response code details: what
// stands before the first brace, bracket or other free text.
func detailsClass(details string) string {
	end := strings.IndexFunc(details, func(r rune) bool {
		return r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if end < 0 {
		end = len(details)
	}
	return details[:min(end, maxClass)]
}

// flag is one response flag and Envoy's short name for it
// (configuration/observability/access_log, RESPONSE_FLAGS).
type flag struct {
	name string
	set  func(*datav3.ResponseFlags) bool
}

var flagNames = []flag{
	{"LH", (*datav3.ResponseFlags).GetFailedLocalHealthcheck},
	{"UH", (*datav3.ResponseFlags).GetNoHealthyUpstream},
	{"UT", (*datav3.ResponseFlags).GetUpstreamRequestTimeout},
	{"LR", (*datav3.ResponseFlags).GetLocalReset},
	{"UR", (*datav3.ResponseFlags).GetUpstreamRemoteReset},
	{"UF", (*datav3.ResponseFlags).GetUpstreamConnectionFailure},
	{"UC", (*datav3.ResponseFlags).GetUpstreamConnectionTermination},
	{"UO", (*datav3.ResponseFlags).GetUpstreamOverflow},
	{"NR", (*datav3.ResponseFlags).GetNoRouteFound},
	{"DI", (*datav3.ResponseFlags).GetDelayInjected},
	{"FI", (*datav3.ResponseFlags).GetFaultInjected},
	{"RL", (*datav3.ResponseFlags).GetRateLimited},
	{"UAEX", unauthorized},
	{"RLSE", (*datav3.ResponseFlags).GetRateLimitServiceError},
	{"DC", (*datav3.ResponseFlags).GetDownstreamConnectionTermination},
	{"URX", (*datav3.ResponseFlags).GetUpstreamRetryLimitExceeded},
	{"SI", (*datav3.ResponseFlags).GetStreamIdleTimeout},
	{"IH", (*datav3.ResponseFlags).GetInvalidEnvoyRequestHeaders},
	{"DPE", (*datav3.ResponseFlags).GetDownstreamProtocolError},
	{"UMSDR", (*datav3.ResponseFlags).GetUpstreamMaxStreamDurationReached},
	{"RFCF", (*datav3.ResponseFlags).GetResponseFromCacheFilter},
	{"NFCF", (*datav3.ResponseFlags).GetNoFilterConfigFound},
	{"DT", (*datav3.ResponseFlags).GetDurationTimeout},
	{"UPE", (*datav3.ResponseFlags).GetUpstreamProtocolError},
	{"NC", (*datav3.ResponseFlags).GetNoClusterFound},
	{"OM", (*datav3.ResponseFlags).GetOverloadManager},
	{"DF", (*datav3.ResponseFlags).GetDnsResolutionFailure},
	{"DR", (*datav3.ResponseFlags).GetDownstreamRemoteReset},
}

func unauthorized(f *datav3.ResponseFlags) bool { return f.GetUnauthorizedDetails() != nil }

// flags joins the short names of what is set by commas. None and one, which
// are nearly all, allocate nothing.
func flags(f *datav3.ResponseFlags) string {
	if f == nil {
		return ""
	}
	joined := ""
	for _, n := range flagNames {
		switch {
		case !n.set(f):
		case joined == "":
			joined = n.name
		default:
			joined += "," + n.name
		}
	}
	return joined
}
