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

// question is one entry point, ready to be asked. It is immutable and safe for
// concurrent use.
type question struct {
	entry   string
	timeout time.Duration // of one evaluation
	query   rego.PreparedEvalQuery
}

// decide evaluates the entry point for one input document.
func (q *question) decide(ctx context.Context, doc ast.Value) Decision {
	results, err := q.evaluate(ctx, doc)
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
	return decisionOf(q.entry, results[0].Expressions[0].Value)
}

// evaluate runs the query and turns a panic of the evaluator into an error, as
// a policy must not be able to end the process.
func (q *question) evaluate(ctx context.Context, doc ast.Value) (results rego.ResultSet, err error) {
	stop := topdown.NewCancel()
	timer := time.AfterFunc(q.timeout, stop.Cancel)
	defer timer.Stop()
	release := context.AfterFunc(ctx, stop.Cancel)
	defer release()
	defer func() {
		if r := recover(); r != nil {
			results, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	return q.query.Eval(ctx,
		rego.EvalParsedInput(doc),
		rego.EvalExternalCancel(stop),
		rego.EvalMetrics(metrics.NoOp()),
	)
}
