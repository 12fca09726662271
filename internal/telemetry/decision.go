package telemetry

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/request"
)

// Limits of what one record holds; longer text is cut and ends in "…".
const (
	maxPath   = 2048 // bytes
	maxReason = 1024
	maxText   = 256
	maxLimits = 16
)

// Decision is what one Check decided, or the Exchange behind it.
type Decision struct {
	Time       time.Time
	DecisionID string // of its own, also for an Exchange: control keeps one record of an id
	RequestID  string
	Revision   string
	Route      string
	Listener   string // inbound or outbound
	Method     string
	Path       string // canonical, without query
	Principal  request.Principal
	Permission string
	Allowed    bool
	WouldDeny  bool   // observe let pass what enforce would refuse
	Mode       string // enforce or observe
	Class      string // class of the refusal, "" without one
	ErrorCode  string // "" unless denied, or would be
	RuleID     string
	Reason     string
	Limits     []string // names of the rate limits asked, at most 16 are kept
	Latency    time.Duration
	Exchange   *Exchange // nil for a Check
}

// Outcome is how one request ended, as Envoy's access log tells.
type Outcome struct {
	Time              time.Time // start of the request
	DecisionID        string
	RequestID         string
	Revision          string
	Route             string
	Status            int    // HTTP status, 0 when none was sent
	ResponseFlags     string // Envoy's short names, joined by commas
	CodeDetailsClass  string // the constant part of Envoy's response code details
	UpstreamReached   bool
	UpstreamBytesSent uint64 // on the wire, all attempts
	Bytes             uint64 // sent to the client, on the wire
	Duration          time.Duration
}

// appendJSON appends the record as one line.
func (d *Decision) appendJSON(b []byte) []byte {
	b = append(b, `{"kind":"decision"`...)
	b = appendTime(b, d.Time)
	b = appendText(b, "decision_id", d.DecisionID, maxText)
	b = appendText(b, "request_id", d.RequestID, maxText)
	b = appendText(b, "revision", d.Revision, maxText)
	b = appendText(b, "route", d.Route, maxText)
	b = appendText(b, "listener", d.Listener, maxText)
	b = appendText(b, "method", d.Method, maxText)
	b = appendText(b, "path", d.Path, maxPath)
	b = appendPrincipal(b, &d.Principal)
	b = appendText(b, "permission", d.Permission, maxText)
	b = appendBool(b, "allowed", d.Allowed)
	b = appendBool(b, "would_deny", d.WouldDeny)
	b = appendText(b, "mode", d.Mode, maxText)
	b = appendText(b, "class", d.Class, maxText)
	b = appendText(b, "error_code", d.ErrorCode, maxText)
	b = appendText(b, "rule_id", d.RuleID, maxText)
	b = appendText(b, "reason", d.Reason, maxReason)
	b = appendLimits(b, d.Limits)
	b = appendNumber(b, "latency_us", max(d.Latency.Microseconds(), 0))
	if d.Exchange != nil {
		b = d.Exchange.appendJSON(b)
	}
	return append(b, '}', '\n')
}

// appendJSON appends the record as one line.
func (o *Outcome) appendJSON(b []byte) []byte {
	b = append(b, `{"kind":"outcome"`...)
	b = appendTime(b, o.Time)
	b = appendText(b, "decision_id", o.DecisionID, maxText)
	b = appendText(b, "request_id", o.RequestID, maxText)
	b = appendText(b, "revision", o.Revision, maxText)
	b = appendText(b, "route", o.Route, maxText)
	b = appendNumber(b, "status", o.Status)
	b = appendText(b, "response_flags", o.ResponseFlags, maxText)
	b = appendText(b, "code_details_class", o.CodeDetailsClass, maxText)
	b = appendBool(b, "upstream_reached", o.UpstreamReached)
	b = appendNumber(b, "upstream_bytes_sent", o.UpstreamBytesSent)
	b = appendNumber(b, "bytes", o.Bytes)
	b = appendNumber(b, "duration_us", max(o.Duration.Microseconds(), 0))
	return append(b, '}', '\n')
}

// appendPrincipal leaves out what could be used as a credential or is of no
// use here: token id, run and expiry.
func appendPrincipal(b []byte, p *request.Principal) []byte {
	b = append(b, `,"principal":{"kind":`...)
	b = appendString(b, string(p.Kind), maxText)
	b = appendText(b, "issuer", p.Issuer, maxText)
	b = appendText(b, "subject", p.Subject, maxText)
	b = appendText(b, "tenant", p.Tenant, maxText)
	b = appendText(b, "project", p.Project, maxText)
	b = appendText(b, "agent", p.Agent, maxText)
	b = appendText(b, "role", string(p.Role), maxText)
	return append(b, '}')
}

func appendLimits(b []byte, limits []string) []byte {
	b = append(b, `,"limits":[`...)
	for i, name := range limits[:min(len(limits), maxLimits)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name, maxText)
	}
	return append(b, ']')
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, `,"time":"`...)
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

func appendText(b []byte, name, value string, limit int) []byte {
	return appendString(appendName(b, name), value, limit)
}

func appendBool(b []byte, name string, value bool) []byte {
	return strconv.AppendBool(appendName(b, name), value)
}

func appendNumber[N int | int64 | uint64](b []byte, name string, value N) []byte {
	b = appendName(b, name)
	if value < 0 {
		return strconv.AppendInt(b, int64(value), 10)
	}
	return strconv.AppendUint(b, uint64(value), 10)
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// appendString quotes s; control characters are escaped and invalid UTF-8 is
// replaced, which is all that the error would tell.
func appendString(b []byte, s string, limit int) []byte {
	b, _ = jsontext.AppendQuote(b, clip(s, limit))
	return b
}

// clip cuts s to at most limit bytes, at the start of a character.
func clip(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	cut := limit - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

// own replaces d's texts by a copy, one for all and no longer than a record
// keeps of them. They may be cut from Envoy's message, which with its body would
// stay in memory as long as the record waits. What no record has is dropped. The
// names of limits are the configuration's, and those of findings ours.
func (d *Decision) own() {
	p := &d.Principal
	p.Run, p.TokenID = "", ""
	texts := append(make([]ownText, 0, 24),
		ownText{&d.Path, maxPath}, ownText{&d.Reason, maxReason},
		short(&d.DecisionID), short(&d.RequestID), short(&d.Revision), short(&d.Route), short(&d.Listener), short(&d.Method),
		short(&d.Permission), short(&d.Mode), short(&d.Class), short(&d.ErrorCode), short(&d.RuleID),
		short((*string)(&p.Kind)), short(&p.Issuer), short(&p.Subject), short(&p.Tenant), short(&p.Project), short(&p.Agent),
		short((*string)(&p.Role)),
	)
	if d.Exchange != nil {
		x := new(*d.Exchange)
		x.Route, x.Class = "", "" // the record's own
		texts = append(texts, short(&x.Outcome), short(&x.CheckID), short(&x.Model), short(&x.Settled))
		d.Exchange = x
	}
	copyTexts(texts)
}

// ownText is a text to copy, and how many bytes of it are kept.
type ownText struct {
	text  *string
	limit int
}

func short(s *string) ownText { return ownText{s, maxText} }

func copyTexts(texts []ownText) {
	size := 0
	for _, t := range texts {
		size += min(len(*t.text), t.limit)
	}
	var b strings.Builder
	b.Grow(size)
	for _, t := range texts {
		start := b.Len()
		b.WriteString(clip(*t.text, t.limit))
		*t.text = b.String()[start:]
	}
}
