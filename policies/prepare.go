package policies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// partialTimeout bounds partial evaluation at load.
const partialTimeout = 2 * time.Second

// Names in the modules that partial evaluation makes. The namespace is one that
// no file can declare.
const (
	partialNamespace = "__partial"
	partialResult    = "decision" // the rule
	partialValue     = "value"    // the variable that it takes its value from
)

var errNotSimplified = errors.New("partial evaluation left the entry point as it is")

// prepare returns the entry point's query, partially evaluated where that gets
// anywhere: it saves searching tables at each request and changes no decision.
func (p *parsed) prepare(ctx context.Context, caps *ast.Capabilities, c *ast.Compiler, entry ast.Ref) (rego.PreparedEvalQuery, error) {
	query, err := p.preparePartial(ctx, caps, c, entry)
	if err != nil && ctx.Err() == nil {
		query, err = p.preparePlain(ctx, c, entry)
	}
	if ctx.Err() != nil {
		return query, ctx.Err()
	}
	return query, err
}

func (p *parsed) preparePlain(ctx context.Context, c *ast.Compiler, entry ast.Ref) (rego.PreparedEvalQuery, error) {
	query, err := p.rego(c, entry.String()).PrepareForEval(ctx)
	if err != nil {
		return query, Faults(faultsOf("", err))
	}
	return query, nil
}

// preparePartial evaluates what does not depend on the input and prepares what
// is left. It does by hand what rego.WithPartialEval does, which writes to a term
// that all of OPA shares, so that two policy sets could not be compiled at once.
// A panic in OPA's partial evaluator is an error like any other: the plain query
// is there.
func (p *parsed) preparePartial(ctx context.Context, caps *ast.Capabilities, c *ast.Compiler, entry ast.Ref) (query rego.PreparedEvalQuery, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("partial evaluation: panic: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, partialTimeout)
	defer cancel()
	left, err := p.rego(c, partialValue+" = "+entry.String(), rego.PartialNamespace(partialNamespace)).Partial(ctx)
	if err != nil {
		return query, err
	}
	if !simplified(left, entry) {
		return query, errNotSimplified
	}
	residual := newCompiler(caps)
	residual.Compile(p.withResult(left))
	if residual.Failed() {
		return query, residual.Errors
	}
	return p.preparePlain(ctx, residual, resultRef())
}

// resultRef is the rule that holds the result of partial evaluation.
func resultRef() ast.Ref {
	return ast.Ref{ast.DefaultRootDocument, ast.StringTerm(partialNamespace), ast.StringTerm(partialResult)}
}

// withResult is the policy set with what partial evaluation left: its support
// modules, and one rule for each way to a decision.
func (p *parsed) withResult(left *rego.PartialQueries) map[string]*ast.Module {
	path := resultRef()
	result := &ast.Module{Package: &ast.Package{Path: path[:2]}}
	result.SetRegoVersionSpan(ast.RegoVersionSpanOf(ast.RegoV1))
	for _, body := range left.Queries {
		head := ast.NewHead(ast.Var(partialResult), nil, ast.VarTerm(partialValue))
		result.Rules = append(result.Rules, &ast.Rule{Head: head, Body: body, Module: result})
	}
	modules := maps.Clone(p.modules)
	modules[partialNamespace] = result
	for i, support := range left.Support {
		modules[fmt.Sprint(partialNamespace, i)] = support
	}
	return modules
}

// simplified reports whether partial evaluation got past the entry point. It
// does not where that has an else, and then its result only costs a call more.
// A policy that is never defined has nothing left to prepare.
func simplified(left *rego.PartialQueries, entry ast.Ref) bool {
	same := false
	for _, body := range left.Queries {
		ast.WalkRefs(body, func(ref ast.Ref) bool {
			same = same || ref.HasPrefix(entry)
			return same
		})
	}
	return !same && len(left.Queries) > 0
}

func (p *parsed) rego(c *ast.Compiler, query string, more ...func(*rego.Rego)) *rego.Rego {
	return rego.New(append([]func(*rego.Rego){
		rego.Query(query),
		rego.Compiler(c),
		rego.Store(p.store()),
		rego.Metrics(metrics.NoOp()),
		rego.StrictBuiltinErrors(true),
	}, more...)...)
}

// store holds the set's data. Each store has a copy of its own.
func (p *parsed) store() storage.Store {
	data := ast.NewTerm(p.data).Copy()
	return inmem.NewFromASTObject(data.Value.(ast.Object))
}
