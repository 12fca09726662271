package token

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/tokentest"
)

// server stands in for a URL: what it answers, how long it takes, how often it
// was asked.
type server struct {
	mu    sync.Mutex // guards doc, err and delay
	doc   []byte
	err   error
	delay time.Duration
	deaf  bool // goes on although the context has ended
	asked atomic.Int64
}

func (s *server) set(doc []byte, err error, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc, s.err, s.delay = doc, err, delay
}

func (s *server) load(ctx context.Context) ([]byte, error) {
	s.asked.Add(1)
	s.mu.Lock()
	doc, err, delay := s.doc, s.err, s.delay
	s.mu.Unlock()
	if s.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(delay):
		return doc, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetching returns a verifier whose URL source is served by s, and starts it.
// It must run in a bubble, where time is free.
func fetching(t *testing.T, is *tokentest.Issuer, s *server) (*Verifier, *Keys) {
	t.Helper()
	keys := NewKeys(KeysOptions{Log: slog.New(slog.DiscardHandler)})
	id := sourceID{jwks: config.JWKS{URL: "https://issuer.example/jwks.json"}}
	src, err := keys.newSource(id)
	if err != nil {
		t.Fatal(err)
	}
	src.load = s.load
	keys.addLocked(src)
	v, err := NewVerifier([]config.Issuer{is.Config(id.jwks)}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys.Start()
	synctest.Wait()
	t.Cleanup(keys.Stop)
	return v, keys
}

// after lets time pass in the bubble and everything that is due happen.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func mint(is *tokentest.Issuer) string { return is.Mint(is.Claims(time.Now(), "developer", "acme")) }

// rotated returns the issuer with a new key under another kid.
func rotated(t *testing.T, is *tokentest.Issuer) *tokentest.Issuer {
	t.Helper()
	next := *is
	next.Key = tokentest.NewKey(t, "EdDSA", "main-2")
	return &next
}

func TestUnavailableUntilTheFirstKeys(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{err: errors.New("refused")}
		v, keys := fetching(t, is, s)
		wantCode(t, v, time.Now(), mint(is), Unavailable)
		if st := keys.Status()[0]; st.Loaded || st.Failure != "refused" {
			t.Errorf("status: got %+v", st)
		}
		s.set(is.JWKS(), nil, 0)
		after(retryInterval + retryInterval/10)
		wantCode(t, v, time.Now(), mint(is), "")
		if st := keys.Status()[0]; !st.Loaded || st.Keys != 1 || st.Epoch != 1 || st.Failure != "" {
			t.Errorf("status: got %+v", st)
		}
	})
}

func TestLastGoodKeysForOneHour(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, _ := fetching(t, is, s)
		claims := is.Claims(time.Now(), "developer", "acme")
		claims["exp"] = time.Now().Add(3 * time.Hour).Unix()
		raw := is.Mint(claims)
		wantCode(t, v, time.Now(), raw, "")
		s.set(nil, errors.New("status 500"), 0)
		after(MaxKeyAge)
		wantCode(t, v, time.Now(), raw, "") // cached, and so is its end: see next
		after(time.Nanosecond)
		wantCode(t, v, time.Now(), raw, Unavailable)
		wantCode(t, v, time.Now(), mint(is), Unavailable)
		s.set(is.JWKS(), nil, 0)
		after(2 * retryInterval)
		wantCode(t, v, time.Now(), raw, "")
	})
}

func TestRefreshReplacesTheWholeSet(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, keys := fetching(t, is, s)
		old, next := mint(is), rotated(t, is)
		wantCode(t, v, time.Now(), old, "")
		s.set(next.JWKS(), nil, 0)
		after(refreshInterval)
		wantCode(t, v, time.Now(), old, Invalid)
		wantCode(t, v, time.Now(), mint(next), "")
		s.set([]byte(`{"keys":[]}`), nil, 0)
		after(refreshInterval)
		wantCode(t, v, time.Now(), mint(next), Invalid)
		if st := keys.Status()[0]; st.Epoch != 3 || st.Keys != 0 || !st.Loaded {
			t.Errorf("status: got %+v", st)
		}
	})
}

// The same document again confirms the keys, and costs no cached token.
func TestRefreshOfTheSameDocument(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, keys := fetching(t, is, s)
		first := keys.Status()[0].Fetched
		raw := mint(is)
		wantCode(t, v, time.Now(), raw, "")
		after(refreshInterval)
		st := keys.Status()[0]
		if st.Epoch != 1 || !st.Fetched.After(first) || s.asked.Load() != 2 {
			t.Errorf("got epoch %d, fetched %v after %v, %d fetches", st.Epoch, st.Fetched, first, s.asked.Load())
		}
		if _, ok := v.cache.get(time.Now(), raw); !ok {
			t.Error("the cached token died")
		}
	})
}

func TestRefusedSetKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	oct := tokentest.NewKey(t, "HS256", "s")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, keys := fetching(t, is, s)
		for _, bad := range [][]byte{nil, []byte("<html>"), tokentest.JWKS(is.Key, oct), tokentest.JWKS(is.Key, is.Key), []byte(`{}`)} {
			s.set(bad, nil, 0)
			after(refreshInterval)
			wantCode(t, v, time.Now(), mint(is), "")
			if st := keys.Status()[0]; st.Epoch != 1 || st.Failure == "" {
				t.Errorf("%.30q: got %+v", bad, st)
			}
		}
		after(MaxKeyAge)
		wantCode(t, v, time.Now(), mint(is), Unavailable)
	})
}

func TestUnknownKidFetchesOnce(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, _ := fetching(t, is, s)
		next := rotated(t, is)
		s.set(next.JWKS(), nil, 100*time.Millisecond)
		wantCode(t, v, time.Now(), mint(next), Invalid) // fetched just now
		after(retryInterval)
		var flood sync.WaitGroup
		for range maxWaiters {
			flood.Go(func() { wantCode(t, v, time.Now(), mint(next), "") })
		}
		flood.Wait()
		if got := s.asked.Load(); got != 2 {
			t.Errorf("got %d fetches, want 2", got)
		}
	})
}

func TestUnknownKidFloodIsLimited(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, _ := fetching(t, is, s)
		raw := mint(rotated(t, is))
		start := time.Now()
		for time.Since(start) < time.Minute {
			wantCode(t, v, time.Now(), raw, Invalid)
			after(50 * time.Millisecond)
		}
		if got := s.asked.Load(); got < 6 || got > 7 {
			t.Errorf("got %d fetches in a minute, want one at the start and one in 10 s", got)
		}
	})
}

// A slow source holds each request up for 300 ms at most, counted from the start
// of the fetch, and those beyond maxWaiters not at all; again and again.
func TestSlowSource(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, _ := fetching(t, is, s)
		raw := mint(rotated(t, is))
		for range 3 {
			s.set(is.JWKS(), nil, 0)
			after(3 * retryInterval) // recovered, and no fetch is due when the flood comes
			s.set(nil, nil, time.Hour)
			floodSlowSource(t, v, raw)
			start := time.Now()
			wantCode(t, v, start, mint(is), "")
			wantCode(t, v, start, raw, Invalid)
			if d := time.Since(start); d != 0 {
				t.Errorf("a late comer was held up for %v", d)
			}
			after(loadTimeout)
			if failure := v.issuers[testIss].source.status().Failure; failure != context.DeadlineExceeded.Error() {
				t.Errorf("the fetch was not ended by its time limit: %q", failure)
			}
		}
	})
}

// floodSlowSource verifies more tokens at once than may wait.
func floodSlowSource(t *testing.T, v *Verifier, raw string) {
	t.Helper()
	start := time.Now()
	var held sync.WaitGroup
	var waited atomic.Int64
	for range 2 * maxWaiters {
		held.Go(func() {
			wantCode(t, v, time.Now(), raw, Invalid)
			if d := time.Since(start); d == unknownKidWait {
				waited.Add(1)
			} else if d != 0 {
				t.Errorf("held up for %v", d)
			}
		})
	}
	held.Wait()
	if got := waited.Load(); got != maxWaiters {
		t.Errorf("%d waited, want %d", got, maxWaiters)
	}
}

func TestUnknownKidWaitEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, _ := fetching(t, is, s)
		after(retryInterval)
		s.set(nil, nil, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := v.Verify(ctx, start, mint(rotated(t, is))); codeOf(t, err) != Invalid {
			t.Errorf("got %v, want Invalid", err)
		}
		if d := time.Since(start); d != 20*time.Millisecond {
			t.Errorf("waited %v", d)
		}
	})
}

