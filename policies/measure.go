package policies

import "github.com/open-policy-agent/opa/v1/ast"

// Size is what the time and memory of compiling a policy set's Rego hang on,
// tests included.
type Size struct {
	Rules int // each default and each else counts as one
	// Work is the sum, over the rules, of the squares of their parts: the
	// expressions, calls and references of a rule and of all that is nested in
	// it. The compiler puts them in order by what each needs of the others.
	Work int
	// Largest says which rule has the most parts, and where it stands.
	Largest Fault
	parts   int // of Largest
}

// Measure says how large the Rego of src is. It parses and compiles nothing, in
// time and memory linear in the text, which [RegoBytes] tells before. Its error
// is [Faults]: all that can't be parsed.
func Measure(src Source) (Size, error) {
	rego := Source{}
	for name, text := range src {
		if isRego(name) {
			rego[name] = text
		}
	}
	p, faults := parse(rego, capabilities())
	if len(faults) > 0 {
		return Size{}, faultsOrNil(faults)
	}
	var size Size
	for _, modules := range []map[string]*ast.Module{p.modules, p.tests} {
		for _, m := range modules {
			for _, r := range m.Rules {
				size.add(r)
			}
		}
	}
	return size, nil
}

// add counts a rule and its chain of else, which is nested in it.
func (s *Size) add(r *ast.Rule) {
	n := partsOf(r)
	s.Work += n * n
	if n > s.parts {
		s.parts, s.Largest = n, faultAt(r.Location, "the rule %s has %d expressions, calls and references", r.Head.Ref(), n)
	}
	for ; r != nil; r = r.Else {
		s.Rules++
	}
}

func partsOf(r *ast.Rule) (n int) {
	ast.WalkExprs(r, func(*ast.Expr) bool { n++; return false })
	ast.WalkTerms(r, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Ref, ast.Call:
			n++
		}
		return false
	})
	return n
}

// RegoBytes is how much Rego src has.
func RegoBytes(src Source) (n int) {
	for name, text := range src {
		if isRego(name) {
			n += len(text)
		}
	}
	return n
}
