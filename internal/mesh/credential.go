package mesh

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	"gatehouse/internal/revision"
)

// Credential is what registering a sidecar gives out: by what it proves itself,
// and the keys by which it knows the revisions that are meant for it. Its JSON
// is the sidecar's credential file.
type Credential struct {
	Secret string        `json:"credential"`
	Keys   []RevisionKey `json:"revision_keys"`
}

// RevisionKey is a public key of revisions.
type RevisionKey struct {
	ID     string            `json:"key_id"`
	Public ed25519.PublicKey `json:"public_key"` // 32 bytes, in base64
}

// maxCredentialFile bounds the bytes of a credential file.
const maxCredentialFile = 16 << 10

// ParseCredential reads a credential file. Its errors don't repeat what it holds.
func ParseCredential(text []byte) (Credential, error) {
	var c Credential
	if len(text) > maxCredentialFile || json.Unmarshal(text, &c) != nil {
		return Credential{}, errors.New("is no credential file; want the credential that registering the sidecar returned")
	}
	if c.Secret == "" || len(c.Keys) == 0 {
		return Credential{}, errors.New("holds no credential, or no revision_keys")
	}
	for _, k := range c.Keys {
		if k.ID == "" || len(k.Public) != ed25519.PublicKeySize {
			return Credential{}, fmt.Errorf("revision key %.64q is no Ed25519 key", k.ID)
		}
	}
	return c, nil
}

// Verifiers are the keys in the form that activations are verified with.
func (c Credential) Verifiers() revision.Keys {
	keys := revision.Keys{}
	for _, k := range c.Keys {
		keys[k.ID] = k.Public
	}
	return keys
}