// Nothing of one source holds up or breaks another's tokens.
func TestSourcesAreApart(t *testing.T) {
	t.Parallel()
	good := newIssuerFor(t, "EdDSA")
	bad := tokentest.NewIssuer(t, "bad", "https://bad.example", testAudience)
	path := writeFile(t, good.JWKS())
	synctest.Test(t, func(t *testing.T) {
		_, keys := fetching(t, bad, &server{delay: time.Hour})
		url := config.JWKS{URL: "https://issuer.example/jwks.json"}
		v, err := NewVerifier([]config.Issuer{bad.Config(url), good.Config(config.JWKS{File: path})}, fileOnly(keys), Options{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		wantCode(t, v, start, mint(good), "")
		wantCode(t, v, start, mint(bad), Unavailable)
		if d := time.Since(start); d != 0 {
			t.Errorf("held up for %v", d)
		}
	})
}

// fileOnly lets keys take a file source without the watcher, which waits in the
// kernel, where a bubble's time cannot pass.
func fileOnly(keys *Keys) *Keys {
	keys.mu.Lock()
	defer keys.mu.Unlock()
	keys.started = false
	return keys
}

func TestStartStopRelease(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		first, keys := fetching(t, is, s)
		keys.Start()
		second, err := NewVerifier([]config.Issuer{is.Config(config.JWKS{URL: "https://issuer.example/jwks.json"})}, keys, Options{})
		if err != nil {
			t.Fatal(err)
		}
		first.Close()
		first.Close()
		after(refreshInterval)
		if got := s.asked.Load(); got != 2 {
			t.Errorf("got %d fetches, want the source alive for the second verifier, and shared", got)
		}
		second.Close()
		after(refreshInterval)
		if got := s.asked.Load(); got != 2 || len(keys.Status()) != 0 {
			t.Errorf("got %d fetches, sources %v, want all ended", got, keys.Status())
		}
		keys.Stop()
		keys.Stop()
		keys.Start()
	})
}

func TestStopEndsAFetch(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		v, keys := fetching(t, is, &server{delay: time.Hour})
		keys.Stop()
		if d := time.Since(start); d != 0 {
			t.Errorf("Stop took %v", d)
		}
		if _, err := v.Verify(t.Context(), start, mint(is)); codeOf(t, err) != Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
	})
}

func TestSourcesAreBounded(t *testing.T) {
	t.Parallel()
	keys := NewKeys(KeysOptions{})
	for n := range maxSources + 1 {
		_, err := keys.acquire(sourceID{jwks: config.JWKS{URL: "https://issuer.example/" + string(rune('0'+n))}})
		if (err == nil) != (n < maxSources) {
			t.Errorf("source %d: %v", n, err)
		}
	}
	if _, err := keys.acquire(sourceID{jwks: config.JWKS{URL: "https://issuer.example/0"}}); err != nil {
		t.Errorf("a source that is there already: %v", err)
	}
}

// A nudge that a load in the meantime has served asks for no second one.
func TestNudgeThatIsServedAlready(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, _ := fetching(t, is, s)
		v.issuers[testIss].source.nudge()
		synctest.Wait()
		if got := s.asked.Load(); got != 1 {
			t.Errorf("got %d fetches, want 1", got)
		}
	})
}

// Keys that grew too old while a request waited for a fetch serve nobody.
func TestKeysTooOldAfterTheWait(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &server{doc: is.JWKS()}
		v, _ := fetching(t, is, s)
		after(retryInterval)
		s.set(nil, nil, time.Hour)
		src := v.issuers[testIss].source
		go func() {
			<-time.After(unknownKidWait / 2)
			old := *src.set.Load()
			old.fetched = time.Now().Add(-2 * MaxKeyAge)
			src.set.Store(&old)
		}()
		wantCode(t, v, time.Now(), mint(rotated(t, is)), Unavailable)
	})
}

// A file is read when it changes, never because of a token.
func TestUnknownKidOfAFileDoesNotWait(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	path := writeFile(t, is.JWKS())
	synctest.Test(t, func(t *testing.T) {
		v, err := NewVerifier([]config.Issuer{is.Config(config.JWKS{File: path})}, NewKeys(KeysOptions{}), Options{})
		if err != nil {
			t.Fatal(err)
		}
		after(time.Hour)
		start := time.Now()
		wantCode(t, v, start, mint(rotated(t, is)), Invalid)
		if d := time.Since(start); d != 0 {
			t.Errorf("waited %v", d)
		}
	})
}

// Whoever ends a source waits for its goroutines, even for a load that is deaf.
func TestCloseAndStopWait(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	for name, end := range map[string]func(*Verifier, *Keys){
		"Close": func(v *Verifier, _ *Keys) { v.Close() },
		"Stop":  func(_ *Verifier, k *Keys) { k.Stop() },
	} {
		synctest.Test(t, func(t *testing.T) {
			v, keys := fetching(t, is, &server{delay: time.Hour, deaf: true})
			start := time.Now()
			end(v, keys)
			if d := time.Since(start); d != time.Hour {
				t.Errorf("%s returned after %v", name, d)
			}
		})
	}
}
