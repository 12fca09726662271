package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/apierr"
)

// maxTags bounds the entity tags that one If-Match is read for.
const maxTags = 16

// precondition is what If-Match asks for (RFC 9110, 13.1.1).
type precondition struct {
	given    bool
	any      bool    // "*": whatever is in force
	versions []int64 // strong tags that are ours; others match nothing
}

// etag is the strong entity tag of a version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// readPrecondition reads If-Match. Weak tags and tags that are none of ours
// match nothing; text that is no list of tags is malformed.
func readPrecondition(h http.Header) (precondition, error) {
	text := strings.TrimSpace(strings.Join(h.Values("If-Match"), ","))
	p := precondition{given: len(h.Values("If-Match")) > 0, any: text == "*"}
	if !p.given || p.any {
		return p, nil
	}
	for i := 0; ; i++ {
		tag, weak, rest, ok := cutTag(text)
		if !ok || i >= maxTags {
			return precondition{}, malformed("If-Match is no list of entity tags.")
		}
		if v, err := strconv.ParseInt(tag, 10, 64); err == nil && !weak && etag(v) == `"`+tag+`"` {
			p.versions = append(p.versions, v)
		}
		if rest == "" {
			return p, nil
		}
		text = rest
	}
}

// cutTag takes the first entity tag off a list (RFC 9110, 8.8.3; of ASCII, as
// all of ours are).
func cutTag(list string) (tag string, weak bool, rest string, ok bool) {
	list, weak = strings.CutPrefix(list, "W/")
	list, quoted := strings.CutPrefix(list, `"`)
	tag, rest, closed := strings.Cut(list, `"`)
	rest = strings.TrimSpace(rest)
	if !quoted || !closed || strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", false, "", false
	}
	if rest == "" {
		return tag, weak, "", true
	}
	rest, comma := strings.CutPrefix(rest, ",")
	rest = strings.TrimSpace(rest)
	return tag, weak, rest, comma && rest != ""
}

// holds checks the version in force against the precondition.
func (p precondition) holds(version int64) error {
	if !p.given || p.any || slices.Contains(p.versions, version) {
		return nil
	}
	return apierr.New(apierr.StatePreconditionFailed, apierr.Options{})
}

// needed refuses a request without a precondition (RFC 6585, 3).
func (p precondition) needed() error {
	if p.given {
		return nil
	}
	return apierr.New(apierr.StatePreconditionFailed, apierr.Options{
		Status: http.StatusPreconditionRequired, Message: "The request needs If-Match.",
	})
}

// version is what a store has to find in force: 0 is any, where the caller
// named none.
func (p precondition) version(read int64) int64 {
	if !p.given || p.any {
		return 0
	}
	return read
}
