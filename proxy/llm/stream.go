package llm

import (
	"bytes"
	"errors"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

var (
	errAfterEnd = errors.New("a frame after the end of the stream")
	errEvent    = errors.New("the event's name does not fit its data")
	errShape    = errors.New("the frame's data is not an object")
	errKey      = errors.New("no text of this kind can be sent in a frame of its own")
)

// EventKind says what a frame of a stream is.
type EventKind uint8

// The kinds of events.
const (
	EventData      EventKind = iota + 1 // texts, usage or other news; also with no text
	EventDone                           // the provider's end of the stream
	EventError                          // the provider's error; it may carry texts
	EventKeepAlive                      // nothing that a client acts on
	EventUnparsed                       // not understood: must not be forwarded where text is judged
)

// Event is what one frame says.
type Event struct {
	Kind   EventKind
	Texts  []Text         // to be judged whatever the kind is; valid until the Stream's next call
	Closed []Key          // texts that end with this frame, after its own pieces; valid likewise
	Remove bool           // the frame exists only because we asked for usage: don't forward it
	Finish string         // reason of the last choice that finished in it
	Err    *ProviderError // with EventError
	Reason error          // with EventUnparsed; safe to show
}

// Progress is what a stream has said so far.
type Progress struct {
	Usage    Usage
	Counts   Counts
	Unparsed int64  // bytes of data in frames that were not understood
	Done     bool   // the provider marked the end
	Ended    bool   // something began, and all that began has finished
	Failed   bool   // the provider reported an error
	Hidden   Hidden // HiddenSome if the stream shows that tokens were hidden, else HiddenUnknown
}

// StreamOptions are fixed for the life of a Stream.
type StreamOptions struct {
	HideUsage    bool // the client did not ask for usage in the stream
	DropLogprobs bool // log probabilities become null: they repeat the text
}

// Stream reads the frames of one answer. Call Next for each frame of a Decoder,
// and Append to write the frame out with other texts.
type Stream struct {
	dialect dialect
	opts    StreamOptions
	parser  *parser
	c       collector
	meter   meter
	p       Progress
	frame   Frame     // the last one
	ev      Event     // of the last one
	doc     *document // of the last one; nil if it was not understood
	keys    []Key     // texts under way, at most MaxKeys
	closed  []Key
	head    head // of the first chunk
	begun   [MaxChoices]bool
	ended   [MaxChoices]bool
	scratch []byte
}

// head is what chunks of a stream share, as JSON; nil until it was seen.
type head struct{ id, model, created []byte }

// get returns a member of the head, null if it was not seen.
func (head) get(raw []byte) []byte {
	if raw == nil {
		return []byte("null")
	}
	return raw
}

// NewStream returns a Stream for an answer in the format.
func NewStream(format Format, opts StreamOptions) (*Stream, error) {
	dl, err := format.dialect()
	if err != nil {
		return nil, err
	}
	return &Stream{dialect: dl, opts: opts, parser: newParser()}, nil
}

// Next takes the next frame. The frame's data must stay as it is until the next
// call.
func (s *Stream) Next(f Frame) Event {
	s.frame, s.doc, s.closed = f, nil, s.closed[:0]
	s.c.reset()
	s.ev = Event{}
	ev := &s.ev
	switch data := bytes.TrimSpace(f.Data); {
	case len(data) == 0:
		ev.Kind, s.frame = EventKeepAlive, Frame{}
	case s.p.Done:
		s.unparsed(ev, errAfterEnd)
	case !label(f.Event):
		s.unparsed(ev, errEvent)
	case s.dialect.end(data):
		s.done(ev)
	default:
		s.read(ev)
	}
	return *ev
}

// read parses the frame's data and lets the dialect say what it means.
func (s *Stream) read(ev *Event) {
	doc, err := s.parser.parse(s.frame.Data)
	if err != nil {
		s.unparsed(ev, err)
		return
	}
	if doc.root().kind() != '{' {
		s.unparsed(ev, errShape)
		return
	}
	ev.Kind = EventData
	s.dialect.frame(s, doc.root(), ev)
	s.c.spoken = len(s.c.texts)
	s.c.sweep(doc)
	for i := range s.c.texts {
		s.track(&s.c.texts[i])
	}
	if s.c.fault != nil {
		s.unparsed(ev, s.c.fault)
		return
	}
	s.doc, ev.Texts = doc, s.c.texts
	s.follow(ev)
}

// unparsed turns the event into one that is not understood.
func (s *Stream) unparsed(ev *Event, reason error) {
	*ev = Event{Kind: EventUnparsed, Reason: reason}
	s.p.Unparsed += int64(len(s.frame.Data))
}

// done marks the end: every text under way ends with it.
func (s *Stream) done(ev *Event) {
	ev.Kind, s.p.Done = EventDone, true
	ev.Closed = s.close(func(Key) bool { return true })
}

// track notes that a text is under way.
func (s *Stream) track(t *Text) {
	if t.Whole || slices.Contains(s.keys, t.Key) {
		return
	}
	if len(s.keys) == MaxKeys {
		s.c.fault = refuse(TooLarge, Fault{Code: "too_many", Message: "The stream has too many texts under way."})
		return
	}
	s.keys = append(s.keys, t.Key)
}

// close ends the texts that match and returns their keys.
func (s *Stream) close(match func(Key) bool) []Key {
	s.keys = slices.DeleteFunc(s.keys, func(k Key) bool {
		if !match(k) {
			return false
		}
		s.closed = append(s.closed, k)
		return true
	})
	return s.closed
}

// follow takes in what the frame says beyond its texts.
func (s *Stream) follow(ev *Event) {
	s.p.Counts.Text += s.c.counts.Text
	s.p.Counts.Other += s.c.counts.Other
	s.p.Failed = s.p.Failed || ev.Kind == EventError
	for _, i := range s.c.seen {
		s.begun[i] = true
	}
	for _, e := range s.c.ends {
		s.end(e, ev)
	}
	switch {
	case s.c.news && (s.c.closing || s.over()):
		s.meter.final = true
	case s.c.spoken > 0: // usage so far was a figure on the way
		s.meter.final = false
	}
	if s.c.over {
		s.done(ev)
	}
}

// end ends the texts of a content block or of a choice.
func (s *Stream) end(e end, ev *Event) {
	if e.block {
		ev.Closed = s.close(func(k Key) bool { return k.Index == e.index })
		return
	}
	s.begun[e.index], s.ended[e.index] = true, true
	ev.Finish = e.reason
	ev.Closed = s.close(func(k Key) bool { return k.Choice == e.index })
}

// over reports whether something began, and all that began has finished.
func (s *Stream) over() bool {
	return s.begun == s.ended && s.begun != [MaxChoices]bool{}
}

// Progress returns what the stream has said so far.
func (s *Stream) Progress() Progress {
	p := s.p
	p.Usage = s.dialect.usage(&s.meter)
	p.Ended = s.over()
	p.Hidden = s.c.hidden(p.Usage)
	return p
}

// Append appends the last frame with its texts replaced, one for each of the
// event's texts in their order, and every other byte of its data as it was. Nil
// keeps all texts. Frames come out in their plainest form, and complete even if
// the stream broke off in them; see AppendFrame.
func (s *Stream) Append(dst []byte, texts []string) ([]byte, error) {
	if s.doc == nil {
		if len(texts) > 0 {
			return dst, errTexts
		}
		return AppendFrame(dst, s.frame), nil
	}
	data, err := s.c.rewrite(s.scratch[:0], s.doc, texts, s.opts.DropLogprobs)
	if err != nil {
		return dst, err
	}
	f := s.frame
	f.Data = data
	if cap(data) <= keepBytes {
		s.scratch = data
	}
	return AppendFrame(dst, f), nil
}

// AppendText appends a frame that carries nothing but a piece of the text under
// key, in the shape of the stream's own frames: what was held back from a text
// that ends. It fails for fields whose texts are always whole.
func (s *Stream) AppendText(dst []byte, key Key, text string) ([]byte, error) {
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		return dst, errTexts
	}
	return s.dialect.delta(dst, s, key, quoted)
}

// label reports whether an event's name is a plain short word. Others could
// carry text that nobody judges.
func label(name string) bool {
	for i := range len(name) {
		switch b := name[i]; {
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b == '_', b == '.', b == '-':
		default:
			return false
		}
	}
	return len(name) <= 64
}
