package config

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxDocument is the largest file in bytes.
	maxDocument = 1 << 20
	// maxDepth is how deep maps and lists may nest.
	maxDepth = 12
	// maxBlockKeys is how many keys one block map may have. The parser
	// recurses once per key and copies the rest of the map each time.
	maxBlockKeys = 1000
	// maxEmpty is how many empty values are looked at one by one. Each costs
	// the parser a move of all tokens behind it.
	maxEmpty = 200
	// maxKey is the longest key in bytes. The parser writes the keys of all
	// parents into every node.
	maxKey = 64
)

// parseDocument returns the root of the one document in data, or nil after
// reporting why there is none. The bytes are screened before the parser sees
// them, since it bounds neither depth nor work.
func parseDocument(r *report, data []byte) ast.Node {
	if !checkBytes(r, data) {
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if !screenTokens(r, tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		addSyntax(r, err)
		return nil
	}
	// INVARIANT: one document at most, since screenTokens refuses separators.
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		r.add(place{1, 1}, "", "the file is empty")
		return nil
	}
	return file.Docs[0].Body
}

// checkBytes refuses what no configuration needs and the parser reads loosely:
// an oversized file, invalid UTF-8, control characters, a byte order mark.
func checkBytes(r *report, data []byte) bool {
	if len(data) > maxDocument {
		r.add(place{1, 1}, "", "the file is larger than 1 MiB")
		return false
	}
	line, col := 1, 1
	for rest := data; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		if why := badRune(c, size, rest); why != "" {
			r.add(place{line, col}, "", "%s", why)
			return false
		}
		rest = rest[size:]
		col++
		if c == '\n' {
			line, col = line+1, 1
		}
	}
	return true
}

// badRune says why a character may not stand in a file, or "".
func badRune(c rune, size int, rest []byte) string {
	switch {
	case c == utf8.RuneError && size == 1:
		return "not UTF-8"
	case c == '\r' && !bytes.HasPrefix(rest, []byte("\r\n")):
		return "a carriage return without a line feed"
	case c == '\uFEFF':
		return "a byte order mark"
	case c < ' ' && c != '\n' && c != '\t' && c != '\r', c >= 0x7f && c < 0xa0, c == '\u2028', c == '\u2029':
		return "a control character"
	}
	return ""
}

// syntaxError is what the parser's errors offer beside their text.
type syntaxError interface {
	error
	GetMessage() string
	GetToken() *token.Token
}

// addSyntax reports the one error at which the parser stopped.
func addSyntax(r *report, err error) {
	e, ok := errors.AsType[syntaxError](err)
	if !ok {
		r.add(place{1, 1}, "", "not YAML: %v", err)
		return
	}
	r.add(placeOf(e.GetToken()), "", "not YAML: %s", e.GetMessage())
}

// placeOf returns where a token stands.
func placeOf(tk *token.Token) place {
	if tk == nil || tk.Position == nil {
		return place{1, 1}
	}
	return place{tk.Position.Line, tk.Position.Column}
}
