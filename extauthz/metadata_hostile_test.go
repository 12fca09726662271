package extauthz

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/policies"
)

// A policy that passes on what a client sent passes on bytes that are no text.
// They must not take the obligations of the same decision with them: the request
// would go on without.
func TestBytesDoNotFreeFromObligations(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]policies.Decision{
		"in the data":        {DynamicMetadata: map[string]any{"agent": "curl/\xff"}},
		"as a name":          {DynamicMetadata: map[string]any{"\xff": "x"}},
		"in an obligation":   {DynamicMetadata: map[string]any{"list": []any{map[string]any{"a": "\xff"}}}},
		"in a number's text": {DynamicMetadata: map[string]any{"n": json.Number("1e999\xff")}},
	} {
		d.Obligations = map[string]any{"max_output_tokens": json.Number("10"), "note": "\xff"}
		got := &structpb.Struct{}
		if err := proto.Unmarshal((&check{policy: d}).policyMetadata(nil), got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		o, err := policies.ReadLLMObligations(got.GetFields()["obligations"].GetStructValue().AsMap())
		if err != nil || o.MaxOutputTokens != 10 {
			t.Errorf("%s: obligations %+v, %v", name, o, err)
		}
	}
}
