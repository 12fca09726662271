package policies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

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
	results, err := e.evaluate(ctx, e.document(in, body))
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return denial(Canceled, context.Cause(ctx))
	case ctx.Err() != nil, topdown.IsCancel(err):
		return denial(TimedOut, cmp.Or(err, ctx.Err()))
	case err != nil:
		return denial(Failed, err)
	case len(results) == 0:
		return denial(Undefined, nil)
	case len(results) > 1 || len(results[0].Expressions) != 1:
		return denial(NotBoolean, errors.New("more than one result"))
	}
	return decisionOf(e.entry, results[0].Expressions[0].Value)
}

// evaluate runs the query and turns a panic of the evaluator into an error, as
// a policy must not be able to end the process.
func (e *Engine) evaluate(ctx context.Context, doc ast.Value) (results rego.ResultSet, err error) {
	stop := topdown.NewCancel()
	timer := time.AfterFunc(e.timeout, stop.Cancel)
	defer timer.Stop()
	release := context.AfterFunc(ctx, stop.Cancel)
	defer release()
	defer func() {
		if r := recover(); r != nil {
			results, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	return e.query.Eval(ctx,
		rego.EvalParsedInput(doc),
		rego.EvalExternalCancel(stop),
		rego.EvalMetrics(metrics.NoOp()),
	)
}
