package policies

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Limits of what a decision may carry.
const (
	maxDecisionItems = 64      // headers, parameters or names in one member
	maxDecisionText  = 8 << 10 // bytes of one header value, rule id or reason
	maxDecisionBody  = 64 << 10
)

// Class says how a decision came about. Every class but Decided is a denial.
type Class string

// The classes. Those from InputMalformed on are found before Rego runs.
const (
	Decided           Class = "decided"
	Undefined         Class = "policy_undefined"   // the entry point has no value for this input
	Failed            Class = "policy_error"       // Rego or a built-in failed
	NotBoolean        Class = "policy_not_boolean" // no boolean, and no object with a boolean allowed
	DecisionMalformed Class = "policy_malformed"   // a member of the decision is of the wrong type
	TimedOut          Class = "policy_timeout"
	Canceled          Class = "policy_canceled" // the caller gave up
	InputMalformed    Class = "input_malformed" // path or query don't decode
	BodyMissing       Class = "body_missing"
	BodyTruncated     Class = "body_truncated"
	BodyEncoded       Class = "body_encoded"
	BodyType          Class = "body_type"
	BodyMalformed     Class = "body_malformed"
)

// Classes lists all classes.
func Classes() []Class {
	return []Class{
		Decided, Undefined, Failed, NotBoolean, DecisionMalformed, TimedOut, Canceled,
		InputMalformed, BodyMissing, BodyTruncated, BodyEncoded, BodyType, BodyMalformed,
	}
}

// reason is the fixed sentence of a class that no policy wrote.
func (c Class) reason() string {
	switch c {
	case Undefined:
		return "the policy gives no decision for this request"
	case Failed:
		return "the policy failed"
	case NotBoolean:
		return "the policy's decision is neither a boolean nor an object with a boolean allowed"
	case DecisionMalformed:
		return "the policy's decision has a member of the wrong type"
	case TimedOut:
		return "the policy took too long"
	case Canceled:
		return "the request ended before the policy decided"
	case InputMalformed:
		return "the request's path or query can't be decoded"
	case BodyMissing:
		return "the policy needs the body, and it is missing"
	case BodyTruncated:
		return "the policy needs the body, and it is incomplete"
	case BodyEncoded:
		return "the policy needs the body, and it is compressed"
	case BodyType:
		return "the policy needs the body, and it is neither JSON nor a form"
	case BodyMalformed:
		return "the policy needs the body, and it can't be parsed"
	}
	panic(fmt.Sprintf("policies: class %q has no reason; it is Decided or a class that reason does not know", c))
}

// Decision is the answer to one request. It may be shared between requests:
// nobody writes to its maps and slices.
type Decision struct {
	Allowed bool
	Class   Class
	// RuleID and Reason are never empty. They are the policy's, or the entry
	// point and a plain sentence where it gives none, or of the Class.
	RuleID string
	Reason string
	// Cause is for the log only: what went wrong where Class is not Decided.
	Cause error

	// Obligations and DynamicMetadata hold JSON values, numbers as
	// json.Number; nil if there are none.
	Obligations     map[string]any
	DynamicMetadata map[string]any

	// HTTPStatus is that of a denial, 400 to 599; 0 leaves it to the caller.
	HTTPStatus int
	// Headers go upstream if Allowed, else to the client, sorted by name.
	Headers         []Header
	ResponseHeaders []Header // to the client of an allowed request
	RemoveHeaders   []string // from an allowed request
	SetQuery        []Header // of an allowed request
	RemoveQuery     []string // of an allowed request
	Body            string   // of a denial

	// Cached says that Rego did not run for this request.
	Cached bool
}

// denial is the decision of a class that no policy made.
func denial(class Class, cause error) Decision {
	return Decision{Class: class, RuleID: string(class), Reason: class.reason(), Cause: cause}
}

// decisionOf reads the entry point's value.
func decisionOf(entry string, value any) Decision {
	switch v := value.(type) {
	case bool:
		return (&Decision{Allowed: v}).decided(entry)
	case map[string]any:
		return objectDecision(entry, v)
	}
	return denial(NotBoolean, fmt.Errorf("the decision is a %T", value))
}

