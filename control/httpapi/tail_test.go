package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/apierr"
)

const tailPath = "/api/v1/decisions/tail"

// stream is a running answer that can be read while it is written.
type stream struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the handler has returned

	mu     sync.Mutex // guards all below
	header http.Header
	status int
	text   bytes.Buffer
	broken error // answered to writes
}

func (s *stream) Header() http.Header { return s.header }

func (s *stream) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.text.Write(b)
}

// read takes what was written so far.
func (s *stream) read() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.text.String()
	s.text.Reset()
	return text
}

func (s *stream) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// tail opens a tail in a bubble.
func (h *harness) tail(token, query string, header ...string) *stream {
	ctx, cancel := context.WithCancel(h.t.Context())
	s := &stream{cancel: cancel, done: make(chan struct{}), header: http.Header{}}
	r := httptest.NewRequestWithContext(ctx, "GET", tailPath+query, http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	go func() {
		defer close(s.done)
		h.handler.ServeHTTP(s, r)
	}()
	synctest.Wait()
	return s
}

// pass lets time go by in a bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// ids are the records' ids in a text of events, and the last id of an event.
func ids(t *testing.T, text string) (records []string, last string) {
	t.Helper()
	for block := range strings.SplitSeq(text, "\n\n") {
		for line := range strings.SplitSeq(block, "\n") {
			if id, ok := strings.CutPrefix(line, "id: "); ok {
				last = id
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				var d struct{ ID string }
				if err := json.Unmarshal([]byte(data), &d); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				records = append(records, d.ID)
			}
		}
	}
	return records, last
}

func lasting(life time.Duration) func(*Options) {
	return func(o *Options) { o.Auth.(*auth).life = life }
}

func TestTailFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, lasting(10*time.Minute))
		s := h.tail("operator", "")
		defer s.cancel()
		if records, id := ids(t, s.read()); len(records) != 0 || id == "" || s.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("a tail begins with %v, id %q, header %v", records, id, s.header)
		}
		h.store.decide("org1", "d-3", true)
		h.store.decide("org2", "d-4", true)
		h.store.decide("org1", "d-5", false)
		pass(tailPoll)
		text := s.read()
		records, id := ids(t, text)
		if diff := cmp.Diff([]string{"d-3", "d-5"}, records); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		want := `"record":{"decision_id":"d-3","allowed":true,"bytes":9007199254740993},"sidecar_id"`
		if !strings.HasPrefix(text, "event: decision\nid: ") || !strings.Contains(text, want) {
			t.Errorf("events: %s", text)
		}
		pass(tailBeat)
		if text := s.read(); text != ": alive\nid: "+id+"\n\n" {
			t.Errorf("a sign of life is %q", text)
		}
		s.cancel()
		synctest.Wait()
		if !s.ended() || h.metrics.tails != 0 || h.metrics.most != 1 {
			t.Errorf("the caller has gone: ended %t, %d open", s.ended(), h.metrics.tails)
		}
		if e := h.events()[0]; e["level"] != "INFO" || e["error"] != nil || e["status"] != float64(200) {
			t.Errorf("event %v", e)
		}
	})
}

// TestTailResumes comes back by the last id, with another filter and with none
// of the events seen.
func TestTailResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, lasting(10*time.Minute))
		first := h.tail("operator", "")
		_, begun := ids(t, first.read())
		first.cancel()
		for i := range 2*tailPage + 1 {
			h.store.decide("org1", fmt.Sprint("n-", i), i%2 == 0)
		}
		second := h.tail("operator", "", "Last-Event-ID", begun)
		pass(tailPoll)
		records, last := ids(t, second.read())
		if len(records) != 2*tailPage+1 || records[0] != "n-0" {
			t.Errorf("%d records after coming back, want %d", len(records), 2*tailPage+1)
		}
		second.cancel()
		h.store.decide("org1", "denied", false)
		h.store.decide("org1", "allowed", true)
		third := h.tail("operator", "?allowed=false", "Last-Event-ID", last)
		if records, _ := ids(t, third.read()); !cmp.Equal(records, []string{"denied"}) {
			t.Errorf("behind %s: %v, want the one that was denied", last, records)
		}
		third.cancel()
		place := h.do("GET", "/api/v1/decisions/n-398", "operator", "").text(t, "place")
		fourth := h.tail("operator", "?allowed=true&limit=", "Last-Event-ID", place)
		if fourth.status != http.StatusUnprocessableEntity {
			t.Errorf("a tail takes a limit: %d", fourth.status)
		}
		fifth := h.tail("operator", "?allowed=true", "Last-Event-ID", place)
		if records, _ := ids(t, fifth.read()); !cmp.Equal(records, []string{"n-400", "allowed"}) {
			t.Errorf("behind a record's place: %v", records)
		}
		fifth.cancel()
	})
}

