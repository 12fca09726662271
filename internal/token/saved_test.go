package token

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/tokentest"
)

// A restart without the key file, or with a broken one, verifies by the last
// good copy; what is read later replaces it.
func TestKeyFilesSurviveARestart(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(string) error{
		"gone":   os.Remove,
		"broken": func(p string) error { return os.WriteFile(p, []byte("{"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, dir := filepath.Join(t.TempDir(), "jwks.json"), filepath.Join(t.TempDir(), "keys")
			issuer := tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse")
			verify := func() error {
				keys := NewKeys(KeysOptions{Saved: dir})
				v, err := NewVerifier([]config.Issuer{issuer.Config(config.JWKS{File: file})}, keys, Options{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = v.Verify(t.Context(), time.Now(), issuer.Token("developer", "org1"))
				return err
			}
			if err := verify(); err == nil {
				t.Fatal("verified without any keys")
			}
			if err := os.WriteFile(file, issuer.JWKS(), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := verify(); err != nil {
				t.Fatal(err)
			}
			if err := spoil(file); err != nil {
				t.Fatal(err)
			}
			if err := verify(); err != nil {
				t.Errorf("after a restart: %v", err)
			}
			other := tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse")
			if err := os.WriteFile(file, other.JWKS(), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := verify(); err == nil {
				t.Error("the copy won over the file")
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v", e.Name(), info.Mode())
				}
			}
		})
	}
}
