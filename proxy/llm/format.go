package llm

import "fmt"

// Format names a wire format, as upstreams name it in the configuration.
type Format string

// The formats of this build.
const (
	OpenAI    Format = "openai"    // chat completions
	Anthropic Format = "anthropic" // messages
)

// Known reports whether the format is one of this build.
func (f Format) Known() bool {
	_, err := f.dialect()
	return err == nil
}

// dialect is what a format must know. A further format is one more of these.
type dialect interface {
	// request fills r from the body's root and reports what is wrong.
	request(root elem, r *Request, f *faults)
	// limits names the members that limit the output. The first is inserted
	// where none stands.
	limits() []string
	// answer fills a from a unary body's root.
	answer(root elem, a *Answer, c *collector)
	// usage reads the members of the provider's usage.
	usage(m *meter) Usage
	// end reports whether data is a mark of the end that is not JSON.
	end(data []byte) bool
	// frame fills ev from one frame, whose data has the given root.
	frame(s *Stream, root elem, ev *Event)
	// delta appends a frame that carries nothing but text, quoted, for key.
	delta(dst []byte, s *Stream, key Key, quoted []byte) ([]byte, error)
	// denial appends an error document.
	denial(dst []byte, d Denial) []byte
	// errorEvent names the event of a stream that carries an error document.
	errorEvent() string
}

func (f Format) dialect() (dialect, error) {
	switch f {
	case OpenAI:
		return openai{}, nil
	case Anthropic:
		return anthropic{}, nil
	}
	return nil, fmt.Errorf("unknown format %q", string(f))
}

type (
	openai    struct{}
	anthropic struct{}
)
