package token

import (
	"testing"
	"time"

	"gatehouse/internal/tokentest"
)

func TestCases(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, _, _ := newVerifier(t, is, nil)
	now := time.Now()
	cases := is.Cases(t, now)
	names, classes := map[string]bool{}, map[string]int{}
	for _, c := range cases {
		classes[c.Class]++
		if names[c.Class+c.Name] {
			t.Errorf("two cases %s %q", c.Class, c.Name)
		}
		names[c.Class+c.Name] = true
		t.Run(c.Class+"/"+c.Name, func(t *testing.T) {
			wantCode(t, v, now, c.Token, Code(c.WantCode))
			if got := v.Recognize(c.Token); got != c.Recognized {
				t.Errorf("Recognize: got %v, want %v", got, c.Recognized)
			}
		})
	}
	for _, class := range []string{tokentest.Algorithm, tokentest.Header, tokentest.Claims, tokentest.Encoding, tokentest.KeySet, tokentest.Control} {
		if classes[class] < 10 {
			t.Errorf("class %s: got %d cases, want 10 at least", class, classes[class])
		}
	}
	t.Log(len(cases), classes)
}
