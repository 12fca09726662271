package operator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/api/v1/client"
)

const events = "text/event-stream"

func decisionEvent(id, place string) string {
	return "event: decision\nid: " + place + "\ndata: {\"id\": \"" + id + "\", \"record\": {}}\n\n"
}

// follower runs Follow over answers, one for each connection, in a bubble.
type follower struct {
	answers []func() (*http.Response, error)
	places  []string // Last-Event-ID of each connection
	seen    []string
	told    []string
	took    time.Duration
}

var errEnough = errors.New("enough")

func (f *follower) run(t *testing.T, enough int) (err error) {
	synctest.Test(t, func(t *testing.T) {
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			f.places = append(f.places, r.Header.Get("Last-Event-ID"))
			if len(f.places) > len(f.answers) {
				return nil, &url.Error{Op: "Get", URL: "x", Err: errors.New("away")}
			}
			return f.answers[len(f.places)-1]()
		})
		begun := time.Now()
		connect := func(context.Context) (*Client, error) { return c, nil }
		err = Follow(t.Context(), connect, client.TailDecisionsParams{}, func(err error) { f.told = append(f.told, err.Error()) }, func(d client.Decision) error {
			if f.seen = append(f.seen, d.Id); len(f.seen) == enough {
				return errEnough
			}
			return nil
		})
		f.took = time.Since(begun)
	})
	return err
}

func say(status int, kind, body string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return answer(status, kind, body), nil }
}

func TestFollowComesBackToItsPlace(t *testing.T) {
	t.Parallel()
	f := follower{answers: []func() (*http.Response, error){
		say(200, events, ": alive\nid: p0\n\n"+decisionEvent("d1", "p1")+decisionEvent("d2", "p2")+"event: decision\nid: p3\ndata: {\"id\": \"half\"}\n"),
		say(200, events, ": end\n\n"),
		func() (*http.Response, error) { return nil, &url.Error{Op: "Get", URL: "x", Err: io.ErrUnexpectedEOF} },
		say(503, "application/json", `{"error_code": "internal.error", "message": "Away.", "request_id": "q"}`),
		say(200, events, "event: error\ndata: {\"error_code\": \"internal.error\", \"message\": \"Broke.\", \"request_id\": \"q\"}\n\n"),
		say(200, events, decisionEvent("d3", "p3")),
	}}
	if err := f.run(t, 3); !errors.Is(err, errEnough) {
		t.Errorf("got %v, want what the caller said", err)
	}
	if diff := cmp.Diff([]string{"", "p2", "p2", "p2", "p2", "p2"}, f.places); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"d1", "d2", "d3"}, f.seen); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	if len(f.told) != 3 || !strings.Contains(f.told[1], "Away") || !strings.Contains(f.told[2], "Broke") {
		t.Errorf("told %q, want the three failures", f.told)
	}
}

func TestFollowStopsWhereItIsRefused(t *testing.T) {
	t.Parallel()
	f := follower{answers: []func() (*http.Response, error){
		say(403, "application/json", `{"error_code": "auth.forbidden", "message": "No.", "request_id": "q"}`),
	}}
	if err := f.run(t, 1); !Unauthorized(err) || len(f.places) != 1 {
		t.Errorf("got %v after %d connections, want a refusal after one", err, len(f.places))
	}
	f = follower{answers: []func() (*http.Response, error){say(200, events, "event: decision\ndata: x\n\n")}}
	if err := f.run(t, 1); err == nil || !strings.Contains(err.Error(), "can't be read") {
		t.Errorf("got %v, want that it can't be read", err)
	}
}

func TestFollowGivesUp(t *testing.T) {
	t.Parallel()
	var f follower
	if err := f.run(t, 1); !Unreachable(err) || len(f.places) != maxFailures+1 {
		t.Errorf("got %v after %d connections, want %d", err, len(f.places), maxFailures+1)
	}
	if f.took > (maxFailures+1)*longestPause || f.took < maxFailures/2*longestPause {
		t.Errorf("took %s", f.took)
	}
}

// TestFollowLeavesSilence: a connection without signs of life is dead.
func TestFollowLeavesSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		connections := 0
		c := clientOf(t, func(r *http.Request) (*http.Response, error) {
			if connections++; connections > 1 {
				return answer(200, events, decisionEvent("d1", "p1")), nil
			}
			pr, pw := io.Pipe()
			context.AfterFunc(r.Context(), func() { pw.CloseWithError(r.Context().Err()) })
			resp := answer(200, events, "")
			resp.Body = pr
			return resp, nil
		})
		begun := time.Now()
		err := Follow(t.Context(), func(context.Context) (*Client, error) { return c, nil }, client.TailDecisionsParams{}, func(error) {}, func(client.Decision) error { return errEnough })
		if took := time.Since(begun); !errors.Is(err, errEnough) || took != tailQuiet+firstPause {
			t.Errorf("got %v after %s, want a second connection after %s", err, took, tailQuiet+firstPause)
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := clientOf(t, func(*http.Request) (*http.Response, error) { cancel(); return answer(200, events, ""), nil })
		err := Follow(ctx, func(context.Context) (*Client, error) { return c, nil }, client.TailDecisionsParams{}, func(error) {}, func(client.Decision) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReadEvents(t *testing.T) {
	t.Parallel()
	var got []event
	err := readEvents(strings.NewReader("event: a\r\nid:1\r\ndata: x\r\ndata:y\r\nretry: 5\r\n\r\n\n: c\n\ndata: end"), func() {}, func(e event) error {
		got = append(got, e)
		return nil
	})
	noError(t, err)
	want := []event{{name: "a", id: "1", data: []byte("x\ny")}, {}, {}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(event{})); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, text := range []string{"data: " + strings.Repeat("x", maxEvent), strings.Repeat("data: "+strings.Repeat("x", 1<<16)+"\n", 17)} {
		if err := readEvents(strings.NewReader(text), func() {}, func(event) error { return nil }); err == nil {
			t.Errorf("an event of %d bytes was read", len(text))
		}
	}
}
