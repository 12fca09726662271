package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Bounds of the source, so that a file can be read at one sitting.
const (
	maxMainLines     = 60
	maxFileLines     = 500
	maxFunctionLines = 70
)

// source is one parsed file.
type source struct {
	path string // within the repository
	fset *token.FileSet
	file *ast.File
}

func parse(t *testing.T, path string) source {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return newSource(path, fset, file)
}

func parseText(t *testing.T, text string) source {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "x.go", text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return newSource("x.go", fset, file)
}

func newSource(path string, fset *token.FileSet, file *ast.File) source {
	if root, err := filepath.Abs(repository()); err == nil {
		path = strings.TrimPrefix(path, root+string(filepath.Separator))
	}
	return source{path, fset, file}
}

func (s source) line(p token.Pos) int { return s.fset.Position(p).Line }
func (s source) lines() int           { return s.fset.File(s.file.Pos()).LineCount() - 1 } // the last one is empty

// generated reports whether a file is made from another, which make verify
// holds it to.
func generated(path string) bool {
	return strings.HasSuffix(path, ".gen.go") || strings.HasSuffix(path, ".pb.go")
}

// inits are the lines of functions that run by being linked.
func (s source) inits() (lines []int) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			lines = append(lines, s.line(f.Pos()))
		}
	}
	return lines
}

// longFunctions are the functions over max lines, by name.
func (s source) longFunctions(max int) (names []string) {
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && s.line(f.End())-s.line(f.Pos())+1 > max {
			names = append(names, f.Name.Name)
		}
	}
	return names
}

// selected are the names taken from an imported package, which must not be renamed.
func (s source) selected(importPath, name string) (names []string) {
	imported := slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool {
		return i.Path.Value == `"`+importPath+`"` && i.Name == nil
	})
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if x, isIdent := expr(sel, ok); isIdent && imported && x.Name == name {
			names = append(names, sel.Sel.Name)
		}
		return true
	})
	return names
}

func expr(sel *ast.SelectorExpr, ok bool) (*ast.Ident, bool) {
	if !ok {
		return nil, false
	}
	x, isIdent := sel.X.(*ast.Ident)
	return x, isIdent
}

// TestLooks tries the looks at source on text that breaks each rule.
func TestLooks(t *testing.T) {
	t.Parallel()
	s := parseText(t, "package x\n\nimport \"net/http\"\n\nfunc init() {\n}\n\nfunc long() {\n\n\n}\n\nvar m = http.MethodGet\nvar c = http.DefaultClient\n")
	if got := s.inits(); !slices.Equal(got, []int{5}) {
		t.Errorf("inits: got %v, want line 5", got)
	}
	if got := s.longFunctions(3); !slices.Equal(got, []string{"long"}) {
		t.Errorf("longFunctions(3): got %v, want long alone", got)
	}
	if got := s.selected("net/http", "http"); !slices.Equal(got, []string{"MethodGet", "DefaultClient"}) {
		t.Errorf("selected: got %v", got)
	}
	if got := s.lines(); got != 13 {
		t.Errorf("lines: got %d, want 13", got)
	}
}

func TestSourceIsReadable(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, path := range p.files(true) {
			if generated(path) {
				continue // its source is what people read
			}
			s := parse(t, path)
			if n := s.lines(); n > maxFileLines {
				t.Errorf("%s has %d lines, more than %d: a file is about one concept", s.path, n, maxFileLines)
			}
			if strings.HasSuffix(path, "_test.go") {
				continue // a table may be as long as it must
			}
			for _, name := range s.longFunctions(maxFunctionLines) {
				t.Errorf("%s: %s has more than %d lines", s.path, name, maxFunctionLines)
			}
		}
	}
}

func TestNothingRunsByBeingLinked(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, path := range p.files(true) {
			if generated(path) {
				continue // the registry of protobuf refuses a second one
			}
			s := parse(t, path)
			for _, line := range s.inits() {
				t.Errorf("%s:%d: func init: two of a thing in one process would share what it sets up", s.path, line)
			}
		}
	}
}

func TestCommandsAreThin(t *testing.T) {
	t.Parallel()
	commands := 0
	for _, p := range packages(t) {
		if p.Name != "main" {
			continue
		}
		commands++
		for _, path := range p.files(false) {
			if s := parse(t, path); s.lines() > maxMainLines {
				t.Errorf("%s has %d lines, more than %d: flags, signals and the exit code only", s.path, s.lines(), maxMainLines)
			}
		}
	}
	if commands == 0 {
		t.Error("there is no command")
	}
}

func TestOnePackageComment(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		var with []string
		for _, path := range p.files(false) {
			if s := parse(t, path); s.file.Doc != nil {
				with = append(with, s.path)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s has %d package comments %v, want one", p.ImportPath, len(with), with)
		}
	}
}

// TestNamesOnly bounds the exception of the rule about HTTP that is for names:
// extauthz may say http.MethodGet, and uses nothing that acts.
func TestNamesOnly(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.short() != "extauthz" {
			continue
		}
		for _, path := range p.files(false) {
			s := parse(t, path)
			for _, name := range s.selected("net/http", "http") {
				if !strings.HasPrefix(name, "Method") && !strings.HasPrefix(name, "Status") {
					t.Errorf("%s uses http.%s; only names of methods and statuses are free there", s.path, name)
				}
			}
		}
	}
}
