package policies

import (
	"net/url"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxQueryMembers bounds the members of a query and of a form.
const maxQueryMembers = 1000

// credentialMember is the query member in which a token may stand.
const credentialMember = "key"

// targetsReadable reports whether every place that holds the request's target
// can be taken apart. Where a policy looks at the target and this is false, the
// document would show less than what goes upstream.
func targetsReadable(in *Input) bool {
	if !targetReadable(in.Path) || !targetReadable(in.UpstreamPath) {
		return false
	}
	for _, h := range in.Headers {
		name := strings.ToLower(h.Name)
		if (name == ":path" || name == originalPath) && !targetReadable(h.Value) {
			return false
		}
	}
	return true
}

// targetReadable reports whether path and query decode without doubt: valid
// escapes, no semicolon in the query (servers disagree on it), not too many
// members.
func targetReadable(target string) bool {
	path, query, _ := strings.Cut(target, "?")
	if _, err := url.PathUnescape(path); err != nil {
		return false
	}
	return queryReadable(query)
}

func queryReadable(query string) bool {
	if strings.IndexByte(query, ';') >= 0 || strings.Count(query, "&") >= maxQueryMembers {
		return false
	}
	_, err := url.QueryUnescape(query)
	return err == nil
}

// visibleTarget is target without the member that may hold a token. A query
// that can't be taken apart is left out whole.
func (e *Engine) visibleTarget(target string) string {
	path, query, found := strings.Cut(target, "?")
	if e.exposeToken || !found {
		return target
	}
	if query = visibleQuery(query); query == "" {
		return path
	}
	return path + "?" + query
}

func visibleQuery(query string) string {
	if !queryReadable(query) {
		return ""
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		// INVARIANT: the query is readable, so its parts are.
		if name, err := url.QueryUnescape(name); err == nil && name != credentialMember {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// parsedPath is the decoded path's segments; [""] for the root, as
// opa-envoy-plugin has it, and for a path that does not decode.
func parsedPath(target string) *ast.Term {
	path, _, _ := strings.Cut(target, "?")
	decoded, err := url.PathUnescape(path)
	if err != nil {
		decoded = ""
	}
	var segments []*ast.Term
	for s := range strings.SplitSeq(strings.TrimLeft(decoded, "/"), "/") {
		segments = append(segments, ast.StringTerm(s))
	}
	return ast.ArrayTerm(segments...)
}

// parsedQuery is the query as an object of arrays; empty if it can't be taken
// apart.
func (e *Engine) parsedQuery(target string) *ast.Term {
	_, query, _ := strings.Cut(target, "?")
	if !queryReadable(query) {
		return object()
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return object()
	}
	if !e.exposeToken {
		delete(values, credentialMember)
	}
	return valuesTerm(values)
}

// valuesTerm is an object of arrays of strings.
func valuesTerm(values url.Values) *ast.Term {
	obj := ast.NewObjectWithCapacity(len(values))
	for name, list := range values {
		elems := make([]*ast.Term, len(list))
		for i, v := range list {
			elems[i] = ast.StringTerm(v)
		}
		obj.Insert(ast.StringTerm(name), ast.ArrayTerm(elems...))
	}
	return ast.NewTerm(obj)
}
