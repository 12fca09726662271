package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const document = "../../api/v1/openapi.gen.json"

// operation is what the fake needs to know of an operation of the document.
type operation struct {
	ID        string                 `json:"operationId"`
	Security  *[]json.RawMessage     `json:"security"`
	Responses map[string]docResponse `json:"responses"`
}

type docResponse struct {
	Content map[string]struct {
		Example json.RawMessage `json:"example"`
	} `json:"content"`
}

// api answers each operation with the document's own example, or as a test
// says, and notes what was asked.
type api struct {
	*httptest.Server
	t     *testing.T
	shown map[string]string // the document's examples by operation, not changed later

	mu      sync.Mutex // guards all below
	answers map[string]http.HandlerFunc
	asked   []string // operation, and body where there is one
	bodies  map[string]string
}

// access is the token that the API knows.
const access = "eyJ.access"

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{t: t, shown: map[string]string{}, answers: map[string]http.HandlerFunc{}, bodies: map[string]string{}}
	text, err := os.ReadFile(document)
	noError(t, err)
	var doc struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	noError(t, json.Unmarshal(text, &doc))
	mux := http.NewServeMux()
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if path == "/" {
				path = "/{$}"
			}
			mux.Handle(strings.ToUpper(method)+" "+path, a.operation(op))
		}
	}
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *api) operation(op operation) http.HandlerFunc {
	status := slices.Min(slices.Collect(maps.Keys(op.Responses)))
	if _, made := op.Responses["201"]; made {
		status = "201"
	}
	var example bytes.Buffer
	if text := op.Responses[status].Content["application/json"].Example; text != nil {
		noError(a.t, json.Compact(&example, text))
		a.shown[op.ID] = example.String()
	}
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.asked = append(a.asked, op.ID)
		a.bodies[op.ID] = string(body)
		special := a.answers[op.ID]
		a.mu.Unlock()
		if op.Security == nil && r.Header.Get("authorization") != "Bearer "+access {
			refuse(w, 401, "auth.invalid_token", "")
			return
		}
		if special != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
			special(w, r)
			return
		}
		code, err := strconv.Atoi(status)
		if err != nil {
			a.t.Error(err)
		}
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(example.Bytes())
	}
}

// says makes an operation answer with status and body.
func (a *api) says(operation string, status int, body string) {
	a.does(operation, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func (a *api) does(operation string, f http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[operation] = f
}

func (a *api) refuses(operation string, status int, code, details string) {
	a.does(operation, func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, code, details) })
}

func refuse(w http.ResponseWriter, status int, code, details string) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	if details == "" {
		details = "{}"
	}
	_, _ = io.WriteString(w, `{"error_code": "`+code+`", "message": "It is refused.", "details": `+details+`, "request_id": "q1"}`)
}

// wantAsked checks which operations were called, in order.
func (a *api) wantAsked(want ...string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if diff := cmp.Diff(want, a.asked); diff != "" {
		a.t.Errorf("operations (-want +got):\n%s", diff)
	}
	a.asked = nil
}

// wantBody checks what an operation was sent last.
func (a *api) wantBody(operation, want string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var got, wanted any
	noError(a.t, json.Unmarshal([]byte(a.bodies[operation]), &got))
	noError(a.t, json.Unmarshal([]byte(want), &wanted))
	if diff := cmp.Diff(wanted, got); diff != "" {
		a.t.Errorf("%s was sent (-want +got):\n%s", operation, diff)
	}
}

// shell is a process of the command.
type shell struct {
	env   map[string]string
	stdin string
	now   time.Time
}

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

// shell has the API's token in its environment.
func (a *api) shell() *shell {
	return &shell{env: map[string]string{apiVariable: a.URL, tokenVariable: access}, now: noon()}
}

// fresh is a shell that is not logged in.
func fresh(t *testing.T) *shell {
	return &shell{env: map[string]string{configVariable: filepath.Join(t.TempDir(), "kept", "login.json")}, now: noon()}
}

func (s *shell) run(t *testing.T, args ...string) result {
	t.Helper()
	return s.runIn(t.Context(), nil, args...)
}

func (s *shell) runIn(ctx context.Context, stdout io.Writer, args ...string) result {
	var out, stderr bytes.Buffer
	if stdout == nil {
		stdout = &out
	}
	w := world{env: func(name string) string { return s.env[name] }, stdin: strings.NewReader(s.stdin), now: func() time.Time { return s.now }}
	code := execute(ctx, w, args, stdout, &stderr)
	return result{code, out.String(), stderr.String()}
}

// says checks the exit code and parts of stderr; what was printed may be there
// in any case.
func (r result) says(t *testing.T, code int, parts ...string) {
	t.Helper()
	printed := r.stdout
	if code != ExitOK {
		r.stdout = ""
	}
	r.want(t, code, parts...)
	if t.Failed() {
		t.Logf("stdout:\n%s", printed)
	}
}
