package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/seal"
)

func newBox(t testing.TB, current, previous string) *seal.Box {
	t.Helper()
	var old []byte
	if previous != "" {
		old = bytes.Repeat([]byte(previous), 32)
	}
	b, err := seal.New(bytes.Repeat([]byte(current), 32), old)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) // never changed

// numbered makes keys k1, k2, ...
func numbered() func(time.Time) (SigningKey, error) {
	n := 0
	return func(now time.Time) (SigningKey, error) {
		n++
		return SigningKey{KID: fmt.Sprint("k", n), State: KeyNext, Created: now}, nil
	}
}

func states(keys []SigningKey) map[string]KeyState {
	out := map[string]KeyState{}
	for _, k := range keys {
		out[k.KID] = k.State
	}
	return out
}

// TestKeysLiveThroughTheirStates lets two keys follow each other.
func TestKeysLiveThroughTheirStates(t *testing.T) {
	t.Parallel()
	fresh := numbered()
	var keys []SigningKey
	for _, tt := range []struct {
		name  string
		after time.Duration // since the epoch
		hurry bool
		want  map[string]KeyState
		err   error
	}{
		{"first start", 0, false, map[string]KeyState{"k1": KeyActive, "k2": KeyNext}, nil},
		{"nothing to do", time.Hour, false, map[string]KeyState{"k1": KeyActive, "k2": KeyNext}, nil},
		{"a moment before its time", KeyLife - 1, false, map[string]KeyState{"k1": KeyActive, "k2": KeyNext}, nil},
		{"its time", KeyLife, false, map[string]KeyState{"k1": KeyRetiring, "k2": KeyActive, "k3": KeyNext}, nil},
		{"hurried too early", KeyLife + publishLead - 1, true, nil, errTooSoon},
		{"hurried", KeyLife + publishLead, true, map[string]KeyState{"k1": KeyRetiring, "k2": KeyRetiring, "k3": KeyActive, "k4": KeyNext}, nil},
		{"a moment before the first is out", KeyLife + retireAfter - 1, false, map[string]KeyState{"k1": KeyRetiring, "k2": KeyRetiring, "k3": KeyActive, "k4": KeyNext}, nil},
		{"the first is out", KeyLife + retireAfter, false, map[string]KeyState{"k1": KeyRetired, "k2": KeyRetiring, "k3": KeyActive, "k4": KeyNext}, nil},
		{"the clock goes back", 0, false, map[string]KeyState{"k1": KeyRetired, "k2": KeyRetiring, "k3": KeyActive, "k4": KeyNext}, nil},
	} {
		got, err := advance(keys, epoch.Add(tt.after), tt.hurry, fresh)
		if !errors.Is(err, tt.err) {
			t.Fatalf("%s: got error %v, want %v", tt.name, err, tt.err)
		}
		if err != nil {
			continue
		}
		keys = got
		if diff := cmp.Diff(tt.want, states(keys)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestLostActiveKeyIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	keys, err := advance([]SigningKey{{KID: "n", State: KeyNext, Created: epoch}}, epoch, false, numbered())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]KeyState{"n": KeyActive, "k1": KeyNext}, states(keys)); diff != "" {
		t.Error(diff)
	}
}

func TestAdvanceLeavesItsArgument(t *testing.T) {
	t.Parallel()
	old := []SigningKey{{KID: "a", State: KeyActive, Activated: epoch}, {KID: "n", State: KeyNext, Created: epoch}}
	if _, err := advance(old, epoch.Add(KeyLife), false, numbered()); err != nil {
		t.Fatal(err)
	}
	if old[0].State != KeyActive || old[1].State != KeyNext {
		t.Errorf("argument changed to %v", states(old))
	}
}

