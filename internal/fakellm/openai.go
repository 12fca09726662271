package fakellm

// openaiFrames are the frames of one step of a streamed chat completion.
func openaiFrames(c *call, e event) []frame {
	switch e.kind {
	case started:
		return eachChoice(c, object{"role": "assistant", "content": "", "refusal": nil}, nil)
	case opened:
		if e.block.kind == toolCall {
			return []frame{chunk(c, e.choice, object{"tool_calls": []object{openaiTool(c, e.block.tool, "")}}, nil)}
		}
	case worded:
		if e.text != "" {
			return []frame{chunk(c, e.choice, openaiDelta(e), nil)}
		}
	case noted:
		return openaiUsageFrame(c, e.usage)
	case ended:
		frames := eachChoice(c, object{}, openaiFinish(e))
		frames = append(frames, openaiUsageFrame(c, e.usage)...)
		return append(frames, frame{data: []byte("[DONE]")})
	}
	return nil
}

func eachChoice(c *call, delta object, finish any) []frame {
	frames := make([]frame, c.choices)
	for i := range frames {
		frames[i] = chunk(c, i, delta, finish)
	}
	return frames
}

func openaiDelta(e event) object {
	switch e.block.kind {
	case thought:
		return object{"reasoning_content": e.text} // not OpenAI's own, but many servers that speak its language
	case toolCall:
		return object{"tool_calls": []object{{"index": 0, "function": object{"arguments": e.text}}}}
	}
	return object{"content": e.text}
}

func openaiTool(c *call, name, arguments string) object {
	return object{
		"index": 0, "id": "call_" + c.name, "type": "function",
		"function": object{"name": name, "arguments": arguments},
	}
}

func openaiFinish(e event) string {
	switch {
	case e.full:
		return "length"
	case e.block.kind == toolCall:
		return "tool_calls"
	}
	return "stop"
}

// chunk is a frame of one choice.
func chunk(c *call, index int, delta object, finish any) frame {
	o := openaiHead(c, "chat.completion.chunk")
	o["choices"] = []object{{"index": index, "delta": delta, "logprobs": nil, "finish_reason": finish}}
	o["obfuscation"] = "Kx3vQ9" // padding against those who watch lengths
	if c.usage {
		o["usage"] = nil
	}
	return jsonFrame("", o)
}

func openaiUsageFrame(c *call, u *usage) []frame {
	if u == nil || !c.usage {
		return nil
	}
	o := openaiHead(c, "chat.completion.chunk")
	o["choices"], o["usage"] = []object{}, openaiUsage(u)
	return []frame{jsonFrame("", o)}
}

func openaiHead(c *call, kind string) object {
	return object{
		"id": "chatcmpl-" + c.name, "object": kind, "created": c.created, "model": c.model,
		"service_tier": "default", "system_fingerprint": "fp_fake",
	}
}

func openaiUsage(u *usage) object {
	return object{
		"prompt_tokens": u.prompt, "completion_tokens": u.completion, "total_tokens": u.prompt + u.completion,
		"prompt_tokens_details": object{"cached_tokens": u.cacheRead, "audio_tokens": 0},
		"completion_tokens_details": object{
			"reasoning_tokens": u.reasoning, "audio_tokens": 0,
			"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
		},
	}
}

// openaiDocument is a whole chat completion.
func openaiDocument(c *call, a *answer) object {
	choices := make([]object, c.choices)
	for i := range choices {
		choices[i] = object{"index": i, "message": openaiMessage(c, a), "logprobs": nil, "finish_reason": openaiFinish(a.last)}
	}
	o := openaiHead(c, "chat.completion")
	o["choices"] = choices
	if a.last.usage != nil {
		o["usage"] = openaiUsage(a.last.usage)
	}
	return o
}

func openaiMessage(c *call, a *answer) object {
	m := object{"role": "assistant", "content": nil, "refusal": nil, "annotations": []object{}}
	for _, p := range a.parts {
		switch p.kind {
		case said:
			m["content"] = p.text.String()
		case thought:
			m["reasoning_content"] = p.text.String()
		case toolCall:
			call := openaiTool(c, p.tool, p.text.String())
			delete(call, "index") // only streams have it
			m["tool_calls"] = []object{call}
		}
	}
	return m
}
