package fakellm

import (
	"slices"
	"strings"
	"unicode"
)

// counter counts the words of a text that comes in pieces. The zero counter
// stands before the text.
type counter struct {
	within bool // the text so far ends within a word
}

// head cuts text before the first word that would be one too many, and returns
// what is left and how many words begin in it.
func (c *counter) head(text string, most int) (string, int) {
	n := 0
	for i, r := range text {
		space := unicode.IsSpace(r)
		if !space && !c.within {
			if n == most {
				return text[:i], n
			}
			n++
		}
		c.within = !space
	}
	return text, n
}

// words counts the words of a whole text.
func words(text string) int { return len(strings.Fields(text)) }

// split cuts a text into pieces of one word each, with the space before it. What
// follows the last word goes with it. No text makes no piece.
func split(text string) []string {
	var pieces []string
	var c counter
	for text != "" {
		piece, _ := c.head(text, 1)
		if rest := text[len(piece):]; strings.TrimLeftFunc(rest, unicode.IsSpace) == "" {
			return append(pieces, text)
		}
		// The space before the next word is that word's.
		piece = strings.TrimRightFunc(piece, unicode.IsSpace)
		pieces, text, c = append(pieces, piece), text[len(piece):], counter{}
	}
	return pieces
}

// crumbRunes is less than any word that is to be found in an answer has.
const crumbRunes = 3

// crumble cuts pieces into crumbs.
func crumble(pieces []string) []string {
	var crumbs []string
	for _, p := range pieces {
		for crumb := range slices.Chunk([]rune(p), crumbRunes) {
			crumbs = append(crumbs, string(crumb))
		}
	}
	return crumbs
}
