package llm

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// Limits of event streams.
const (
	// MaxFrameBytes is how large one frame may be, all its lines together.
	MaxFrameBytes = 1 << 20
	// keepBytes is how much memory a Decoder keeps between frames.
	keepBytes = 64 << 10
)

var (
	errFrameSize = errors.New("a frame of the event stream is too large")
	errClosed    = errors.New("the event stream was closed")
)

// Frame is one event of a stream, or a comment between events.
type Frame struct {
	Event        string // the event field; "" when there was none
	ID           string // the id field, if HasID
	Retry        string // decimal digits; "" when there was none
	Data         []byte // the data lines joined by \n; valid until the Decoder's next call
	HasID        bool
	HasData      bool // false: nothing that a client would dispatch
	Unterminated bool // the stream ended within it; clients by the specification ignore it
}

// Decoder splits an event stream into frames as the WHATWG HTML standard
// says (9.2.6), wherever the chunks are cut. The zero Decoder is ready for use.
//
// What a frame does not carry on (comments, unknown fields, how lines end) is
// not kept, so that two readers can't disagree on what was forwarded.
type Decoder struct {
	line    []byte // of the line that is not complete
	data    []byte // data of the frames of this call, and of the one that is open
	from    int    // where the open frame's data begins
	open    Frame  // without data
	lines   int    // lines of the open frame that are not empty
	size    int    // bytes of the open frame
	begun   bool   // the first line was seen
	skipLF  bool   // the last byte was a CR
	last    string // event name of the last frame, to save allocations
	stopped error
	frames  []Frame
}

// Write takes the next chunk and returns the frames that it completes. They are
// valid until the next call and don't refer to the chunk. After an error, which
// may come with frames that were complete before, the stream can't go on.
func (d *Decoder) Write(chunk []byte) ([]Frame, error) {
	if d.stopped != nil {
		return nil, d.stopped
	}
	d.compact()
	for len(chunk) > 0 && d.stopped == nil {
		chunk = d.take(chunk)
	}
	return d.frames, d.stopped
}

// Close ends the stream and returns the frame that it broke off in, if any.
func (d *Decoder) Close() ([]Frame, error) {
	if d.stopped != nil {
		return nil, d.stopped
	}
	d.compact()
	d.stopped = errClosed
	if len(d.line) > 0 {
		d.endLine(d.line)
		d.line = nil
	}
	d.open.Unterminated = true
	d.dispatch()
	return d.frames, nil
}

// compact moves the data of the open frame to the front of the memory.
func (d *Decoder) compact() {
	open := d.data[d.from:]
	if cap(d.data) > keepBytes && len(open) < keepBytes/2 {
		d.data = slices.Clone(open)
	} else {
		d.data = d.data[:copy(d.data, open)]
	}
	d.from = 0
	clear(d.frames)
	d.frames = d.frames[:0]
}

// take consumes the chunk up to the end of a line, or all of it.
func (d *Decoder) take(chunk []byte) []byte {
	if d.skipLF && chunk[0] == '\n' {
		d.skipLF = false
		return chunk[1:]
	}
	d.skipLF = false
	end := bytes.IndexAny(chunk, "\r\n")
	if end < 0 {
		d.grow(len(chunk))
		d.line = append(d.line, chunk...)
		return nil
	}
	if d.grow(end); d.stopped != nil {
		return nil
	}
	line := chunk[:end]
	if len(d.line) > 0 {
		d.line = append(d.line, line...)
		line = d.line
	}
	d.skipLF = chunk[end] == '\r'
	d.endLine(line)
	d.line = d.line[:0]
	return chunk[end+1:]
}

// grow counts bytes of the open frame against its limit. INVARIANT: only bytes
// within lines count, so the split of the input does not matter.
func (d *Decoder) grow(n int) {
	if d.size += n; d.size > MaxFrameBytes {
		d.stopped = errFrameSize
	}
}

// endLine interprets one line.
func (d *Decoder) endLine(line []byte) {
	if !d.begun {
		d.begun = true
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if len(line) == 0 {
		d.dispatch()
		return
	}
	d.lines++
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if d.open.HasData {
			d.data = append(d.data, '\n')
		}
		d.data = append(d.data, value...)
		d.open.HasData = true
	case "event":
		d.open.Event = d.intern(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.open.ID, d.open.HasID = string(value), true
		}
	case "retry":
		if len(value) > 0 && len(value) < 10 && len(bytes.Trim(value, "0123456789")) == 0 {
			d.open.Retry = string(value)
		}
	}
}

// intern returns the event's name; most frames of a stream have the same one.
func (d *Decoder) intern(b []byte) string {
	if string(b) != d.last {
		d.last = string(b)
	}
	return d.last
}

// dispatch completes the open frame.
func (d *Decoder) dispatch() {
	if d.lines > 0 {
		d.open.Data = d.data[d.from:len(d.data):len(d.data)]
		d.frames = append(d.frames, d.open)
	}
	d.from, d.open, d.lines, d.size = len(d.data), Frame{}, 0, 0
}

// AppendFrame appends a frame in its plainest form: LF only, one space after
// the colon. A frame without data becomes an empty comment, which keeps
// connections alive and means nothing.
func AppendFrame(dst []byte, f Frame) []byte {
	if !f.HasData {
		return append(dst, ":\n\n"...)
	}
	dst = appendField(dst, "event", f.Event)
	if f.HasID {
		dst = append(append(append(dst, "id: "...), oneLine(f.ID)...), '\n')
	}
	dst = appendField(dst, "retry", f.Retry)
	dst = appendData(dst, f.Data)
	return append(dst, '\n')
}

func appendField(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, oneLine(value)...), '\n')
}

// appendData writes one data line per line of the text.
func appendData(dst, data []byte) []byte {
	for {
		end := bytes.IndexAny(data, "\r\n")
		if end < 0 {
			break
		}
		dst = append(append(append(dst, "data: "...), data[:end]...), '\n')
		if data[end] == '\r' && end+1 < len(data) && data[end+1] == '\n' {
			end++
		}
		data = data[end+1:]
	}
	return append(append(append(dst, "data: "...), data...), '\n')
}

// oneLine keeps a value from beginning a line of its own.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(s)
}
