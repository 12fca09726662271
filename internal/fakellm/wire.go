package fakellm

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"time"
)

// writeTimeout is how long a client may take to read one write.
const writeTimeout = 30 * time.Second

// wire is how an answer is written.
type wire struct {
	gzip  bool
	octet bool // with a content type that says nothing
	crlf  bool // streams: CRLF, and no space after the colon
	shred bool // each byte by itself
	torn  bool // JSON that is cut
}

// frame is one event of a stream.
type frame struct {
	event string // "" means that it is not said
	data  []byte
}

func jsonFrame(event string, v object) frame { return frame{event: event, data: encode(v)} }

func (f frame) bytes(crlf bool) []byte {
	colon, end := ": ", "\n"
	if crlf {
		colon, end = ":", "\r\n"
	}
	var b bytes.Buffer
	if f.event != "" {
		b.WriteString("event" + colon + f.event + end)
	}
	b.WriteString("data" + colon)
	b.Write(f.data)
	b.WriteString(end + end)
	return b.Bytes()
}

// encode writes JSON as providers do: < and & stand for themselves.
func encode(v object) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("fakellm: an object of strings and numbers was not encoded: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// writer writes one body, and flushes after each write.
type writer struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	zip  *gzip.Writer // nil: plain
	wire wire
}

// newWriter says the status and the headers.
func newWriter(w http.ResponseWriter, status int, contentType string, how wire) *writer {
	if how.octet {
		contentType = "application/octet-stream"
	}
	w.Header().Set("Content-Type", contentType)
	b := &writer{w: w, rc: http.NewResponseController(w), wire: how}
	if how.gzip {
		w.Header().Set("Content-Encoding", "gzip")
		b.zip = gzip.NewWriter(w)
	}
	w.WriteHeader(status)
	return b
}

func (b *writer) write(p []byte) error {
	if !b.wire.shred {
		return b.flush(p)
	}
	for i := range p {
		if err := b.flush(p[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (b *writer) flush(p []byte) error {
	_ = b.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has deadlines
	if err := b.push(p); err != nil {
		return err
	}
	return b.rc.Flush()
}

func (b *writer) push(p []byte) error {
	if b.zip == nil {
		_, err := b.w.Write(p)
		return err
	}
	if _, err := b.zip.Write(p); err != nil {
		return err
	}
	return b.zip.Flush()
}

// close ends the body. The connection may serve another call.
func (b *writer) close() error {
	defer func() { _ = b.rc.SetWriteDeadline(time.Time{}) }()
	if b.zip == nil {
		return nil
	}
	if err := b.zip.Close(); err != nil {
		return err
	}
	return b.rc.Flush()
}
