package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	apiv1 "gatehouse/api/v1"
)

// one makes a document of one operation and one schema, Body.
func one(operation, schema string) []byte {
	return []byte(`{"security":[{"bearer":[]}],"paths":{"/a/{id}":{"post":` + operation +
		`}},"components":{"schemas":{"Body":` + schema + `},"parameters":{"ID":{"name":"id","in":"path","required":true,"schema":{"type":"string","maxLength":3,"pattern":"^[a-z/]*$"}}}}}`)
}

const (
	goodOperation = `{"operationId":"op","x-gatehouse-permission":"system.admin","x-gatehouse-tenancy":"all","x-gatehouse-limits":["role"],"responses":{"422":{}},
		"parameters":[{"$ref":"#/components/parameters/ID"},{"name":"n","in":"query","required":true,"schema":{"type":"integer","minimum":1,"maximum":9}},{"name":"t","in":"query","schema":{"type":"boolean"}}],
		"requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Body"}}}}}`
	goodSchema = `{"type":"object","additionalProperties":false,"required":["a"],"properties":{
		"a":{"type":"string","minLength":2,"maxLength":4,"pattern":"^[a-z]+$"},"b":{"type":"boolean"},"e":{"type":"string","enum":["x","y"]},"l":{"type":"array","maxItems":2,"items":{"type":"string","enum":["x","y"]}},
		"o":{"type":"object","additionalProperties":false,"minProperties":1,"properties":{"c/d":{"type":"string","maxLength":1,"pattern":"^[^\\x00]*$"}}},
		"m":{"type":"object","propertyNames":{"type":"string","maxLength":3,"pattern":"^[^\\x00]*$"},"additionalProperties":{"type":"string","maxLength":2,"pattern":"^[^\\x00]*$"},"minProperties":1,"maxProperties":2}}}`
)

func TestParse(t *testing.T) {
	t.Parallel()
	ops, err := Parse(one(goodOperation, goodSchema))
	if err != nil {
		t.Fatal(err)
	}
	op := ops[0]
	got := []any{op.ID, op.Method, op.Path, op.Pattern, op.Permission, op.Tenancy, op.Limits, op.Token}
	want := []any{"op", "POST", "/a/{id}", "POST /a/{id}", "system.admin", TenancyAll, []Limit{LimitRole}, TokenRequired}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operation (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"id": "x/y"}, op.PathValues("/a/x%2Fy")); diff != "" {
		t.Errorf("path values (-want +got):\n%s", diff)
	}
	if got := op.PathValues("/a/%zz"); len(got) != 0 {
		t.Errorf("a value that can't be unescaped: got %v, want none", got)
	}
}

func TestParseTokens(t *testing.T) {
	t.Parallel()
	for security, want := range map[string]Token{
		`[]`:                 TokenNone,
		`[{},{"bearer":[]}]`: TokenOptional,
		`[{"bearer":[]}]`:    TokenRequired,
	} {
		ops, err := Parse(one(strings.Replace(goodOperation, `{`, `{"security":`+security+`,`, 1), goodSchema))
		if err != nil || ops[0].Token != want {
			t.Errorf("security %s: got %v, %v, want %v", security, ops[0].Token, err, want)
		}
	}
}

func TestParseExtensions(t *testing.T) {
	t.Parallel()
	for add, want := range map[string]Operation{
		``:                                   {MaxBody: DefaultBody},
		`"x-gatehouse-body-limit":16777216,`: {MaxBody: LargestBody},
		`"x-gatehouse-bad-token":"ignored",`: {MaxBody: DefaultBody, Lenient: true},
	} {
		ops, err := Parse(one(strings.Replace(goodOperation, `{`, `{`+add, 1), goodSchema))
		if err != nil || ops[0].MaxBody != want.MaxBody || ops[0].Lenient != want.Lenient {
			t.Errorf("%s: got %+v, %v, want %+v", add, ops[0], err, want)
		}
	}
}

