package token

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/tokentest"
)

func TestCachedTokenDiesWithItsDates(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, _, _ := newVerifier(t, is, nil)
	now := time.Unix(1_800_000_000, 0)
	raw := is.Mint(is.Claims(now, "developer", "acme"))
	end := now.Add(tokentest.Lifetime + Leeway)
	for _, c := range []struct {
		at   time.Time
		want Code
	}{
		{now, ""}, {end.Add(-time.Nanosecond), ""}, {end, Expired}, {end.Add(time.Hour), Expired},
		{now.Add(-Leeway), ""}, {now.Add(-Leeway - time.Nanosecond), Invalid},
	} {
		wantCode(t, v, c.at, raw, c.want)
	}
}

func TestCachedTokenDiesWithItsKey(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, keys, path := newVerifier(t, is, nil)
	now := time.Now()
	raw := is.Mint(is.Claims(now, "developer", "acme"))
	wantCode(t, v, now, raw, "")
	replaceFile(t, path, tokentest.JWKS(tokentest.NewKey(t, "EdDSA", is.Key.Kid)))
	wantCode(t, v, now, raw, "") // nobody has looked at the file
	keys.Reload()
	wantCode(t, v, now, raw, Invalid)
	replaceFile(t, path, is.JWKS())
	keys.Reload()
	wantCode(t, v, now, raw, "")
}

func TestOnlyGoodAndSmallTokensAreCached(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, _, _ := newVerifier(t, is, nil)
	now := time.Now()
	for _, c := range is.Cases(t, now) {
		if c.WantCode != "" {
			wantCode(t, v, now, c.Token, Code(c.WantCode))
		}
	}
	claims := is.Claims(now, "developer", "acme")
	claims["groups"] = strings.Repeat("g", maxCachedBytes*3/4)
	wantCode(t, v, now, is.Mint(claims), "")
	if n := v.cache.len(); n != 0 {
		t.Errorf("got %d entries, want none", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c, now := newCache(), time.Unix(1_800_000_000, 0)
	src := &source{}
	src.set.Store(&keySet{})
	add := func(n int) string {
		token := fmt.Sprintf("token-%016d", n)
		c.put(&entry{token: token, source: src, dates: dates{expires: now.Unix()}})
		return token
	}
	for n := range 3 * maxCached {
		token := add(n)
		if _, ok := c.get(now, token); !ok {
			t.Fatalf("%s is not found right after it was stored", token)
		}
	}
	if got := c.len(); got > maxCached || got < maxCached*9/10 {
		t.Errorf("got %d entries, want about %d and no more", got, maxCached)
	}
	for i := range c.shards {
		if s := &c.shards[i]; len(s.ring) != len(s.entries) {
			t.Errorf("shard %d: %d slots for %d entries", i, len(s.ring), len(s.entries))
		}
	}
	if _, ok := c.get(now, add(0)); !ok {
		t.Error("an old token cannot come back")
	}
}

// Two tokens that differ anywhere are two entries, their common tail regardless.
func TestCacheComparesWholeTokens(t *testing.T) {
	t.Parallel()
	c, now := newCache(), time.Unix(1_800_000_000, 0)
	src := &source{}
	src.set.Store(&keySet{})
	tail := strings.Repeat("s", 86)
	c.put(&entry{token: "a." + tail, source: src, dates: dates{expires: now.Unix()}})
	for _, other := range []string{"b." + tail, tail, "", "a." + tail + "s"} {
		if _, ok := c.get(now, other); ok {
			t.Errorf("%q is found", other)
		}
	}
}
