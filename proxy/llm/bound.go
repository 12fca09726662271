package llm

import "strings"

// Limits and constants of the prompt's upper bound, in tokens unless said.
const (
	// MaxMedia is how many media a request may hold.
	MaxMedia = 600
	// ToolTokens is what a provider adds to a prompt with tools beyond their
	// definitions (Anthropic documents up to 530 per model).
	ToolTokens = 600
	// AudioBytesPerToken is how many bytes of base64 hold one token of speech
	// at least: MP3 has 1,000 bytes per second or more, models take 10 to 32
	// tokens per second.
	AudioBytesPerToken = 32
)

// MediaKind is what a medium is.
type MediaKind uint8

// The kinds of media that the table bounds.
const (
	Image MediaKind = iota + 1
	Audio
)

// Media is one image or sound in a prompt.
type Media struct {
	Kind    MediaKind
	Pointer string // RFC 6901, of the part
	Type    string // "image/png", …; "" for an address
	Remote  bool   // the provider fetches it
	Bytes   int64  // of the payload in the body; 0 when Remote
	Tokens  int64  // upper bound
}

// Bound returns an upper bound of a prompt's tokens: one per byte of text, since
// no token is shorter than a byte and the JSON around a message is longer than
// its framing; a constant for tools; and the media by the table. Text is the
// body's length in bytes without the media's payloads.
func Bound(text int64, tools bool, media []Media) int64 {
	n := text
	if tools {
		n += ToolTokens
	}
	for _, m := range media {
		n += m.Tokens
	}
	return n
}

// imageRow bounds the tokens of one image for models with a prefix.
type imageRow struct {
	prefix    string
	low, high int64 // high also for auto; low where the model has no low detail: as high
	original  int64
}

// unknownImage is the largest row, for models that no row names.
const unknownImage = 48169

// openaiImages are documented prices of an image: models with tiles take a base
// and up to 8 tiles of 512 pixels (2048 × 768), models with patches up to 1,536
// or 2,500 patches (10,000 in original detail), each times a factor of the
// model. The longest prefix counts.
var openaiImages = []imageRow{
	{"gpt-4o-mini", 2833, 2833 + 8*5667, unknownImage},
	{"gpt-4o", 85, 85 + 8*170, unknownImage},
	{"chatgpt-4o", 85, 85 + 8*170, unknownImage},
	{"gpt-4-turbo", 85, 85 + 8*170, unknownImage},
	{"gpt-4.1-nano", 3779, 3779, unknownImage},
	{"gpt-4.1-mini", 2489, 2489, unknownImage},
	{"gpt-4.1", 1536, 1536, unknownImage},
	{"o4-mini", 2642, 2642, unknownImage},
	{"o3", 75, 75 + 8*150, unknownImage},
	{"o1", 75, 75 + 8*150, unknownImage},
	{"gpt-5", 4050, 4050, 16200},
}

// anthropicImages: width × height / 750 after scaling to at most 1,568 pixels
// and about 1,600 tokens; newer models scale to 2,576 pixels, hence the row for
// all others.
var anthropicImages = []imageRow{
	{"claude-", 8848, 8848, 8848},
	{"claude-3", 1700, 1700, 1700},
	{"claude-opus-4-20", 1700, 1700, 1700},
	{"claude-opus-4-1", 1700, 1700, 1700},
	{"claude-opus-4-5", 1700, 1700, 1700},
	{"claude-opus-4-6", 1700, 1700, 1700},
	{"claude-sonnet-4-20", 1700, 1700, 1700},
	{"claude-sonnet-4-5", 1700, 1700, 1700},
	{"claude-sonnet-4-6", 1700, 1700, 1700},
	{"claude-haiku-4-5", 1700, 1700, 1700},
}

// imageTokens bounds one image, whatever its size: providers scale down what is
// larger, so the payload's length says nothing.
func imageTokens(table []imageRow, model, detail string) int64 {
	row := imageRow{low: unknownImage, high: unknownImage, original: unknownImage}
	model = strings.TrimPrefix(model, "ft:")
	for _, r := range table {
		if strings.HasPrefix(model, r.prefix) && len(r.prefix) > len(row.prefix) {
			row = r
		}
	}
	switch detail {
	case "low":
		return row.low
	case "", "auto", "high":
		return row.high
	}
	return row.original
}

// medium adds one medium and takes its payload out of the text.
func (r *Request) medium(part elem, m Media, payload elem, f *faults) {
	if len(r.Media) == MaxMedia {
		f.add(part, "too_many", "The request has too many media.")
		return
	}
	m.Pointer = part.pointer()
	if !m.Remote {
		m.Bytes = int64(len(payload.raw()))
		r.payload += m.Bytes
	}
	if m.Kind == Audio {
		m.Tokens = m.Bytes/AudioBytesPerToken + 1
	}
	r.Media = append(r.Media, m)
}

// imageTypes are the media types that the table holds for.
func imageType(t string) bool {
	switch t {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return true
	}
	return false
}
