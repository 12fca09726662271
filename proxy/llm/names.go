package llm

import (
	"slices"
	"strings"
)

// names are the members of one level that we act on. Readers exist that ignore
// case, or take maxTokens for max_tokens; what such a reader would take for a
// known name, and we would not, is refused.
type names []string

func known(list ...string) names { return list }

// has reports whether the member has one of the names.
func (n names) has(m elem) bool {
	return slices.ContainsFunc(n, m.named)
}

// lists reports whether the name is one of them.
func (n names) lists(name string) bool { return slices.Contains(n, name) }

// twin reports whether the member only looks like one of the names.
func (n names) twin(m elem) bool {
	if n.has(m) {
		return false
	}
	name, plain := m.plainName()
	if !plain {
		return n.folds(m.name())
	}
	return slices.ContainsFunc(n, func(s string) bool { return looks(name, s) })
}

// looks compares ASCII names without what lenient readers ignore.
func looks(a []byte, b string) bool {
	i, j := 0, 0
	for {
		for i < len(a) && ignored(a[i]) {
			i++
		}
		for j < len(b) && ignored(b[j]) {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b)
		}
		if lower(a[i]) != lower(b[j]) {
			return false
		}
		i, j = i+1, j+1
	}
}

func ignored(b byte) bool { return b == '_' || b == '-' }

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// folds is looks for all of Unicode: U+017F is an s, U+212A a k.
func (n names) folds(name string) bool {
	drop := func(r rune) rune {
		if r == '_' || r == '-' {
			return -1
		}
		return r
	}
	name = strings.Map(drop, name)
	return slices.ContainsFunc(n, func(s string) bool { return strings.EqualFold(name, strings.Map(drop, s)) })
}

// check reports members that only look like known ones.
func (n names) check(e elem, f *faults) {
	if e.kind() != '{' {
		return
	}
	for m := range e.all() {
		if n.twin(m) {
			f.add(m, "ambiguous", "The name differs from a known one only in case or separators.")
		}
	}
}
