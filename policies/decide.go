package policies

import "context"

// Decide answers one request within the engine's timeout or ctx's deadline,
// whichever comes first. One call of a built-in is not interrupted, so an answer
// may come later by that much. Safe for concurrent use.
func (e *Engine) Decide(ctx context.Context, in *Input) Decision {
	if e.readsTarget && !targetsReadable(in) {
		return denial(InputMalformed, nil)
	}
	if e.cache == nil {
		return e.ask(ctx, in)
	}
	// INVARIANT: a policy with a cache reads nothing but what the key holds
	// (checkCacheKey), so neither the target nor the body can matter here.
	var buf [cacheBufferSize]byte
	key := e.cache.key.append(buf[:0], in)
	if d := e.cache.get(key); d != nil {
		return *d
	}
	return e.askAndKeep(ctx, in)
}

// askAndKeep is apart from Decide so that the key of a hit stays on the stack.
func (e *Engine) askAndKeep(ctx context.Context, in *Input) Decision {
	d := e.ask(ctx, in)
	if d.Class == Decided {
		kept := d
		kept.Cached = true
		e.cache.put(e.cache.key.append(nil, in), &kept)
	}
	return d
}

// ask evaluates the policy.
func (e *Engine) ask(ctx context.Context, in *Input) Decision {
	body, fault := e.readBody(in)
	if fault != nil {
		return denial(fault.class, fault.cause)
	}
	return e.decide(ctx, e.document(in, body))
}
