package arch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rule forbids a relation between packages.
//
// Paths are those of imports; ours are written without the module's name, and
// "" stands for all of ours. A path stands for itself and what lies below it.
type rule struct {
	name   string
	who    []string          // whom it binds
	except map[string]string // who of them is free, and why
	links  bool              // what is linked counts, not only what is imported
	what   []string          // what they may not import
	own    bool              // but for what is of the same server as they are
	but    []string          // of what: these they may
	reason string

	// breaks is an import that the rule must refuse: importer, imported.
	breaks [2]string
}

// violation is one relation that a rule refuses.
type violation struct{ rule, from, to, reason string }

func (v violation) String() string {
	return fmt.Sprintf("%s: %s must not depend on %s: %s", v.rule, v.from, v.to, v.reason)
}

// below reports whether path is p or lies below it.
func below(path, p string) bool {
	return p == "" || path == p || strings.HasPrefix(path, p+"/")
}

func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return below(path, p) })
}

// exempt returns the exception that frees a package, if one does.
func (r rule) exempt(path string) (string, bool) {
	for e := range r.except {
		if below(path, e) {
			return e, true
		}
	}
	return "", false
}

// refused lists what a package depends on against the rule, exceptions aside.
func (r rule) refused(p pkg) []string {
	if !matches(p.short(), r.who) {
		return nil
	}
	depends := p.Imports
	if r.links {
		depends = p.Deps
	}
	var out []string
	for _, to := range depends {
		to = strings.TrimPrefix(to, module+"/")
		if matches(to, r.what) && !matches(to, r.but) && !(r.own && server(p.short()) == server(to)) {
			out = append(out, to)
		}
	}
	return out
}

// server names the server that a path belongs to: control has several.
func server(path string) string {
	parts := strings.SplitN(path, "/", 3)
	if parts[0] == "control" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// check returns what is against a rule, and the exceptions that nobody needs.
func check(r rule, all []pkg) (found []violation, unused []string) {
	used := map[string]bool{}
	for _, p := range all {
		for _, to := range r.refused(p) {
			if e, free := r.exempt(p.short()); free {
				used[e] = true
				continue
			}
			found = append(found, violation{r.name, p.short(), to, r.reason})
		}
	}
	for e := range r.except {
		if !used[e] {
			unused = append(unused, e)
		}
	}
	slices.Sort(unused)
	return found, unused
}

// TestEngine tries the engine itself on packages that do not exist.
func TestEngine(t *testing.T) {
	t.Parallel()
	imports := func(from string, to ...string) pkg { return pkg{ImportPath: module + "/" + from, Imports: to} }
	for _, tt := range []struct {
		name   string
		rule   rule
		all    []pkg
		want   []string // "from to"
		unused []string
	}{
		{"an import", rule{who: []string{"a"}, what: []string{"net/http"}}, []pkg{imports("a", "net/http")}, []string{"a net/http"}, nil},
		{"of a package below", rule{who: []string{"a"}, what: []string{"net/http"}}, []pkg{imports("a/b", "net/http/pprof")}, []string{"a/b net/http/pprof"}, nil},
		{"a longer name is another", rule{who: []string{"a"}, what: []string{"net/http"}}, []pkg{imports("ab", "net/http"), imports("a", "net/https")}, nil, nil},
		{"ours", rule{who: []string{""}, what: []string{"cmd"}}, []pkg{imports("a", "gatehouse/cmd/x", "cmd/other")}, []string{"a cmd/x", "a cmd/other"}, nil},
		{"an exception", rule{who: []string{""}, except: map[string]string{"a": "so"}, what: []string{"x"}}, []pkg{imports("a", "x"), imports("b", "x")}, []string{"b x"}, nil},
		{"an exception for nothing", rule{who: []string{""}, except: map[string]string{"a": "so", "c": "so"}, what: []string{"x"}}, []pkg{imports("a", "y")}, nil, []string{"a", "c"}},
		{"its own server", rule{who: []string{"s", "control"}, what: []string{"s", "control"}, own: true},
			[]pkg{imports("s/a", "gatehouse/s/b", "gatehouse/control/x"), imports("control/x", "gatehouse/control/x/y", "gatehouse/control/z")},
			[]string{"s/a control/x", "control/x control/z"}, nil},
		{"what they may", rule{who: []string{"a"}, what: []string{"x"}, but: []string{"x/pure"}}, []pkg{imports("a", "x", "x/pure/y")}, []string{"a x"}, nil},
		{"links do not count as imports", rule{who: []string{"a"}, what: []string{"x"}}, []pkg{{ImportPath: "gatehouse/a", Deps: []string{"x"}}}, nil, nil},
		{"links", rule{who: []string{"a"}, what: []string{"x"}, links: true}, []pkg{{ImportPath: "gatehouse/a", Deps: []string{"x"}}}, []string{"a x"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, unused := check(tt.rule, tt.all)
			var got []string
			for _, v := range found {
				got = append(got, v.from+" "+v.to)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.unused, unused); diff != "" {
				t.Errorf("unused exceptions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestViolationGivesTheReason(t *testing.T) {
	t.Parallel()
	r := rule{name: "no x", who: []string{"a"}, what: []string{"x"}, reason: "x is heavy"}
	found, _ := check(r, []pkg{{ImportPath: "gatehouse/a", Imports: []string{"x"}}})
	if len(found) != 1 || found[0].String() != "no x: a must not depend on x: x is heavy" {
		t.Errorf("got %v", found)
	}
}
