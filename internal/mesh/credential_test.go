package mesh_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/mesh"
)

func key(fill byte) ed25519.PublicKey {
	return bytes.Repeat([]byte{fill}, ed25519.PublicKeySize)
}

// What registering gives out is what the sidecar reads.
func TestCredentialFile(t *testing.T) {
	t.Parallel()
	want := mesh.Credential{Secret: "gs_secret", Keys: []mesh.RevisionKey{{ID: "k1", Public: key(1)}, {ID: "k2", Public: key(2)}}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := mesh.ParseCredential(text)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	keys := got.Verifiers()
	if len(keys) != 2 || !keys["k1"].Equal(key(1)) || !keys["k2"].Equal(key(2)) {
		t.Errorf("verifiers: %v", keys)
	}
}

// A file that is none is refused, and what it holds is not repeated: it may be
// the wrong secret.
func TestParseCredentialRefuses(t *testing.T) {
	t.Parallel()
	const secret = "gs_hunter2"
	good, err := json.Marshal(key(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":          "",
		"text":             secret,
		"a string":         `"` + secret + `"`,
		"a list":           `["` + secret + `"]`,
		"cut off":          `{"credential":"` + secret + `"`,
		"more behind":      fmt.Sprintf(`{"credential":%q,"revision_keys":[{"key_id":"k","public_key":%s}]} %s`, secret, good, secret),
		"no keys":          `{"credential":"` + secret + `"}`,
		"empty keys":       `{"credential":"` + secret + `","revision_keys":[]}`,
		"no credential":    fmt.Sprintf(`{"revision_keys":[{"key_id":"k","public_key":%s}],"token":%q}`, good, secret),
		"a key too short":  `{"credential":"` + secret + `","revision_keys":[{"key_id":"k","public_key":"AAAA"}]}`,
		"a key of nothing": `{"credential":"` + secret + `","revision_keys":[{"key_id":"k"}]}`,
		"a key not base64": `{"credential":"` + secret + `","revision_keys":[{"key_id":"k","public_key":"` + secret + `"}]}`,
		"a key unnamed":    fmt.Sprintf(`{"credential":%q,"revision_keys":[{"public_key":%s}]}`, secret, good),
		"a bad second key": fmt.Sprintf(`{"credential":%q,"revision_keys":[{"key_id":"a","public_key":%s},{"key_id":"b"}]}`, secret, good),
		"a number":         `{"credential":7,"revision_keys":"` + secret + `"}`,
		"too long":         fmt.Sprintf(`{"credential":%q,"revision_keys":[{"key_id":"k","public_key":%s}]}%s`, secret, good, strings.Repeat(" ", 16<<10)),
	} {
		c, err := mesh.ParseCredential([]byte(text))
		if err == nil || len(c.Keys) != 0 || c.Secret != "" {
			t.Errorf("%s: %v, %v", name, c, err)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error repeats the text: %v", name, err)
		}
	}
}

// FuzzParseCredential: no panic, and what is taken is whole.
func FuzzParseCredential(f *testing.F) {
	f.Add([]byte(`{"credential":"s","revision_keys":[{"key_id":"k","public_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}`))
	f.Add([]byte(`{"credential":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := mesh.ParseCredential(text)
		if err == nil && (c.Secret == "" || len(c.Verifiers()) == 0) {
			t.Errorf("taken: %v", c)
		}
	})
}
