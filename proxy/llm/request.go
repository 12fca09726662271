package llm

import (
	"errors"
	"strconv"
)

var errChange = errors.New("a request that was not parsed, or a negative output limit")

// Limits of one request.
const (
	// MaxRequestBytes is how large a request body may be.
	MaxRequestBytes = 32 << 20
	// MaxTokens is the largest count of tokens that is taken as one.
	MaxTokens = 1 << 40
	// MaxChoices is the largest n, and one more than the largest index of a choice.
	MaxChoices = 128
	// MaxModelBytes is how long the name of a model may be.
	MaxModelBytes = 256
)

// Hidden says whether a model may use tokens that the client never sees.
type Hidden uint8

// What is known about hidden tokens. Unknown is to be charged like some.
const (
	HiddenUnknown Hidden = iota
	HiddenNone
	HiddenSome
)

// Names of what a request's cost is not bounded by, as a route lists them in
// llm.unbounded.
const (
	UnboundedServerTools = "server_tools" // tools that the provider runs or describes itself
	UnboundedStored      = "stored"       // text that the provider keeps: conversations, prompts, earlier answers
	UnboundedFiles       = "files"        // uploaded files and documents whose pages are not ours to count
	UnboundedURLs        = "urls"         // text behind an address
	UnboundedPrediction  = "prediction"   // rejected predictions are billed as output
	UnboundedAudio       = "audio"        // spoken output
	UnboundedFallbacks   = "fallbacks"    // further models, beams or compactions
	UnboundedParts       = "parts"        // content of a kind that this build does not know
)

// Unbounded is a member that makes the cost of a request unknown.
type Unbounded struct {
	Pointer string // RFC 6901
	Name    string // one of the Unbounded constants
}

// Request is what a request body says. It keeps the body for Rewrite.
type Request struct {
	Format       Format
	Model        string
	Stream       bool
	Limited      bool  // the client limits the output itself
	MaxOutput    int64 // that limit in tokens per choice; 0 unless Limited
	Choices      int64 // n, 1 to MaxChoices
	Tools        bool
	IncludeUsage bool        // the client asked for usage in the stream, or the format always has it
	Media        []Media     // at most MaxMedia
	Unbounded    []Unbounded // in the order of the body, at most MaxMedia
	Hidden       Hidden
	PromptBound  int64 // upper bound of the prompt's tokens; see Bound

	root    elem
	payload int64 // bytes of media
}

// Parse reads a request body. The error is an *Error, or says that the format
// is unknown. The body must not change while the Request is in use.
func Parse(format Format, body []byte) (*Request, error) {
	dl, err := format.dialect()
	if err != nil {
		return nil, err
	}
	if len(body) > MaxRequestBytes {
		return nil, refuse(TooLarge, Fault{Code: "too_large", Message: "The request is too large."})
	}
	doc, err := newParser().parse(body)
	if err != nil {
		return nil, err
	}
	r := &Request{Format: format, Choices: 1, root: doc.root()}
	if r.root.kind() != '{' {
		return nil, refuse(Invalid, Fault{Code: "type", Message: "The request must be an object."})
	}
	f := new(faults)
	r.common(f)
	dl.request(r.root, r, f)
	r.limit(dl.limits(), f)
	if err := f.err(); err != nil {
		return nil, err
	}
	r.PromptBound = Bound(int64(len(body))-r.payload, r.Tools, r.Media)
	return r, nil
}

// common reads what all formats share.
func (r *Request) common(f *faults) {
	model := r.root.get("model")
	r.Model = model.str()
	switch {
	case !model.ok():
		f.add(r.root, "required", "The request needs a model.")
	case model.kind() != '"' || r.Model == "" || len(r.Model) > MaxModelBytes:
		f.add(model, "type", "The model must be a name of at most "+strconv.Itoa(MaxModelBytes)+" bytes.")
	}
	r.Stream = flag(r.root.get("stream"), f)
	if m := r.root.get("messages"); m.kind() != '[' {
		at := m
		if !m.ok() {
			at = r.root
		}
		f.add(at, "required", "The request needs a list of messages.")
	}
}

