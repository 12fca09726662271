package fakellm

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var testKeys = Options{OpenAIKey: "openai-key", AnthropicKey: "anthropic-key"}

// ask is one request of a test: "one two three" and a tool, 4 words.
type ask struct {
	shape  shape
	model  string
	stream bool
	limit  int    // 0: none, or 100,000 where one is needed
	id     string // x-request-id
}

const askedWords = 4

func (a ask) request(ctx context.Context, base string) *http.Request {
	body := object{"model": a.model, "stream": a.stream, "messages": []object{{"role": "user", "content": "one two three"}}}
	path, tool := "/v1/chat/completions", object{"type": "function", "function": object{"name": "weather"}}
	if a.limit > 0 {
		body["max_tokens"] = a.limit
	}
	if a.shape == anthropic {
		path, tool = "/v1/messages", object{"name": "weather", "input_schema": object{"type": "object"}}
		if a.limit == 0 {
			body["max_tokens"] = 100_000
		}
	} else if a.stream {
		body["stream_options"] = object{"include_usage": true}
	}
	body["tools"] = []object{tool}
	r, err := http.NewRequestWithContext(ctx, "POST", base+path, strings.NewReader(string(encode(body))))
	if err != nil {
		panic(err)
	}
	authenticate(r, a.shape)
	r.Header.Set("x-request-id", a.id)
	return r
}

func authenticate(r *http.Request, s shape) {
	if s == anthropic {
		r.Header.Set("x-api-key", testKeys.AnthropicKey)
		r.Header.Set("anthropic-version", "2023-06-01")
		return
	}
	r.Header.Set("authorization", "Bearer "+testKeys.OpenAIKey)
}

// start serves a provider. The client neither asks for gzip nor undoes it.
func start(t *testing.T) (*Provider, *httptest.Server, *http.Client) {
	t.Helper()
	p := New(testKeys)
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(c.CloseIdleConnections)
	return p, s, c
}

