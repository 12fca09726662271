package token

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestRecognize(t *testing.T) {
	t.Parallel()
	v := &Verifier{cache: newCache(), issuers: map[string]*issuer{testIss: {}, "https://two.example": {}}}
	for payload, want := range map[string]bool{
		`{"iss":"https://issuer.example"}`:                    true,
		`{"iss":"https://two.example"}`:                       true,
		`{"iss":"https://three.example"}`:                     false,
		`{"iss":"https://issuer.example/"}`:                   false,
		`{ "sub":"x" , "iss" : "https://issuer.example" }`:    true,
		"{\t\"iss\"\n:\r\"https://issuer.example\"}":          true,
		`{"ISS":"https://issuer.example"}`:                    true,
		"{\"i\u017fs\":\"https://issuer.example\"}":           true,
		`{"\u0069\u0053\u017f":"https:\/\/issuer.example"}`:   true,
		`{"iss":"x","iss":"https://issuer.example"}`:          true,
		`{"iss":"https://issuer.example","iss":"x"}`:          true,
		`{"iss":7,"Iss":"https://issuer.example"}`:            true,
		`{"iss":{"iss":1},"Iss":"https://issuer.example"}`:    true,
		`{"iss":["https://issuer.example"]}`:                  false,
		`{"act":{"iss":"https://issuer.example"}}`:            false,
		`{"act":{"iss":"https://issuer.example"}} x`:          true, // not JSON: any level counts
		`{"act":{"iss":"https://issuer.example"}`:             true,
		`"iss":"https://issuer.example"`:                      true,
		`{"a":"\"iss\":\"https://issuer.example\""}`:          false, // inside a value
		`{"a":"iss","b":"https://issuer.example"}`:            false,
		`{"a":"}","iss":"https://issuer.example"}`:            true,
		`{"a":"\\","iss":"https://issuer.example"}`:           true,
		"{\"a\":\"\xff\",\"iss\":\"https://issuer.example\"}": true,
		`[{"iss":"https://issuer.example"}]`:                  false,
		`{"issuer":"https://issuer.example"}`:                 false,
		`{"iss":"https://issuer.example`:                      true, // the value does not end
		`{"iss":`:                                             false, `{"iss"`: false, `{"iss`: false, `{"iss":"\`: false, `"`: false, ``: false,
	} {
		for _, part := range []string{
			base64.RawURLEncoding.EncodeToString([]byte(payload)), base64.URLEncoding.EncodeToString([]byte(payload)),
			base64.RawStdEncoding.EncodeToString([]byte(payload)), base64.StdEncoding.EncodeToString([]byte(payload)),
		} {
			if got := v.Recognize("h." + part + ".s"); got != want {
				t.Errorf("%s as %s: got %v, want %v", payload, part, got, want)
			}
		}
	}
}

func TestRecognizeShapes(t *testing.T) {
	t.Parallel()
	v := &Verifier{cache: newCache(), issuers: map[string]*issuer{testIss: {}}}
	part := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + testIss + `"}`))
	for value, want := range map[string]bool{
		"": false, "sk-ant-api03-abc": false, "AIzaSyA": false, part: false, "." + part: false, "." + part + ".": true,
		"a." + part + ".b.c": true, "a.b." + part: false, "a..b": false, "v1.public." + part: false,
		strings.Repeat("x", MaxTokenBytes): false, strings.Repeat("x", MaxTokenBytes+1): true,
	} {
		if got := v.Recognize(value); got != want {
			t.Errorf("%.60q: got %v, want %v", value, got, want)
		}
	}
}
