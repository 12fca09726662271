package spec

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"

	apiv1 "gatehouse/api/v1"
)

// TestAgreesWithTheDocument compares the check with another reading of the
// document's schemas, over bodies near to what they ask for.
func TestAgreesWithTheDocument(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(apiv1.Spec())
	if err != nil {
		t.Fatal(err)
	}
	ops, err := Parse(apiv1.Spec())
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, op := range ops {
		if op.Body == nil {
			continue
		}
		compared++
		media := doc.Paths.Find(op.Path).GetOperation(op.Method).RequestBody.Value.Content["application/json"]
		schema := media.Schema.Value
		t.Run(op.ID, func(t *testing.T) {
			t.Parallel()
			taken, refused := 0, 0
			compare := func(t rapid.TB, body any) {
				text, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				faults, err := op.Body.CheckJSON(text)
				if err != nil {
					t.Fatal(err)
				}
				want := schema.VisitJSON(body, openapi3.EnableJSONSchema2020())
				if (want == nil) != (len(faults) == 0) {
					t.Fatalf("%s: the document says %v, the check %v", text, want, faults)
				}
				if want == nil {
					taken++
				} else {
					refused++
				}
			}
			compare(t, media.Example)
			if taken != 1 {
				t.Fatalf("the document's own example is refused: %v", media.Example)
			}
			rapid.Check(t, func(t *rapid.T) { compare(t, near(t, schema)) })
			if taken == 0 || refused == 0 {
				t.Errorf("%d bodies taken and %d refused: the comparison says nothing", taken, refused)
			}
		})
	}
	if compared < 10 {
		t.Errorf("%d bodies compared, want at least 10", compared)
	}
}

// near makes a body that is often right and otherwise nearly so.
func near(t *rapid.T, s *openapi3.Schema) any {
	if rapid.IntRange(0, 19).Draw(t, "other type") == 0 {
		return rapid.SampledFrom([]any{nil, true, 1.5, "text", []any{}, map[string]any{}}).Draw(t, "other")
	}
	if s.Type.Is("object") {
		return nearObject(t, s)
	}
	if s.Type.Is("boolean") {
		return rapid.Bool().Draw(t, "truth")
	}
	if s.Type.Is("integer") {
		return rapid.Int64Range(int64(*s.Min)-2, int64(*s.Max)+2).Draw(t, "number")
	}
	if s.Type.Is("array") {
		list := []any{}
		for range rapid.SampledFrom([]int{0, 1, 2, int(*s.MaxItems), int(*s.MaxItems) + 1}).Draw(t, "items") {
			list = append(list, near(t, s.Items.Value))
		}
		return list
	}
	return nearText(t, s)
}

func nearObject(t *rapid.T, s *openapi3.Schema) any {
	out := map[string]any{}
	required := map[string]bool{}
	for _, name := range s.Required {
		required[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		if (required[name] && rapid.IntRange(0, 19).Draw(t, "leave out") > 0) || (!required[name] && rapid.Bool().Draw(t, "give")) {
			out[name] = near(t, p.Value)
		}
	}
	if other := s.AdditionalProperties.Schema; other != nil {
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b.rego", "gatehouse.yaml", "a\x00", strings.Repeat("a", 600)}), 0, 3).Draw(t, "names") {
			out[name] = near(t, other.Value)
		}
	}
	if rapid.IntRange(0, 19).Draw(t, "add") == 0 {
		out[rapid.SampledFrom([]string{"", "extra", "Username", "role "}).Draw(t, "name")] = "x"
	}
	return out
}

func nearText(t *rapid.T, s *openapi3.Schema) string {
	wrong := rapid.IntRange(0, 7).Draw(t, "wrong") == 0
	if len(s.Enum) > 0 && !wrong {
		v, _ := rapid.SampledFrom(s.Enum).Draw(t, "enum").(string)
		return v
	}
	if len(s.Enum) > 0 {
		v, _ := rapid.SampledFrom(append([]any{"Admin", ""}, s.Enum...)).Draw(t, "enum").(string)
		return v
	}
	most := 140
	if s.MaxLength != nil {
		most = min(int(*s.MaxLength), most)
	}
	least := min(int(s.MinLength), most)
	if !wrong {
		return strings.Repeat("a", rapid.IntRange(least, most).Draw(t, "length"))
	}
	if rapid.Bool().Draw(t, "free") {
		return rapid.StringN(0, 140, -1).Draw(t, "text")
	}
	n := rapid.SampledFrom([]int{max(least-1, 0), least, min(least+3, most), most, most + 1}).Draw(t, "length")
	alphabet := rapid.SampledFrom([]string{"a", "a", "a0", "a-_", "é", "a\x7f", "A.", "a b", "a\x00"}).Draw(t, "alphabet")
	return rapid.StringOfN(rapid.RuneFrom([]rune(alphabet)), n, n, -1).Draw(t, "near")
}
