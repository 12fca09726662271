package auth

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"

	"gatehouse/internal/apierr"
)

// Bounds of a new password, in characters (OWASP ASVS 5.0, 6.2.1 and 6.2.9).
const (
	MinPasswordRunes = 12
	MaxPasswordRunes = 128
)

// minDistinct is how many different characters a new password has at least.
const minDistinct = 5

// maxRunShare bounds a row of neighbouring characters ("abcd", "4321", "aaaa"):
// it is shorter than the whole divided by this.
const maxRunShare = 2

// CheckPassword says whether a password is good enough for a new one, as an
// *apierr.Error that names the fault and never the password. Old ones are not
// checked: a rule that grows must not lock anybody out.
func CheckPassword(username, password string) error {
	message := weakness(username, password)
	if message == "" {
		return nil
	}
	return apierr.New(apierr.ValidationInvalid, apierr.Options{Details: []apierr.Detail{apierr.Fields([]apierr.Field{
		{Pointer: "/password", Code: "password", Message: message},
	})}})
}

func weakness(username, password string) string {
	runes := []rune(password)
	folded := cases.Fold().String(password)
	name := cases.Fold().String(strings.TrimSpace(username))
	switch {
	case !utf8.ValidString(password):
		return "must be valid UTF-8"
	case len(runes) < MinPasswordRunes:
		return "must have at least 12 characters"
	case len(runes) > MaxPasswordRunes:
		return "must have at most 128 characters"
	case distinct(runes) < minDistinct || longestRun(runes)*maxRunShare >= len(runes):
		return "must not consist of repeated or neighbouring characters"
	case name != "" && utf8.RuneCountInString(strings.ReplaceAll(folded, name, "")) < MinPasswordRunes/2:
		return "must not consist of the user name"
	case slices.ContainsFunc(common(), func(word string) bool { return madeOf(folded, word) }):
		return "is a common password"
	}
	return ""
}

func distinct(runes []rune) int {
	seen := map[rune]bool{}
	for _, r := range runes {
		seen[r] = true
	}
	return len(seen)
}

// longestRun is the length of the longest part in which each character follows
// the one before it by the same step of -1, 0 or 1.
func longestRun(runes []rune) int {
	longest, length, step := 0, 0, rune(0)
	for i := range runes {
		if i > 0 && runes[i]-runes[i-1] == step && length > 1 {
			length++
		} else if i > 0 && runes[i]-runes[i-1] >= -1 && runes[i]-runes[i-1] <= 1 {
			length, step = 2, runes[i]-runes[i-1]
		} else {
			length = 1
		}
		longest = max(longest, length)
	}
	return longest
}

// common lists words that passwords of twelve characters and more are made of,
// folded; shorter common passwords are too short anyway.
func common() []string {
	return []string{
		"password", "passw0rd", "p@ssword", "p@ssw0rd", "passwort", "motdepasse", "contrasena", "senha",
		"qwerty", "qwertz", "azerty", "qwertyuiop", "asdfghjkl", "asdfgh", "zxcvbnm", "1qaz2wsx", "1q2w3e4r", "1q2w3e4r5t", "q1w2e3r4", "qazwsx", "zaq12wsx",
		"123456", "1234567890", "654321", "123123", "112233", "111111", "000000", "123qwe", "abc123", "a1b2c3", "iloveyou", "ilovegod",
		"letmein", "welcome", "changeme", "default", "secret", "admin", "administrator", "root", "operator", "developer", "observer", "gatehouse",
		"superman", "batman", "spiderman", "starwars", "pokemon", "football", "baseball", "basketball", "dragon", "monkey", "sunshine", "princess",
		"trustno1", "shadow", "master", "michael", "jennifer", "charlie", "liverpool", "chelsea", "arsenal", "barcelona", "internet", "computer", "samsung", "google",
	}
}

// madeOf reports whether a password is a word, repeated or not, with a few
// digits or signs around it.
func madeOf(folded, word string) bool {
	rest := strings.ReplaceAll(folded, word, "")
	return rest != folded && strings.Trim(rest, "0123456789!?.,-_#$%&*+@ ") == ""
}
