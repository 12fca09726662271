package policies

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
)

// Limits of one policy set.
const (
	maxFiles     = 256
	maxFileBytes = 1 << 20
	maxDataDepth = 64
)

// Source is the text of a policy set by slash-separated path. Files named
// *.rego and data.json count, everything else is left alone. A data.json is
// mounted at its folder: data.json is the root, a/b/data.json is data.a.b.
type Source map[string][]byte

// ReadSource reads the policy files of a set. Its errors are those of the file
// system, or say which limit was passed.
func ReadSource(set fs.FS) (Source, error) {
	src := Source{}
	err := fs.WalkDir(set, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isPolicyFile(name) {
			return err
		}
		if len(src) == maxFiles {
			return fmt.Errorf("more than %d policy files", maxFiles)
		}
		src[name], err = readBounded(set, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read policy set: %w", err)
	}
	return src, nil
}

// readBounded reads one file whose size was checked before it was read.
func readBounded(set fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(set, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFileBytes)
	}
	return fs.ReadFile(set, name)
}

func isRego(name string) bool { return strings.HasSuffix(name, ".rego") }

func isRegoTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

func isPolicyFile(name string) bool { return isRego(name) || path.Base(name) == "data.json" }

// parsed is a source read into modules and data, not yet compiled.
type parsed struct {
	modules map[string]*ast.Module
	tests   map[string]*ast.Module
	data    ast.Object
}

// parse reads every policy file of src and reports all faults of all files.
func parse(src Source, caps *ast.Capabilities) (parsed, []Fault) {
	p := parsed{modules: map[string]*ast.Module{}, tests: map[string]*ast.Module{}, data: ast.NewObject()}
	if len(src) > maxFiles {
		return p, []Fault{{Message: fmt.Sprintf("the policy set has more than %d files", maxFiles)}}
	}
	var faults []Fault
	for _, name := range slices.Sorted(maps.Keys(src)) {
		faults = append(faults, p.add(name, src[name], caps)...)
	}
	return p, faults
}

func (p *parsed) add(name string, text []byte, caps *ast.Capabilities) []Fault {
	switch {
	case !isPolicyFile(name):
		return nil
	case len(text) > maxFileBytes:
		return []Fault{{File: name, Message: fmt.Sprintf("larger than %d bytes", maxFileBytes)}}
	case !isRego(name):
		return p.addData(name, text)
	}
	return p.addModule(name, text, caps)
}

func (p *parsed) addModule(name string, text []byte, caps *ast.Capabilities) []Fault {
	m, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{
		Capabilities:      caps,
		ProcessAnnotation: true,
		RegoVersion:       ast.RegoV1,
	})
	switch {
	case err != nil:
		return faultsOf(name, err)
	case isRegoTest(name):
		p.tests[name] = m
	default:
		p.modules[name] = m
	}
	return refusedCalls(m)
}

func (p *parsed) addData(name string, text []byte) []Fault {
	value, offset, err := parseJSON(text, maxDataDepth)
	if err != nil {
		line, col := position(text, offset)
		return []Fault{{File: name, Line: line, Col: col, Message: err.Error()}}
	}
	obj, ok := value.(ast.Object)
	if !ok {
		return []Fault{{File: name, Message: "data.json must hold an object"}}
	}
	if dir := path.Dir(name); dir != "." {
		for _, part := range slices.Backward(strings.Split(dir, "/")) {
			obj = ast.NewObject(ast.Item(ast.StringTerm(part), ast.NewTerm(obj)))
		}
	}
	merged, ok := p.data.Merge(obj)
	if !ok {
		return []Fault{{File: name, Message: "a member is already set by another data.json"}}
	}
	p.data = merged
	return nil
}

// position turns a byte offset into line and column, both from 1.
func position(text []byte, offset int64) (line, col int) {
	before := text[:min(max(offset, 0), int64(len(text)))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// parseJSON reads exactly one JSON value as RFC 8259 has it, without duplicate
// names, with valid UTF-8 only and numbers that a float64 can hold. On an error
// it says where.
func parseJSON(text []byte, depth int) (ast.Value, int64, error) {
	r := jsonReader{dec: jsontext.NewDecoder(bytes.NewReader(text)), depth: depth}
	value, err := r.value()
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, r.dec.InputOffset(), err
	}
	return value.Value, 0, nil
}
