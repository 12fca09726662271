package fakellm

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
)

// shape is a provider's wire format.
type shape string

const (
	openAI    shape = "openai"
	anthropic shape = "anthropic"
)

// maxChoices is the largest n, as OpenAI has it.
const maxChoices = 128

// call is what a request asks for.
type call struct {
	shape   shape
	name    string // of this answer, unique to the provider
	created int64  // Unix seconds
	model   string
	stream  bool
	usage   bool // usage at the end of an OpenAI stream
	choices int
	limit   int    // words per choice
	prompt  int    // words
	tool    string // name of the first tool; "" means none
	last    string // text of the last user message
}

// message is a message of either shape.
type message struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

type openaiRequest struct {
	Model     string          `json:"model"`
	Messages  []message       `json:"messages"`
	Stream    bool            `json:"stream"`
	N         *int            `json:"n"`
	MaxTokens *int            `json:"max_tokens"`
	MaxOutput *int            `json:"max_completion_tokens"`
	Tools     json.RawMessage `json:"tools"`
	Options   struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type anthropicRequest struct {
	Model     string          `json:"model"`
	Messages  []message       `json:"messages"`
	System    json.RawMessage `json:"system"`
	Stream    bool            `json:"stream"`
	MaxTokens *int            `json:"max_tokens"`
	Tools     json.RawMessage `json:"tools"`
}

// readCall reads a request of either shape. The fault is nil if it can be answered.
func readCall(s shape, body []byte) (*call, *fault) {
	if s == anthropic {
		return readAnthropic(body)
	}
	return readOpenAI(body)
}

func readOpenAI(body []byte) (*call, *fault) {
	var r openaiRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, invalid("We could not parse the JSON body of your request: " + err.Error())
	}
	c := &call{
		shape: openAI, model: r.Model, stream: r.Stream, usage: r.Options.IncludeUsage,
		choices: 1, limit: math.MaxInt, prompt: promptWords(r.Messages, nil, r.Tools),
		tool: firstTool(r.Tools), last: lastText(r.Messages),
	}
	if r.N != nil {
		c.choices = *r.N
	}
	if r.MaxTokens != nil && r.MaxOutput != nil {
		return nil, invalid("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
	}
	for _, limit := range []*int{r.MaxTokens, r.MaxOutput} {
		if limit != nil {
			c.limit = *limit
		}
	}
	return c, c.check(r.Messages)
}

func readAnthropic(body []byte) (*call, *fault) {
	var r anthropicRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, invalid("The request body is not valid JSON: " + err.Error())
	}
	if r.MaxTokens == nil {
		return nil, invalid("max_tokens: Field required")
	}
	c := &call{
		shape: anthropic, model: r.Model, stream: r.Stream, usage: true, choices: 1, limit: *r.MaxTokens,
		prompt: promptWords(r.Messages, r.System, r.Tools), tool: firstTool(r.Tools), last: lastText(r.Messages),
	}
	return c, c.check(r.Messages)
}

func (c *call) check(messages []message) *fault {
	switch {
	case c.model == "":
		return invalid("model: Field required")
	case len(messages) == 0:
		return invalid("messages: at least one message is required")
	case c.choices < 1 || c.choices > maxChoices:
		return invalid("n: must be from 1 to 128")
	case c.limit < 1:
		return invalid("max_tokens: must be greater than or equal to 1")
	}
	return nil
}

func promptWords(messages []message, system, tools json.RawMessage) int {
	n := contentWords(system) + rawWords(tools)
	for _, m := range messages {
		n += contentWords(m.Content) + rawWords(m.ToolCalls)
	}
	return n
}

// contentWords counts the text of a content, and the other parts as they stand.
func contentWords(content json.RawMessage) int {
	if text, ok := asText(content); ok {
		return words(text)
	}
	var parts []json.RawMessage
	if json.Unmarshal(content, &parts) != nil {
		return rawWords(content)
	}
	n := 0
	for _, p := range parts {
		if text, ok := partText(p); ok {
			n += words(text)
		} else {
			n += rawWords(p)
		}
	}
	return n
}

func rawWords(raw json.RawMessage) int {
	if string(raw) == "null" {
		return 0
	}
	return len(bytes.Fields(raw))
}

func asText(content json.RawMessage) (string, bool) {
	var text *string
	if json.Unmarshal(content, &text) != nil || text == nil {
		return "", false
	}
	return *text, true
}

func partText(part json.RawMessage) (string, bool) {
	var p struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(part, &p) != nil || p.Type != "text" || p.Text == nil {
		return "", false
	}
	return *p.Text, true
}

// lastText is the text of the last user message, its parts joined by spaces.
func lastText(messages []message) string {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].Role == "user" {
			return contentText(messages[i].Content)
		}
	}
	return ""
}

func contentText(content json.RawMessage) string {
	if text, ok := asText(content); ok {
		return text
	}
	var parts []json.RawMessage
	_ = json.Unmarshal(content, &parts) // what is no list has no text
	var texts []string
	for _, p := range parts {
		if text, ok := partText(p); ok {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, " ")
}

// firstTool is the name of the first tool, which OpenAI nests in function.
func firstTool(tools json.RawMessage) string {
	var list []struct {
		Name     string `json:"name"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(tools, &list) != nil || len(list) == 0 {
		return ""
	}
	if name := list[0].Function.Name; name != "" {
		return name
	}
	return list[0].Name
}
