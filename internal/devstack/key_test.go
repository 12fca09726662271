package devstack

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
	"gatehouse/internal/token"
)

// verifier verifies what the policy set of a data folder would accept.
func verifier(t *testing.T, keys string) *token.Verifier {
	t.Helper()
	all := token.NewKeys(token.KeysOptions{Log: slog.New(slog.DiscardHandler)})
	all.Start()
	t.Cleanup(all.Stop)
	v, err := token.NewVerifier([]config.Issuer{{
		Name: "dev", Issuer: Issuer, Audience: Audience, Algorithms: []string{"EdDSA"},
		JWKS: config.JWKS{File: filepath.Join(keys, jwksFile)}, Tenants: []string{"any", "*"}, Roles: []string{"any", "admin"},
		Claims: config.Claims{Role: "role", Tenant: "tenant_id", Project: "project_id", Agent: "agent_id", Run: "run_id"},
	}}, all, token.Options{})
	noError(t, err)
	t.Cleanup(v.Close)
	return v
}

// savedKey makes a data folder with a key and returns the folder and the key
// as it is read back.
func savedKey(t *testing.T) (string, *Key) {
	t.Helper()
	data := t.TempDir()
	noError(t, os.Mkdir(filepath.Join(data, "keys"), 0o700))
	made, err := NewKey("")
	noError(t, err)
	noError(t, saveKey(filepath.Join(data, "keys"), made))
	read, err := LoadKey(data)
	noError(t, err)
	if read.KeyID() == "" || read.KeyID() != made.KeyID() {
		t.Errorf("key id %q was read back as %q", made.KeyID(), read.KeyID())
	}
	return data, read
}

func TestTokensAreVerified(t *testing.T) {
	t.Parallel()
	data, key := savedKey(t)
	v := verifier(t, filepath.Join(data, "keys"))
	now := time.Now()
	raw, err := key.Mint(now, Claims{Subject: "alice", Role: "admin", Tenant: "*", Project: "p", Agent: "a", TTL: time.Minute})
	noError(t, err)
	got, err := v.Verify(t.Context(), now, raw)
	noError(t, err)
	if got.TokenID == "" {
		t.Error("the token has no id")
	}
	got.TokenID = ""
	want := request.Principal{
		Kind: request.KindToken, Issuer: "dev", Subject: "alice", Role: request.RoleAdmin,
		Tenant: "*", Project: "p", Agent: "a", Issued: time.Unix(now.Unix(), 0), Expires: time.Unix(now.Add(time.Minute).Unix(), 0),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("principal: -want +got\n%s", diff)
	}
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	data, key := savedKey(t)
	v := verifier(t, filepath.Join(data, "keys"))
	forger, err := NewKey(key.KeyID())
	noError(t, err)
	good := Claims{Subject: "alice", Role: "developer", Tenant: "org1"}
	expired := good
	expired.Expired = true
	tests := []struct {
		name string
		key  *Key
		c    Claims
		want token.Code
	}{
		{"expired", key, expired, token.Expired},
		{"forged", forger, good, token.Invalid},
		{"no tenant", key, Claims{Subject: "alice", Role: "developer"}, token.Invalid},
	}
	for _, tt := range tests {
		raw, err := tt.key.Mint(time.Now(), tt.c)
		noError(t, err)
		_, err = v.Verify(t.Context(), time.Now(), raw)
		if e, ok := errors.AsType[*token.Error](err); !ok || e.Code != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	_, err = key.Mint(time.Now(), Claims{TTL: time.Millisecond})
	wantError(t, err, "shorter than a second")
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	data, _ := savedKey(t)
	for name, want := range map[string]os.FileMode{keyFile: 0o600, jwksFile: 0o644} {
		info, err := os.Stat(filepath.Join(data, "keys", name))
		noError(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", name, info.Mode().Perm(), want)
		}
	}
	text, err := os.ReadFile(filepath.Join(data, "keys", jwksFile))
	noError(t, err)
	var set struct{ Keys []map[string]any }
	noError(t, json.Unmarshal(text, &set))
	if len(set.Keys) != 1 || set.Keys[0]["x"] == nil || set.Keys[0]["d"] != nil {
		t.Errorf("the key set is not one public key: %s", text)
	}
}

func TestUnusableKeys(t *testing.T) {
	t.Parallel()
	if _, err := LoadKey(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key: %v, want ErrNotExist", err)
	}
	for name, text := range map[string]string{
		"no JSON":    `key`,
		"public":     `{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
		"symmetric":  `{"kty":"oct","kid":"k","k":"AAAA"}`,
		"without id": `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}`,
	} {
		data := t.TempDir()
		noError(t, os.Mkdir(filepath.Join(data, "keys"), 0o700))
		noError(t, os.WriteFile(filepath.Join(data, "keys", keyFile), []byte(text), 0o600))
		if _, err := LoadKey(data); err == nil {
			t.Errorf("%s: was read as a key", name)
		}
	}
}
