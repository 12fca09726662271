package revision

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func set(pairs ...string) Files {
	f := Files{}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = []byte(pairs[i+1])
	}
	return f
}

// Sets of other content have other ids, however their bytes are cut into
// paths and texts.
func TestIDTellsSetsApart(t *testing.T) {
	t.Parallel()
	sets := []Files{
		set(ConfigFile, "x"), set(ConfigFile, "xa.rego"), set(ConfigFile, "x", "a.rego", ""),
		set(ConfigFile, "", "a.rego", "x"), set(ConfigFile, "", "a.rego", "", "b.rego", "x"), set(ConfigFile, "", "a.regob.rego", "x"),
	}
	seen := map[string]int{}
	for i, s := range sets {
		id := ID(s)
		if j, ok := seen[id]; ok {
			t.Errorf("sets %d and %d have one id", i, j)
		}
		seen[id] = i
		bundle, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(bundle)
		if diff := cmp.Diff(s, back); diff != "" || err != nil || ID(back) != id {
			t.Errorf("set %d comes back as another: %v\n%s", i, err, diff)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", MaxFileBytes+1)
	for name, s := range map[string]Files{
		"nothing":   {},
		"no config": set("a.rego", ""),
		"other":     set(ConfigFile, "", "notes.txt", ""),
		"config in": set(ConfigFile, "", "sub/"+ConfigFile, ""),
		"parent":    set(ConfigFile, "", "../a.rego", ""),
		"absolute":  set(ConfigFile, "", "/a.rego", ""),
		"unclean":   set(ConfigFile, "", "a//b.rego", ""),
		"no UTF-8":  set(ConfigFile, "", "a\xff.rego", ""),
		"backslash": set(ConfigFile, "", `a\b.rego`, ""),
		"long":      set(ConfigFile, "", strings.Repeat("a", maxPath)+".rego", ""),
		"big":       set(ConfigFile, big),
	} {
		if _, err := Encode(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Encode(set(ConfigFile, big[:MaxFileBytes])); err == nil {
		t.Error("a bundle over its bound was made")
	}
	for _, bundle := range []string{"", "null", "[]", `{"a.rego":"eA=="}`, `{"gatehouse.yaml":1}`, strings.Repeat("x", MaxBundle+1)} {
		if _, err := Decode([]byte(bundle)); err == nil {
			t.Errorf("%.20q was read", bundle)
		}
	}
}

func TestVerifyRefusesAllThatWasNotSigned(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := Keys{"k": public, "other": other, "empty": nil}
	good := Activation{"web", 7, strings.Repeat("a", 64), Activate}.Sign("k", private)
	if err := good.Verify(keys); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Signed){
		"set":        func(s *Signed) { s.PolicySet = "we" },
		"generation": func(s *Signed) { s.Generation++ },
		"revision":   func(s *Signed) { s.Revision = strings.Repeat("b", 64) },
		"kind":       func(s *Signed) { s.Kind = Rollback },
		"key":        func(s *Signed) { s.KeyID = "other" },
		"no key":     func(s *Signed) { s.KeyID = "empty" },
		"unknown":    func(s *Signed) { s.KeyID = "" },
		"unsigned":   func(s *Signed) { s.Signature = nil },
		"cut":        func(s *Signed) { s.Signature = s.Signature[:63] },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Verify(keys); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
