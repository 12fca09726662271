package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func secret(c byte) []byte { return bytes.Repeat([]byte{c}, MinSecretBytes) }

func newBox(t testing.TB, current, previous []byte) *Box {
	t.Helper()
	b, err := New(current, previous)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpensWhatItSealed(t *testing.T) {
	t.Parallel()
	b := newBox(t, secret('a'), nil)
	for _, n := range []int{0, 1, 32, 70000} {
		plain := bytes.Repeat([]byte{'x'}, n)
		sealed := b.Seal("p", []byte("row 1"), plain)
		if len(sealed) != n+Overhead {
			t.Errorf("%d bytes: sealed has %d, want %d", n, len(sealed), n+Overhead)
		}
		got, err := b.Open("p", []byte("row 1"), sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d bytes and %v", n, len(got), err)
		}
	}
}

func TestSealsDifferentlyEachTime(t *testing.T) {
	t.Parallel()
	b := newBox(t, secret('a'), nil)
	one, two := b.Seal("p", nil, []byte("same")), b.Seal("p", nil, []byte("same"))
	if bytes.Equal(one[1+idBytes:headerBytes], two[1+idBytes:headerBytes]) || bytes.Equal(one[headerBytes:], two[headerBytes:]) {
		t.Error("two records share their salt or ciphertext")
	}
}

func TestRefusesWhatIsNotExactlyIt(t *testing.T) {
	t.Parallel()
	b := newBox(t, secret('a'), nil)
	sealed := b.Seal("purpose", []byte("aad"), []byte("plain"))
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if got, err := b.Open("purpose", []byte("aad"), bad); !errors.Is(err, ErrOpen) || got != nil {
				t.Fatalf("bit %d of byte %d flipped: got %q, %v", bit, i, got, err)
			}
		}
		if _, err := b.Open("purpose", []byte("aad"), sealed[:i]); !errors.Is(err, ErrOpen) {
			t.Fatalf("cut to %d bytes: got %v", i, err)
		}
	}
	for _, tt := range []struct{ name, purpose, aad string }{
		{"another purpose", "other", "aad"},
		{"another context", "purpose", "aae"},
		{"no context", "purpose", ""},
		{"a byte moved from purpose to context", "purpos", "eaad"},
		{"a byte moved from context to purpose", "purposea", "ad"},
	} {
		if _, err := b.Open(tt.purpose, []byte(tt.aad), sealed); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: got %v, want ErrOpen", tt.name, err)
		}
	}
	if _, err := b.Open("purpose", []byte("aad"), append(bytes.Clone(sealed), 0)); !errors.Is(err, ErrOpen) {
		t.Errorf("a byte added: got %v, want ErrOpen", err)
	}
}

func TestSecretIsReplacedWithoutLoss(t *testing.T) {
	t.Parallel()
	old := newBox(t, secret('a'), nil)
	record := old.Seal("p", nil, []byte("x"))
	rotated := newBox(t, secret('b'), secret('a'))
	if got, err := rotated.Open("p", nil, record); err != nil || string(got) != "x" {
		t.Fatalf("under the previous secret: got %q, %v", got, err)
	}
	if !rotated.Stale(record) || old.Stale(record) {
		t.Error("a record is stale exactly if it is not under the current secret")
	}
	again := rotated.Seal("p", nil, []byte("x"))
	if rotated.Stale(again) {
		t.Error("a record sealed now is stale")
	}
	if _, err := old.Open("p", nil, again); !errors.Is(err, ErrOpen) {
		t.Errorf("the old secret opens what the new one sealed: %v", err)
	}
	if _, err := newBox(t, secret('b'), nil).Open("p", nil, record); !errors.Is(err, ErrOpen) {
		t.Errorf("opened without the previous secret: %v", err)
	}
}

func TestRefusesShortSecrets(t *testing.T) {
	t.Parallel()
	short := bytes.Repeat([]byte("s"), MinSecretBytes-1)
	for _, tt := range []struct {
		name              string
		current, previous []byte
		want              string
	}{
		{"none", nil, nil, "JWT_SECRET has 0 bytes"},
		{"short", short, nil, "openssl rand"},
		{"short previous", secret('a'), short, "JWT_SECRET_PREVIOUS has 31 bytes"},
		{"empty previous", secret('a'), []byte{}, "JWT_SECRET_PREVIOUS has 0 bytes"},
	} {
		_, err := New(tt.current, tt.previous)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sss") {
			t.Errorf("%s: got %v, want an error with %q and without the secret", tt.name, err, tt.want)
		}
	}
}

func TestMAC(t *testing.T) {
	t.Parallel()
	b := newBox(t, secret('a'), nil)
	if !bytes.Equal(b.MAC("p", []byte("m")), b.MAC("p", []byte("m"))) {
		t.Error("the same message has two MACs")
	}
	for name, other := range map[string][]byte{
		"purpose": b.MAC("q", []byte("m")),
		"message": b.MAC("p", []byte("n")),
		"secret":  newBox(t, secret('b'), nil).MAC("p", []byte("m")),
	} {
		if bytes.Equal(b.MAC("p", []byte("m")), other) || len(other) != 32 {
			t.Errorf("another %s: the MAC is the same, or has %d bytes", name, len(other))
		}
	}
}

func TestNeverPrintsItself(t *testing.T) {
	t.Parallel()
	b := newBox(t, secret('a'), secret('b'))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, b); got != "seal.Box(redacted)" {
			t.Errorf("%s: got %q", verb, got)
		}
	}
}

func FuzzOpen(f *testing.F) {
	b := newBox(f, secret('a'), secret('b'))
	f.Add("p", []byte("aad"), b.Seal("p", []byte("aad"), []byte("x")))
	f.Add("", []byte{}, []byte{})
	f.Add("p", []byte{}, bytes.Repeat([]byte{1}, Overhead))
	f.Fuzz(func(t *testing.T, purpose string, aad, sealed []byte) {
		_, _ = b.Open(purpose, aad, sealed) // must not panic
		_ = b.Stale(sealed)
		again := b.Seal(purpose, aad, sealed)
		if got, err := b.Open(purpose, aad, again); err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("did not come back: %v", err)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	box := newBox(b, secret('a'), nil)
	sealed := box.Seal("p", []byte("row"), make([]byte, 64))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := box.Open("p", []byte("row"), sealed); err != nil {
			b.Fatal(err)
		}
	}
}
