package llm

import "strconv"

// Names of an OpenAI answer, by level: "The chat completion object" and "The
// chat completion chunk object", and the names under which other servers of the
// format show reasoning.
var (
	openaiAnswer   = known("id", "object", "created", "model", "choices", "usage", "error")
	openaiChoice   = known("index", "finish_reason", "logprobs", "message", "delta")
	openaiTurn     = known("role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call", "audio")
	openaiCall     = known("index", "function", "custom")
	openaiFunction = known("name", "arguments", "input")
	openaiSpeech   = known("data", "transcript", "expires_at")
	errorDocument  = known("message", "type", "code", "param")
)

// transcript names the transcript of spoken output in a Key.
const transcript = "audio.transcript"

func (openai) usage(m *meter) Usage { return m.openai() }

func (o openai) answer(root elem, a *Answer, c *collector) {
	var m meter
	a.Err = o.top(root, c, &m, true)
	m.final = m.seen
	a.Usage = m.openai()
	for _, e := range c.ends {
		a.Finish = append(a.Finish, e.reason)
	}
	if root.get("choices").kind() != '[' && a.Err == nil {
		c.refuse(root, "type", "The document is neither an answer nor an error.")
	}
}

// top reads an answer or a chunk of one, whole or in pieces.
func (o openai) top(root elem, c *collector, m *meter, whole bool) *ProviderError {
	n := 0
	for ch := range root.get("choices").all() {
		o.choice(ch, n, whole, c)
		n++
	}
	c.openaiUsage(root.get("usage"), m)
	c.others(root, openaiAnswer, Key{})
	return c.providerError(root.get("error"))
}

func (o openai) choice(ch elem, position int, whole bool, c *collector) {
	if ch.kind() != '{' {
		c.refuse(ch, "type", "A choice must be an object.")
		return
	}
	i := c.index(ch.get("index"), position, MaxChoices-1)
	c.seen = append(c.seen, i)
	if lp := ch.get("logprobs"); lp.set() {
		c.blank = append(c.blank, lp.span())
	}
	o.turn(ch.get("message"), i, true, c) // in a stream too a message is whole
	o.turn(ch.get("delta"), i, whole, c)
	c.others(ch, openaiChoice, Key{Choice: i})
	if reason := c.word(ch.get("finish_reason")); reason != "" {
		c.ends = append(c.ends, end{index: i, reason: reason})
	}
}

// turn reads a message or a delta.
func (o openai) turn(t elem, choice int, whole bool, c *collector) {
	c.add(t.get("reasoning_content"), Key{Field: FieldReasoning, Choice: choice, Name: "reasoning_content"}, whole)
	c.add(t.get("reasoning"), Key{Field: FieldReasoning, Choice: choice, Name: "reasoning"}, whole)
	c.add(t.get("content"), Key{Field: FieldContent, Choice: choice}, whole)
	c.add(t.get("refusal"), Key{Field: FieldRefusal, Choice: choice}, whole)
	if a := t.get("audio"); a.set() {
		c.add(a.get("transcript"), Key{Field: FieldContent, Choice: choice, Name: transcript}, whole)
		c.others(a, openaiSpeech, Key{Choice: choice})
	}
	n := 0
	for call := range t.get("tool_calls").all() {
		i := c.index(call.get("index"), n, MaxIndex)
		o.function(call.get("function"), Key{Choice: choice, Index: i, Name: "function"}, whole, c)
		o.function(call.get("custom"), Key{Choice: choice, Index: i, Name: "custom"}, whole, c)
		c.others(call, openaiCall, Key{Choice: choice, Index: i})
		n++
	}
	o.function(t.get("function_call"), Key{Choice: choice, Name: "function_call"}, whole, c)
	c.others(t, openaiTurn, Key{Choice: choice})
}

// function reads what is called. Names come whole in every server known to us,
// and can't be sent later than their arguments.
func (openai) function(f elem, key Key, whole bool, c *collector) {
	key.Field = FieldToolName
	c.add(f.get("name"), key, true)
	key.Field = FieldToolInput
	c.add(f.get("arguments"), key, whole)
	c.add(f.get("input"), key, whole)
	c.others(f, openaiFunction, key)
}

