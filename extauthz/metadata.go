package extauthz

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/envoyconf"
)

// Fields of google.protobuf.Value.
const valueString, valueBool, valueStruct = 3, 4, 5

// metadata goes with the request through Envoy: to the guard, the Exchange
// and the access log. It is a google.protobuf.Struct on the wire.
func (c *check) metadata(allowed bool) []byte {
	b := make([]byte, 0, typicalMetadata)
	if allowed {
		b = c.policyMetadata(b)
		b = appendEntry(b, "principal", appendMessage(nil, valueStruct, c.principalStruct()))
		// INVARIANT: only here, for a route that locate found in its revision.
		b = appendEntry(b, envoyconf.KeyNoHold, appendVarint(nil, valueBool, 1))
	}
	// Ours come last: of a name that stands twice the last one counts, so no
	// policy can replace them.
	b = appendText(b, "decision_id", c.DecisionID)
	b = appendText(b, "route", c.Route)
	return appendText(b, "revision", c.Revision)
}

// typicalMetadata is the size of the metadata of an allowed request.
const typicalMetadata = 384

// policyMetadata is what the policy's decision wants to be passed on.
func (c *check) policyMetadata(b []byte) []byte {
	if len(c.policy.DynamicMetadata) == 0 && len(c.policy.Obligations) == 0 {
		return b
	}
	s := jsonStruct(c.policy.DynamicMetadata)
	if o := jsonStruct(c.policy.Obligations); len(o.GetFields()) > 0 {
		s.Fields["obligations"] = structpb.NewStructValue(o)
	}
	encoded, err := proto.Marshal(s)
	if err != nil {
		return b // text that is not UTF-8 can't travel; the request goes on without
	}
	return append(b, encoded...)
}

func (c *check) principalStruct() []byte {
	p := &c.Principal
	b := appendText(make([]byte, 0, 128), "kind", string(p.Kind))
	b = appendText(b, "role", string(p.Role))
	b = appendText(b, "subject", p.Subject)
	b = appendText(b, "tenant", p.Tenant)
	b = appendText(b, "project", p.Project)
	return appendText(b, "agent", p.Agent)
}

// appendText appends a member of a Struct, nothing for an empty text.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	value = strings.ToValidUTF8(value, "�")
	size := protowire.SizeBytes(len(value)) + 1
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(1+protowire.SizeBytes(len(name))+1+protowire.SizeBytes(size)))
	b = appendString(b, 1, name)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	return appendString(b, valueString, value)
}

// appendEntry appends a member of a Struct whose Value is encoded already.
func appendEntry(b []byte, name string, value []byte) []byte {
	return appendMessage(b, 1, appendMessage(appendString(nil, 1, name), 2, value))
}

// jsonStruct converts a decision's JSON object. A number that no float64
// holds becomes its text, never another number.
func jsonStruct(object map[string]any) *structpb.Struct {
	fields := make(map[string]*structpb.Value, len(object)+1)
	for k, v := range object {
		fields[k] = jsonValue(v)
	}
	return &structpb.Struct{Fields: fields}
}

func jsonValue(v any) *structpb.Value {
	switch v := v.(type) {
	case bool:
		return structpb.NewBoolValue(v)
	case string:
		return structpb.NewStringValue(v)
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
		return structpb.NewStringValue(n.String())
	}
	return structpb.NewNumberValue(f)
}
