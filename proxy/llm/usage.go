package llm

// Usage is what a provider reports, in tokens. Members only grow: a stream's
// usage is the largest of each member over its frames.
type Usage struct {
	Input     int64 // prompt, cached parts included
	Output    int64 // reasoning included
	Reasoning int64 // part of Output, where the provider says so
	CacheRead int64 // part of Input
	CacheMade int64 // part of Input
	Seen      bool  // any usage was seen
	Final     bool  // the usage that the provider bills was seen
}

// Total returns input and output together.
func (u Usage) Total() int64 { return u.Input + u.Output }

// meter keeps the largest figure of each member as the provider names them.
type meter struct {
	prompt, completion, reasoning, total int64
	cacheRead, cacheMade                 int64
	seen, final                          bool
}

// figure reads one member into its largest value; what is no figure is a fault.
func (c *collector) figure(e elem, largest *int64) {
	if !e.set() {
		return
	}
	n, ok := e.whole()
	if !ok {
		c.refuse(e, "range", "The usage is not a whole number.")
		return
	}
	*largest = max(*largest, n)
}

// openaiUsage: completion_tokens include reasoning. Some servers report
// reasoning outside of it and inside total_tokens, so the larger reading counts.
func (c *collector) openaiUsage(e elem, m *meter) {
	if e.kind() != '{' {
		return
	}
	c.twins(e, openaiUsageNames)
	c.figure(e.get("prompt_tokens"), &m.prompt)
	c.figure(e.get("completion_tokens"), &m.completion)
	c.figure(e.get("total_tokens"), &m.total)
	c.figure(e.get("completion_tokens_details").get("reasoning_tokens"), &m.reasoning)
	c.figure(e.get("prompt_tokens_details").get("cached_tokens"), &m.cacheRead)
	m.seen, c.news = true, true
}

// anthropicUsage: input_tokens exclude what was read from or written to the cache.
func (c *collector) anthropicUsage(e elem, m *meter) {
	if e.kind() != '{' {
		return
	}
	c.twins(e, anthropicUsageNames)
	c.figure(e.get("input_tokens"), &m.prompt)
	c.figure(e.get("output_tokens"), &m.completion)
	c.figure(e.get("cache_creation_input_tokens"), &m.cacheMade)
	c.figure(e.get("cache_read_input_tokens"), &m.cacheRead)
	c.figure(e.get("output_tokens_details").get("thinking_tokens"), &m.reasoning)
	m.seen, c.news = true, true
}

var (
	openaiUsageNames    = known("prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details", "prompt_tokens_details")
	anthropicUsageNames = known("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens_details")
)

// openai returns the usage by OpenAI's reading of the members.
func (m *meter) openai() Usage {
	return Usage{Input: m.prompt, Output: max(m.completion, m.total-m.prompt), Reasoning: m.reasoning,
		CacheRead: m.cacheRead, Seen: m.seen, Final: m.final}
}

// anthropic returns the usage by Anthropic's reading of the members.
func (m *meter) anthropic() Usage {
	return Usage{Input: m.prompt + m.cacheMade + m.cacheRead, Output: m.completion, Reasoning: m.reasoning,
		CacheRead: m.cacheRead, CacheMade: m.cacheMade, Seen: m.seen, Final: m.final}
}