func objectDecision(entry string, members map[string]any) Decision {
	allowed, ok := members["allowed"].(bool)
	if !ok {
		return denial(NotBoolean, errors.New("member allowed is missing or not a boolean"))
	}
	r := memberReader{members: members}
	d := Decision{
		Allowed:         allowed,
		RuleID:          r.text("rule_id", maxDecisionText),
		Reason:          r.text("reason", maxDecisionText),
		Obligations:     r.object("obligations"),
		DynamicMetadata: r.object("dynamic_metadata"),
		HTTPStatus:      r.status(allowed),
		Headers:         r.headers("headers"),
		ResponseHeaders: r.headers("response_headers_to_add"),
		RemoveHeaders:   r.names("request_headers_to_remove"),
		SetQuery:        r.pairs("query_parameters_to_set"),
		RemoveQuery:     r.names("query_parameters_to_remove"),
		Body:            r.text("body", maxDecisionBody),
	}
	if r.err != nil {
		return denial(DecisionMalformed, r.err)
	}
	return d.decided(entry)
}

// decided completes a decision that the policy made.
func (d *Decision) decided(entry string) Decision {
	verb := "denied"
	if d.Allowed {
		verb = "allowed"
	}
	d.Class = Decided
	d.RuleID = cmp.Or(d.RuleID, entry)
	d.Reason = cmp.Or(d.Reason, verb+" by "+entry)
	return *d
}

// memberReader reads optional members of a decision and keeps the first error.
// A member that is absent reads as its zero value; members it is not asked for
// are ignored, as a package's document has its helper rules in it.
type memberReader struct {
	members map[string]any
	err     error
}

func (r *memberReader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("member %s: %s", name, fmt.Sprintf(format, args...))
	}
}

func (r *memberReader) text(name string, limit int) string {
	v, ok := r.members[name]
	if !ok {
		return ""
	}
	s, ok := v.(string)
	if !ok || len(s) > limit {
		r.fail(name, "not a string of at most %d bytes", limit)
		return ""
	}
	return s
}

func (r *memberReader) object(name string) map[string]any {
	v, ok := r.members[name]
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		r.fail(name, "a %T, not an object", v)
	}
	return m
}

// status reads http_status, which means something only in a denial: policies
// often carry one value for both.
func (r *memberReader) status(allowed bool) int {
	v, ok := r.members["http_status"]
	if !ok {
		return 0
	}
	num, _ := v.(json.Number)
	code, err := num.Int64()
	if err != nil {
		r.fail("http_status", "%v is not an integer", v)
		return 0
	}
	if allowed {
		return 0
	}
	if code < 400 || code > 599 {
		r.fail("http_status", "%d is not an error status", code)
	}
	return int(code)
}

func (r *memberReader) names(name string) []string {
	v, ok := r.members[name]
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok || len(list) > maxDecisionItems {
		r.fail(name, "not a list of at most %d strings", maxDecisionItems)
		return nil
	}
	names := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok || s == "" {
			r.fail(name, "%v is not a name", v)
		}
		names = append(names, s)
	}
	return names
}

// headers reads pairs that are fit to be header fields. Pseudo headers and what
// frames a message are refused: they would change the request that was judged.
func (r *memberReader) headers(name string) []Header {
	list := r.pairs(name)
	for i, h := range list {
		list[i].Name = strings.ToLower(h.Name)
		if !httpguts.ValidHeaderFieldName(h.Name) || !httpguts.ValidHeaderFieldValue(h.Value) || isFraming(list[i].Name) {
			r.fail(name, "%q can't be set", h.Name)
		}
	}
	return list
}

func isFraming(name string) bool {
	switch name {
	case "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer":
		return true
	}
	return false
}

// pairs reads an object, or a list of objects, of strings or lists of strings.
func (r *memberReader) pairs(name string) []Header {
	v, ok := r.members[name]
	if !ok {
		return nil
	}
	objects, ok := v.([]any)
	if !ok {
		objects = []any{v}
	}
	var pairs []Header
	for _, v := range objects {
		obj, ok := v.(map[string]any)
		if !ok {
			r.fail(name, "a %T, not an object", v)
		}
		for _, key := range slices.Sorted(maps.Keys(obj)) {
			pairs = r.appendPairs(pairs, name, key, obj[key])
		}
	}
	if len(pairs) > maxDecisionItems {
		r.fail(name, "more than %d values", maxDecisionItems)
	}
	return pairs
}

func (r *memberReader) appendPairs(pairs []Header, name, key string, value any) []Header {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, v := range list {
		s, ok := v.(string)
		if !ok || key == "" || len(s) > maxDecisionText {
			r.fail(name, "the value of %q is not a string of at most %d bytes", key, maxDecisionText)
		}
		pairs = append(pairs, Header{Name: key, Value: s})
	}
	return pairs
}
