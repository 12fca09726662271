// Package seal encrypts small things at rest: signing keys, dead letters,
// provider keys. Each record has a key of its own, derived from the secret, a
// random salt and the purpose (HKDF-SHA256, RFC 5869), and is sealed by
// AES-256-GCM with the caller's context as associated data.
//
// It refuses secrets shorter than MinSecretBytes, and to open anything that was
// changed in any byte, moved to another context, or sealed for another purpose;
// it doesn't say which. The previous secret only opens, so that a secret is
// changed without downtime: Stale tells which records to seal again.
//
// A Box is immutable and safe for concurrent use.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// MinSecretBytes is the length of the shortest secret.
const MinSecretBytes = 32

// Overhead is how many bytes longer a record is than its plaintext.
const Overhead = headerBytes + tagBytes

// The layout of a record: format, key id, salt, ciphertext with tag.
const (
	format      = 1
	idBytes     = 8
	saltBytes   = 32
	headerBytes = 1 + idBytes + saltBytes
	tagBytes    = 16
	keyBytes    = 32
	nonceBytes  = 12
)

// Labels keep what is derived from a secret apart.
const (
	labelID     = "gatehouse/seal/1/id"
	labelRecord = "gatehouse/seal/1/record/"
	labelMAC    = "gatehouse/seal/1/mac/"
)

// ErrOpen is the one error of Open.
var ErrOpen = errors.New("sealed under another secret, for another purpose or context, or changed")

// Box seals under the current secret and opens under that or the previous one.
type Box struct {
	current  root
	previous *root // nil without one
}

// root is a secret after HKDF's extraction, and its public name.
type root struct {
	id  [idBytes]byte
	prk []byte
}

// New makes a Box. previous may be nil. A secret that is too short is an error
// that says how to make one; it never quotes the secret.
func New(current, previous []byte) (*Box, error) {
	c, err := newRoot("JWT_SECRET", current)
	if err != nil {
		return nil, err
	}
	b := &Box{current: c}
	if previous == nil {
		return b, nil
	}
	p, err := newRoot("JWT_SECRET_PREVIOUS", previous)
	if err != nil {
		return nil, err
	}
	b.previous = &p
	return b, nil
}

func newRoot(name string, secret []byte) (root, error) {
	if len(secret) < MinSecretBytes {
		return root{}, fmt.Errorf("%s has %d bytes, at least %d are needed: make one with `openssl rand -base64 48`", name, len(secret), MinSecretBytes)
	}
	prk, err := hkdf.Extract(sha256.New, secret, nil)
	if err != nil {
		return root{}, fmt.Errorf("%s: %w", name, err)
	}
	r := root{prk: prk}
	copy(r.id[:], r.expand(labelID, idBytes))
	return r, nil
}

// expand derives n bytes, at most 64, from the root.
func (r root) expand(info string, n int) []byte {
	b, err := hkdf.Expand(sha256.New, r.prk, info, n)
	if err != nil {
		panic("seal: " + err.Error()) // only a length over 255 hashes can be refused
	}
	return b
}

// cipher makes the record's cipher and nonce.
//
// INVARIANT: a salt is used once, so a key and its nonce are; both are derived,
// which leaves nothing to count.
func (r root) cipher(purpose string, salt []byte) (cipher.AEAD, []byte) {
	derived := r.expand(labelRecord+purpose+"\x00"+string(salt), keyBytes+nonceBytes)
	block, err := aes.NewCipher(derived[:keyBytes])
	if err != nil {
		panic("seal: " + err.Error()) // the key has the one right length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: " + err.Error()) // the block has the one right size
	}
	return aead, derived[keyBytes:]
}

// Seal encrypts plaintext. purpose says what kind of thing it is; aad binds it
// to its place, such as the id of its row, and may be empty. It allocates
// len(plaintext) + Overhead bytes: callers bound what they seal.
func (b *Box) Seal(purpose string, aad, plaintext []byte) []byte {
	out := make([]byte, headerBytes, headerBytes+len(plaintext)+tagBytes)
	out[0] = format
	copy(out[1:], b.current.id[:])
	salt := out[1+idBytes : headerBytes]
	rand.Read(salt) // never fails: crypto/rand ends the process instead
	aead, nonce := b.current.cipher(purpose, salt)
	return aead.Seal(out, nonce, plaintext, context(out[:headerBytes], purpose, aad))
}

// Open decrypts what Seal made with the same purpose and aad, or returns
// ErrOpen.
func (b *Box) Open(purpose string, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != format {
		return nil, ErrOpen
	}
	header, body := sealed[:headerBytes], sealed[headerBytes:]
	r, ok := b.root(header[1 : 1+idBytes])
	if !ok {
		return nil, ErrOpen
	}
	aead, nonce := r.cipher(purpose, header[1+idBytes:])
	plaintext, err := aead.Open(nil, nonce, body, context(header, purpose, aad))
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// Stale reports whether a record should be sealed again, because it is not
// under the current secret.
func (b *Box) Stale(sealed []byte) bool {
	return len(sealed) < Overhead || sealed[0] != format || string(sealed[1:1+idBytes]) != string(b.current.id[:])
}

func (b *Box) root(id []byte) (root, bool) {
	if string(id) == string(b.current.id[:]) {
		return b.current, true
	}
	if b.previous != nil && string(id) == string(b.previous.id[:]) {
		return *b.previous, true
	}
	return root{}, false
}

// context is what GCM authenticates beside the plaintext. The purpose's length
// stands before it, so that no two pairs of purpose and aad are the same bytes.
func context(header []byte, purpose string, aad []byte) []byte {
	out := make([]byte, 0, len(header)+8+len(purpose)+len(aad))
	out = append(out, header...)
	out = binary.BigEndian.AppendUint64(out, uint64(len(purpose)))
	out = append(out, purpose...)
	return append(out, aad...)
}

// MAC returns the HMAC-SHA256 of message under a key of that purpose, derived
// from the current secret. It changes with the secret.
func (b *Box) MAC(purpose string, message []byte) []byte {
	mac := hmac.New(sha256.New, b.current.expand(labelMAC+purpose, keyBytes))
	mac.Write(message)
	return mac.Sum(nil)
}

// Format writes a fixed text for every verb, so that no log can show a secret.
func (*Box) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("seal.Box(redacted)")) }
