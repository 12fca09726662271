package token

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
	"gatehouse/internal/tokentest"
)

const (
	testIss      = "https://issuer.example"
	testAudience = "gatehouse"
)

func newIssuerFor(t testing.TB, alg string) *tokentest.Issuer {
	t.Helper()
	return tokentest.NewIssuerWith(t, alg, "main", testIss, testAudience)
}

// writeFile puts a document into a new directory and returns its path.
func writeFile(t testing.TB, doc []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newVerifier returns a verifier of one issuer whose keys stand in a file.
// change may alter the issuer's configuration.
func newVerifier(t testing.TB, is *tokentest.Issuer, change func(*config.Issuer)) (*Verifier, *Keys, string) {
	t.Helper()
	path := writeFile(t, is.JWKS())
	c := is.Config(config.JWKS{File: path})
	if change != nil {
		change(&c)
	}
	keys := NewKeys(KeysOptions{})
	t.Cleanup(keys.Stop)
	v, err := NewVerifier([]config.Issuer{c}, keys, Options{})
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	t.Cleanup(v.Close)
	return v, keys, path
}

// codeOf returns the code of an error of Verify, "" for none.
func codeOf(t testing.TB, err error) Code {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error is a %T, want a *Error: %v", err, err)
	}
	if e.Cause == "" {
		t.Errorf("error %s has no cause", e.Code)
	}
	return e.Code
}

// wantCode verifies and compares the code; the principal must be empty unless
// the token is accepted.
func wantCode(t testing.TB, v *Verifier, now time.Time, raw string, want Code) {
	t.Helper()
	p, err := v.Verify(context.Background(), now, raw)
	if got := codeOf(t, err); got != want {
		t.Errorf("Verify: got %v, want code %q", err, want)
	}
	if (err != nil) != (p == request.Principal{}) {
		t.Errorf("Verify: error %v came with principal %+v", err, p)
	}
}

func claimsJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
