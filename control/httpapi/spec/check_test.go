package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/apierr"
)

func goodBody(t testing.TB) *Operation {
	t.Helper()
	ops, err := Parse(one(goodOperation, goodSchema))
	if err != nil {
		t.Fatal(err)
	}
	return &ops[0]
}

// brief is what is told of faults here: pointer and code.
func brief(faults []apierr.Field) []string {
	var out []string
	for _, f := range faults {
		out = append(out, f.Pointer+" "+f.Code)
	}
	return out
}

func TestCheckJSON(t *testing.T) {
	t.Parallel()
	s := goodBody(t).Body
	for _, tt := range []struct {
		name, body string
		want       []string
	}{
		{"good", `{"a":"ab","b":true,"e":"x","o":{"c/d":""}}`, nil},
		{"space around", " {\"a\":\"ab\"} \r\n\t", nil},
		{"escaped name", `{"\u0061":"ab"}`, nil},
		{"characters, not bytes", `{"a":"éééé"}`, []string{"/a pattern"}},
		{"no object", `[]`, []string{" type"}},
		{"null", `null`, []string{" type"}},
		{"null member", `{"a":null}`, []string{"/a type"}},
		{"unknown", `{"a":"ab","A":"ab"}`, []string{"/A unknown"}},
		{"unknown and deep", `{"a":"ab","z":{"y":[1,{"x":2}]}}`, []string{"/z unknown"}},
		{"twice", `{"a":"ab","a":"cd"}`, []string{"/a duplicate"}},
		{"twice, written otherwise", `{"a":"ab","\u0061":"cd"}`, []string{"/a duplicate"}},
		{"short", `{"a":"a"}`, []string{"/a too_short"}},
		{"long", `{"a":"abcde"}`, []string{"/a too_long"}},
		{"missing", `{}`, []string{"/a required"}},
		{"not in the list", `{"a":"ab","e":"z"}`, []string{"/e not_allowed"}},
		{"escaped pointer", `{"a":"ab","o":{"c/d":"xx"}}`, []string{"/o/c~1d too_long"}},
		{"too few", `{"a":"ab","o":{}}`, []string{"/o too_few"}},
		{"map", `{"a":"ab","m":{"x":"12","":""}}`, nil},
		{"map, name too long", `{"a":"ab","m":{"wxyz":"1","v":"1"}}`, []string{"/m/wxyz too_long"}},
		{"map, name of another form", `{"a":"ab","m":{"\u0000":"1"}}`, []string{"/m/\x00 pattern"}},
		{"map, value of another form", `{"a":"ab","m":{"x":"\u0000"}}`, []string{"/m/x pattern"}},
		{"map, too few", `{"a":"ab","m":{}}`, []string{"/m too_few"}},
		{"map, too many", `{"a":"ab","m":{"x":"","y":"","z":""}}`, []string{"/m too_many"}},
		{"map, twice", `{"a":"ab","m":{"x":"","x":""}}`, []string{"/m/x duplicate"}},
		{"map, long", `{"a":"ab","m":{"x":"123"}}`, []string{"/m/x too_long"}},
		{"map, other value", `{"a":"ab","m":{"x":{}}}`, []string{"/m/x type"}},
		{"list", `{"a":"ab","l":["x","y"]}`, nil},
		{"list of none", `{"a":"ab","l":[]}`, nil},
		{"list, too many", `{"a":"ab","l":["x","y","x"]}`, []string{"/l too_many"}},
		{"list, others", `{"a":"ab","l":["z",["x"]]}`, []string{"/l/0 not_allowed", "/l/1 type"}},
		{"list, no list", `{"a":"ab","l":"x"}`, []string{"/l type"}},
		{"all at once", `{"b":1,"e":true,"z":0,"o":{"q":1,"c/d":[]}}`,
			[]string{"/b type", "/e type", "/z unknown", "/o/q unknown", "/o/c~1d type", "/a required"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			faults, err := s.CheckJSON([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, brief(faults)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// TestIntegers: only what all readers take for the same number is one.
func TestIntegers(t *testing.T) {
	t.Parallel()
	ops, err := Parse(one(goodOperation, `{"type":"object","additionalProperties":false,"properties":{"n":{"type":"integer","minimum":-1,"maximum":9007199254740993}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{
		"0": nil, "-1": nil, "9007199254740993": nil,
		"-2": {"/n too_small"}, "9007199254740994": {"/n too_large"}, "9223372036854775808": {"/n type"},
		"1.5": {"/n type"}, "1.0": {"/n type"}, "1e2": {"/n type"}, "-0": {"/n type"}, "1e400": {"/n type"},
		`"1"`: {"/n type"}, "true": {"/n type"}, "null": {"/n type"}, "[1]": {"/n type"},
	} {
		faults, err := ops[0].Body.CheckJSON([]byte(`{"n":` + text + `}`))
		if diff := cmp.Diff(want, brief(faults)); diff != "" || err != nil {
			t.Errorf("%s: %v, faults (-want +got):\n%s", text, err, diff)
		}
	}
}

func TestCheckJSONMalformed(t *testing.T) {
	t.Parallel()
	s := goodBody(t).Body
	for name, body := range map[string]string{
		"empty": "", "space": " ", "cut": `{"a":"ab"`, "second value": `{"a":"ab"}{}`, "trailing text": `{"a":"ab"} x`,
		"comma": `{"a":"ab",}`, "bare": `{a:"ab"}`, "comment": `{"a":"ab"}//`, "byte order mark": "\ufeff{}",
		"not UTF-8": "{\"a\":\"a\xff\"}", "lone surrogate": `{"a":"\ud800"}`, "raw control": "{\"a\":\"a\x00\"}",
		"deep": strings.Repeat(`[`, maxValues) + strings.Repeat(`]`, maxValues), "wide": `[` + strings.Repeat(`1,`, maxValues) + `1]`,
		"fault, then malformed": `{"z":1,"a":}`,
	} {
		if faults, err := s.CheckJSON([]byte(body)); !errors.Is(err, ErrMalformed) || faults != nil {
			t.Errorf("%s: got %v, %v, want ErrMalformed", name, faults, err)
		}
	}
}

func TestCheckJSONIsBounded(t *testing.T) {
	t.Parallel()
	s := goodBody(t).Body
	var b bytes.Buffer
	b.WriteString(`{"a":"ab"`)
	for range 2 * MaxFaults {
		b.WriteString(`,"` + strings.Repeat("é", maxName) + `":0`)
	}
	b.WriteString(`}`)
	faults, err := s.CheckJSON(b.Bytes())
	if err != nil || len(faults) != MaxFaults {
		t.Fatalf("got %d faults, %v, want %d", len(faults), err, MaxFaults)
	}
	long, err := s.CheckJSON([]byte(`{"a":"ab","m":{"` + strings.Repeat("x", 2*maxName) + `":0}}`))
	if err != nil || len(long) != 1 || len(long[0].Pointer) != maxName+len("/m/") {
		t.Errorf("a long name of a map: %v, %v", long, err)
	}
	if n := len(faults[0].Pointer); n > maxName+1 {
		t.Errorf("a pointer has %d bytes, want at most %d", n, maxName+1)
	}
}

func TestCheckQuery(t *testing.T) {
	t.Parallel()
	op := goodBody(t)
	for query, want := range map[string][]string{
		"n=1":                    nil,
		"n=9":                    nil,
		"n=1&t=true":             nil,
		"n=1&t=false":            nil,
		"n=1&t=1":                {"/query/t type"},
		"n=1&t=True":             {"/query/t type"},
		"n=1&t=":                 {"/query/t type"},
		"":                       {"/query/n required"},
		"n=0":                    {"/query/n too_small"},
		"n=10":                   {"/query/n too_large"},
		"n=01":                   {"/query/n type"},
		"n=%2B1":                 {"/query/n type"},
		"n=1.0":                  {"/query/n type"},
		"n=":                     {"/query/n type"},
		"n=1&n=1":                {"/query/n duplicate"},
		"n=1&N=2&a/b":            {"/query/N unknown", "/query/a~1b unknown"},
		"n=99999999999999999999": {"/query/n type"},
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, brief(op.CheckQuery(values))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
}

// FuzzCheckJSON holds the check to never failing, and to taking only what
// decodes into exactly the members that it saw.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{
		`{"username":"ada","password":"a long enough password","role":"developer","tenant_id":"org1"}`,
		`{"username":"a","username":"b"}`, `{"role":null}`, `{`, `[]`, "\xff", `{"\u0000":1}`,
	} {
		f.Add([]byte(seed))
	}
	ops, err := Parse(apiv1.Spec())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, op := range ops {
			if op.Body == nil {
				continue
			}
			faults, err := op.Body.CheckJSON(body)
			if err != nil && !errors.Is(err, ErrMalformed) || len(faults) > MaxFaults {
				t.Fatalf("%s: %d faults, %v", op.ID, len(faults), err)
			}
			var v map[string]json.RawMessage
			if err == nil && len(faults) == 0 && json.Unmarshal(body, &v) != nil {
				t.Fatalf("%s: %q was taken and is no object", op.ID, body)
			}
			for name := range v {
				if op.Body.properties[name] == nil {
					t.Fatalf("%s: %q was taken with the unknown member %q", op.ID, body, name)
				}
			}
		}
	})
}