// limit reads the output limit. Of several the largest counts, since nobody
// says which one a server takes.
func (r *Request) limit(members []string, f *faults) {
	for _, name := range members {
		m := r.root.get(name)
		if !m.set() {
			continue
		}
		n, ok := m.count()
		if !ok {
			f.add(m, "range", "The limit must be a whole number that is not negative.")
			continue
		}
		r.Limited, r.MaxOutput = true, max(r.MaxOutput, n)
	}
}

// flag reads an optional boolean.
func flag(e elem, f *faults) bool {
	if e.set() && e.kind() != 't' && e.kind() != 'f' {
		f.add(e, "type", "The value must be a boolean.")
	}
	return e.kind() == 't'
}

// unbound notes a member whose cost is not known. Beyond the limit the request
// is refused, since a list that is cut short would hide what follows.
func (r *Request) unbound(e elem, name string, f *faults) {
	if len(r.Unbounded) == MaxMedia {
		f.add(e, "too_many", "The request has too many parts whose cost is not known.")
		return
	}
	r.Unbounded = append(r.Unbounded, Unbounded{e.pointer(), name})
}

// members notes the members of an object that are set to something.
func (r *Request) members(e elem, table map[string]string, f *faults) {
	for m := range e.all() {
		if name, ok := table[m.name()]; ok && m.set() && m.kind() != 'f' {
			r.unbound(m, name, f)
		}
	}
}

// Output returns the limit per choice that a route's limit leaves: the
// request's, but at most limit. A limit of 0 or less leaves the request's.
func (r *Request) Output(limit int64) int64 {
	switch {
	case limit <= 0:
		return r.MaxOutput
	case r.Limited:
		return min(r.MaxOutput, limit)
	}
	return limit
}

// Hold returns the tokens that the request can use at most when its output is
// clamped to limit tokens per choice: prompt bound + n × output.
func (r *Request) Hold(limit int64) int64 {
	// INVARIANT: n ≤ 2^7 and output ≤ 2^40, so nothing overflows.
	return r.PromptBound + r.Choices*min(r.Output(limit), MaxTokens)
}

// Changes are what Rewrite may do to a request.
type Changes struct {
	// MaxOutput clamps the output limit to this many tokens, and inserts it
	// where the request has none. 0 leaves the limit alone.
	MaxOutput int64
	// IncludeUsage asks the provider for usage at the end of a stream. It does
	// nothing to unary requests and to formats that always send usage.
	IncludeUsage bool
}

// Rewrite returns the body with the changes made, and every other byte as it
// was. Without a change it returns the body itself. It fails for a Request that
// Parse did not make, and for a negative limit.
func Rewrite(r *Request, c Changes) ([]byte, error) {
	dl, err := r.Format.dialect()
	if err != nil {
		return nil, err
	}
	if !r.root.ok() || c.MaxOutput < 0 {
		return nil, errChange
	}
	edits := r.clamp(dl.limits(), c.MaxOutput)
	if c.IncludeUsage && r.Stream && !r.IncludeUsage {
		if e, ok := usageEdit(r.root); ok {
			edits = append(edits, e)
		}
	}
	text := r.root.d.text
	if len(edits) == 0 {
		return text, nil
	}
	return splice(make([]byte, 0, len(text)+64*len(edits)), text, edits), nil
}

// clamp makes the edits that hold the output limit to n tokens.
func (r *Request) clamp(members []string, n int64) []edit {
	if n <= 0 {
		return nil
	}
	value := strconv.AppendInt(nil, n, 10)
	if !r.Limited {
		return []edit{r.limitEdit(members, value)}
	}
	var edits []edit
	for _, name := range members {
		m := r.root.get(name)
		if have, ok := m.count(); ok && have > n {
			edits = append(edits, edit{m.span(), value})
		}
	}
	return edits
}

// limitEdit gives a request without a limit one: in place of a null, or else
// as a new member.
func (r *Request) limitEdit(members []string, value []byte) edit {
	for _, name := range members {
		if m := r.root.get(name); m.ok() {
			return edit{m.span(), value}
		}
	}
	return insert(r.root, members[0], value)
}

// usageEdit asks for usage: in the options that stand there, or in new ones.
func usageEdit(root elem) (edit, bool) {
	if o := root.get("stream_options"); o.kind() == '{' {
		return put(o, "include_usage", []byte("true"))
	}
	return put(root, "stream_options", []byte(`{"include_usage":true}`))
}
