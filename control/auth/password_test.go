package auth

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/apierr"
)

// cheap is a cost at which a hash takes no time to speak of.
func cheap() cost { return cost{memory: 64, passes: 1, lanes: 1} }

func mustHash(t testing.TB, h *Hasher, password string) string {
	t.Helper()
	phc, err := h.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return phc
}

func TestHasherComparesPasswords(t *testing.T) {
	t.Parallel()
	h := newHasher(cheap())
	stored := mustHash(t, h, "correct horse")
	for _, tt := range []struct {
		name, stored, password string
		want                   bool
	}{
		{"right", stored, "correct horse", true},
		{"wrong", stored, "correct horsf", false},
		{"empty", stored, "", false},
		{"nobody", "", "correct horse", false},
		{"nobody and nothing", "", "", false},
	} {
		before := h.Evaluations()
		v, err := h.compare(t.Context(), tt.stored, tt.password)
		if v.match != tt.want || err != nil {
			t.Errorf("%s: got %v and %v, want match %v", tt.name, v, err, tt.want)
		}
		if n := h.Evaluations() - before; n != 1 {
			t.Errorf("%s: %d hashes, want exactly one", tt.name, n)
		}
	}
}

func TestHashesAreSalted(t *testing.T) {
	t.Parallel()
	h := newHasher(cheap())
	if a, b := mustHash(t, h, "same"), mustHash(t, h, "same"); a == b {
		t.Error("one password has one hash")
	}
}

func TestProductCost(t *testing.T) {
	t.Parallel()
	phc := mustHash(t, NewHasher(), "x")
	if want := "$argon2id$v=19$m=47104,t=1,p=1$"; !strings.HasPrefix(phc, want) {
		t.Errorf("got %s, want it to begin with %s", phc, want)
	}
}

func TestStaleHashesAreNoticed(t *testing.T) {
	t.Parallel()
	old, now := newHasher(cost{memory: 128, passes: 2, lanes: 1}), newHasher(cheap())
	stored := mustHash(t, old, "p")
	for name, tt := range map[string]struct {
		h    *Hasher
		want verdict
	}{
		"under the old cost": {old, verdict{match: true}},
		"under the new cost": {now, verdict{match: true, stale: true}},
	} {
		if got, err := tt.h.compare(t.Context(), stored, "p"); got != tt.want || err != nil {
			t.Errorf("%s: got %+v and %v, want %+v", name, got, err, tt.want)
		}
	}
}

func TestRefusesForeignHashes(t *testing.T) {
	t.Parallel()
	h := newHasher(cheap())
	good := mustHash(t, h, "p")
	for name, stored := range map[string]string{
		"another algorithm": strings.Replace(good, "argon2id", "argon2i", 1),
		"another version":   strings.Replace(good, "v=19", "v=16", 1),
		"too much memory":   strings.Replace(good, "m=64", "m=4194304", 1),
		"overflow":          strings.Replace(good, "m=64", "m=42949672960", 1),
		"no passes":         strings.Replace(good, "t=1", "t=0", 1),
		"many passes":       strings.Replace(good, "t=1", "t=17", 1),
		"no lanes":          strings.Replace(good, "p=1", "p=0", 1),
		"leading zero":      strings.Replace(good, "m=64", "m=064", 1),
		"something behind":  good + "$",
		"padding":           good + "=",
		"no salt":           "$argon2id$v=19$m=64,t=1,p=1$$" + good[strings.LastIndex(good, "$")+1:],
		"no text":           "x",
		"long":              good + strings.Repeat("A", maxPHCBytes),
	} {
		if _, err := h.compare(t.Context(), stored, "p"); !errors.Is(err, errHash) {
			t.Errorf("%s: got %v, want errHash", name, err)
		}
	}
	if n := h.Evaluations(); n != 1 {
		t.Errorf("%d hashes, want the first only", n)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAA$AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parsePHC(s); err == nil && p.String() != s {
			t.Errorf("%q was read as %q", s, p.String())
		}
	})
}

