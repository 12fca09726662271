package extauthz

import (
	"net/url"
	"strings"

	"gatehouse/internal/envoyconf"
	"gatehouse/internal/token"
)

// queryKey is the query member in which some SDKs send their key.
const queryKey = "key"

// slot is one value that stands where a token may stand.
type slot struct {
	name string // of the header, or "?key"
	raw  string // what is verified if it is ours
	ours bool   // it means to be a token of a configured issuer
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

func headerSlot(tokens *token.Verifier, name, value string) slot {
	bare := value
	if name == "authorization" {
		bare = withoutScheme(value)
	}
	ours := tokens.Recognize(bare)
	if !ours && bare != value {
		ours = tokens.Recognize(value)
	}
	if !ours && strings.Contains(value, ",") {
		// Envoy joins a header that came twice: each part could be ours.
		bare, ours = value, anyOurs(tokens, value)
	}
	return slot{name: name, raw: bare, ours: ours}
}

func anyOurs(tokens *token.Verifier, joined string) bool {
	for part := range strings.SplitSeq(joined, ",") {
		part = strings.TrimSpace(part)
		if tokens.Recognize(part) || tokens.Recognize(withoutScheme(part)) {
			return true
		}
	}
	return false
}

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
// An escaped spelling is refused: Envoy would not remove it.
func (c *check) readQuerySlots(tokens *token.Verifier) *Refusal {
	_, query, _ := strings.Cut(c.in.Path, "?")
	for query != "" {
		var member string
		member, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(member, "=")
		if decoded, err := url.QueryUnescape(name); err != nil || decoded != queryKey {
			continue
		}
		if name != queryKey {
			return malformed("query_key_escaped", "the query member key is escaped")
		}
		raw, err := url.QueryUnescape(value)
		if err != nil {
			raw = value
		}
		c.slots = append(c.slots, slot{name: "?" + queryKey, raw: raw, ours: tokens.Recognize(raw) || tokens.Recognize(value)})
	}
	return nil
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
