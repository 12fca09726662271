package config

import (
	"fmt"
	"strconv"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// node is one value of the document and where it stands.
type node struct {
	ast  ast.Node
	path string // "routes[2].match.path"; "" is the document itself
	at   place
}

// entry is one key of a map with its value.
type entry struct {
	key   string
	at    place // of the key
	value node
}

// need says how a map treats one of its keys.
type need int

const (
	optional need = iota
	required
	later // of a later build: refused by name, never ignored
)

// schema names the keys of one kind of map.
type schema map[string]need

// object is one map with named keys. Its accessors report what is wrong with
// a value and return the default then, so that one run finds all faults.
type object struct {
	report *report
	path   string
	at     place
	fields map[string]entry
	isMap  bool // false when something else stands there, which is reported
}

// decode returns the map n read by the schema; every key of it that the
// schema does not know, knows as later, or misses is a fault.
func decode(r *report, n node, s schema) object {
	o := object{report: r, path: n.path, at: n.at, fields: map[string]entry{}}
	entries, ok := mapEntries(r, n)
	if !ok {
		return o
	}
	o.isMap = true
	for _, e := range entries {
		kind, known := s[e.key]
		switch {
		case !known:
			r.add(e.at, n.path, "unknown key %s%s", quote(e.key), hint(e.key, s))
		case kind == later:
			addLater(r, e.at, n.path, e.key)
		default:
			o.fields[e.key] = e
		}
	}
	o.demand(s)
	return o
}

// demand reports the required keys that are missing.
func (o object) demand(s schema) {
	for _, key := range sortedKeys(s) {
		if _, ok := o.fields[key]; !ok && s[key] == required {
			o.report.add(o.at, o.path, "%q is missing", key)
		}
	}
}

// addLater reports something that the design has and this build has not.
func addLater(r *report, at place, path, what string) {
	r.add(at, path, "%q is not in this build", what)
}

// has reports whether the key was given, whatever its value.
func (o object) has(key string) bool {
	_, ok := o.fields[key]
	return ok
}

// fault reports something about one key of the object.
func (o object) fault(key, format string, args ...any) {
	o.report.add(o.valuePlace(key), join(o.path, key), format, args...)
}

// valuePlace returns where the key's value stands, or the object if it was not given.
func (o object) valuePlace(key string) place {
	if e, ok := o.fields[key]; ok {
		return e.value.at
	}
	return o.at
}

// object returns the map under a key; the caller asks has first.
func (o object) object(key string, s schema) object {
	return decode(o.report, o.fields[key].value, s)
}

// boolean returns the value of a key that is true or false.
func (o object) boolean(key string) bool {
	e, ok := o.fields[key]
	if !ok {
		return false
	}
	// Only the two spellings that every reader of YAML takes for a boolean.
	if b, ok := e.value.ast.(*ast.BoolNode); ok && (b.Token.Value == "true" || b.Token.Value == "false") {
		return b.Value
	}
	o.fault(key, "must be true or false%s", found(e.value.ast))
	return false
}

// integer returns the value of a key that is a plain decimal number.
func (o object) integer(key string, missing, low, high int) int {
	e, ok := o.fields[key]
	if !ok {
		return missing
	}
	text, ok := decimal(e.value.ast)
	if !ok {
		o.fault(key, "must be a whole number%s", found(e.value.ast))
		return missing
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < low || v > high {
		o.fault(key, "must be from %d to %d", low, high)
		return missing
	}
	return v
}

// decimal returns the digits of a plain decimal number without sign, leading
// zero or grouping.
func decimal(n ast.Node) (string, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok || i.Token.Type != token.IntegerType {
		return "", false
	}
	text := i.Token.Value
	if !allIn(text, '0', '9') || len(text) > 1 && text[0] == '0' {
		return "", false
	}
	return text, true
}

// text returns the text value of a key, checked by parse, or missing.
func text[T any](o object, key string, missing T, parse func(string) (T, error)) T {
	e, ok := o.fields[key]
	if !ok {
		return missing
	}
	s, ok := textOf(o.report, e.value)
	if !ok {
		return missing
	}
	v, err := parse(s)
	if err != nil {
		o.fault(key, "%v", err)
		return missing
	}
	return v
}

// texts returns the list of texts under a key, each checked and unique.
func (o object) texts(key string, most int, check func(string) error) []string {
	var list []string
	seen := map[string]bool{}
	for _, n := range o.list(key, most) {
		s, ok := textOf(o.report, n)
		if !ok {
			continue
		}
		switch err := check(s); {
		case err != nil:
			o.report.add(n.at, n.path, "%v", err)
		case seen[s]:
			o.report.add(n.at, n.path, "%s stands twice", quote(s))
		default:
			seen[s] = true
			list = append(list, s)
		}
	}
	return list
}

// list returns the entries of the list under a key, or nothing after a fault.
func (o object) list(key string, most int) []node {
	e, ok := o.fields[key]
	if !ok {
		return nil
	}
	seq, ok := e.value.ast.(*ast.SequenceNode)
	if !ok {
		o.fault(key, "must be a list%s", found(e.value.ast))
		return nil
	}
	if len(seq.Values) > most {
		o.fault(key, "has more than %d entries", most)
		return nil
	}
	nodes := make([]node, len(seq.Values))
	for i, v := range seq.Values {
		nodes[i] = newNode(v, fmt.Sprintf("%s[%d]", e.value.path, i))
	}
	return nodes
}

// notEmpty reports a list or map that is given but has no entries.
func (o object) notEmpty(key string) {
	switch n := o.fields[key].value.ast.(type) {
	case *ast.SequenceNode:
		if len(n.Values) == 0 {
			o.fault(key, "is an empty list")
		}
	case *ast.MappingNode:
		if len(n.Values) == 0 {
			o.fault(key, "is an empty map")
		}
	}
}

// entries returns the entries of the map with free keys under a key, in file order.
func (o object) entries(key string, most int) []entry {
	e, ok := o.fields[key]
	if !ok {
		return nil
	}
	entries, ok := mapEntries(o.report, e.value)
	if ok && len(entries) > most {
		o.fault(key, "has more than %d entries", most)
		return nil
	}
	return entries
}

// mapEntries returns the entries of a map; of a duplicate key the first counts.
func mapEntries(r *report, n node) ([]entry, bool) {
	m, ok := n.ast.(*ast.MappingNode)
	if !ok {
		r.add(n.at, n.path, "must be a map%s", found(n.ast))
		return nil, false
	}
	entries := make([]entry, 0, len(m.Values))
	first := make(map[string]place, len(m.Values))
	for _, kv := range m.Values {
		at := placeOf(kv.Key.GetToken())
		key, ok := kv.Key.(*ast.StringNode)
		if !ok {
			r.add(at, n.path, "a key must be text%s", found(kv.Key))
			continue
		}
		if key.Value == "" || !allIn(key.Value, '!', '~') {
			r.add(at, n.path, "key %s is empty or not printable ASCII", quote(key.Value))
			continue
		}
		if old, dup := first[key.Value]; dup {
			r.add(at, n.path, "key %s stands twice, first in line %d", quote(key.Value), old.line)
			continue
		}
		first[key.Value] = at
		entries = append(entries, entry{key.Value, at, newNode(kv.Value, join(n.path, key.Value))})
	}
	return entries, true
}

// textOf returns the value of a text node. Empty text is a fault everywhere:
// a key that is given means something.
func textOf(r *report, n node) (string, bool) {
	s, ok := n.ast.(*ast.StringNode)
	switch {
	case !ok:
		r.add(n.at, n.path, "must be text%s", found(n.ast))
	case s.Value == "":
		r.add(n.at, n.path, "is empty")
	default:
		return s.Value, true
	}
	return "", false
}

func newNode(n ast.Node, path string) node {
	return node{ast: n, path: path, at: startOf(n)}
}

// startOf returns where a value begins; a block map's own token is its first colon.
func startOf(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return placeOf(m.Values[0].Key.GetToken())
	}
	return placeOf(n.GetToken())
}

// found says what stands where something else was wanted.
func found(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return ", is empty"
	case *ast.StringNode:
		return ", is text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return ", is a number"
	case *ast.BoolNode:
		return ", is true or false"
	case *ast.MappingNode:
		return ", is a map"
	case *ast.SequenceNode:
		return ", is a list"
	}
	return ""
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
