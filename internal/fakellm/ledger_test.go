package fakellm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// speaking is a call that is being answered in a bubble.
type speaking struct {
	p    *Provider
	id   string
	stop context.CancelFunc
	done chan any // what the handler panicked with
}

func speak(t *testing.T, a ask) *speaking {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &speaking{p: New(testKeys), id: a.id, stop: stop, done: make(chan any, 1)}
	r := a.request(ctx, "http://provider.test")
	go func() {
		defer func() { s.done <- recover() }()
		s.p.ServeHTTP(httptest.NewRecorder(), r)
	}()
	synctest.Wait()
	return s
}

// TestCountsAtEveryInstant looks at the ledger at each tick of a slow model, in
// three choices.
func TestCountsAtEveryInstant(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := speak(t, ask{shape: openAI, model: "slow-5-100", stream: stream, id: "slow"})
			for k := range int64(6) {
				synctest.Wait()
				want := Entry{Model: "slow-5-100", Calls: 1, Open: 1 - k/5, Prompt: askedWords, Completion: k, Billed: askedWords + k}
				if stream || k == 5 {
					want.Served = k
				}
				want.Finished = k / 5
				if diff := cmp.Diff(want, s.p.Entry("slow")); diff != "" {
					t.Errorf("stream %t, after %d words: -want +got\n%s", stream, k, diff)
				}
				time.Sleep(100 * time.Millisecond) // in the bubble
			}
			if failure := <-s.done; failure != nil {
				t.Errorf("the handler panicked: %v", failure)
			}
			s.stop()
		})
	}
}

// TestContextEndsGeneration: what was generated stays billed, and nothing is
// added.
func TestContextEndsGeneration(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"slow-5-100", "slow-100000-100"} {
		for _, stream := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := speak(t, ask{shape: anthropic, model: model, stream: stream, id: "slow"})
				time.Sleep(250 * time.Millisecond) // in the bubble
				s.stop()
				if failure := <-s.done; failure != http.ErrAbortHandler {
					t.Errorf("%s, stream %t: the handler ended with %v, want a broken connection", model, stream, failure)
				}
				e, err := s.p.Ended(t.Context(), "slow")
				if err != nil || e.Completion != 2 || e.Billed != askedWords+2 || e.Finished != 0 {
					t.Errorf("%s, stream %t: %+v, %v, want 2 words", model, stream, e, err)
				}
			})
		}
	}
}

func TestHangHasALimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, began := speak(t, ask{shape: openAI, model: "hang", id: "h"}), time.Now()
		failure := <-s.done
		if took := time.Since(began); took != hangLimit || failure != http.ErrAbortHandler {
			t.Errorf("hang ended after %v with %v, want %v and a broken connection", took, failure, hangLimit)
		}
		s.stop()
	})
}

// TestWordIsBilledBeforeItIsWritten looks at the ledger out of the writer.
func TestWordIsBilledBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	p := New(testKeys)
	w := &spyingWriter{ResponseRecorder: httptest.NewRecorder(), see: func(body string) error {
		seen, e := int64(strings.Count(body, "word")), p.Entry("spied")
		if e.Completion != seen || e.Served > seen || e.Served < seen-1 {
			return fmt.Errorf("%d words are written, ledger %+v", seen, e)
		}
		return nil
	}}
	p.ServeHTTP(w, ask{shape: openAI, model: "words-20", stream: true, id: "spied"}.request(t.Context(), "http://provider.test"))
	if w.err != nil || p.Served("spied") != 20 {
		t.Errorf("%v; %d words served in the end, want 20", w.err, p.Served("spied"))
	}
}

type spyingWriter struct {
	*httptest.ResponseRecorder
	see func(body string) error
	err error
}

func (w *spyingWriter) Flush() {
	w.err = errors.Join(w.err, w.see(strings.ReplaceAll(w.Body.String(), "words-", "")))
}