func TestTailRefuses(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	place := h.do("GET", "/api/v1/decisions/d-org1", "admin-all", "").text(t, "place")
	cursor := h.do("GET", "/api/v1/decisions?limit=1", "admin-all", "").text(t, "next")
	for name, tt := range map[string]struct {
		token, id string
		status    int
	}{
		"good":            {"admin-all", place, 200},
		"of all":          {"admin", place, 422},
		"of a list":       {"admin-all", cursor, 422},
		"made up":         {"admin-all", "AAAA", 422},
		"no cursor":       {"admin-all", "\x7f", 422},
		"may not see any": {"developer", "", 403},
	} {
		if a := h.do("GET", tailPath, tt.token, "", "Last-Event-ID", tt.id); a.status != tt.status {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, tt.status)
		}
	}
	h.want(h.do("GET", tailPath+"?tenant_id=org2", "operator", ""), http.StatusNotFound, apierr.ResourceNotFound)
	if a := h.do("HEAD", tailPath, "operator", ""); a.status != http.StatusOK {
		t.Errorf("HEAD: %d", a.status)
	}
	h.store.err = unavailable(errors.New("away"))
	a := h.do("GET", tailPath, "operator", "")
	h.want(a, http.StatusServiceUnavailable, apierr.Internal)
	if h.metrics.tails != 0 {
		t.Errorf("%d tails are left open", h.metrics.tails)
	}
}

// TestTailEnds gives a tail its hour, or what is left of the token.
func TestTailEnds(t *testing.T) {
	t.Parallel()
	for life, want := range map[time.Duration]time.Duration{10 * time.Minute: 10 * time.Minute, 24 * time.Hour: tailLife} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, lasting(life))
			s := h.tail("operator", "")
			pass(want - time.Second)
			if s.ended() {
				t.Errorf("token of %v: the tail has ended before %v", life, want)
			}
			pass(time.Second)
			if text := s.read(); !s.ended() || !strings.HasSuffix(text, ": end\n\n") {
				t.Errorf("token of %v: after %v ended %t", life, want, s.ended())
			}
		})
	}
}

// TestTailTellsOfErrors ends a tail whose store is away, in the form of an
// error.
func TestTailTellsOfErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, lasting(time.Hour))
		s := h.tail("operator", "", "X-Request-Id", "r1")
		s.read()
		h.store.mu.Lock()
		h.store.err = unavailable(errors.New("dial tcp: refused"))
		h.store.mu.Unlock()
		pass(tailPoll)
		want := "event: error\n" + `data: {"error_code":"internal.error","message":"An internal error occurred.","request_id":"r1"}` + "\n\n"
		if text := s.read(); text != want || !s.ended() {
			t.Errorf("got %q, ended %t", text, s.ended())
		}
		if e := h.events()[0]; !strings.Contains(fmt.Sprint(e["error"]), "refused") || e["status"] != float64(200) {
			t.Errorf("event %v", e)
		}
	})
}

// TestTailEndsWithTheRights ends the tail of whoever may not go on, also while
// nothing happens.
func TestTailEndsWithTheRights(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		token string
		lose  func(*auth)
		want  apierr.Code
	}{
		"logged out":           {"operator", func(a *auth) { a.refuse("operator", apierr.New(apierr.AuthInvalidToken, apierr.Options{})) }, apierr.AuthInvalidToken},
		"can't be told":        {"operator", func(a *auth) { a.refuse("operator", apierr.New(apierr.AuthUnavailable, apierr.Options{})) }, apierr.AuthUnavailable},
		"another role":         {"operator", func(a *auth) { a.become("operator", "developer") }, apierr.AuthForbidden},
		"no more of all":       {"admin-all", func(a *auth) { a.become("admin-all", "admin") }, apierr.AuthForbidden},
		"of all and no longer": {"admin-all", func(a *auth) { a.become("admin-all", "operator-all") }, apierr.AuthForbidden},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, lasting(time.Hour))
			s := h.tail(tt.token, "")
			pass(10 * time.Minute)
			if s.read(); s.ended() {
				t.Fatalf("%s: the tail has ended before", name)
			}
			tt.lose(h.auth)
			pass(tailCheck)
			if text := s.read(); !s.ended() || !strings.Contains(text, "event: error\ndata: {\"error_code\":\""+string(tt.want)+`"`) {
				t.Errorf("%s: ended %t with %q, want %s", name, s.ended(), text, tt.want)
			}
			h.store.decide("org1", "d-9", true)
			pass(tailBeat)
			if text := s.read(); text != "" || h.metrics.tails != 0 {
				t.Errorf("%s: behind the end comes %q, %d tails open", name, text, h.metrics.tails)
			}
		})
	}
}

// TestTailHidesWhatIsForeign runs over a store that forgets tenants, and fails.
func TestTailHidesWhatIsForeign(t *testing.T) {
	t.Parallel()
	h := newHarness(t, lasting(time.Hour), func(o *Options) { o.Decisions = &leakyStore{o.Decisions.(*store)} })
	a := h.do("GET", tailPath, "operator", "")
	h.want(a, http.StatusInternalServerError, apierr.Internal)
}

