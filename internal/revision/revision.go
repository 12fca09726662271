// Package revision owns what a policy set is as a value: its files, the id that
// its content gives it, the bundle that carries it, and the signed activation
// that says it is in force.
//
// It refuses bundles that are too large or no set, and activations that the key
// did not sign. It is pure and safe for concurrent use; what a set means is for
// others.
package revision

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// ConfigFile is the configuration of a policy set; the rest of a set is Rego
// and data.json.
const ConfigFile = "gatehouse.yaml"

// Bounds of a policy set, and of one that travels.
const (
	MaxFiles     = 1000
	MaxFileBytes = 4 << 20
	MaxSetBytes  = 16 << 20
	MaxBundle    = 4 << 20 // bytes of a bundle: a bound of the message that carries it
	maxPath      = 512     // bytes
)

// Files is the text of a policy set by slash-separated path.
type Files map[string][]byte

// ID names a set by its content: the SHA-256 of its sorted paths and contents,
// each preceded by its length, in hex.
func ID(files Files) string {
	h := sha256.New()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		h.Write(field(nil, p))
		h.Write(field(nil, files[p]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// field appends a length and that many bytes, so that no two lists of fields
// have the same encoding.
func field[T string | []byte](b []byte, value T) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(value)))
	return append(b, value...)
}

// PartOfSet reports whether a path names a file of a policy set: the
// configuration at the top, Rego and data.json anywhere.
func PartOfSet(p string) bool {
	base := path.Base(p)
	return p == ConfigFile || base == "data.json" || strings.HasSuffix(base, ".rego")
}

// Encode makes the bundle of a set. The same set gives the same bytes.
func Encode(files Files) ([]byte, error) {
	if err := Check(files); err != nil {
		return nil, err
	}
	b, err := json.Marshal(files)
	if err == nil && len(b) > MaxBundle {
		err = fmt.Errorf("the set has a bundle of %d bytes, at most %d can be sent", len(b), MaxBundle)
	}
	return b, err
}

// Decode reads a bundle.
func Decode(bundle []byte) (Files, error) {
	if len(bundle) > MaxBundle {
		return nil, fmt.Errorf("a bundle of %d bytes; at most %d are read", len(bundle), MaxBundle)
	}
	var files Files
	if err := json.Unmarshal(bundle, &files); err != nil {
		return nil, fmt.Errorf("the bundle can't be read: %w", err)
	}
	return files, Check(files)
}

// ErrNoConfig says that files are no policy set.
var ErrNoConfig = errors.New("there is no " + ConfigFile)

// Check says whether files can be a policy set, by names and sizes alone.
func Check(files Files) error {
	if files[ConfigFile] == nil {
		return ErrNoConfig
	}
	if len(files) > MaxFiles {
		return fmt.Errorf("more than %d files", MaxFiles)
	}
	total := 0
	for p, text := range files {
		if !validPath(p) || !PartOfSet(p) {
			return fmt.Errorf("%.80q is no file of a policy set: %s, *.rego or data.json, by a relative path", p, ConfigFile)
		}
		if total += len(text); len(text) > MaxFileBytes || total > MaxSetBytes {
			return fmt.Errorf("%s: a file may have %d bytes, a set %d", p, MaxFileBytes, MaxSetBytes)
		}
	}
	return nil
}

func validPath(p string) bool {
	return len(p) <= maxPath && utf8.ValidString(p) && !strings.ContainsAny(p, "\\\x00") && path.IsAbs("/"+p) && path.Clean("/"+p) == "/"+p
}

// Kind says how a revision came into force.
type Kind string

// The kinds of an activation.
const (
	Activate Kind = "activate" // of one that was not in force before
	Rollback Kind = "rollback" // back to one that was
)

// Activation says that a revision of a policy set is in force. Generation
// begins at 1 and rises with each activation of the set, rollbacks included.
type Activation struct {
	PolicySet  string `json:"policy_set"`
	Generation int64  `json:"generation"`
	Revision   string `json:"revision"`
	Kind       Kind   `json:"kind"`
}

// Signed is an activation and the signature over it.
type Signed struct {
	Activation
	KeyID     string `json:"key_id"`
	Signature []byte `json:"signature"` // Ed25519 (RFC 8032)
}

// statement is what is signed. Its first word keeps the key's signatures apart
// from those over anything else.
func (a Activation) statement() []byte {
	b := field(nil, "gatehouse activation v1")
	b = field(b, a.PolicySet)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Generation))
	b = field(b, a.Revision)
	return field(b, string(a.Kind))
}

// Sign signs an activation.
func (a Activation) Sign(keyID string, key ed25519.PrivateKey) Signed {
	return Signed{Activation: a, KeyID: keyID, Signature: ed25519.Sign(key, a.statement())}
}

// Keys are the public keys that may sign, by id.
type Keys map[string]ed25519.PublicKey

// ErrSignature says that an activation is not signed by a known key, or is
// not what was signed.
var ErrSignature = errors.New("the activation is not signed by a known key")

// Verify checks the signature.
func (s Signed) Verify(keys Keys) error {
	key := keys[s.KeyID]
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, s.statement(), s.Signature) {
		return ErrSignature
	}
	return nil
}
