package policies

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// DefaultTimeout bounds one evaluation where [Options] says nothing.
const DefaultTimeout = 50 * time.Millisecond

// Options say how a policy set's Rego is asked.
type Options struct {
	// Entry is the reference of the decision, data.gatehouse.authz or
	// data.envoy.authz.allow: a rule, or a package.
	Entry string
	// Timeout bounds one evaluation; 0 means DefaultTimeout.
	Timeout time.Duration
	// ExposeToken leaves the credential headers and the query member key in
	// the input, for policies that read tokens themselves.
	ExposeToken bool
}

// Engine answers one entry point of one policy set, and the second question that
// is asked about LLM requests. It is safe for concurrent use.
type Engine struct {
	question    // the entry point's
	exposeToken bool

	cache *cache    // nil if the policy declares no cache_key
	llm   *question // nil if the set does not answer it

	readsBody   bool // input.parsed_body or the raw body
	parsesBody  bool // input.parsed_body
	readsTarget bool // parsed_path, parsed_query, or a path as text
}

// Compile reads src as strict Rego v1 and prepares its entry point, and
// data.gatehouse.llm where src defines it. Its error is [Faults], all that it
// found, or ctx's error. For each of the two Compile takes at most two seconds
// more than OPA's compiler, which is not bounded in time but by the size of src.
func Compile(ctx context.Context, src Source, opt Options) (*Engine, error) {
	caps := capabilities()
	p, faults := parse(src, caps)
	if len(faults) > 0 {
		return nil, faultsOrNil(faults)
	}
	entry, err := parseEntry(opt.Entry)
	if err != nil {
		return nil, err
	}
	c, err := p.compile(caps)
	if err != nil {
		return nil, err
	}
	if err := checkEntry(c, entry); err != nil {
		return nil, err
	}
	found := readsOf(c, entry, unrepeatable(caps))
	key, faults := checkCacheKey(declarations(c, entry), &found)
	if len(faults) > 0 {
		return nil, faultsOrNil(faults)
	}
	query, err := p.prepare(ctx, caps, c, entry)
	if err != nil {
		return nil, err
	}
	e := newEngine(opt, query, key, &found)
	if e.llm, err = p.prepareLLM(ctx, caps, c, e.timeout); err != nil {
		return nil, err
	}
	return e, nil
}

func newEngine(opt Options, query rego.PreparedEvalQuery, key cacheKey, found *reads) *Engine {
	e := &Engine{
		question:    question{entry: opt.Entry, timeout: cmp.Or(opt.Timeout, DefaultTimeout), query: query},
		exposeToken: opt.ExposeToken,
		parsesBody:  found.touches("parsed_body"),
	}
	for _, name := range []string{"parsed_path", "parsed_query", "upstream_path"} {
		e.readsTarget = e.readsTarget || found.touches(name)
	}
	http := []string{"attributes", "request", "http"}
	e.readsBody = e.parsesBody || found.touches(append(http, "body")...)
	for _, name := range [][]string{{"path"}, {"headers", ":path"}, {"headers", originalPath}} {
		e.readsTarget = e.readsTarget || found.touches(append(http, name...)...)
	}
	if key != nil {
		e.cache = newCache(key)
	}
	return e
}

// ReadsBody reports whether the policy may look at the request's body. Only
// then does a body that can't be read make a denial.
func (e *Engine) ReadsBody() bool { return e.readsBody }

// Cacheable reports whether the policy declares what its decisions depend on.
func (e *Engine) Cacheable() bool { return e.cache != nil }

// parseEntry reads an entry point: a constant reference below data.
func parseEntry(entry string) (ast.Ref, error) {
	ref, err := ast.ParseRef(entry)
	if err != nil || len(ref) < 2 || !ref.HasPrefix(ast.DefaultRootRef) || !ref.IsGround() {
		return nil, Faults{{Message: fmt.Sprintf("entry point %q is not of the form data.package.rule", entry)}}
	}
	return ref, nil
}

// checkEntry says whether something gives the entry point a value.
func checkEntry(c *ast.Compiler, entry ast.Ref) error {
	rules := c.GetRules(entry)
	if len(rules) == 0 {
		return Faults{{Message: fmt.Sprintf("nothing defines the entry point %s", entry)}}
	}
	for _, r := range c.GetRulesExact(entry) {
		if len(r.Head.Args) > 0 {
			return Faults{faultAt(r.Location, "the entry point %s is a function", entry)}
		}
	}
	return nil
}

// compile compiles a copy of the modules, without the tests, in strict mode.
func (p *parsed) compile(caps *ast.Capabilities) (*ast.Compiler, error) {
	c := newCompiler(caps).WithStrict(true).WithPathConflictsCheck(p.hasData)
	c.Compile(p.modules)
	if c.Failed() {
		return nil, faultsOrNil(faultsOf("", c.Errors))
	}
	return c, nil
}

// newCompiler is the compiler that policies and their tests share.
func newCompiler(caps *ast.Capabilities) *ast.Compiler {
	return ast.NewCompiler().
		WithCapabilities(caps).
		WithDefaultRegoVersion(ast.RegoV1).
		SetErrorLimit(maxFaults)
}

// hasData reports whether the set's data has something at path, so that no rule
// may be there.
func (p *parsed) hasData(path []string) (bool, error) {
	var ref ast.Ref
	for _, part := range path {
		ref = append(ref, ast.StringTerm(part))
	}
	_, err := p.data.Find(ref)
	return err == nil, nil
}