// TestParseRefuses holds Parse to refusing what would not be checked.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, operation, schema, want string }{
		{"no id", strings.Replace(goodOperation, `"op"`, `""`, 1), goodSchema, "no operationId"},
		{"no permission", strings.Replace(goodOperation, `"system.admin"`, `""`, 1), goodSchema, "x-gatehouse-permission"},
		{"unknown permission", strings.Replace(goodOperation, `system.admin`, `system.adnim`, 1), goodSchema, "x-gatehouse-permission"},
		{"no tenancy", strings.Replace(goodOperation, `"all"`, `""`, 1), goodSchema, "x-gatehouse-tenancy"},
		{"unknown limit", strings.Replace(goodOperation, `["role"]`, `["roll"]`, 1), goodSchema, "x-gatehouse-limits"},
		{"large body", strings.Replace(goodOperation, `{`, `{"x-gatehouse-body-limit":16777217,`, 1), goodSchema, "x-gatehouse-body-limit"},
		{"negative body", strings.Replace(goodOperation, `{`, `{"x-gatehouse-body-limit":-1,`, 1), goodSchema, "x-gatehouse-body-limit"},
		{"unknown word on tokens", strings.Replace(goodOperation, `{`, `{"x-gatehouse-bad-token":"taken",`, 1), goodSchema, "x-gatehouse-bad-token"},
		{"other body", strings.Replace(goodOperation, `application/json`, `text/plain`, 1), goodSchema, "required body"},
		{"optional body", strings.Replace(goodOperation, `"requestBody":{"required":true`, `"requestBody":{"required":false`, 1), goodSchema, "required body"},
		{"no 422", strings.Replace(goodOperation, `"422"`, `"421"`, 1), goodSchema, "can't answer 422"},
		{"cookie", strings.Replace(goodOperation, `"in":"query"`, `"in":"cookie"`, 1), goodSchema, `in "cookie"`},
		{"integer without bounds", strings.Replace(goodOperation, `"minimum":1,`, ``, 1), goodSchema, "minimum and maximum"},
		{"unknown keyword", goodOperation, `{"type":"string","maxLength":1,"not":{}}`, "unknown field"},
		{"unknown type", goodOperation, `{"type":"number"}`, `type "number"`},
		{"unbounded array", goodOperation, `{"type":"array","items":{"type":"boolean"}}`, "items and maxItems"},
		{"array of anything", goodOperation, `{"type":"array","maxItems":1}`, "items and maxItems"},
		{"array of what is not described", goodOperation, `{"type":"array","maxItems":1,"items":{"type":"string"}}`, "items: a string needs"},
		{"unchecked format", goodOperation, `{"type":"string","maxLength":1,"format":"uuid"}`, "format"},
		{"unbounded string", goodOperation, `{"type":"string"}`, "maxLength or enum"},
		{"open object", goodOperation, `{"type":"object"}`, "additionalProperties"},
		{"any object", goodOperation, `{"type":"object","additionalProperties":true,"maxProperties":2}`, "additionalProperties"},
		{"unbounded map", goodOperation, `{"type":"object","additionalProperties":{"type":"string","maxLength":1}}`, "maxProperties"},
		{"map of anything", goodOperation, `{"type":"object","propertyNames":{"type":"string","enum":["a"]},"additionalProperties":{},"maxProperties":2}`, `type ""`},
		{"map of any names", goodOperation, `{"type":"object","additionalProperties":{"type":"string","enum":["a"]},"maxProperties":2}`, "propertyNames"},
		{"map of names that are none", goodOperation, `{"type":"object","propertyNames":{"type":"boolean"},"additionalProperties":{"type":"string","enum":["a"]},"maxProperties":2}`, "propertyNames are strings"},
		{"any text", goodOperation, `{"type":"string","maxLength":1}`, "U+0000"},
		{"text with U+0000 inside", goodOperation, `{"type":"string","maxLength":9,"pattern":"^[a-z]"}`, "U+0000"},
		{"names with U+0000", goodOperation, `{"type":"object","propertyNames":{"type":"string","maxLength":1},"additionalProperties":{"type":"string","enum":["a"]},"maxProperties":2}`, "U+0000"},
		{"integer in a body without bounds", goodOperation, `{"type":"object","additionalProperties":false,"properties":{"n":{"type":"integer","minimum":1}}}`, "n: an integer needs"},
		{"required, not described", goodOperation, `{"type":"object","additionalProperties":false,"required":["z"]}`, "z is required"},
		{"bad pattern", goodOperation, `{"type":"string","maxLength":1,"pattern":"("}`, "missing closing"},
		{"endless", goodOperation, `{"$ref":"#/components/schemas/Body"}`, "nest deeper"},
		{"dangling", goodOperation, `{"$ref":"#/components/schemas/Other"}`, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse(one(tt.operation, tt.schema)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	for _, text := range []string{`{`, `{}`, `{"paths":{"/":{"get":[]}}}`} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("Parse(%s): no error", text)
		}
	}
}

func TestParseAPI(t *testing.T) {
	t.Parallel()
	ops, err := Parse(apiv1.Spec())
	if err != nil {
		t.Fatal(err)
	}
	patterns := map[string]bool{}
	for _, op := range ops {
		patterns[op.Pattern] = true
	}
	for _, want := range []string{"GET /{$}", "PATCH /api/v1/users/{user_id}", "POST /api/v1/auth/login"} {
		if !patterns[want] {
			t.Errorf("there is no %s", want)
		}
	}
}
