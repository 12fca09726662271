package extauthz

import (
	"net/url"
	"slices"
	"strings"
	"unicode"

	"gatehouse/internal/envoyconf"
	"gatehouse/internal/token"
)

// queryKey is the query member in which some SDKs send their key.
const queryKey = "key"

// slot is one value that stands where a token may stand.
type slot struct {
	name   string // of the header, or "?key"
	raw    string // what is verified if it is ours
	ours   bool   // it means to be a token of a configured issuer
	member int    // of ?key: which of the query's members it is
}

// readSlots collects the values in the token slots. Recognition is lenient:
// what merely resembles a token of ours is ours, so that it is refused by
// verification and never passes for somebody else's key.
func (c *check) readSlots(tokens *token.Verifier) *Refusal {
	for _, name := range envoyconf.CredentialHeaders() {
		for _, h := range c.in.Headers {
			if h.Name == name {
				c.slots = append(c.slots, headerSlot(tokens, name, h.Value))
			}
		}
	}
	return c.readQuerySlots(tokens)
}

// headerSlot reads a header's value. What is ours only by a part of it is
// verified whole, and so refused.
func headerSlot(tokens *token.Verifier, name, value string) slot {
	bare := value
	if name == "authorization" {
		bare = withoutScheme(value)
	}
	if tokens.Recognize(bare) {
		return slot{name: name, raw: bare, ours: true}
	}
	return slot{name: name, raw: value, ours: len(value) > token.MaxTokenBytes || anyOurs(tokens, bare)}
}

// anyOurs looks at each part of a value that is not ours as a whole: Envoy
// joins a header that came twice with a comma, and some clients put words
// before a token.
func anyOurs(tokens *token.Verifier, value string) bool {
	if strings.IndexFunc(value, separates) < 0 {
		return false
	}
	for part := range strings.FieldsFuncSeq(value, separates) {
		if tokens.Recognize(part) {
			return true
		}
	}
	return false
}

// separates reports whether r stands in no token, but between two things.
func separates(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) }

// withoutScheme removes "Bearer " (RFC 6750, the scheme in any case). Another
// scheme stays, so that verification refuses what was recognised behind it.
func withoutScheme(value string) string {
	scheme, rest, found := strings.Cut(value, " ")
	if found && strings.EqualFold(scheme, "bearer") {
		return rest
	}
	return value
}

// readQuerySlots looks at each query member named key, however it is spelt.
// What another reader could take for another key is refused: an escaped
// spelling, and a semicolon, at which some servers split, too.
func (c *check) readQuerySlots(tokens *token.Verifier) *Refusal {
	_, query, found := strings.Cut(c.in.Path, "?")
	if !found {
		return nil
	}
	if strings.Contains(query, ";") && keyAtSemicolon(query) {
		return malformed("query_key_ambiguous", "the query has a member key and a semicolon")
	}
	number := -1
	for member := range strings.SplitSeq(query, "&") {
		number++
		name, value, _ := strings.Cut(member, "=")
		if !isKey(name) {
			continue
		}
		if name != queryKey {
			return malformed("query_key_escaped", "the query member key is escaped")
		}
		c.slots = append(c.slots, querySlot(tokens, value, number))
	}
	return nil
}

func querySlot(tokens *token.Verifier, value string, member int) slot {
	raw, err := url.QueryUnescape(value)
	if err != nil {
		raw = value
	}
	ours := tokens.Recognize(raw) || tokens.Recognize(value) || anyOurs(tokens, raw)
	return slot{name: "?" + queryKey, raw: raw, ours: ours, member: member}
}

// isKey reports whether the name of a query member decodes to key.
func isKey(name string) bool {
	decoded, err := url.QueryUnescape(name)
	return err == nil && decoded == queryKey
}

// keyAtSemicolon reports whether a query has a member key for a server that
// splits it at semicolons as well.
func keyAtSemicolon(query string) bool {
	for member := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		if name, _, _ := strings.Cut(member, "="); isKey(name) {
			return true
		}
	}
	return false
}

// withoutMembers cuts members out of a target's query, by their numbers in it.
// All else stays as it is; a query that nothing is left of goes whole.
func withoutMembers(target string, numbers []int) string {
	path, query, _ := strings.Cut(target, "?")
	var kept []string
	number := -1
	for member := range strings.SplitSeq(query, "&") {
		if number++; !slices.Contains(numbers, number) {
			kept = append(kept, member)
		}
	}
	if query = strings.Join(kept, "&"); query == "" {
		return path
	}
	return path + "?" + query
}

// oursOf lists the slots that hold a value of ours.
func oursOf(slots []slot) []slot {
	var out []slot
	for _, s := range slots {
		if s.ours {
			out = append(out, s)
		}
	}
	return out
}
