package extauthz

import (
	"slices"

	"gatehouse/policies"
)

// headers are a request's headers as Envoy received them: in order, with
// duplicates, pseudo-headers among them, names in lower case.
type headers []policies.Header

func (hs headers) first(name string) string {
	value, _ := hs.lookup(name)
	return value
}

func (hs headers) lookup(name string) (string, bool) {
	for _, h := range hs {
		if h.Name == name {
			return h.Value, true
		}
	}
	return "", false
}

// bad refuses a second copy of a header that decides something, and bytes in
// one that not everybody reads alike.
func (hs headers) bad() *Refusal {
	names := single()
	seen := make([]bool, len(names))
	for _, h := range hs {
		i := slices.Index(names, h.Name)
		if i < 0 {
			continue
		}
		if seen[i] {
			return malformed("header_duplicate", "the header "+h.Name+" stands twice")
		}
		seen[i] = true
		if !visible(h.Value) {
			return malformed("header_malformed", "the header "+h.Name+" has a byte outside of visible ASCII")
		}
		if h.Name == "content-type" && joined(h.Value) {
			return malformed("header_duplicate", "the header content-type stands twice")
		}
	}
	return nil
}

// joined reports whether a value is two that Envoy has joined: a comma outside
// of a quoted parameter.
func joined(s string) bool {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return true
		}
	}
	return false
}

// visible accepts visible ASCII and, inside, spaces.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
