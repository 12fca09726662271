package llm

import "strings"

// Names of an OpenAI request that we act on, by level. The reference is the
// body of "Create chat completion"; the rest are members of servers that speak
// the same format.
var (
	openaiTop = known("model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens",
		"tools", "functions", "reasoning_effort", "modalities", "audio", "prediction", "web_search_options",
		"previous_response_id", "conversation", "prompt", "background", "mcp_servers", "plugins", "models",
		"fallbacks", "best_of", "use_beam_search")
	openaiMessage = known("role", "content", "tool_calls", "function_call", "audio")
	openaiPart    = known("type", "text", "image_url", "input_audio", "file", "refusal")
	openaiURL     = known("url", "detail")
	openaiAudio   = known("data", "format")
	openaiFile    = known("file_id", "file_data", "filename")
	openaiTool    = known("type", "function", "custom")
	openaiOptions = known("include_usage", "include_obfuscation")
)

// openaiUnbounded maps top-level members to what they let in.
var openaiUnbounded = map[string]string{
	"prediction":           UnboundedPrediction,
	"audio":                UnboundedAudio,
	"web_search_options":   UnboundedServerTools,
	"mcp_servers":          UnboundedServerTools,
	"plugins":              UnboundedServerTools,
	"previous_response_id": UnboundedStored,
	"conversation":         UnboundedStored,
	"prompt":               UnboundedStored,
	"background":           UnboundedStored,
	"models":               UnboundedFallbacks,
	"fallbacks":            UnboundedFallbacks,
	"best_of":              UnboundedFallbacks,
	"use_beam_search":      UnboundedFallbacks,
}

func (openai) limits() []string { return []string{"max_completion_tokens", "max_tokens"} }

func (o openai) request(root elem, r *Request, f *faults) {
	openaiTop.check(root, f)
	r.members(root, openaiUnbounded, f)
	o.choices(root.get("n"), r, f)
	o.options(root.get("stream_options"), r, f)
	o.tools(root, r, f)
	for m := range root.get("modalities").all() {
		if !m.is("text") {
			r.unbound(m, UnboundedAudio, f)
		}
	}
	for m := range root.get("messages").all() {
		o.message(m, r, f)
	}
	r.Hidden = openaiHidden(r.Model, root.get("reasoning_effort"))
}

func (openai) choices(n elem, r *Request, f *faults) {
	if !n.set() {
		return
	}
	count, ok := n.count()
	if !ok || count < 1 || count > MaxChoices {
		f.add(n, "range", "n must be a whole number from 1 to 128.")
		return
	}
	r.Choices = count
}

func (openai) options(o elem, r *Request, f *faults) {
	if o.set() && o.kind() != '{' {
		f.add(o, "type", "The stream options must be an object.")
	}
	openaiOptions.check(o, f)
	r.IncludeUsage = flag(o.get("include_usage"), f)
}

// tools: functions and custom tools are run by the client; any other type is
// run or described by the provider.
func (openai) tools(root elem, r *Request, f *faults) {
	for t := range root.get("tools").all() {
		r.Tools = true
		openaiTool.check(t, f)
		if kind := t.get("type"); !kind.is("function") && !kind.is("custom") {
			r.unbound(t, UnboundedServerTools, f)
		}
	}
	if list := root.get("functions"); list.kind() == '[' && len(list.raw()) > 2 {
		r.Tools = true
	}
}

func (o openai) message(m elem, r *Request, f *faults) {
	if m.kind() != '{' {
		f.add(m, "type", "A message must be an object.")
		return
	}
	openaiMessage.check(m, f)
	if a := m.get("audio"); a.set() { // an earlier spoken answer, by id
		r.unbound(a, UnboundedStored, f)
	}
	switch c := m.get("content"); c.kind() {
	case '[':
		for p := range c.all() {
			o.part(p, r, f)
		}
	case '{':
		r.unbound(c, UnboundedParts, f)
	}
}

func (o openai) part(p elem, r *Request, f *faults) {
	openaiPart.check(p, f)
	switch kind := p.get("type"); {
	case p.kind() == '"' || kind.is("text") || kind.is("refusal"):
	case kind.is("image_url"):
		o.image(p, r, f)
	case kind.is("input_audio"):
		a := p.get("input_audio")
		openaiAudio.check(a, f)
		if !a.get("format").is("wav") && !a.get("format").is("mp3") {
			r.unbound(p, UnboundedParts, f)
			return
		}
		r.medium(p, Media{Kind: Audio, Type: "audio/" + a.get("format").str()}, a.get("data"), f)
	case kind.is("file"):
		openaiFile.check(p.get("file"), f)
		r.unbound(p, UnboundedFiles, f)
	default:
		r.unbound(p, UnboundedParts, f)
	}
}

// image takes an address of any image, since the provider scales what it
// fetches, and a data URL of a type in the table.
func (openai) image(p elem, r *Request, f *faults) {
	holder := p.get("image_url")
	openaiURL.check(holder, f)
	url := holder.get("url")
	scheme, kind := urlKind(url)
	m := Media{Kind: Image, Type: kind, Remote: scheme != "data", Tokens: imageTokens(openaiImages, r.Model, holder.get("detail").str())}
	if scheme == "" || scheme == "data" && !imageType(kind) {
		r.unbound(p, UnboundedParts, f)
		return
	}
	r.medium(p, m, url, f)
}

// urlKind returns the scheme of an address that the table knows, "data" with
// its media type or "http"; "" for all else. It looks at the front only, since
// a payload is long.
func urlKind(e elem) (scheme, mediaType string) {
	if e.kind() != '"' {
		return "", ""
	}
	raw := e.raw()
	front := string(raw[1 : len(raw)-1][:min(len(raw)-2, 64)])
	switch {
	case strings.HasPrefix(front, "https://"), strings.HasPrefix(front, "http://"),
		strings.HasPrefix(front, `https:\/\/`), strings.HasPrefix(front, `http:\/\/`):
		return "http", ""
	case strings.HasPrefix(front, "data:"):
		kind, _, ok := strings.Cut(strings.TrimPrefix(front, "data:"), ";base64,")
		if !ok {
			return "", ""
		}
		return "data", strings.ReplaceAll(kind, `\/`, "/")
	}
	return "", ""
}

// openaiVisible are models that show all that they write. Others may think.
var openaiVisible = []string{"gpt-3.5", "gpt-4", "chatgpt-4o", "ft:gpt-3.5", "ft:gpt-4"}

// openaiThinking are models that think unseen.
var openaiThinking = []string{"o1", "o3", "o4", "gpt-5", "gpt-6"}

func openaiHidden(model string, effort elem) Hidden {
	switch {
	case effort.is("none"), !effort.set() && prefixed(model, openaiVisible):
		return HiddenNone
	case effort.set(), prefixed(model, openaiThinking):
		return HiddenSome
	}
	return HiddenUnknown
}

func prefixed(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