func TestNoKeyNoChange(t *testing.T) {
	t.Parallel()
	broken := errors.New("no randomness")
	none := func(time.Time) (SigningKey, error) { return SigningKey{}, broken }
	for name, keys := range map[string][]SigningKey{"first": nil, "next": {{KID: "a", State: KeyActive, Activated: epoch}}} {
		if got, err := advance(keys, epoch, false, none); !errors.Is(err, broken) || got != nil {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// TestNoTokenOutlivesItsKey checks the times against each other: whatever the
// caches hold, a token's key is published from before it is signed until after
// it is refused for its age.
func TestNoTokenOutlivesItsKey(t *testing.T) {
	t.Parallel()
	if publishLead < 2*jwksRefresh || ringRefresh+2*upkeepWithin+2*ringRetry >= maxRingAge {
		t.Errorf("a key signs %v after it is published, and rings are made each %v", publishLead, ringRefresh)
	}
	lastSigned := maxRingAge // after retiring
	if accepted := lastSigned + AccessTTL + time.Minute; retireAfter < accepted {
		t.Errorf("a token is accepted until %v after its key's end, which is unpublished after %v", accepted, retireAfter)
	}
}

func TestSealedKeys(t *testing.T) {
	t.Parallel()
	old := newBox(t, "a", "")
	k, err := newKey(old, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.open(newBox(t, "b", "")); err == nil || !strings.Contains(err.Error(), "JWT_SECRET_PREVIOUS") {
		t.Errorf("another secret: got %v", err)
	}
	moved := k
	moved.KID = "other"
	if _, err := moved.open(old); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a row under another's name: got %v", err)
	}
	foreign, err := newKey(old, epoch)
	if err != nil {
		t.Fatal(err)
	}
	swapped := k
	swapped.Public = foreign.Public
	if _, err := swapped.open(old); err == nil {
		t.Error("another's public half was taken")
	}
	short := k
	short.Sealed = old.Seal(purposeKey, []byte(k.KID), []byte("short"))
	if _, err := short.open(old); err == nil {
		t.Error("a short seed was taken")
	}
}

func TestReseal(t *testing.T) {
	t.Parallel()
	old, rotated := newBox(t, "a", ""), newBox(t, "b", "a")
	k, err := newKey(old, epoch)
	if err != nil {
		t.Fatal(err)
	}
	keys := []SigningKey{k, {KID: "gone", State: KeyRetired}}
	if err := reseal(rotated, keys); err != nil {
		t.Fatal(err)
	}
	if _, err := keys[0].open(newBox(t, "b", "")); err != nil {
		t.Errorf("without the previous secret: %v", err)
	}
	again := slices.Clone(keys[0].Sealed)
	if err := reseal(rotated, keys); err != nil || !bytes.Equal(again, keys[0].Sealed) {
		t.Errorf("sealed a second time, or %v", err)
	}
	if err := reseal(newBox(t, "c", ""), keys); err == nil {
		t.Error("a key that doesn't open was passed over")
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	box := newBox(t, "a", "")
	keys, err := advance(nil, epoch, false, func(at time.Time) (SigningKey, error) { return newKey(box, at) })
	if err != nil {
		t.Fatal(err)
	}
	keys = append(keys, SigningKey{KID: "gone", State: KeyRetired})
	r, err := newRing(keys, box, epoch)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(r.jwks, &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("key set %s: %v", r.jwks, err)
	}
	want := []string{"alg", "crv", "kid", "kty", "use", "x"}
	if got := slices.Sorted(maps.Keys(set.Keys[0])); !slices.Equal(got, want) {
		t.Errorf("a published key has %v, want %v", got, want)
	}
	slices.Reverse(keys)
	if other, err := newRing(keys, box, epoch); err != nil || !bytes.Equal(other.jwks, r.jwks) {
		t.Errorf("the order of rows changes the document: %v", err)
	}
	if !r.usable(epoch.Add(maxRingAge)) || r.usable(epoch.Add(maxRingAge+1)) || (*ring)(nil).usable(epoch) {
		t.Error("a ring is good for maxRingAge exactly")
	}
	if _, err := newRing(nil, box, epoch); !errors.Is(err, errNoActive) {
		t.Errorf("without keys: got %v", err)
	}
	if _, err := newRing(keys, newBox(t, "b", ""), epoch); err == nil {
		t.Error("a ring of keys that don't open")
	}
}

// TestClaimsAfterARevocation issues a token in the second of a revocation.
func TestClaimsAfterARevocation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		revoked time.Time
		want    int64 // iat, in seconds after the epoch
	}{
		{"none", time.Time{}, 0},
		{"long ago", epoch.Add(-time.Hour), 0},
		{"this second", epoch.Add(300 * time.Millisecond), 1},
		{"the second before", epoch.Add(-time.Millisecond), 0},
	} {
		c := claimsOf(Subject{Revoked: tt.revoked}, "i", "a", "id", epoch.Add(500*time.Millisecond))
		if got := c.IssuedAt - epoch.Unix(); got != tt.want || c.NotBefore != c.IssuedAt || c.Expires-c.IssuedAt != 600 {
			t.Errorf("%s: issued %d s after, valid %d to %d", tt.name, got, c.NotBefore, c.Expires)
		}
	}
}