// fetch sends a request and reads what comes of it. The error is of either.
func fetch(c *http.Client, r *http.Request) (*http.Response, string, error) {
	resp, err := c.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// count is what a model costs.
type count struct {
	words     int64 // generated
	reasoning int64 // of words
	hidden    int64 // of reasoning
	unserved  int64 // of a unary answer, which is not whole
	broken    [2]bool
	refused   [2]bool // unary and streamed
}

// counts are all models but hang, which never answers.
func counts() map[string]count {
	always := [2]bool{true, true}
	unary, streamed := [2]bool{true, false}, [2]bool{false, true}
	return map[string]count{
		"words-10": {words: 10}, "words-0": {}, "slow-3-1": {words: 3}, "runaway-50": {words: 50}, "huge-4096": {words: 128},
		"echo": {words: 3}, "reasoning-20": {words: 28, reasoning: 20, hidden: 20}, "thinking-20": {words: 28, reasoning: 20},
		"cached-100": {words: 100}, "nousage-100": {words: 100}, "lowusage-100": {words: 100}, "two-usage": {words: 8},
		"early-usage": {words: 7, broken: always, unserved: 7}, "cut-5": {words: 5, broken: always, unserved: 5},
		"late-error-5": {words: 5, refused: unary, broken: streamed},
		"error-500":    {refused: always}, "html-500": {broken: always}, "refuse": {broken: always},
		"gzip": {words: 10}, "octet": {words: 10}, "crlf": {words: 10}, "cut-json": {words: 10, unserved: 10},
		"sql": {words: 10}, "sql-bytes": {words: 10}, "script": {words: 5}, "image": {words: 6}, "bidi": {words: 7},
		"ansi": {words: 6}, "tags": {words: 6}, "shell": {words: 8},
		"synthesis-ok": {words: 15}, "synthesis-bad": {words: 15}, "patterns-ok": {words: 12}, "consensus-ok": {words: 9},
		"tools": {words: 5}, "tool-sql": {words: 6},
	}
}

func (c count) entry(model string, stream int) Entry {
	e := Entry{Model: model, Calls: 1}
	if c.refused[stream] {
		return e
	}
	e.Prompt, e.Completion, e.Reasoning, e.Served = askedWords, c.words, c.reasoning, c.words-c.hidden
	if stream == 0 {
		e.Served -= c.unserved
	}
	if !c.broken[stream] {
		e.Finished = 1
	}
	e.Billed = e.Prompt + e.Completion
	return e
}

// TestEveryModelIsCounted calls each model in both shapes and both ways.
func TestEveryModelIsCounted(t *testing.T) {
	t.Parallel()
	p, s, c := start(t)
	for model, want := range counts() {
		for _, shape := range []shape{openAI, anthropic} {
			for stream := range 2 {
				id := fmt.Sprint(model, shape, stream)
				_, _, _ = fetch(c, ask{shape: shape, model: model, stream: stream == 1, id: id}.request(t.Context(), s.URL))
				got, err := p.Ended(t.Context(), id)
				if diff := cmp.Diff(want.entry(model, stream), got); diff != "" || err != nil {
					t.Errorf("%s: %v, -want +got\n%s", id, err, diff)
				}
			}
		}
	}
	for _, m := range models() {
		if _, counted := counts()[m.example()]; !counted && m.name != "hang" && m.name != "slow" {
			t.Errorf("%s is not counted", m.example())
		}
	}
}

// TestLimitEndsAnAnswer: no model but runaway goes over it.
func TestLimitEndsAnAnswer(t *testing.T) {
	t.Parallel()
	p, s, c := start(t)
	for model, full := range counts() {
		for _, shape := range []shape{openAI, anthropic} {
			for stream := range 2 {
				id := fmt.Sprint(model, shape, stream)
				_, body, _ := fetch(c, ask{shape: shape, model: model, stream: stream == 1, limit: 4, id: id}.request(t.Context(), s.URL))
				got, err := p.Ended(t.Context(), id)
				limit := int64(4)
				if model == "runaway-50" {
					limit = 50
				}
				if full.refused[stream] {
					limit = 0
				}
				if want := min(limit, full.words); got.Completion != want || err != nil {
					t.Errorf("%s: %d words, %v, want %d", id, got.Completion, err, want)
				}
				reason := limitReason(shape)
				plain := model != "gzip" && model != "cut-json"
				if cut := full.words > limit && limit > 0; plain && strings.Contains(body, reason) != cut {
					t.Errorf("%s: the answer says %s: %t, want %t", id, reason, !cut, cut)
				}
			}
		}
	}
}

func limitReason(s shape) string {
	if s == anthropic {
		return `"max_tokens"`
	}
	return `"length"`
}

// TestLimitCutsAText shows where.
func TestLimitCutsAText(t *testing.T) {
	t.Parallel()
	_, s, c := start(t)
	_, body, err := fetch(c, ask{shape: anthropic, model: "huge-4096", limit: 2}.request(t.Context(), s.URL))
	var doc struct {
		Content []struct{ Text string }
	}
	if err != nil || json.Unmarshal([]byte(body), &doc) != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if text, want := doc.Content[0].Text, strings.Repeat("x", 31)+" "+strings.Repeat("x", 31); text != want {
		t.Errorf("the text is %q, want %q", text, want)
	}
}

func TestFaultsLookLikeTheProviders(t *testing.T) {
	t.Parallel()
	_, s, c := start(t)
	tests := []struct {
		shape  shape
		model  string
		status int
		want   string
	}{
		{openAI, "error-429", 429, `{"error":{"code":"rate_limit_exceeded","message":"The model was asked for this error.","param":null,"type":"requests"}}`},
		{openAI, "error-401", 401, `{"error":{"code":"invalid_api_key","message":"The model was asked for this error.","param":null,"type":"invalid_request_error"}}`},
		{openAI, "error-503", 503, `{"error":{"code":null,"message":"The model was asked for this error.","param":null,"type":"server_error"}}`},
		{openAI, "none", 404, `{"error":{"code":"model_not_found","message":"The model 'none' does not exist.","param":null,"type":"invalid_request_error"}}`},
		{anthropic, "error-400", 400, `{"error":{"message":"The model was asked for this error.","type":"invalid_request_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "error-401", 401, `{"error":{"message":"The model was asked for this error.","type":"authentication_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "error-403", 403, `{"error":{"message":"The model was asked for this error.","type":"permission_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "error-413", 413, `{"error":{"message":"The model was asked for this error.","type":"request_too_large"},"request_id":"ID","type":"error"}`},
		{anthropic, "error-429", 429, `{"error":{"message":"The model was asked for this error.","type":"rate_limit_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "error-500", 500, `{"error":{"message":"The model was asked for this error.","type":"api_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "error-504", 504, `{"error":{"message":"The model was asked for this error.","type":"timeout_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "error-529", 529, `{"error":{"message":"The model was asked for this error.","type":"overloaded_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "none", 404, `{"error":{"message":"The model 'none' does not exist.","type":"not_found_error"},"request_id":"ID","type":"error"}`},
		{anthropic, "html-502", 502, "<html><body><h1>Bad Gateway</h1></body></html>\n"},
	}
	for _, tt := range tests {
		resp, body, err := fetch(c, ask{shape: tt.shape, model: tt.model}.request(t.Context(), s.URL))
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Replace(tt.want, "ID", resp.Header.Get("request-id"), 1)
		if resp.StatusCode != tt.status || body != want {
			t.Errorf("%s %s: %d %s\nwant %d %s", tt.shape, tt.model, resp.StatusCode, body, tt.status, want)
		}
		if after := resp.Header.Get("Retry-After"); (after != "") != (tt.status == 429) {
			t.Errorf("%s %s: Retry-After %q", tt.shape, tt.model, after)
		}
	}
}

func TestGatesOfTheProvider(t *testing.T) {
	t.Parallel()
	p, s, c := start(t)
	plain := ask{shape: anthropic, model: "words-1"}
	tests := []struct {
		name   string
		change func(r *http.Request)
		status int
	}{
		{"as it should be", func(*http.Request) {}, 200},
		{"no key", func(r *http.Request) { r.Header.Del("x-api-key") }, 401},
		{"another key", func(r *http.Request) { r.Header.Set("x-api-key", "guess") }, 401},
		{"two keys", func(r *http.Request) { r.Header.Add("x-api-key", "guess") }, 401},
		{"no version", func(r *http.Request) { r.Header.Del("anthropic-version") }, 400},
		{"another path", func(r *http.Request) { r.URL.Path = "/v1/embeddings"; authenticate(r, openAI) }, 404},
		{"another method", func(r *http.Request) { r.Method = "PUT" }, 404},
		{"no JSON", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{")), 1 }, 400},
		{"too much", func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat(" ", MaxBody+1))), MaxBody+1
		}, 413},
	}
	for _, tt := range tests {
		r := plain.request(t.Context(), s.URL)
		tt.change(r)
		if resp, body, err := fetch(c, r); err != nil || resp.StatusCode != tt.status {
			t.Errorf("%s: %v %s, want %d", tt.name, err, body, tt.status)
		}
	}
	if calls := p.Totals().Calls; calls != int64(len(tests)) {
		t.Errorf("%d calls, want %d: refused ones count", calls, len(tests))
	}
}

// TestBodyThatBreaksOff is refused like one that is no JSON.
func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	r := ask{shape: openAI, model: "words-1"}.request(t.Context(), "http://provider.test")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{}))
	w := httptest.NewRecorder()
	if New(testKeys).ServeHTTP(w, r); w.Code != 400 {
		t.Errorf("%d, want 400", w.Code)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestNoKeyAdmitsNobody(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "Bearer ", "Bearer x"} {
		r := httptest.NewRequest("GET", "/v1/models", nil)
		r.Header.Set("authorization", key)
		w := httptest.NewRecorder()
		if New(Options{}).ServeHTTP(w, r); w.Code != 401 {
			t.Errorf("authorization %q at a provider without a key: %d, want 401", key, w.Code)
		}
	}
}

// TestWhatIsBroken reads answers that end before their end.
func TestWhatIsBroken(t *testing.T) {
	t.Parallel()
	_, s, c := start(t)
	for _, shape := range []shape{openAI, anthropic} {
		for _, stream := range []bool{false, true} {
			resp, body, err := fetch(c, ask{shape: shape, model: "cut-5", stream: stream}.request(t.Context(), s.URL))
			if resp == nil || resp.StatusCode != 200 || err == nil || body == "" || json.Valid([]byte(body)) {
				t.Errorf("%s cut-5, stream %t: error %v, body %q; want a body that breaks off", shape, stream, err, body)
			}
			if stream && (!strings.Contains(body, "word5") || strings.Contains(body, "word6")) {
				t.Errorf("%s cut-5 streamed %q, want 5 words", shape, body)
			}
			if resp, _, err := fetch(c, ask{shape: shape, model: "refuse", stream: stream}.request(t.Context(), s.URL)); err == nil {
				t.Errorf("%s refuse, stream %t: %d, want no answer", shape, stream, resp.StatusCode)
			}
			_, body, err = fetch(c, ask{shape: shape, model: "cut-json", stream: stream}.request(t.Context(), s.URL))
			if err != nil || json.Valid([]byte(body)) {
				t.Errorf("%s cut-json, stream %t: error %v, body %q; want a clean end and no JSON", shape, stream, err, body)
			}
			if stream {
				checkTorn(t, body)
			}
		}
	}
}

// checkTorn wants one frame that is no JSON, and those after it.
func checkTorn(t *testing.T, body string) {
	t.Helper()
	torn := 0
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if ok && data != "[DONE]" && !json.Valid([]byte(data)) {
			torn++
			if !strings.Contains(data, "word3") {
				t.Errorf("the torn frame is %q, want the third piece's", data)
			}
		}
	}
	if torn != 1 || !strings.Contains(body, "word4") {
		t.Errorf("%d frames are torn, want 1: %s", torn, body)
	}
}

func TestHowAnswersAreWritten(t *testing.T) {
	t.Parallel()
	_, s, c := start(t)
	for _, stream := range []bool{false, true} {
		a := ask{shape: anthropic, stream: stream}
		get := func(model string) (*http.Response, string) {
			a.model = model
			resp, body, err := fetch(c, a.request(t.Context(), s.URL))
			if err != nil {
				t.Fatalf("%s: %v", model, err)
			}
			return resp, body
		}
		if resp, _ := get("octet"); resp.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("octet, stream %t: %v", stream, resp.Header)
		}
		resp, body := get("gzip")
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("gzip, stream %t: %v, %v", stream, err, resp.Header)
		}
		if plain, err := io.ReadAll(z); err != nil || !strings.Contains(string(plain), "word10") {
			t.Errorf("gzip, stream %t: %v, %s", stream, err, plain)
		}
		_, body = get("crlf")
		if lf := strings.Count(body, "\n"); stream && (lf == 0 || lf != strings.Count(body, "\r\n") || strings.Contains(body, "data: ")) {
			t.Errorf("crlf: %q", body)
		}
		resp, _ = get("words-1")
		if want := map[bool]string{false: "application/json", true: "text/event-stream; charset=utf-8"}[stream]; resp.Header.Get("Content-Type") != want {
			t.Errorf("content type %q, want %q", resp.Header.Get("Content-Type"), want)
		}
	}
}

// TestWordsAreCutInStreams: no frame holds a whole word of what is to be found.
func TestWordsAreCutInStreams(t *testing.T) {
	t.Parallel()
	_, s, c := start(t)
	for model, word := range map[string]string{"sql": "DROP", "sql-bytes": "DROP", "script": "<script", "image": "https:", "shell": "https:", "tool-sql": "DROP"} {
		_, body, err := fetch(c, ask{shape: openAI, model: model, stream: true}.request(t.Context(), s.URL))
		if err != nil || strings.Contains(body, word) {
			t.Errorf("%s: %v, a frame holds %q", model, err, word)
		}
		_, body, err = fetch(c, ask{shape: openAI, model: model}.request(t.Context(), s.URL))
		if err != nil || !strings.Contains(body, word) {
			t.Errorf("%s: %v, the unary answer lacks %q: %s", model, err, word, body)
		}
	}
}

// TestBytesComeOneByOne counts the reads of a body that is flushed byte by byte.
func TestBytesComeOneByOne(t *testing.T) {
	t.Parallel()
	w := &countingWriter{ResponseRecorder: httptest.NewRecorder()}
	New(testKeys).ServeHTTP(w, ask{shape: openAI, model: "sql-bytes", stream: true}.request(t.Context(), "http://provider.test"))
	if w.largest != 1 || w.flushes < w.Body.Len() {
		t.Errorf("the largest write has %d bytes, and %d bytes have %d flushes", w.largest, w.Body.Len(), w.flushes)
	}
}

type countingWriter struct {
	*httptest.ResponseRecorder
	largest, flushes int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.largest = max(w.largest, len(p))
	return w.ResponseRecorder.Write(p)
}

func (w *countingWriter) Flush() { w.flushes++ }

func TestHangEndsWithItsClient(t *testing.T) {
	t.Parallel()
	p, s, c := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, _, err := fetch(c, ask{shape: openAI, model: "hang", id: "h"}.request(ctx, s.URL))
		failed <- err
	}()
	if _, err := p.Await(t.Context(), "h", func(e Entry) bool { return e.Billed == askedWords }); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-failed; err == nil {
		t.Error("hang answered")
	}
	if e, err := p.Ended(t.Context(), "h"); err != nil || e.Finished != 0 || e.Billed != askedWords {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestClientThatLeavesStopsGeneration, over a real connection.
func TestClientThatLeavesStopsGeneration(t *testing.T) {
	t.Parallel()
	p, s, c := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := c.Do(ask{shape: openAI, model: "slow-100000-1", stream: true, id: "gone"}.request(ctx, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	seen := int64(0)
	for lines := bufio.NewScanner(resp.Body); seen < 5 && lines.Scan(); {
		if strings.Contains(lines.Text(), "word") {
			seen++
		}
		if e := p.Entry("gone"); e.Completion < seen {
			t.Errorf("%d words were seen, and %d are billed", seen, e.Completion)
		}
	}
	cancel()
	e, err := p.Ended(t.Context(), "gone")
	if err != nil || seen != 5 || e.Completion < seen || e.Completion == 100_000 || e.Finished != 0 || e.Served > e.Completion {
		t.Errorf("%d words seen, then %+v, %v", seen, e, err)
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	_, s, c := start(t)
	for _, shape := range []shape{openAI, anthropic} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v1/models", nil)
		authenticate(r, shape)
		_, body, err := fetch(c, r)
		var list struct {
			Object string
			Data   []struct{ ID, Object, Type string }
		}
		if err != nil || json.Unmarshal([]byte(body), &list) != nil || len(list.Data) != len(models()) {
			t.Fatalf("%s: %v, %s", shape, err, body)
		}
		if m := list.Data[0]; m.ID != "words-10" || (m.Object == "model") != (shape == openAI) || (m.Type == "model") != (shape == anthropic) {
			t.Errorf("%s: the first model is %+v", shape, m)
		}
	}
}
