package account

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// MaxNameRunes is the length of the longest user name.
const MaxNameRunes = 128

// maxNameBytes bounds the text before it is folded: no character of a good name
// takes more than four bytes, and folding at most triples one.
const maxNameBytes = 4 * MaxNameRunes

var errName = errors.New("a user name has 1 to 128 printable characters without spaces inside")

// CanonicalName returns the one spelling of a user name under which it is
// stored, looked up and counted: white space around it trimmed, Unicode NFC,
// case-folded (Unicode 15, 3.13). Two spellings of one name are one name, so no
// second spelling brings fresh guesses. A text that can be no name is an error
// that doesn't quote it.
func CanonicalName(s string) (string, error) {
	if len(s) > maxNameBytes || !utf8.ValidString(s) {
		return "", errName
	}
	name := fold(s)
	// INVARIANT: the result is a fixed point. The few texts for which one round
	// is not enough are no names.
	if name != fold(name) || !printable(name) {
		return "", errName
	}
	return name, nil
}

func fold(s string) string {
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(strings.TrimSpace(s))))
}

// printable reports whether every character can be seen, and there are 1 to
// MaxNameRunes of them.
func printable(name string) bool {
	n := utf8.RuneCountInString(name)
	return n >= 1 && n <= MaxNameRunes && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r)
	})
}
