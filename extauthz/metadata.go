package extauthz

import (
	"encoding/json"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/envoyconf"
)

// Fields of google.protobuf.Value.
const valueNumber, valueString, valueBool, valueStruct = 2, 3, 4, 5

// keyWithheld tells the Exchange that identity or policy would have refused a
// request which mode observe lets pass, so that it adds no credential.
const keyWithheld = "withheld"

// metadata goes with the request through Envoy: to the guard, the Exchange
// and the access log. It is a google.protobuf.Struct on the wire.
func (c *check) metadata(allowed bool) []byte {
	b := make([]byte, 0, typicalMetadata)
	if allowed {
		b = c.policyMetadata(b)
		var scratch [256]byte
		principal := c.principalStruct(scratch[:0])
		b = appendName(b, "principal", 1+protowire.SizeBytes(len(principal)))
		b = c.passage(appendMessage(b, valueStruct, principal))
	}
	// Ours come last: of a name that stands twice the last one counts, so no
	// policy can replace them.
	b = appendText(b, "decision_id", c.DecisionID)
	b = appendText(b, "route", c.Route)
	if c.route != nil {
		b = appendText(b, "shape", c.route.Shape)
	}
	return appendText(b, "revision", c.Revision)
}

// passage says who lets the request go on: this check, or the Exchange of an
// LLM route, once it holds.
func (c *check) passage(b []byte) []byte {
	if c.withheld {
		b = appendFlag(b, keyWithheld)
	}
	if c.route.LLM != nil {
		return b
	}
	// INVARIANT: only here, for a route that locate found in its revision.
	return appendFlag(b, envoyconf.KeyNoHold)
}

// typicalMetadata is the size of the metadata of an allowed request.
const typicalMetadata = 512

// policyMetadata is what the policy's decision wants to be passed on.
func (c *check) policyMetadata(b []byte) []byte {
	if len(c.policy.DynamicMetadata) == 0 && len(c.policy.Obligations) == 0 {
		return b
	}
	s := jsonStruct(c.policy.DynamicMetadata)
	// INVARIANT: what the guard and the Exchange obey, and is not always there,
	// comes from passage alone.
	delete(s.Fields, envoyconf.KeyNoHold)
	delete(s.Fields, keyWithheld)
	if o := jsonStruct(c.policy.Obligations); len(o.GetFields()) > 0 {
		s.Fields["obligations"] = structpb.NewStructValue(o)
	}
	// INVARIANT: jsonStruct made text of all strings, so nothing is left out: an
	// obligation that did not travel would not be met.
	encoded, _ := proto.Marshal(s)
	return append(b, encoded...)
}

// principalStruct is all that the Exchange must know of who calls: whom it
// charges, and what a revocation names.
func (c *check) principalStruct(b []byte) []byte {
	p := &c.Principal
	b = appendText(b, "kind", string(p.Kind))
	b = appendText(b, "role", string(p.Role))
	b = appendText(b, "issuer", p.Issuer)
	b = appendText(b, "subject", p.Subject)
	b = appendText(b, "tenant", p.Tenant)
	b = appendText(b, "project", p.Project)
	b = appendText(b, "agent", p.Agent)
	b = appendText(b, "run", p.Run)
	b = appendText(b, "token_id", p.TokenID)
	if p.Issued.IsZero() {
		return b
	}
	return appendNumber(b, "issued", float64(p.Issued.Unix()))
}

// appendText appends a member of a Struct, nothing for an empty text.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	value = validText(value)
	return appendString(appendName(b, name, 1+protowire.SizeBytes(len(value))), valueString, value)
}

// validText is what a string of a Struct may be.
func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// appendNumber appends a member with a number.
func appendNumber(b []byte, name string, value float64) []byte {
	b = appendName(b, name, 1+protowire.SizeFixed64())
	b = protowire.AppendTag(b, valueNumber, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(value))
}

// appendFlag appends a member that is true.
func appendFlag(b []byte, name string) []byte {
	return appendVarint(appendName(b, name, 2), valueBool, 1)
}

// appendName begins a member whose Value takes a number of bytes.
func appendName(b []byte, name string, size int) []byte {
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(1+protowire.SizeBytes(len(name))+1+protowire.SizeBytes(size)))
	b = appendString(b, 1, name)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(size))
}

// jsonStruct converts a decision's JSON object. A number that no float64
// holds becomes its text, never another number. Bytes that are no text, as a
// client may send them in a header, are replaced.
func jsonStruct(object map[string]any) *structpb.Struct {
	fields := make(map[string]*structpb.Value, len(object)+1)
	for k, v := range object {
		fields[validText(k)] = jsonValue(v)
	}
	return &structpb.Struct{Fields: fields}
}

func jsonValue(v any) *structpb.Value {
	switch v := v.(type) {
	case bool:
		return structpb.NewBoolValue(v)
	case string:
		return structpb.NewStringValue(validText(v))
	case json.Number:
		return numberValue(v)
	case []any:
		list := make([]*structpb.Value, len(v))
		for i := range v {
			list[i] = jsonValue(v[i])
		}
		return structpb.NewListValue(&structpb.ListValue{Values: list})
	case map[string]any:
		return structpb.NewStructValue(jsonStruct(v))
	}
	return structpb.NewNullValue()
}

func numberValue(n json.Number) *structpb.Value {
	f, err := n.Float64()
	if err != nil {
		return structpb.NewStringValue(validText(n.String()))
	}
	return structpb.NewNumberValue(f)
}
