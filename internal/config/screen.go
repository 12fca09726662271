package config

import "github.com/goccy/go-yaml/token"

// refused are the parts of YAML that this format does without. Aliases and
// merge keys let a small file mean a large one; tags and directives change
// what the text means; the rest only adds ways to be misread.
func refused(t token.Type) string {
	switch t {
	case token.AnchorType, token.AliasType:
		return "anchors and aliases are not allowed"
	case token.MergeKeyType:
		return "merge keys are not allowed"
	case token.TagType:
		return "tags are not allowed"
	case token.DirectiveType:
		return "directives are not allowed"
	case token.MappingKeyType:
		return `"?" keys are not allowed`
	case token.LiteralType, token.FoldedType:
		return "block text is not allowed"
	case token.DocumentEndType:
		return "a document end is not allowed"
	}
	return ""
}

// frame is one open map or list.
type frame struct {
	kind  token.Type // MappingStart and SequenceStart in flow style, MappingValue and SequenceEntry in block style
	col   int        // block style: the column of its keys or dashes
	keys  int        // block map: keys so far
	colon bool       // flow map: the current entry has its colon
}

func (f frame) flow() bool {
	return f.kind == token.MappingStartType || f.kind == token.SequenceStartType
}

// screen walks the tokens once and refuses what the parser must not see.
type screen struct {
	report *report
	open   []frame
	empty  int
}

// screenTokens reports whether the parser can take the tokens within bounds.
func screenTokens(r *report, all token.Tokens) bool {
	before := r.total
	tokens := make([]*token.Token, 0, len(all))
	for _, tk := range all {
		if tk.Type != token.CommentType {
			tokens = append(tokens, tk)
		}
	}
	s := screen{report: r}
	for i, tk := range tokens {
		var prev, next *token.Token
		if i > 0 {
			prev = tokens[i-1]
		}
		if i+1 < len(tokens) {
			next = tokens[i+1]
		}
		s.token(prev, tk, next)
		// INVARIANT: the stack stays short, so the walk is linear.
		if len(s.open) > maxDepth {
			s.fault(tk, "nested too deeply")
			return false
		}
	}
	if s.empty > maxEmpty {
		r.add(place{1, 1}, "", "more than %d empty values", maxEmpty)
	}
	return r.total == before
}

func (s *screen) fault(tk *token.Token, why string) {
	s.report.add(placeOf(tk), "", "%s", why)
}

func (s *screen) token(prev, tk, next *token.Token) {
	if why := refused(tk.Type); why != "" {
		s.fault(tk, why)
		return
	}
	switch tk.Type {
	case token.DocumentHeaderType:
		if prev != nil {
			s.fault(tk, "a second document is not allowed")
		}
	case token.MappingStartType, token.SequenceStartType:
		s.open = append(s.open, frame{kind: tk.Type})
	case token.MappingEndType, token.SequenceEndType, token.CollectEntryType:
		s.closeEntry(prev, tk)
	case token.SequenceEntryType:
		s.dash(tk, next)
	case token.MappingValueType:
		s.colon(prev, tk, next)
	}
}

// top returns the innermost open frame; the zero frame is the document.
func (s *screen) top() *frame {
	if len(s.open) == 0 {
		return &frame{}
	}
	return &s.open[len(s.open)-1]
}

// closeEntry ends an entry of a flow map or list, and the map or list itself.
func (s *screen) closeEntry(prev, tk *token.Token) {
	top := s.top()
	if !top.flow() {
		return // a stray bracket is the parser's to report
	}
	// A key without a colon; "{}" and a comma before the brace are neither.
	bare := prev.Type != token.MappingStartType && prev.Type != token.CollectEntryType
	if top.kind == token.MappingStartType && !top.colon && bare {
		s.empty++
	}
	top.colon = false
	if tk.Type != token.CollectEntryType {
		s.open = s.open[:len(s.open)-1]
	}
}

// dash opens or continues a block list. The parser would nest dashes in
// brackets without bound.
func (s *screen) dash(tk, next *token.Token) {
	if s.top().flow() {
		s.fault(tk, "a list within braces or brackets needs brackets of its own")
		return
	}
	col := tk.Position.Column
	s.closeDeeper(col)
	if top := s.top(); top.kind != token.SequenceEntryType || top.col != col {
		s.open = append(s.open, frame{kind: token.SequenceEntryType, col: col})
	}
	if next == nil || next.Position.Column < col || next.Position.Column == col && next.Type == token.SequenceEntryType {
		s.empty++
	}
}

// colon opens or continues a map.
func (s *screen) colon(key, tk, next *token.Token) {
	if key == nil {
		return
	}
	if len(key.Value) > maxKey {
		s.fault(key, "the key is too long")
	}
	if top := s.top(); top.flow() {
		s.flowColon(top, tk, next)
		return
	}
	s.blockColon(key, next)
}

// flowColon allows one colon per entry: a second, or one in a list, opens a
// map without braces, which the parser nests without bound.
func (s *screen) flowColon(top *frame, tk, next *token.Token) {
	if top.kind == token.SequenceStartType || top.colon {
		s.fault(tk, "a map within braces or brackets needs braces of its own")
	}
	top.colon = true
	if next == nil || next.Type == token.CollectEntryType || next.Type == token.MappingEndType {
		s.empty++
	}
}

func (s *screen) blockColon(key, next *token.Token) {
	col := key.Position.Column
	s.closeDeeper(col)
	if top := s.top(); top.kind == token.SequenceEntryType && top.col == col {
		s.open = s.open[:len(s.open)-1] // a list may stand at its key's column
	}
	if top := s.top(); top.kind != token.MappingValueType || top.col != col {
		s.open = append(s.open, frame{kind: token.MappingValueType, col: col})
	}
	top := s.top()
	if top.keys++; top.keys == maxBlockKeys+1 {
		s.fault(key, "too many keys in one map")
	}
	if next == nil || next.Position.Column < col || next.Position.Column == col && next.Type != token.SequenceEntryType {
		s.empty++
	}
}

// closeDeeper ends the block maps and lists that stand right of col.
func (s *screen) closeDeeper(col int) {
	for len(s.open) > 0 && !s.top().flow() && s.top().col > col {
		s.open = s.open[:len(s.open)-1]
	}
}