// TestWriterThatFailsStopsGeneration: the connection is broken before the
// context ends.
func TestWriterThatFailsStopsGeneration(t *testing.T) {
	t.Parallel()
	for model, stream := range map[string]bool{"words-100": true, "words-99": false, "gzip": true, "sql-bytes": true} {
		p := New(testKeys)
		func() {
			defer func() {
				if failure := recover(); failure != http.ErrAbortHandler {
					t.Errorf("%s: %v, want a broken connection", model, failure)
				}
			}()
			r := ask{shape: openAI, model: model, stream: stream, id: "w"}.request(t.Context(), "http://provider.test")
			p.ServeHTTP(brokenWriter{header: http.Header{}}, r)
		}()
		if e := p.Entry("w"); e.Served != 0 || e.Finished != 0 || stream && e.Completion != 0 {
			t.Errorf("%s: %+v, want no word served", model, e)
		}
	}
}

type brokenWriter struct{ header http.Header }

func (w brokenWriter) Header() http.Header     { return w.header }
func (brokenWriter) WriteHeader(int)           {}
func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }
func (brokenWriter) FlushError() error         { return nil }

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	p, s, c := start(t)
	long := strings.Repeat("x", maxIDBytes+10)
	for _, id := range []string{"twice", "twice", "", long} {
		if _, _, err := fetch(c, ask{shape: openAI, model: "words-5", id: id}.request(t.Context(), s.URL)); err != nil {
			t.Fatal(err)
		}
	}
	once := Entry{Model: "words-5", Calls: 1, Finished: 1, Prompt: 4, Completion: 5, Served: 5, Billed: 9}
	want := Ledger{
		Requests: map[string]Entry{
			"twice":  {Model: "words-5", Calls: 2, Finished: 2, Prompt: 8, Completion: 10, Served: 10, Billed: 18},
			"call-3": once, long[:maxIDBytes]: once,
		},
		Totals: Entry{Calls: 4, Finished: 4, Prompt: 16, Completion: 20, Served: 20, Billed: 36},
		Leaks:  []Leak{},
	}
	for _, id := range []string{"twice", "call-3", long[:maxIDBytes]} {
		if _, err := p.Ended(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, p.Ledger()); diff != "" {
		t.Errorf("the ledger: -want +got\n%s", diff)
	}
	if p.Billed("twice") != 18 || p.TotalBilled() != 36 || p.TotalServed() != 20 || p.Billed("never") != 0 {
		t.Errorf("billed %d and %d, served %d", p.Billed("twice"), p.TotalBilled(), p.TotalServed())
	}
}

func TestLedgerIsBounded(t *testing.T) {
	t.Parallel()
	l := newLedger()
	for i := range maxRequests + 5 {
		b := l.begin(fmt.Sprint(i))
		b.end()
		l.leaked(fmt.Sprint(i), []string{"cookie"})
	}
	if n := len(l.entries); n != maxRequests+1 || l.entries[OtherRequests].Calls != 5 {
		t.Errorf("%d entries, want %d; others %+v", n, maxRequests+1, l.entries[OtherRequests])
	}
	if len(l.leaks) != maxLeaks {
		t.Errorf("%d leaks are kept, want %d", len(l.leaks), maxLeaks)
	}
}

// TestEndedWaits for a call that is yet to come, and for its end.
func TestEndedWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		ended := make(chan Entry, 1)
		go func() {
			e, _ := p.Ended(t.Context(), "a")
			ended <- e
		}()
		other := p.ledger.begin("b")
		other.end()
		first, second := p.ledger.begin("a"), p.ledger.begin("a")
		first.end()
		synctest.Wait()
		if len(ended) != 0 {
			t.Error("Ended returned while a call was under way")
		}
		second.end()
		if e := <-ended; e.Calls != 2 {
			t.Errorf("%+v, want 2 calls", e)
		}
	})
}

func TestEndedGivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := New(Options{}).Ended(ctx, "never"); !errors.Is(err, why) {
		t.Errorf("%v, want the context's cause", err)
	}
}