// TestHashesAreBounded fills the slots, then the queue.
func TestHashesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(cheap())
		for range maxHashes {
			if err := h.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		errs := make([]error, maxWaiting)
		var wait sync.WaitGroup
		for i := range errs {
			wait.Go(func() { errs[i] = h.acquire(t.Context()) })
		}
		synctest.Wait()
		if err := h.acquire(t.Context()); !errors.Is(err, errBusy) || time.Since(start) != 0 {
			t.Errorf("with the queue full: got %v after %v, want errBusy at once", err, time.Since(start))
		}
		h.release()
		wait.Wait()
		if got := time.Since(start); got != hashWait {
			t.Errorf("waited %v, want %v", got, hashWait)
		}
		served := 0
		for _, err := range errs {
			if err == nil {
				served++
			} else if !errors.Is(err, errBusy) {
				t.Errorf("waiting: got %v, want errBusy", err)
			}
		}
		if served != 1 {
			t.Errorf("%d were served by the one slot that came free", served)
		}
		if len(h.waiting) != maxHashes || len(h.slots) != maxHashes {
			t.Errorf("%d in the queue and %d in slots are left, want %d each", len(h.waiting), len(h.slots), maxHashes)
		}
	})
}

func TestHashingEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(cheap())
		for range maxHashes {
			if err := h.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.HashNew(t.Context(), "ada", "long enough one"); apierr.From(err).Code() != apierr.AuthUnavailable {
			t.Errorf("no slot in time: got %v, want auth.unavailable", err)
		}
		if h.Evaluations() != 0 {
			t.Error("something was hashed")
		}
	})
}

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, password, want string }{
		{"a phrase", "correct horse battery staple", ""},
		{"shortest", "kT9#vbq2LzWe", ""},
		{"characters are counted, not bytes", "пароль-длинн", ""},
		{"longest", strings.Repeat("kT9#vbq2", 16), ""},
		{"a word among others", "my password is a whole sentence", ""},
		{"too short", "kT9#vbq2LzW", "at least 12"},
		{"too short, many bytes", "парольпарол", "at least 12"},
		{"too long", strings.Repeat("kT9#vbq2", 16) + "x", "at most 128"},
		{"no UTF-8", "kT9#vbq2LzWe\xff", "UTF-8"},
		{"repeated", strings.Repeat("a", 20), "repeated"},
		{"few characters", "abababababababab", "repeated"},
		{"sequence", "abcdefghijklmnop", "repeated"},
		{"backwards", "zyxwvutsrqpo", "repeated"},
		{"name", "ada.lovelace", "user name"},
		{"name and digits", "Ada.Lovelace2026", "user name"},
		{"common", "Password1234!", "common"},
		{"common, twice", "qwertyqwerty99", "common"},
		{"common, in leet", "P@ssw0rd2026", "common"},
	} {
		err := CheckPassword("ada.lovelace", tt.password)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: got %v, want none", tt.name, apierr.From(err).Body(""))
			}
			continue
		}
		e := apierr.From(err)
		body := string(e.Body(""))
		if e.Code() != apierr.ValidationInvalid || !strings.Contains(body, tt.want) || !strings.Contains(body, `"/password"`) || strings.Contains(body, tt.password) {
			t.Errorf("%s: got %s, want a fault at /password with %q", tt.name, body, tt.want)
		}
	}
}

func TestHashNewChecks(t *testing.T) {
	t.Parallel()
	h := newHasher(cheap())
	if _, err := h.HashNew(t.Context(), "ada", "short"); apierr.From(err).Code() != apierr.ValidationInvalid {
		t.Errorf("a short password: got %v", err)
	}
	phc, err := h.HashNew(t.Context(), "ada", "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := h.compare(t.Context(), phc, "correct horse battery"); !v.match || err != nil {
		t.Errorf("got %+v and %v", v, err)
	}
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Hash(b.Context(), "correct horse battery staple"); err != nil {
			b.Fatal(err)
		}
	}
}
