package fakellm

import "encoding/json"

// anthropicFrames are the frames of one step of a streamed message.
func anthropicFrames(c *call, e event) []frame {
	switch e.kind {
	case started:
		return []frame{anthropicEvent("message_start", object{"message": anthropicMessage(c, []object{}, nil, e.usage)})}
	case opened:
		start := anthropicEvent("content_block_start", object{"index": e.index, "content_block": anthropicBlock(c, e.block, "")})
		if e.index > 0 {
			return []frame{start}
		}
		return []frame{start, anthropicEvent("ping", object{})}
	case worded:
		if e.text != "" {
			return []frame{blockDelta(e, anthropicDelta(e))}
		}
	case closed:
		return anthropicClose(e)
	case noted:
		return []frame{messageDelta(nil, e.usage)}
	case ended:
		return []frame{messageDelta(anthropicStop(e), e.usage), anthropicEvent("message_stop", object{})}
	}
	return nil
}

func anthropicEvent(kind string, o object) frame {
	o["type"] = kind
	return jsonFrame(kind, o)
}

func blockDelta(e event, delta object) frame {
	return anthropicEvent("content_block_delta", object{"index": e.index, "delta": delta})
}

func anthropicDelta(e event) object {
	switch e.block.kind {
	case thought:
		return object{"type": "thinking_delta", "thinking": e.text}
	case toolCall:
		return object{"type": "input_json_delta", "partial_json": e.text}
	}
	return object{"type": "text_delta", "text": e.text}
}

// signature stands under reasoning, shown or not.
const signature = "RmFrZVNpZ25hdHVyZQ=="

func anthropicClose(e event) []frame {
	stop := anthropicEvent("content_block_stop", object{"index": e.index})
	if e.block.kind != thought && e.block.kind != concealed {
		return []frame{stop}
	}
	return []frame{blockDelta(e, object{"type": "signature_delta", "signature": signature}), stop}
}

func messageDelta(stop any, u *usage) frame {
	o := object{"delta": object{"stop_reason": stop, "stop_sequence": nil}}
	if u != nil {
		o["usage"] = anthropicUsage(u)
	}
	return anthropicEvent("message_delta", o)
}

func anthropicStop(e event) string {
	switch {
	case e.full:
		return "max_tokens"
	case e.block.kind == toolCall:
		return "tool_use"
	}
	return "end_turn"
}

// anthropicUsage: the parts of the prompt that a cache saw are not in
// input_tokens.
func anthropicUsage(u *usage) object {
	return object{
		"input_tokens": u.prompt - u.cacheRead - u.cacheNew, "output_tokens": u.completion,
		"cache_read_input_tokens": u.cacheRead, "cache_creation_input_tokens": u.cacheNew,
		"output_tokens_details": object{"thinking_tokens": u.reasoning},
	}
}

func anthropicMessage(c *call, content []object, stop any, u *usage) object {
	o := object{
		"id": "msg_" + c.name, "type": "message", "role": "assistant", "model": c.model,
		"content": content, "stop_reason": stop, "stop_sequence": nil,
	}
	if u != nil {
		reported := anthropicUsage(u)
		reported["service_tier"] = "standard"
		o["usage"] = reported
	}
	return o
}

// anthropicBlock is a content block; a stream begins it with an empty text.
func anthropicBlock(c *call, b block, text string) object {
	switch b.kind {
	case thought, concealed:
		return object{"type": "thinking", "thinking": text, "signature": ""}
	case toolCall:
		input := json.RawMessage(text)
		if !json.Valid(input) {
			input = json.RawMessage("{}") // nothing yet, or cut by the limit
		}
		return object{"type": "tool_use", "id": "toolu_" + c.name, "name": b.tool, "input": input}
	}
	return object{"type": "text", "text": text}
}

// anthropicDocument is a whole message.
func anthropicDocument(c *call, a *answer) object {
	content := make([]object, len(a.parts))
	for i, p := range a.parts {
		content[i] = anthropicBlock(c, p.block, p.text.String())
		if content[i]["type"] == "thinking" {
			content[i]["signature"] = signature
		}
	}
	return anthropicMessage(c, content, anthropicStop(a.last), a.last.usage)
}
