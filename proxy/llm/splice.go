package llm

import (
	"bytes"
	"cmp"
	"slices"
)

// edit puts text in place of a span.
type edit struct {
	at   span
	text []byte
}

// splice appends text with the edits made. Edits must not overlap.
func splice(dst, text []byte, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.at.start, b.at.start) })
	done := int32(0)
	for _, e := range edits {
		dst = append(dst, text[done:e.at.start]...)
		dst = append(dst, e.text...)
		done = e.at.end
	}
	return append(dst, text[done:]...)
}

// insert makes the edit that adds a member to an object, as its first.
// INVARIANT: the caller has seen that the object has no such member.
func insert(object elem, name string, value []byte) edit {
	at := object.span().start + 1
	text := slices.Concat([]byte{'"'}, []byte(name), []byte(`":`), value)
	if object.node().next > object.i+1 {
		text = append(text, ',')
	}
	return edit{span{at, at}, text}
}

// whole is where a member of an object stands with its name and one comma, so that
// without it the object is still one.
func whole(member elem) span {
	const space = " \t\r\n"
	text, at := member.d.text, span{member.node().name.start, member.span().end}
	after := int32(len(text)) - int32(len(bytes.TrimLeft(text[at.end:], space)))
	if after < int32(len(text)) && text[after] == ',' {
		return span{at.start, after + 1}
	}
	before := int32(len(bytes.TrimRight(text[:at.start], space)))
	if before > 0 && text[before-1] == ',' {
		at.start = before - 1
	}
	return at
}

// put makes the edit that gives a member a value, whether it is there or not.
func put(object elem, name string, value []byte) (edit, bool) {
	m := object.get(name)
	if !m.ok() {
		return insert(object, name, value), true
	}
	return edit{m.span(), value}, !bytes.Equal(m.raw(), value)
}
