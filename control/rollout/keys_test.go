package rollout

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/mesh"
	"gatehouse/internal/revision"
	"gatehouse/internal/seal"
)

// box opens what was sealed under two secrets of one repeated letter each; the
// second may be "".
func box(t *testing.T, current, previous string) *seal.Box {
	t.Helper()
	var old []byte
	if previous != "" {
		old = bytes.Repeat([]byte(previous), seal.MinSecretBytes)
	}
	b, err := seal.New(bytes.Repeat([]byte(current), seal.MinSecretBytes), old)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSettleMakesOneKey(t *testing.T) {
	t.Parallel()
	b, now := box(t, "s", ""), time.Unix(1, 0)
	keys, err := settle(b, nil, now)
	if err != nil || len(keys) != 1 || !keys[0].Active || !keys[0].Created.Equal(now) || !settled(b, keys) || settled(b, nil) {
		t.Fatalf("got %+v and %v, want one key that signs", keys, err)
	}
	again, err := settle(b, keys, now)
	if err != nil || len(again) != 1 || !bytes.Equal(again[0].Sealed, keys[0].Sealed) {
		t.Errorf("again: got %+v and %v, want the same", again, err)
	}
	r, err := newRing(b, keys)
	if err != nil || r.id != keys[0].ID || !r.private.Public().(ed25519.PublicKey).Equal(r.verifiers[r.id]) {
		t.Errorf("ring: got %+v and %v", r, err)
	}
	other, _ := settle(b, nil, now)
	if other[0].ID == keys[0].ID {
		t.Error("two keys have one id")
	}
}

func TestSettleSealsAnew(t *testing.T) {
	t.Parallel()
	keys, _ := settle(box(t, "o", ""), nil, time.Unix(1, 0))
	before := bytes.Clone(keys[0].Sealed)
	both := box(t, "n", "o")
	if settled(both, keys) {
		t.Error("a key under the previous secret is left so")
	}
	now, err := settle(both, keys, time.Unix(2, 0))
	if err != nil || len(now) != 1 || !bytes.Equal(keys[0].Sealed, before) {
		t.Fatalf("got %+v and %v", now, err)
	}
	if _, err := newRing(box(t, "n", ""), now); err != nil {
		t.Errorf("the previous secret can't go: %v", err)
	}
}

// TestKeyThatCantBeOpened is never replaced by a new one.
func TestKeyThatCantBeOpened(t *testing.T) {
	t.Parallel()
	b := box(t, "s", "")
	good, _ := settle(b, nil, time.Unix(1, 0))
	other, _ := settle(b, nil, time.Unix(1, 0))
	for name, change := range map[string]func(*Key){
		"under another secret":  func(k *Key) { k.Sealed = box(t, "x", "").Seal(purposeKey, []byte(k.ID), k.Sealed) },
		"for another purpose":   func(k *Key) { k.Sealed = b.Seal("token signing key", []byte(k.ID), make([]byte, 32)) },
		"moved to another id":   func(k *Key) { k.ID = other[0].ID },
		"another public half":   func(k *Key) { k.Public = other[0].Public },
		"of a wrong size":       func(k *Key) { k.Sealed = b.Seal(purposeKey, []byte(k.ID), make([]byte, 31)) },
		"sealed by nobody":      func(k *Key) { k.Sealed = nil },
		"with a byte too few":   func(k *Key) { k.Sealed = k.Sealed[:len(k.Sealed)-1] },
		"with a changed letter": func(k *Key) { k.Sealed = slices.Concat(k.Sealed[:60], []byte{k.Sealed[60] ^ 1}, k.Sealed[61:]) },
	} {
		keys := slices.Clone(good)
		change(&keys[0])
		if _, err := newRing(b, keys); !errors.Is(err, errSealed) || !strings.Contains(err.Error(), "JWT_SECRET_PREVIOUS") {
			t.Errorf("%s: got %v", name, err)
		}
		if now, err := settle(b, keys, time.Unix(2, 0)); err == nil && !bytes.Equal(now[0].Sealed, keys[0].Sealed) || len(now) > 1 {
			t.Errorf("%s: was replaced by %+v", name, now)
		}
	}
	if _, err := newRing(b, nil); err == nil {
		t.Error("no key is a ring")
	}
}

// TestVerify changes each part of a stored revision.
func TestVerify(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	bundle := func(f revision.Files) []byte {
		b, err := revision.Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	id := revision.ID(files())
	good := Stored{
		Revision: mesh.Revision{PolicySet: "set", ID: id}, Bundle: bundle(files()), KeyID: "k",
		Signature: ed25519.Sign(private, statement("set", id)),
	}
	keys := revision.Keys{"k": public}
	if err := good.verify(keys); err != nil {
		t.Fatal(err)
	}
	activation := revision.Activation{PolicySet: "set", Generation: 1, Revision: id, Kind: revision.Activate}
	other := files("app.rego", goodRego+"\n")
	for name, tt := range map[string]struct {
		change func(*Stored)
		want   error
	}{
		"content":            {func(s *Stored) { s.Bundle = bundle(other) }, errContent},
		"no bundle":          {func(s *Stored) { s.Bundle = []byte("{") }, errContent},
		"content and id":     {func(s *Stored) { s.Bundle, s.ID = bundle(other), revision.ID(other) }, errSignature},
		"set":                {func(s *Stored) { s.PolicySet = "other" }, errSignature},
		"key":                {func(s *Stored) { s.KeyID = "unknown" }, errSignature},
		"signature":          {func(s *Stored) { s.Signature = make([]byte, 64) }, errSignature},
		"no signature":       {func(s *Stored) { s.Signature = nil }, errSignature},
		"an activation's":    {func(s *Stored) { s.Signature = activation.Sign("k", private).Signature }, errSignature},
		"cut between fields": {func(s *Stored) { s.Signature = ed25519.Sign(private, statement("set"+id[:1], id[1:])) }, errSignature},
	} {
		bad := good
		tt.change(&bad)
		if err := bad.verify(keys); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}
