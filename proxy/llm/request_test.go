package llm

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// said is what a test compares of a Request.
type said struct {
	Model        string
	Stream       bool
	Limited      bool
	MaxOutput    int64
	Choices      int64
	Tools        bool
	IncludeUsage bool
	Hidden       Hidden
	Media        int
	Unbounded    []string // name and pointer
}

func sum(r *Request) said {
	s := said{r.Model, r.Stream, r.Limited, r.MaxOutput, r.Choices, r.Tools, r.IncludeUsage, r.Hidden, len(r.Media), nil}
	for _, u := range r.Unbounded {
		s.Unbounded = append(s.Unbounded, u.Name+" "+u.Pointer)
	}
	return s
}

func mustParse(t testing.TB, f Format, body string) *Request {
	t.Helper()
	r, err := Parse(f, []byte(body))
	if err != nil {
		t.Fatalf("Parse(%s, %s): %v", f, body, err)
	}
	return r
}

const hello = `"messages":[{"role":"user","content":"Hello!"}]`

func TestParseOpenAI(t *testing.T) {
	t.Parallel()
	plain := said{Model: "gpt-4o", Choices: 1, Hidden: HiddenNone}
	with := func(change func(*said)) said {
		s := plain
		change(&s)
		return s
	}
	unbounded := func(list ...string) said { return with(func(s *said) { s.Unbounded = list }) }
	for _, tc := range []struct {
		name, body string
		want       said
	}{
		{"plain", `{"model":"gpt-4o",` + hello + `}`, plain},
		{"developer message and unknown members", `{"model":"gpt-4o","messages":[{"role":"developer","content":"Be kind."},{"role":"user","content":[{"type":"text","text":"Hi"}]}],"x_new":{"Model":1},"metadata":{"Stream":"yes"},"store":true}`, plain},
		{"stream", `{"model":"gpt-4o","stream":true,` + hello + `}`, with(func(s *said) { s.Stream = true })},
		{"stream with usage", `{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},` + hello + `}`,
			with(func(s *said) { s.Stream, s.IncludeUsage = true, true })},
		{"limit", `{"model":"gpt-4o","max_completion_tokens":100,` + hello + `}`, with(func(s *said) { s.Limited, s.MaxOutput = true, 100 })},
		{"old limit", `{"model":"gpt-4o","max_tokens":0,` + hello + `}`, with(func(s *said) { s.Limited = true })},
		{"both limits", `{"model":"gpt-4o","max_tokens":300,"max_completion_tokens":100,` + hello + `}`, with(func(s *said) { s.Limited, s.MaxOutput = true, 300 })},
		{"both limits, the other way", `{"model":"gpt-4o","max_tokens":100,"max_completion_tokens":300,` + hello + `}`, with(func(s *said) { s.Limited, s.MaxOutput = true, 300 })},
		{"no limit by null", `{"model":"gpt-4o","max_tokens":null,"n":null,"stream":null,` + hello + `}`, plain},
		{"n", `{"model":"gpt-4o","n":4,` + hello + `}`, with(func(s *said) { s.Choices = 4 })},
		{"tools", `{"model":"gpt-4o","tools":[{"type":"function","function":{"name":"f","parameters":{"Type":"x"}}},{"type":"custom","custom":{"name":"g"}}],` + hello + `}`,
			with(func(s *said) { s.Tools = true })},
		{"no tools", `{"model":"gpt-4o","tools":[],"functions":[],` + hello + `}`, plain},
		{"functions", `{"model":"gpt-4o","functions":[{"name":"f"}],` + hello + `}`, with(func(s *said) { s.Tools = true })},
		{"server tool", `{"model":"gpt-4o","tools":[{"type":"web_search"},{"type":"mcp"},{}],` + hello + `}`,
			with(func(s *said) {
				s.Tools, s.Unbounded = true, []string{"server_tools /tools/0", "server_tools /tools/1", "server_tools /tools/2"}
			})},
		{"web search", `{"model":"gpt-4o","web_search_options":{},` + hello + `}`, unbounded("server_tools /web_search_options")},
		{"stored conversation", `{"model":"gpt-4o","previous_response_id":"r","conversation":"c","prompt":{"id":"p"},` + hello + `}`,
			unbounded("stored /previous_response_id", "stored /conversation", "stored /prompt")},
		{"stored answer", `{"model":"gpt-4o","messages":[{"role":"assistant","audio":{"id":"a"}}]}`, unbounded("stored /messages/0/audio")},
		{"prediction", `{"model":"gpt-4o","prediction":{"type":"content","content":"x"},` + hello + `}`, unbounded("prediction /prediction")},
		{"not set", `{"model":"gpt-4o","prediction":null,"background":false,` + hello + `}`, plain},
		{"speech", `{"model":"gpt-4o","modalities":["text","audio"],"audio":{"voice":"alloy"},` + hello + `}`,
			unbounded("audio /audio", "audio /modalities/1")},
		{"beams and fallbacks", `{"model":"gpt-4o","best_of":5,"models":["a"],` + hello + `}`, unbounded("fallbacks /best_of", "fallbacks /models")},
		{"file", `{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}`, unbounded("files /messages/0/content/0")},
		{"unknown parts", `{"model":"gpt-4o","messages":[{"role":"user","content":["text",{"image":"iVBO"},{"type":"video"}]},{"role":"user","content":{"a":1}}]}`,
			unbounded("parts /messages/0/content/1", "parts /messages/0/content/2", "parts /messages/1/content")},
		{"reasoning model", `{"model":"o3-mini",` + hello + `}`, with(func(s *said) { s.Model, s.Hidden = "o3-mini", HiddenSome })},
		{"reasoning off", `{"model":"gpt-5","reasoning_effort":"none",` + hello + `}`, with(func(s *said) { s.Model = "gpt-5" })},
		{"reasoning on", `{"model":"x","reasoning_effort":"low",` + hello + `}`, with(func(s *said) { s.Model, s.Hidden = "x", HiddenSome })},
		{"unknown model", `{"model":"llama",` + hello + `}`, with(func(s *said) { s.Model, s.Hidden = "llama", HiddenUnknown })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, sum(mustParse(t, OpenAI, tc.body))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseAnthropic(t *testing.T) {
	t.Parallel()
	plain := said{Model: "claude-sonnet-4-5", Limited: true, MaxOutput: 1024, Choices: 1, IncludeUsage: true, Hidden: HiddenNone}
	with := func(change func(*said)) said {
		s := plain
		change(&s)
		return s
	}
	unbounded := func(list ...string) said { return with(func(s *said) { s.Unbounded = list }) }
	top := `{"model":"claude-sonnet-4-5","max_tokens":1024,`
	content := func(c string) string { return top + `"messages":[{"role":"user","content":[` + c + `]}]}` }
	for _, tc := range []struct {
		name, body string
		want       said
	}{
		{"plain", top + hello + `}`, plain},
		{"system blocks", top + `"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],` + hello + `}`, plain},
		{"no limit", `{"model":"claude-sonnet-4-5",` + hello + `}`, with(func(s *said) { s.Limited, s.MaxOutput = false, 0 })},
		{"stream", top + `"stream":true,` + hello + `}`, with(func(s *said) { s.Stream = true })},
		{"tools", top + `"tools":[{"name":"f","input_schema":{}},{"type":"custom","name":"g"}],` + hello + `}`, with(func(s *said) { s.Tools = true })},
		{"server tools", top + `"tools":[{"type":"web_search_20250305","name":"web_search"},{"type":"bash_20250124","name":"bash"}],` + hello + `}`,
			with(func(s *said) { s.Tools, s.Unbounded = true, []string{"server_tools /tools/0", "server_tools /tools/1"} })},
		{"servers", top + `"mcp_servers":[{"url":"https://x"}],"container":"c","context_management":{},` + hello + `}`,
			unbounded("server_tools /mcp_servers", "server_tools /container", "fallbacks /context_management")},
		{"thinking", top + `"thinking":{"type":"enabled","budget_tokens":1024},` + hello + `}`, with(func(s *said) { s.Hidden = HiddenSome })},
		{"no thinking", `{"model":"claude-next","max_tokens":1024,"thinking":{"type":"disabled"},` + hello + `}`, with(func(s *said) { s.Model = "claude-next" })},
		{"a model of its own mind", `{"model":"claude-next","max_tokens":1024,` + hello + `}`, with(func(s *said) { s.Model, s.Hidden = "claude-next", HiddenUnknown })},
		{"image in a tool result", content(`{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}}]}`),
			with(func(s *said) { s.Media = 1 })},
		{"images", content(`{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"image","source":{"type":"file","file_id":"f"}},{"type":"image","source":{"type":"base64","media_type":"image/tiff","data":""}}`),
			with(func(s *said) {
				s.Media, s.Unbounded = 1, []string{"files /messages/0/content/1", "parts /messages/0/content/2"}
			})},
		{"documents", content(`{"type":"document","source":{"type":"text","media_type":"text/plain","data":"x"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"}},{"type":"document","source":{"type":"url","url":"https://x/y.pdf"}},{"type":"document","source":{"type":"content","content":[{"type":"text","text":"x"},{"type":"odd"}]}}`),
			unbounded("files /messages/0/content/1", "urls /messages/0/content/2", "parts /messages/0/content/3/source/content/1")},
		{"history", content(`{"type":"thinking","thinking":"x","signature":"s"},{"type":"tool_use","id":"t","name":"f","input":{"Type":1}},{"type":"server_tool_use","id":"t","name":"web_search","input":{}},{"type":"web_search_tool_result","tool_use_id":"t","content":[]},{"type":"container_upload","file_id":"f"}`),
			unbounded("files /messages/0/content/4")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, sum(mustParse(t, Anthropic, tc.body))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		format Format
		body   string
		want   []string // code and pointer
	}{
		{"a list", OpenAI, `[]`, []string{"type "}},
		{"all at once", OpenAI, `{"stream":"yes","n":0,"max_tokens":-1}`,
			[]string{"required ", "type /stream", "required ", "range /n", "range /max_tokens"}},
		{"model of a wrong type", OpenAI, `{"model":1,` + hello + `}`, []string{"type /model"}},
		{"empty model", OpenAI, `{"model":"",` + hello + `}`, []string{"type /model"}},
		{"long model", OpenAI, `{"model":"` + strings.Repeat("m", MaxModelBytes+1) + `",` + hello + `}`, []string{"type /model"}},
		{"messages of a wrong type", OpenAI, `{"model":"m","messages":{}}`, []string{"required /messages"}},
		{"a message of a wrong type", OpenAI, `{"model":"m","messages":["x"]}`, []string{"type /messages/0"}},
		{"fractions", OpenAI, `{"model":"m","n":1.5,"max_tokens":1e3,` + hello + `}`, []string{"range /n", "range /max_tokens"}},
		{"too many choices", OpenAI, `{"model":"m","n":129,` + hello + `}`, []string{"range /n"}},
		{"options of a wrong type", OpenAI, `{"model":"m","stream_options":[],` + hello + `}`, []string{"type /stream_options"}},
		{"usage of a wrong type", OpenAI, `{"model":"m","stream_options":{"include_usage":1},` + hello + `}`, []string{"type /stream_options/include_usage"}},
		{"twins at every level", OpenAI, `{"model":"m","Max_Tokens":9,"N":3,"stream_options":{"includeUsage":true},"tools":[{"Type":"function","type":"function"}],"messages":[{"role":"user","Content":"x","content":[{"Type":"x","type":"image_url","image_url":{"URL":"x","url":"https://x"}},{"type":"file","file":{"fileId":"x"}},{"type":"input_audio","input_audio":{"Data":"x"}}]}]}`,
			[]string{"ambiguous /Max_Tokens", "ambiguous /N", "ambiguous /stream_options/includeUsage", "ambiguous /tools/0/Type",
				"ambiguous /messages/0/Content", "ambiguous /messages/0/content/0/Type", "ambiguous /messages/0/content/0/image_url/URL",
				"ambiguous /messages/0/content/1/file/fileId", "ambiguous /messages/0/content/2/input_audio/Data"}},
		{"twins, Anthropic", Anthropic, `{"model":"m","maxTokens":9,"tools":[{"Type":"x"}],"thinking":{"Type":"x"},"messages":[{"Role":"x","content":[{"Type":"x","type":"image","source":{"Type":"x"}},{"type":"tool_result","content":[{"TYPE":"x"}]},{"type":"document","source":{"Data":"x"}}]}]}`,
			[]string{"ambiguous /maxTokens", "ambiguous /tools/0/Type", "ambiguous /messages/0/Role", "ambiguous /messages/0/content/0/Type",
				"ambiguous /messages/0/content/0/source/Type", "ambiguous /messages/0/content/1/content/0/TYPE",
				"ambiguous /messages/0/content/2/source/Data", "ambiguous /thinking/Type"}},
		{"a message of a wrong type, Anthropic", Anthropic, `{"model":"m","messages":[1]}`, []string{"type /messages/0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(tc.format, []byte(tc.body))
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind != Invalid {
				t.Fatalf("error %v, want an Invalid one", err)
			}
			var got []string
			for _, f := range e.Faults {
				got = append(got, f.Code+" "+f.Pointer)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseLimits(t *testing.T) {
	t.Parallel()
	kindOf := func(f Format, body []byte) Kind {
		_, err := Parse(f, body)
		e, _ := errors.AsType[*Error](err)
		if e == nil {
			return 0
		}
		return e.Kind
	}
	if got := kindOf(OpenAI, make([]byte, MaxRequestBytes+1)); got != TooLarge {
		t.Errorf("too large a body: kind %d, want %d", got, TooLarge)
	}
	image := `{"type":"image_url","image_url":{"url":"https://x"}}`
	many := func(n int, part string) []byte {
		list := strings.Join(slices.Repeat([]string{part}, n), ",")
		return []byte(`{"model":"m","messages":[{"role":"user","content":[` + list + `]}]}`)
	}
	for part, name := range map[string]string{image: "media", `{"type":"file"}`: "unbounded parts"} {
		if got := kindOf(OpenAI, many(MaxMedia, part)); got != 0 {
			t.Errorf("as many %s as allowed: kind %d, want none", name, got)
		}
		if got := kindOf(OpenAI, many(MaxMedia+1, part)); got != Invalid {
			t.Errorf("too many %s: kind %d, want %d", name, got, Invalid)
		}
	}
	_, err := Parse(OpenAI, many(2*maxFaults, `{"TYPE":1}`))
	if e, ok := errors.AsType[*Error](err); !ok || len(e.Faults) != maxFaults {
		t.Errorf("faults %v, want %d", err, maxFaults)
	}
	if _, err := Parse("gemini", []byte(`{}`)); err == nil || Format("gemini").Known() || !OpenAI.Known() {
		t.Errorf("an unknown format: error %v, want one", err)
	}
}

func TestPromptBound(t *testing.T) {
	t.Parallel()
	png := `data:image/png;base64,` + strings.Repeat("iVBORw0K", 4000)
	part := func(url, detail string) string {
		return `{"type":"image_url","image_url":{"url":"` + url + `"` + detail + `}}`
	}
	body := func(model, parts string) string {
		return `{"model":"` + model + `","messages":[{"role":"user","content":[` + parts + `]}]}`
	}
	escaped := strings.ReplaceAll(png, "/", `\/`)
	for _, tc := range []struct {
		name, body string
		payload    int // bytes that don't count, with their quotes
		more       int64
	}{
		{"text", body("gpt-4o", `{"type":"text","text":"x"}`), 0, 0},
		{"tools", `{"model":"gpt-4o","tools":[{"type":"function"}],` + hello + `}`, 0, ToolTokens},
		{"image", body("gpt-4o", part(png, "")), len(png) + 2, 1445},
		{"image, escaped", body("gpt-4o", part(escaped, "")), len(escaped) + 2, 1445},
		{"image, low", body("gpt-4o-2024-08-06", part(png, `,"detail":"low"`)), len(png) + 2, 85},
		{"image, auto", body("gpt-4o-mini", part(png, `,"detail":"auto"`)), len(png) + 2, 48169},
		{"image, fine-tuned", body("ft:gpt-4o-mini:x", part(png, `,"detail":"low"`)), len(png) + 2, 2833},
		{"image, original", body("gpt-5.4", part(png, `,"detail":"original"`)), len(png) + 2, 16200},
		{"image, unknown model", body("llama", part(png, `,"detail":"low"`)), len(png) + 2, unknownImage},
		{"image, unknown detail", body("gpt-4o", part(png, `,"detail":"huge"`)), len(png) + 2, unknownImage},
		{"addresses count as text", body("o3", part("https://x/y.png", "")+","+part("http://x", "")), 0, 2 * 1275},
		{"sound", body("gpt-4o", `{"type":"input_audio","input_audio":{"data":"`+strings.Repeat("A", 6398)+`","format":"mp3"}}`), 6400, 201},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := mustParse(t, OpenAI, tc.body).PromptBound
			if want := int64(len(tc.body)-tc.payload) + tc.more; got != want {
				t.Errorf("bound %d, want %d", got, want)
			}
		})
	}
	pdf := `{"model":"gpt-4o","messages":[{"role":"user","content":[` + part("data:application/pdf;base64,JVBE", "") + `,` +
		part("ftp://x", "") + `,` + part("data:image/png,plain", "") + `,` + part(`\u0064ata:image/png;base64,x`, "") + `]}]}`
	if r := mustParse(t, OpenAI, pdf); len(r.Unbounded) != 4 || r.PromptBound != int64(len(pdf)) {
		t.Errorf("what the table does not hold: %v bound %d, want 4 parts and every byte", r.Unbounded, r.PromptBound)
	}
	for model, want := range map[string]int64{"claude-3-haiku": 1700, "claude-sonnet-4-20250514": 1700, "claude-opus-4-7": 8848, "x": unknownImage} {
		data := strings.Repeat("A", 5000)
		text := `{"model":"` + model + `","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"` + data + `"}}]}]}`
		if got := mustParse(t, Anthropic, text).PromptBound - int64(len(text)-len(data)-2); got != want {
			t.Errorf("%s: image %d, want %d", model, got, want)
		}
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		members string
		limit   int64
		output  int64
		choices int64
	}{
		{``, 4096, 4096, 1},
		{`"n":4,`, 4096, 4096, 4},
		{`"n":4,"max_tokens":100,`, 4096, 100, 4},
		{`"max_tokens":9000,`, 4096, 4096, 1},
		{`"max_tokens":9000,`, 0, 9000, 1},
		{`"max_completion_tokens":10,"max_tokens":20,`, 4096, 20, 1},
		{`"n":128,`, 1 << 62, MaxTokens, 128},
	} {
		body := `{"model":"m",` + tc.members + hello + `}`
		r := mustParse(t, OpenAI, body)
		if got, want := r.Hold(tc.limit), int64(len(body))+tc.choices*tc.output; got != want {
			t.Errorf("%s limit %s: hold %d, want %d", tc.members, strconv.FormatInt(tc.limit, 10), got, want)
		}
	}
}