// providerError reads an error object; nil if there is none. An error that is
// only a string is none of the format, but what it says is seen.
func (c *collector) providerError(e elem) *ProviderError {
	if !e.set() {
		return nil
	}
	if e.kind() != '{' || e.get("message").kind() != '"' {
		c.refuse(e, "type", "The error has not the format's form.")
		return nil
	}
	c.add(e.get("message"), Key{Field: FieldError}, true)
	c.others(e, errorDocument, Key{})
	c.rest(e.get("param"), Key{})
	out := &ProviderError{Type: c.word(e.get("type"))}
	if e.get("code").kind() == '"' {
		out.Code = c.word(e.get("code"))
	}
	return out
}

func (openai) end(data []byte) bool { return string(data) == "[DONE]" }

func (o openai) frame(s *Stream, root elem, ev *Event) {
	c := &s.c
	ev.Err = o.top(root, c, &s.meter, false)
	choices := root.get("choices").kind() == '['
	if !choices && ev.Err == nil && !c.news {
		c.refuse(root, "type", "The frame is neither a chunk nor an error.")
	}
	c.closing = c.news && len(c.seen) == 0 && len(c.texts) == 0
	ev.Remove = s.opts.HideUsage && c.closing && choices
	if u := root.get("usage"); s.opts.HideUsage && u.ok() && !u.set() {
		c.gone = append(c.gone, whole(u))
	}
	if ev.Err != nil {
		ev.Kind = EventError
	}
	s.remember(root)
}

// remember keeps the head of the first chunk for frames of ours.
func (s *Stream) remember(root elem) {
	if s.head.model != nil || root.get("model").kind() != '"' {
		return
	}
	s.head = head{clip(root.get("id")), clip(root.get("model")), clip(root.get("created"))}
}

// clip copies a short label or number, or null in place of all else: nobody judges
// it where it is written again.
func clip(e elem) []byte {
	label := e.kind() == '0' || e.kind() == '"' && quiet(e.raw())
	if raw := e.raw(); label && len(raw) <= maxNameBytes {
		return append([]byte(nil), raw...)
	}
	return []byte("null")
}

// delta makes a chunk with the head of the stream's own.
func (openai) delta(dst []byte, s *Stream, key Key, quoted []byte) ([]byte, error) {
	open, end, err := openaiDelta(key)
	if err != nil {
		return dst, err
	}
	dst = append(dst, `data: {"id":`...)
	dst = append(dst, s.head.get(s.head.id)...)
	dst = append(dst, `,"object":"chat.completion.chunk","created":`...)
	dst = append(dst, s.head.get(s.head.created)...)
	dst = append(dst, `,"model":`...)
	dst = append(dst, s.head.get(s.head.model)...)
	dst = append(dst, `,"choices":[{"index":`...)
	dst = strconv.AppendInt(dst, int64(key.Choice), 10)
	dst = append(append(dst, `,"delta":`...), open...)
	dst = append(append(dst, quoted...), end...)
	return append(dst, ",\"finish_reason\":null}]}\n\n"...), nil
}

// openaiDelta returns what stands before and after the text in a delta.
func openaiDelta(key Key) (open, end string, err error) {
	switch {
	case key.Field == FieldContent && key.Name == transcript:
		return `{"audio":{"transcript":`, `}}`, nil
	case key.Field == FieldContent:
		return `{"content":`, `}`, nil
	case key.Field == FieldRefusal:
		return `{"refusal":`, `}`, nil
	case key.Field == FieldReasoning && openaiTurn.lists(key.Name):
		return `{"` + key.Name + `":`, `}`, nil
	case key.Field == FieldToolInput && key.Name == "function_call":
		return `{"function_call":{"arguments":`, `}}`, nil
	case key.Field == FieldToolInput && key.Name == "custom":
		return openaiCallDelta(key, "custom", "input")
	case key.Field == FieldToolInput:
		return openaiCallDelta(key, "function", "arguments")
	}
	return "", "", errKey
}

func openaiCallDelta(key Key, kind, member string) (open, end string, err error) {
	return `{"tool_calls":[{"index":` + strconv.Itoa(key.Index) + `,"` + kind + `":{"` + member + `":`, `}}]}`, nil
}
