package accesslog

import (
	"cmp"
	"math"
	"strings"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"gatehouse/internal/rawgrpc"
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

// readOutcome turns an entry in wire form into an outcome, valid when the kind
// is finished. Its strings are a copy, one for all: an outcome waits in a
// queue, and must not keep the whole message in memory. It takes over no
// header, no path and no raw text. The error is rawgrpc.ErrMessage.
func readOutcome(t rawgrpc.Text) (telemetry.Outcome, kind, error) {
	var e entry
	if err := t.Each(e.field); err != nil {
		return telemetry.Outcome{}, malformed, err
	}
	k := e.kind()
	if k != finished {
		return telemetry.Outcome{}, k, nil
	}
	o := e.outcome()
	own(&o.DecisionID, &o.RequestID, &o.Revision, &o.Route, &o.CodeDetailsClass)
	return o, finished, nil
}

// kind says what the entry is.
func (e *entry) kind() kind {
	switch {
	case !e.common:
		return malformed
	case !e.ended():
		return ignored
	case e.route() == "" && (e.flags.has(noRouteFound) || strings.HasPrefix(e.details, guardDenied)):
		return unrouted
	}
	return finished
}

// ended reports whether an entry is a request's last; Envoys before 1.26 and
// other loggers leave the type unset.
func (e *entry) ended() bool {
	switch e.logType {
	case datav3.AccessLogType_NotSet, datav3.AccessLogType_DownstreamEnd:
		return !e.intermediate
	}
	return false
}

// route is as Check names it, or else as Envoy does.
func (e *entry) route() string { return cmp.Or(e.check.route, e.routeName) }

// outcome is that of a finished request. The proof that the upstream was not
// reached is that no byte went there: Envoy sums over all attempts, while
// upstream address and attempt count are set for connects that were refused,
// too.
func (e *entry) outcome() telemetry.Outcome {
	return telemetry.Outcome{
		Time:              e.start.asTime(),
		DecisionID:        e.check.decisionID,
		RequestID:         e.requestID,
		Revision:          e.check.revision,
		Route:             e.route(),
		Status:            int(min(e.status, math.MaxInt32)),
		ResponseFlags:     e.flags.String(),
		CodeDetailsClass:  detailsClass(e.details),
		UpstreamReached:   e.sentUp > 0,
		UpstreamBytesSent: e.sentUp,
		Bytes:             e.sentDown,
		Duration:          e.took(),
	}
}

// took is how long the whole request took, 0 when the entry does not tell.
func (e *entry) took() time.Duration {
	if d, ok := e.duration.asDuration(); ok {
		return d
	}
	d, _ := e.lastByte.asDuration()
	return d
}

// own replaces strings by a copy of them, of one allocation.
func own(kept ...*string) {
	size := 0
	for _, s := range kept {
		size += len(*s)
	}
	var b strings.Builder
	b.Grow(size)
	for _, s := range kept {
		b.WriteString(*s)
	}
	all := b.String()
	for _, s := range kept {
		n := len(*s)
		*s, all = all[:n], all[n:]
	}
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
