package llm

import (
	"cmp"
	"slices"
)

// sweep takes in every string and name of the document that no reader of the
// format took, and that is more than a label: a text that stands where none is
// expected is seen by the client all the same.
//
// INVARIANT: after it each byte of the document that could be text is in one of the
// texts, or in log probabilities, which are dropped where texts are judged.
func (c *collector) sweep(d *document) {
	taken := c.spans()
	for i := range d.nodes {
		n := &d.nodes[i]
		for len(taken) > 0 && taken[0].end <= n.value.start {
			taken = taken[1:]
		}
		c.stray(elem{d, int32(i)}, n.name, taken)
		if n.kind == '"' {
			c.stray(elem{d, int32(i)}, n.value, taken)
		}
	}
}

// spans are the places that were read, and those that are dropped, in order.
func (c *collector) spans() []span {
	c.places = append(c.places[:0], c.blank...)
	for i := range c.texts {
		c.places = append(c.places, c.texts[i].at)
	}
	slices.SortFunc(c.places, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	return c.places
}

// stray takes a name or string of a value, unless it is a label or was taken.
func (c *collector) stray(e elem, at span, taken []span) {
	if quiet(e.d.text[at.start:at.end]) || len(taken) > 0 && taken[0].start < at.end {
		return
	}
	name := e.pointer()
	c.take(Text{Key: Key{Field: FieldOther, Name: name[:min(len(name), maxNameBytes)]}, Value: unquote(e.d.text[at.start:at.end]), Whole: true, at: at})
}

// quiet reports whether a quoted string is a label: an identifier, a number, base64,
// but no words. What is not there is quiet too.
func quiet(quoted []byte) bool {
	if len(quoted) < 2 {
		return true
	}
	for _, b := range quoted[1 : len(quoted)-1] {
		if !labels[b] {
			return false
		}
	}
	return true
}

// labels are the bytes of labels. None of them ends a word, a tag, an argument or a
// statement, and none is an escape.
var labels = func() (set [256]bool) {
	for _, b := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/+=@" {
		set[b] = true
	}
	return set
}()
