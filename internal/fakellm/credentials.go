package fakellm

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxLeaks is how many leaks are kept.
const maxLeaks = 100

// Leak is something that should not have reached a provider. The value is not
// kept.
type Leak struct {
	Request string `json:"request"` // its x-request-id, as in the ledger
	Where   string `json:"where"`   // header name in lower case, or "?" and the name of a query parameter
}

// Names of what carries credentials, to any provider and to us.
var (
	credentialHeaders = []string{
		"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token",
	}
	credentialQueries = []string{"key", "api_key", "access_token", "token"}
)

// internalPrefix is of headers that are for the proxy's own upstreams.
const internalPrefix = "x-gatehouse-"

// admit reports whether a request carries the key that the shape asks for, and
// all that it carries besides.
func (o Options) admit(s shape, r *http.Request) (bool, []string) {
	name, want := "authorization", "Bearer "+o.OpenAIKey
	if s == anthropic {
		name, want = "x-api-key", o.AnthropicKey
	}
	known, foreign := false, foreignQueries(r.URL.Query())
	for header, values := range r.Header {
		header = strings.ToLower(header)
		switch {
		case header == name && len(values) == 1 && values[0] == want && o.key(s) != "":
			known = true
		case slices.Contains(credentialHeaders, header), strings.HasPrefix(header, internalPrefix):
			foreign = append(foreign, header)
		}
	}
	slices.Sort(foreign)
	return known, foreign
}

func (o Options) key(s shape) string {
	if s == anthropic {
		return o.AnthropicKey
	}
	return o.OpenAIKey
}

func foreignQueries(q url.Values) []string {
	var foreign []string
	for _, name := range credentialQueries {
		if q.Has(name) {
			foreign = append(foreign, "?"+name)
		}
	}
	return foreign
}

// leaked remembers what a call carried that is not ours.
func (l *ledger) leaked(id string, foreign []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, where := range foreign {
		if len(l.leaks) < maxLeaks {
			l.leaks = append(l.leaks, Leak{Request: l.keyLocked(id), Where: where})
		}
	}
}
