package fakellm

import (
	"context"
	"net/http"
	"strconv"
	"strings"
)

// tornPiece is which piece of a stream is cut, of those that are not whole.
const tornPiece = 3

// answer is what a unary call waits for.
type answer struct {
	parts   []*part
	visible event // the words that the client will see
	last    event
}

type part struct {
	block
	text strings.Builder
}

// hear lets a model speak to its end. An answer whose last event is neither
// ended nor snapped was given up.
func hear(ctx context.Context, c *call, s *script, b *bill) *answer {
	a := &answer{}
	for e := range s.talk(ctx, c) {
		b.generate(e)
		a.take(e)
	}
	return a
}

// take keeps what the first choice says: all say the same.
func (a *answer) take(e event) {
	a.last = e
	if e.block.kind != concealed {
		a.visible.words += e.words
	}
	if e.choice > 0 {
		return
	}
	switch e.kind {
	case opened:
		a.parts = append(a.parts, &part{block: e.block})
	case worded:
		a.parts[len(a.parts)-1].text.WriteString(e.text)
	}
}

// unary writes an answer as one JSON document.
func (x *exchange) unary(c *call, s *script) {
	a := hear(x.r.Context(), c, s, x.bill)
	if a.last.kind != ended && a.last.kind != snapped {
		panic(http.ErrAbortHandler)
	}
	doc := encode(document(c, a))
	if a.last.kind == snapped {
		x.breakOff(doc, s.wire)
	}
	if s.wire.torn {
		doc, a.visible = doc[:len(doc)/2], event{}
	}
	out := newWriter(x.w, http.StatusOK, "application/json", s.wire)
	if out.write(doc) != nil || out.close() != nil {
		panic(http.ErrAbortHandler)
	}
	x.bill.serve(a.visible)
	x.bill.finish()
}

func document(c *call, a *answer) object {
	if c.shape == anthropic {
		return anthropicDocument(c, a)
	}
	return openaiDocument(c, a)
}

// breakOff writes half of a document and breaks the connection.
func (x *exchange) breakOff(doc []byte, how wire) {
	x.w.Header().Set("Content-Length", strconv.Itoa(len(doc)))
	_ = newWriter(x.w, http.StatusOK, "application/json", how).write(doc[:len(doc)/2])
	panic(http.ErrAbortHandler)
}

// streamed writes an answer as an event stream. It panics to break the
// connection, as the server wants it.
func (x *exchange) streamed(c *call, s *script) {
	x.w.Header().Set("Cache-Control", "no-cache")
	out := newWriter(x.w, http.StatusOK, "text/event-stream; charset=utf-8", s.wire)
	last, pieces := event{kind: snapped}, 0
	for e := range s.talk(x.r.Context(), c) {
		last = e
		x.bill.generate(e)
		if e.kind == worded {
			pieces++
		}
		torn := s.wire.torn && e.kind == worded && pieces == tornPiece
		if out.frames(x.frames(c, e), torn) != nil {
			panic(http.ErrAbortHandler)
		}
		x.bill.serve(e)
	}
	if last.kind != ended && last.kind != failed || out.close() != nil {
		panic(http.ErrAbortHandler)
	}
	if last.kind == ended {
		x.bill.finish()
	}
}

func (x *exchange) frames(c *call, e event) []frame {
	switch {
	case e.kind == failed:
		name := "" // OpenAI's error has none
		if c.shape == anthropic {
			name = "error"
		}
		return []frame{jsonFrame(name, scripted(http.StatusInternalServerError).document(c.shape, x.request()))}
	case c.shape == anthropic:
		return anthropicFrames(c, e)
	}
	return openaiFrames(c, e)
}

// frames writes the frames of one step together.
func (b *writer) frames(frames []frame, torn bool) error {
	var text []byte
	for _, f := range frames {
		if torn {
			f.data = f.data[:len(f.data)/2]
		}
		text = append(text, f.bytes(b.wire.crlf)...)
	}
	if len(text) == 0 {
		return nil
	}
	return b.write(text)
}