// TestTailIsBroken ends where writing fails.
func TestTailIsBroken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, lasting(time.Hour))
		s := h.tail("operator", "")
		s.mu.Lock()
		s.broken = errors.New("broken pipe")
		s.mu.Unlock()
		h.store.decide("org1", "d-9", true)
		pass(tailPoll)
		if !s.ended() || h.metrics.tails != 0 {
			t.Errorf("ended %t, %d tails open", s.ended(), h.metrics.tails)
		}
	})
}

func TestTailsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, lasting(time.Hour))
		var open []*stream
		for range maxTenantTails {
			open = append(open, h.tail("operator", ""))
		}
		over := h.tail("admin", "")
		if over.status != http.StatusTooManyRequests || over.header.Get("Retry-After") != "10" || !over.ended() {
			t.Errorf("one more of the tenant: %d %s", over.status, over.read())
		}
		if other := h.tail("admin-all", ""); other.ended() {
			t.Errorf("one of another tenant: %d %s", other.status, other.read())
		} else {
			open = append(open, other)
		}
		open[0].cancel()
		synctest.Wait()
		again := h.tail("admin", "")
		if again.ended() {
			t.Errorf("no room after one has ended: %d", again.status)
		}
		for _, s := range append(open, again) {
			s.cancel()
		}
		synctest.Wait()
		if h.metrics.tails != 0 || h.metrics.most != maxTenantTails+1 {
			t.Errorf("%d tails open, %d at most", h.metrics.tails, h.metrics.most)
		}
	})
}

func TestAllTailsTogetherAreBounded(t *testing.T) {
	t.Parallel()
	tails := newTails(nil)
	for i := range maxTails {
		if !tails.begin(fmt.Sprint("org", i)) {
			t.Fatalf("no room for tail %d", i)
		}
	}
	if tails.begin("another") {
		t.Errorf("%d tails are open", maxTails+1)
	}
	tails.end("org7")
	if !tails.begin("another") || len(tails.by) != maxTails {
		t.Errorf("no room after one has ended, or %d tenants are kept", len(tails.by))
	}
}

// TestTailOutlivesTheServersTimes runs a tail through a server whose times for
// reading and writing are shorter, over both protocols, until the server stops.
func TestTailOutlivesTheServersTimes(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %t", secure), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, lasting(time.Hour), func(o *Options) { o.Timeout = 50 * time.Millisecond })
			s, c := h.hurried(t, secure)
			r, err := http.NewRequestWithContext(t.Context(), "GET", c.base+tailPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer operator")
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			lines := bufio.NewReader(res.Body)
			for i := range 3 {
				await(t, lines, "id: ") // where it stands; then another record is waited for, longer than all times
				h.store.decide("org1", fmt.Sprint("late-", i), true)
				await(t, lines, fmt.Sprintf(`"id":"late-%d"`, i))
			}
			soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := s.Stop(soon); err != nil {
				t.Errorf("Stop: %v", err)
			}
			if rest, err := io.ReadAll(lines); err != nil || !strings.HasSuffix(string(rest), ": end\n\n") {
				t.Errorf("the tail ends with %q, %v", rest, err)
			}
		})
	}
}

// await reads until a line has the text.
func await(t *testing.T, r *bufio.Reader, text string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("waiting for %s: %v", text, err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

func TestDecisionsAreFiltered(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for i := range 5 {
		h.store.decide("org1", fmt.Sprint("n-", i), i%2 == 0)
	}
	query := "?allowed=true&subject=ada%40x&route=GET+%2F&rule_id=r.1&sidecar_id=" + uuid(1)
	if got := h.all("/api/v1/decisions"+query+"&limit=1", "operator"); !cmp.Equal(got, []string{"n-4", "n-2", "n-0", "d-org1"}) {
		t.Errorf("records: %v, want the newest first", got)
	}
	for _, f := range h.store.asked {
		if f.Allowed == nil || !*f.Allowed || f.Subject != "ada@x" || f.Route != "GET /" || f.RuleID != "r.1" || f.Sidecar != uuid(1) {
			t.Errorf("the store was asked for %+v", f)
		}
	}
	cursor := h.do("GET", "/api/v1/decisions?allowed=true&limit=1", "operator", "").text(t, "next")
	for query, status := range map[string]int{
		"?allowed=true&cursor=" + cursor: 200, "?allowed=false&cursor=" + cursor: 422, "?cursor=" + cursor: 422,
		"?allowed=true&subject=x&cursor=" + cursor: 422, "?allowed=1": 422, "?allowed=": 422, "?sidecar_id=x": 422, "?subject=": 422,
		"?tenant_id=org2": 404, "?tenant_id=org1": 200,
	} {
		if a := h.do("GET", "/api/v1/decisions"+query, "operator", ""); a.status != status {
			t.Errorf("%s: %d %s, want %d", query, a.status, a.body, status)
		}
	}
	one := h.do("GET", "/api/v1/decisions/n-1", "operator", "")
	if one.text(t, "id") != "n-1" || !strings.Contains(one.body, `9007199254740993`) {
		t.Errorf("one record: %s", one.body)
	}
	h.want(h.do("GET", "/api/v1/decisions/d-org2", "operator", ""), http.StatusNotFound, apierr.ResourceNotFound)
}
