package extauthz

import (
	"encoding/json"

	"google.golang.org/protobuf/types/known/structpb"
)

// jsonStruct converts a decision's JSON object; nil where it is empty. A
// number that no float64 holds becomes its text, never another number.
func jsonStruct(object map[string]any) *structpb.Struct {
	if len(object) == 0 {
		return nil
	}
	fields := make(map[string]*structpb.Value, len(object))
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
		return structpb.NewStructValue(&structpb.Struct{Fields: jsonStruct(v).GetFields()})
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
