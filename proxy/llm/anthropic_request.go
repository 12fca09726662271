package llm

import "strings"

// Names of an Anthropic request that we act on, by level. The reference is the
// body of "Create a Message", its beta members included.
var (
	anthropicTop = known("model", "messages", "system", "stream", "max_tokens", "tools", "thinking", "container",
		"mcp_servers", "context_management", "compaction", "fallbacks", "n")
	anthropicMessage = known("role", "content")
	anthropicBlock   = known("type", "text", "source", "content", "thinking", "input", "file_id")
	anthropicSource  = known("type", "media_type", "data", "url", "file_id", "content")
	anthropicTool    = known("type", "name", "input_schema")
	anthropicThink   = known("type", "budget_tokens", "display")
)

// anthropicUnbounded maps top-level members to what they let in.
var anthropicUnbounded = map[string]string{
	"container":          UnboundedServerTools,
	"mcp_servers":        UnboundedServerTools,
	"context_management": UnboundedFallbacks,
	"compaction":         UnboundedFallbacks,
	"fallbacks":          UnboundedFallbacks,
	"n":                  UnboundedFallbacks, // the format has no choices
}

func (anthropic) limits() []string { return []string{"max_tokens"} }

func (a anthropic) request(root elem, r *Request, f *faults) {
	anthropicTop.check(root, f)
	r.members(root, anthropicUnbounded, f)
	r.IncludeUsage = true
	for t := range root.get("tools").all() {
		a.tool(t, r, f)
	}
	for m := range root.get("messages").all() {
		anthropicMessage.check(m, f)
		if m.kind() != '{' {
			f.add(m, "type", "A message must be an object.")
		}
		a.content(m.get("content"), r, f)
	}
	a.content(root.get("system"), r, f)
	thinking := root.get("thinking")
	anthropicThink.check(thinking, f)
	r.Hidden = anthropicHidden(r.Model, thinking)
}

// tool: a tool without a type, or of type custom, is described by the request
// itself. All others bring a description, or work, of the provider's.
func (anthropic) tool(t elem, r *Request, f *faults) {
	r.Tools = true
	anthropicTool.check(t, f)
	if kind := t.get("type"); kind.set() && !kind.is("custom") {
		r.unbound(t, UnboundedServerTools, f)
	}
}

// content takes blocks, also those inside tool results and documents.
// INVARIANT: it descends at most MaxDepth levels, as the parser does.
func (a anthropic) content(c elem, r *Request, f *faults) {
	switch c.kind() {
	case '[':
		for b := range c.all() {
			a.part(b, r, f)
		}
	case '{':
		r.unbound(c, UnboundedParts, f)
	}
}

func (a anthropic) part(b elem, r *Request, f *faults) {
	anthropicBlock.check(b, f)
	switch kind := b.get("type").str(); kind {
	case "text", "thinking", "redacted_thinking", "tool_use", "search_result":
	case "tool_result":
		a.content(b.get("content"), r, f)
	case "image":
		a.image(b, r, f)
	case "document":
		a.document(b, r, f)
	case "container_upload", "web_fetch_tool_result": // the latter may bring pages along
		r.unbound(b, UnboundedFiles, f)
	case "server_tool_use":
	default:
		if strings.HasSuffix(kind, "_tool_result") { // of a server's tool, sent back as it came
			return
		}
		r.unbound(b, UnboundedParts, f)
	}
}

func (anthropic) image(b elem, r *Request, f *faults) {
	src := b.get("source")
	anthropicSource.check(src, f)
	m := Media{Kind: Image, Tokens: imageTokens(anthropicImages, r.Model, "")}
	switch {
	case src.get("type").is("base64") && imageType(src.get("media_type").str()):
		m.Type = src.get("media_type").str()
		r.medium(b, m, src.get("data"), f)
	case src.get("type").is("url"):
		m.Remote = true
		r.medium(b, m, elem{}, f)
	case src.get("type").is("file"):
		r.unbound(b, UnboundedFiles, f)
	default:
		r.unbound(b, UnboundedParts, f)
	}
}

// document: text is counted as text; pages are not ours to count.
func (a anthropic) document(b elem, r *Request, f *faults) {
	src := b.get("source")
	anthropicSource.check(src, f)
	switch src.get("type").str() {
	case "text":
	case "content":
		a.content(src.get("content"), r, f)
	case "url":
		r.unbound(b, UnboundedURLs, f)
	default: // base64, file
		r.unbound(b, UnboundedFiles, f)
	}
}

// anthropicPlain are models that don't think unless they are asked to.
var anthropicPlain = []string{"claude-3", "claude-opus-4-20", "claude-opus-4-1", "claude-opus-4-5", "claude-opus-4-6",
	"claude-sonnet-4-20", "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-haiku-4-5"}

// anthropicHidden: thinking is billed in full and shown as a summary at most.
func anthropicHidden(model string, thinking elem) Hidden {
	switch {
	case thinking.get("type").is("disabled"), !thinking.set() && prefixed(model, anthropicPlain):
		return HiddenNone
	case thinking.set():
		return HiddenSome
	}
	return HiddenUnknown
}
