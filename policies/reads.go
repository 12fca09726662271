package policies

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// read is one mention of the input: the constant start of its path, and where
// it stands. The path of input as a whole is empty.
type read struct {
	path []string
	loc  *ast.Location
}

// reads is what an entry point can depend on. It over-approximates: every rule
// that might be reached counts, whether or not a request gets there.
type reads struct {
	inputs       []read
	unrepeatable []*ast.Term // calls whose result the input does not fix
}

// readsOf walks every rule that ref can reach in a compiled policy.
//
// INVARIANT: the compiler has rewritten imports and local variables, so the
// input is always named as input, and rules always by their full path.
func readsOf(c *ast.Compiler, ref ast.Ref, unrepeatable map[string]bool) reads {
	var found reads
	seen := map[*ast.Rule]bool{}
	queue := rulesAt(c, ref)
	for len(queue) > 0 {
		rule := queue[0]
		queue = queue[1:]
		if seen[rule] {
			continue
		}
		seen[rule] = true
		queue = append(queue, found.walk(c, rule, unrepeatable)...)
	}
	slices.SortFunc(found.inputs, func(a, b read) int { return a.loc.Compare(b.loc) })
	return found
}

// walk adds what one rule, with its else branches, reads and returns the rules
// that it can reach.
func (r *reads) walk(c *ast.Compiler, rule *ast.Rule, unrepeatable map[string]bool) []*ast.Rule {
	var next []*ast.Rule
	var visit func(t *ast.Term) bool
	visit = func(t *ast.Term) bool {
		ref := asRef(t.Value)
		switch {
		case ref == nil:
			return false
		case ref.HasPrefix(ast.InputRootRef):
			r.inputs = append(r.inputs, read{path: constantPath(ref), loc: cmp.Or(t.Location, rule.Location)})
		case ref.HasPrefix(ast.DefaultRootRef):
			next = append(next, rulesAt(c, ref)...)
		case unrepeatable[ref.String()]:
			r.unrepeatable = append(r.unrepeatable, t)
		}
		for _, part := range ref[1:] { // the head alone would read as input as a whole
			ast.WalkTerms(part, visit)
		}
		return true
	}
	ast.WalkTerms(rule, visit)
	return next
}

// rulesAt lists the rules that ref could mean, hidden packages included.
func rulesAt(c *ast.Compiler, ref ast.Ref) []*ast.Rule {
	return c.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})
}

// asRef returns v as a reference; input and data may also stand as bare
// variables. It is nil for everything else.
func asRef(v ast.Value) ast.Ref {
	switch v := v.(type) {
	case ast.Ref:
		return v
	case ast.Var:
		return ast.Ref{ast.NewTerm(v)}
	}
	return nil
}

// constantPath is the part of an input reference that is known at load.
func constantPath(ref ast.Ref) []string {
	var path []string
	for _, t := range ref[1:] {
		s, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(s))
	}
	return path
}

// touches reports whether the policy may see the input at path: it reads path,
// something below it, or something that contains it.
func (r *reads) touches(path ...string) bool {
	return slices.ContainsFunc(r.inputs, func(in read) bool {
		n := min(len(in.path), len(path))
		return slices.Equal(in.path[:n], path[:n])
	})
}
