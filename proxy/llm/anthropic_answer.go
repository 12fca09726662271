package llm

import "strconv"

// Names of an Anthropic answer, by level: "Message" and the events of a stream.
var (
	anthropicAnswer  = known("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage")
	anthropicFailure = known("type", "error", "request_id")
	anthropicEvent   = known("type", "message", "index", "content_block", "delta", "usage")
	anthropicStop    = known("stop_reason", "stop_sequence")
	blockText        = known("type", "text")
	blockThinking    = known("type", "thinking", "signature")
	blockRedacted    = known("type", "data")
	blockTool        = known("type", "id", "name", "input")
	blockOther       = known("type")
	deltaJSON        = known("type", "partial_json")
	deltaSignature   = known("type", "signature")
)

func (anthropic) usage(m *meter) Usage { return m.anthropic() }

func (a anthropic) answer(root elem, out *Answer, c *collector) {
	var m meter
	switch kind := root.get("type"); {
	case kind.is("message"):
		if reason := a.message(root, true, c, &m); reason != "" {
			out.Finish = []string{reason}
		}
		m.final = m.seen
		out.Usage = m.anthropic()
	case kind.is("error"):
		out.Err = a.failed(root, c)
	default:
		c.refuse(root, "type", "The document is neither an answer nor an error.")
	}
}

// message reads a message, whole or as a stream begins it.
func (a anthropic) message(m elem, whole bool, c *collector, use *meter) string {
	n := 0
	for b := range m.get("content").all() {
		a.block(b, n, whole, c)
		n++
	}
	if list := m.get("content"); list.set() && list.kind() != '[' {
		c.refuse(list, "type", "The content must be a list of blocks.")
	}
	c.anthropicUsage(m.get("usage"), use)
	c.others(m, anthropicAnswer, Key{})
	return c.word(m.get("stop_reason"))
}

func (anthropic) block(b elem, i int, whole bool, c *collector) {
	if b.kind() != '{' || i > MaxIndex {
		c.refuse(b, "type", "A content block must be an object.")
		return
	}
	key := Key{Index: i}
	switch kind := b.get("type"); {
	case kind.is("text"):
		c.add(b.get("text"), Key{Field: FieldContent, Index: i}, whole)
		c.others(b, blockText, key)
	case kind.is("thinking"):
		c.add(b.get("thinking"), Key{Field: FieldReasoning, Index: i}, whole)
		c.sealed = true
		c.others(b, blockThinking, key)
	case kind.is("redacted_thinking"):
		c.redacted = true
		c.others(b, blockRedacted, key)
	case kind.is("tool_use"), kind.is("server_tool_use"), kind.is("mcp_tool_use"):
		c.add(b.get("name"), Key{Field: FieldToolName, Index: i}, true)
		c.json(b.get("input"), Key{Field: FieldToolInput, Index: i})
		c.others(b, blockTool, key)
	default:
		c.others(b, blockOther, key)
	}
}

func (anthropic) end([]byte) bool { return false }

func (anthropic) errorEvent() string { return "error" }

func (a anthropic) frame(s *Stream, root elem, ev *Event) {
	c, kind := &s.c, root.get("type")
	if s.frame.Event != "" && !kind.is(s.frame.Event) {
		c.refuse(kind, "type", "The event's name does not fit its type.")
		return
	}
	switch i := c.index(root.get("index"), 0, MaxIndex); kind.str() {
	case "message_start":
		c.seen = append(c.seen, 0)
		a.message(root.get("message"), false, c, &s.meter)
	case "content_block_start":
		a.block(root.get("content_block"), i, false, c)
	case "content_block_delta":
		a.piece(root.get("delta"), i, c)
	case "content_block_stop":
		c.ends = append(c.ends, end{index: i, block: true})
	case "message_delta":
		a.stop(root, c, &s.meter)
	case "message_stop":
		c.over = true
	case "ping":
		ev.Kind = EventKeepAlive
	case "error":
		ev.Kind, ev.Err = EventError, a.failed(root, c)
		return
	default:
		c.refuse(kind, "type", "The event is of an unknown type.")
	}
	c.others(root, anthropicEvent, Key{})
}

// piece reads a delta of a content block.
func (anthropic) piece(d elem, i int, c *collector) {
	key := Key{Index: i}
	switch kind := d.get("type"); {
	case kind.is("text_delta"):
		c.add(d.get("text"), Key{Field: FieldContent, Index: i}, false)
		c.others(d, blockText, key)
	case kind.is("thinking_delta"):
		c.add(d.get("thinking"), Key{Field: FieldReasoning, Index: i}, false)
		c.others(d, blockThinking, key)
	case kind.is("input_json_delta"):
		c.add(d.get("partial_json"), Key{Field: FieldToolInput, Index: i}, false)
		c.others(d, deltaJSON, key)
	case kind.is("signature_delta"):
		c.sealed = true
		c.others(d, deltaSignature, key)
	case kind.is("citations_delta"):
		c.others(d, blockOther, key)
	default:
		c.refuse(d, "type", "The delta is of an unknown type.")
	}
}

// stop reads message_delta. Its usage is final when the message has ended.
func (anthropic) stop(root elem, c *collector, m *meter) {
	d := root.get("delta")
	c.others(d, anthropicStop, Key{})
	c.anthropicUsage(root.get("usage"), m)
	if reason := c.word(d.get("stop_reason")); reason != "" {
		c.ends = append(c.ends, end{reason: reason})
	}
}

// failed reads an error document.
func (anthropic) failed(root elem, c *collector) *ProviderError {
	c.others(root, anthropicFailure, Key{})
	err := c.providerError(root.get("error"))
	if err == nil {
		c.refuse(root, "type", "The error has not the format's form.")
	}
	return err
}

// delta makes a content_block_delta.
func (anthropic) delta(dst []byte, _ *Stream, key Key, quoted []byte) ([]byte, error) {
	var kind, member string
	switch key.Field {
	case FieldContent:
		kind, member = "text_delta", "text"
	case FieldReasoning:
		kind, member = "thinking_delta", "thinking"
	case FieldToolInput:
		kind, member = "input_json_delta", "partial_json"
	default:
		return dst, errKey
	}
	dst = append(dst, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":"...)
	dst = strconv.AppendInt(dst, int64(key.Index), 10)
	dst = append(dst, `,"delta":{"type":"`+kind+`","`+member+`":`...)
	return append(append(dst, quoted...), "}}\n\n"...), nil
}
