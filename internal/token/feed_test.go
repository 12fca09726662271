package token

import (
	"context"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/tokentest"
)

// newFedVerifier returns a verifier of one issuer whose keys come from a feed.
func newFedVerifier(t testing.TB, is *tokentest.Issuer, feed *Feed) *Verifier {
	t.Helper()
	keys := NewKeys(KeysOptions{})
	t.Cleanup(keys.Stop)
	c := is.Config(config.JWKS{})
	v, err := NewVerifier([]config.Issuer{c}, keys, Options{Feeds: map[string]*Feed{c.Name: feed}})
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	t.Cleanup(v.Close)
	return v
}

func mintAt(is *tokentest.Issuer, now time.Time) string {
	return is.Mint(is.Claims(now, "developer", "org1"))
}

func TestFeedServesItsKeys(t *testing.T) {
	t.Parallel()
	is, now := newIssuerFor(t, "EdDSA"), time.Now()
	feed := NewFeed("", nil)
	v := newFedVerifier(t, is, feed)
	raw := mintAt(is, now)
	wantCode(t, v, now, raw, Unavailable)
	if err := feed.Replace(is.JWKS(), now); err != nil {
		t.Fatal(err)
	}
	wantCode(t, v, now, raw, "")
	other := newIssuerFor(t, "EdDSA")
	wantCode(t, v, now, mintAt(other, now), Invalid)
}

func TestFeedReplacesAsAWhole(t *testing.T) {
	t.Parallel()
	old, next, now := newIssuerFor(t, "EdDSA"), newIssuerFor(t, "EdDSA"), time.Now()
	feed := NewFeed("control", nil)
	v := newFedVerifier(t, old, feed)
	for _, doc := range [][]byte{old.JWKS(), next.JWKS()} {
		if err := feed.Replace(doc, now); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, v, now, mintAt(old, now), Invalid)
	wantCode(t, v, now, mintAt(next, now), "")
}

func TestFeedKeepsTheLastGoodSet(t *testing.T) {
	t.Parallel()
	is, now := newIssuerFor(t, "EdDSA"), time.Now()
	feed := NewFeed("control", nil)
	v := newFedVerifier(t, is, feed)
	doc := is.JWKS()
	if err := feed.Replace(doc, now); err != nil {
		t.Fatal(err)
	}
	clear(doc) // the caller's bytes are the caller's
	if err := feed.Replace([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`), now); err == nil {
		t.Error("a symmetric key was taken")
	}
	wantCode(t, v, now, mintAt(is, now), "")
}

func TestFeedKeysAge(t *testing.T) {
	t.Parallel()
	is, now := newIssuerFor(t, "EdDSA"), time.Now()
	feed := NewFeed("control", nil)
	v := newFedVerifier(t, is, feed)
	if err := feed.Replace(is.JWKS(), now); err != nil {
		t.Fatal(err)
	}
	late := now.Add(MaxKeyAge + time.Second)
	wantCode(t, v, late, mintAt(is, late), Unavailable)
	epoch := feed.s.set.Load().epoch
	if err := feed.Replace(is.JWKS(), late); err != nil {
		t.Fatal(err)
	}
	wantCode(t, v, late, mintAt(is, late), "")
	if got := feed.s.set.Load().epoch; got != epoch {
		t.Errorf("the same document made epoch %d of %d", got, epoch)
	}
}

// TestFeedOutlivesVerifiers closes one of two verifiers that share a feed.
func TestFeedOutlivesVerifiers(t *testing.T) {
	t.Parallel()
	is, now := newIssuerFor(t, "EdDSA"), time.Now()
	feed := NewFeed("control", nil)
	first, second := newFedVerifier(t, is, feed), newFedVerifier(t, is, feed)
	first.Close()
	if err := feed.Replace(is.JWKS(), now); err != nil {
		t.Fatal(err)
	}
	wantCode(t, second, now, mintAt(is, now), "")
}

func TestFeedExcludesOtherSources(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	for name, c := range map[string]config.Issuer{
		"a file":         is.Config(config.JWKS{File: writeFile(t, is.JWKS())}),
		"symmetric keys": symmetric(is.Config(config.JWKS{})),
	} {
		keys := NewKeys(KeysOptions{})
		defer keys.Stop()
		_, err := NewVerifier([]config.Issuer{c}, keys, Options{Feeds: map[string]*Feed{c.Name: NewFeed("x", nil)}})
		if err == nil || !strings.Contains(err.Error(), "feed") {
			t.Errorf("%s beside a feed: got %v", name, err)
		}
	}
}

func symmetric(c config.Issuer) config.Issuer {
	c.Symmetric, c.Algorithms = true, []string{hs256}
	return c
}

// TestFeedNeverWaits looks for a key that the feed doesn't have.
func TestFeedNeverWaits(t *testing.T) {
	t.Parallel()
	is, now := newIssuerFor(t, "EdDSA"), time.Now()
	feed := NewFeed("control", nil)
	if err := feed.Replace(is.JWKS(), now); err != nil {
		t.Fatal(err)
	}
	if feed.s.await(context.Background()) {
		t.Error("waited for a fetch that nobody makes")
	}
	if got := feed.s.place(); got != "control" {
		t.Errorf("place: got %q, want control", got)
	}
}
