package policies

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gatehouse/internal/request"

	"github.com/google/go-cmp/cmp"
)

func TestCachedDecisionEqualsTheFirst(t *testing.T) {
	t.Parallel()
	e := shippedEngine(t)
	for _, role := range request.Roles() {
		for _, permission := range append(request.Permissions(), "", "x.y") {
			in := typicalInput()
			in.Principal.Role, in.Permission = role, permission
			first := e.Decide(t.Context(), in)
			second := e.Decide(t.Context(), in)
			if first.Cached || !second.Cached {
				t.Fatalf("%s %s: cached %v, then %v", role, permission, first.Cached, second.Cached)
			}
			second.Cached = false
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("%s %s (-first +second):\n%s", role, permission, diff)
			}
		}
	}
}

func TestOnlyDecisionsAreCached(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`input.permission == "nothing"`, `to_number(input.permission) == 1`} {
		e := compileText(t, "data.p.allow", cachePolicy("[permission]", body))
		for range 2 {
			if d := e.Decide(t.Context(), typicalInput()); d.Cached || d.Class == Decided {
				t.Errorf("%s: got %+v", body, d)
			}
		}
	}
}

func TestKeysHaveNoTwoMeanings(t *testing.T) {
	t.Parallel()
	key := cacheKey{fieldRole, fieldPermission, fieldRoute}
	values := []string{"", "a", "b", "ab", "\x01", "\x01a", "a\x01", "\x00", strings.Repeat("a", 200)}
	seen := map[string]string{}
	for _, role := range values {
		for _, permission := range values {
			for _, route := range values {
				in := &Input{Principal: request.Principal{Role: request.Role(role)}, Permission: permission, Route: route}
				k := string(key.append(nil, in))
				named := fmt.Sprintf("%q %q %q", role, permission, route)
				if other, ok := seen[k]; ok {
					t.Fatalf("%s and %s have one key", named, other)
				}
				seen[k] = named
			}
		}
	}
}

// Each field is read from the member of the document that its path names.
func TestFieldsAreTheDocumentsMembers(t *testing.T) {
	t.Parallel()
	for path, f := range cacheFields() {
		e := compileText(t, "data.p.allow", "package p\n\nallow := {\"allowed\": true, \"reason\": input."+path+"}\n")
		in := typicalInput()
		fillStrings(reflect.ValueOf(&in.Principal).Elem())
		if got := e.Decide(t.Context(), in); got.Reason != f.of(in) || got.Reason == "" {
			t.Errorf("%s: the document has %q, the key %q", path, got.Reason, f.of(in))
		}
	}
}

// fillStrings gives every string of a struct a value of its own.
func fillStrings(v reflect.Value) {
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.String {
			v.Field(i).SetString("value of " + v.Type().Field(i).Name)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache(cacheKey{fieldRoute})
	for i := range maxCached + 100 {
		c.put(fmt.Appendf(nil, "%d", i), &Decision{HTTPStatus: i})
	}
	if len(c.decisions) != maxCached {
		t.Errorf("%d decisions, want %d", len(c.decisions), maxCached)
	}
	if d := c.get(fmt.Appendf(nil, "%d", maxCached+99)); d == nil || d.HTTPStatus != maxCached+99 {
		t.Errorf("the newest: %+v", d)
	}
	long := []byte(strings.Repeat("a", maxCachedKey+1))
	c.put(long, &Decision{})
	if c.get(long) != nil {
		t.Error("a long key was kept")
	}
}

func TestLongValuesAreDecidedButNotKept(t *testing.T) {
	t.Parallel()
	e := shippedEngine(t)
	in := typicalInput()
	in.Route = strings.Repeat("r", maxCachedKey)
	for range 2 {
		if d := e.Decide(t.Context(), in); !d.Allowed || d.Cached {
			t.Errorf("got %+v", d)
		}
	}
}

func TestCacheHitAllocatesNothing(t *testing.T) {
	e, in, ctx := shippedEngine(t), typicalInput(), t.Context()
	e.Decide(ctx, in)
	if n := testing.AllocsPerRun(100, func() { e.Decide(ctx, in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