// TestAwaitSeesEachTick of a slow model.
func TestAwaitSeesEachTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, began := speak(t, ask{shape: openAI, model: "slow-5-100", stream: true, id: "a"}), time.Now()
		for k := range int64(5) {
			e, err := s.p.Await(t.Context(), "a", func(e Entry) bool { return e.Served > k })
			if took := time.Since(began); err != nil || took != time.Duration(k+1)*100*time.Millisecond {
				t.Errorf("word %d: %+v, %v, after %v", k+1, e, err, took)
			}
		}
		<-s.done
		s.stop()
	})
}

// TestAwaitSeesAReset and does not wait for what is gone.
func TestAwaitSeesAReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		p.ledger.begin("a")
		gone := make(chan error, 1)
		go func() {
			_, err := p.Await(t.Context(), "a", func(e Entry) bool { return e.Calls == 0 })
			gone <- err
		}()
		synctest.Wait()
		p.Reset()
		if err := <-gone; err != nil {
			t.Error(err)
		}
	})
}

func TestLeaks(t *testing.T) {
	t.Parallel()
	p, s, c := start(t)
	send := func(id string, shape shape, query string, headers map[string]string) {
		r := ask{shape: shape, model: "words-1", id: id}.request(t.Context(), s.URL)
		r.URL.RawQuery = query
		for name, value := range headers {
			r.Header.Set(name, value)
		}
		if _, _, err := fetch(c, r); err != nil {
			t.Fatal(err)
		}
	}
	send("clean", openAI, "beta=1", map[string]string{"x-envoy-attempt-count": "1", "openai-organization": "o"})
	send("token", openAI, "", map[string]string{"authorization": "Bearer client-token"})
	send("both", anthropic, "", map[string]string{"authorization": "Bearer client-token"})
	send("swapped", openAI, "", map[string]string{"x-api-key": testKeys.AnthropicKey})
	send("many", anthropic, "key=a&access_token=b", map[string]string{
		"X-Gatehouse-Principal": "alice", "Cookie": "a=b", "Proxy-Authorization": "Basic x", "X-Goog-Api-Key": "k", "Api-Key": "k",
	})
	want := []Leak{
		{"token", "authorization"}, {"both", "authorization"}, {"swapped", "x-api-key"},
		{"many", "?access_token"}, {"many", "?key"}, {"many", "api-key"}, {"many", "cookie"},
		{"many", "proxy-authorization"}, {"many", "x-gatehouse-principal"}, {"many", "x-goog-api-key"},
	}
	if diff := cmp.Diff(want, p.Leaks()); diff != "" {
		t.Errorf("leaks: -want +got\n%s", diff)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	p := New(testKeys)
	do := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		p.Control().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	r := ask{shape: openAI, model: "words-5", id: "a"}.request(t.Context(), "http://provider.test")
	r.Header.Set("cookie", "a=b")
	p.ServeHTTP(httptest.NewRecorder(), r)
	open := p.ledger.begin("open")
	var got, want Ledger = Ledger{}, p.Ledger()
	if err := json.Unmarshal(do("GET", "/_fake/ledger").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Totals.Billed != 9 || len(got.Leaks) != 1 {
		t.Errorf("GET: %+v, -want +got\n%s", got, diff)
	}
	if w := do("DELETE", "/_fake/ledger"); w.Code != 204 {
		t.Errorf("DELETE: %d, want 204", w.Code)
	}
	open.finish()
	open.end()
	if diff := cmp.Diff(Ledger{Requests: map[string]Entry{}, Leaks: []Leak{}}, p.Ledger()); diff != "" {
		t.Errorf("after the reset, and the end of an older call: -want +got\n%s", diff)
	}
	if w := do("POST", "/_fake/ledger"); w.Code != 405 {
		t.Errorf("POST: %d, want 405", w.Code)
	}
	w := httptest.NewRecorder()
	r = httptest.NewRequest("DELETE", "/_fake/ledger", nil)
	authenticate(r, openAI)
	if p.ServeHTTP(w, r); w.Code != 404 || p.Totals().Calls != 1 {
		t.Errorf("the provider itself answers %d to who asks for the ledger, want 404", w.Code)
	}
}
