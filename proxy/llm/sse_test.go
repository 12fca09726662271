package llm

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keep copies frames out of the decoder's memory.
func keep(frames []Frame) []Frame {
	var out []Frame
	for _, f := range frames {
		f.Data = []byte(string(f.Data))
		out = append(out, f)
	}
	return out
}

// decode feeds the chunks, one after the other, and closes the stream.
func decode(chunks ...string) (frames []Frame, err error) {
	var d Decoder
	for _, c := range chunks {
		chunk := []byte(c)
		got, err := d.Write(chunk)
		clear(chunk) // the frames must not depend on it
		if frames = append(frames, keep(got)...); err != nil {
			return frames, err
		}
	}
	got, err := d.Close()
	return append(frames, keep(got)...), err
}

func data(s string) Frame { return Frame{Data: []byte(s), HasData: true} }

func event(name, s string) Frame {
	f := data(s)
	f.Event = name
	return f
}

func frameTable() map[string]struct {
	text string
	want []Frame
} {
	comment := Frame{Data: []byte{}}
	broken := func(f Frame) Frame { f.Unterminated = true; return f }
	withID := data("x")
	withID.ID, withID.HasID = "7", true
	noID := data("x")
	noID.HasID = true
	retry := data("x")
	retry.Retry = "250"
	return map[string]struct {
		text string
		want []Frame
	}{
		"LF":                 {"data: a\n\ndata: b\n\n", []Frame{data("a"), data("b")}},
		"CRLF":               {"data: a\r\n\r\ndata: b\r\n\r\n", []Frame{data("a"), data("b")}},
		"CR":                 {"data: a\r\rdata: b\r\r", []Frame{data("a"), data("b")}},
		"mixed":              {"data: a\r\n\rdata: b\n\r\ndata: c\r\r\n", []Frame{data("a"), data("b"), data("c")}},
		"lines in CRLF":      {"event: e\r\ndata: a\r\ndata: b\r\n\r\n", []Frame{event("e", "a\nb")}},
		"lines in CR":        {"event: e\rdata: a\rdata: b\r\r", []Frame{event("e", "a\nb")}},
		"no space":           {"event:e\ndata:{\"a\":1}\n\n", []Frame{event("e", `{"a":1}`)}},
		"one space only":     {"data:  a \n\n", []Frame{data(" a ")}},
		"several data lines": {"data: a\ndata:\ndata: b\n\n", []Frame{data("a\n\nb")}},
		"data between":       {"data: a\nevent: e\ndata: b\n\n", []Frame{event("e", "a\nb")}},
		"last event counts":  {"event: a\nevent: b\ndata: x\n\n", []Frame{event("b", "x")}},
		"no colon":           {"data\n\ndata\ndata\n\n", []Frame{data(""), data("\n")}},
		"colons in data":     {"data: a: b\n\n", []Frame{data("a: b")}},
		"comment":            {": hi\n\n:\n\n", []Frame{comment, comment}},
		"comment in a frame": {": hi\ndata: a\n:x\n\n", []Frame{data("a")}},
		"event without data": {"event: ping\n\n", []Frame{{Event: "ping", Data: []byte{}}}},
		"unknown field":      {"foo: bar\ndata: a\nDATA: b\n data: c\n\n", []Frame{data("a")}},
		"empty lines":        {"\n\n\r\n\ndata: a\n\n\n\n", []Frame{data("a")}},
		"byte order mark":    {"\ufeffdata: a\n\n\ufeffdata: b\n\n", []Frame{data("a"), {Data: []byte{}}}},
		"id":                 {"id: 7\ndata: x\n\n", []Frame{withID}},
		"id reset":           {"id\ndata: x\n\n", []Frame{noID}},
		"id with NUL":        {"id: a\x00b\ndata: x\n\n", []Frame{data("x")}},
		"retry":              {"retry: 250\ndata: x\n\n", []Frame{retry}},
		"retry, no digits":   {"retry: 2s\ndata: x\n\n", []Frame{data("x")}},
		"no blank line":      {"data: a\n\ndata: b\n", []Frame{data("a"), broken(data("b"))}},
		"no end of line":     {"data: a\n\nevent: e\ndata: b", []Frame{data("a"), broken(event("e", "b"))}},
		"nothing":            {"", nil},
		"several in a row":   {"data: 1\n\ndata: 2\n\ndata: 3\n\n", []Frame{data("1"), data("2"), data("3")}},
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for name, tc := range frameTable() {
		got, err := decode(tc.text)
		if d := cmp.Diff(tc.want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, d)
		}
	}
}

func TestFramesAreTheSameForEverySplit(t *testing.T) {
	t.Parallel()
	for name, tc := range frameTable() {
		bytewise := strings.Split(tc.text, "") // by characters; the mark has three bytes
		if got, err := decode(bytewise...); err != nil || cmp.Diff(tc.want, got) != "" {
			t.Errorf("%s by characters: %v %v", name, got, err)
		}
		for i := range len(tc.text) + 1 {
			for j := i; j <= len(tc.text); j++ {
				got, err := decode(tc.text[:i], tc.text[i:j], tc.text[j:])
				if d := cmp.Diff(tc.want, got); d != "" || err != nil {
					t.Fatalf("%s cut at %d and %d: %v (-want +got):\n%s", name, i, j, err, d)
				}
			}
		}
	}
}

func TestFrameSize(t *testing.T) {
	t.Parallel()
	largest := "data: " + strings.Repeat("x", MaxFrameBytes-6)
	for name, tc := range map[string]struct {
		text   string
		frames int
		fits   bool
	}{
		"largest":             {largest + "\n\n", 1, true},
		"two of them":         {largest + "\n\n" + largest + "\n\n", 2, true},
		"one byte more":       {"data: a\n\n" + largest + "x\n\n", 1, false},
		"in many lines":       {strings.Repeat("data: xxxx\n", MaxFrameBytes/10+1), 0, false},
		"in comments":         {strings.Repeat(":xxxxxxxxx\n", MaxFrameBytes/10+1), 0, false},
		"a line without end":  {largest + "xx", 0, false},
		"a field of no use":   {"f: " + strings.Repeat("x", MaxFrameBytes), 0, false},
		"an event's name too": {"event: " + strings.Repeat("x", MaxFrameBytes), 0, false},
	} {
		for _, chunks := range [][]string{{tc.text}, {tc.text[:7], tc.text[7:1000], tc.text[1000:]}} {
			frames, err := decode(chunks...)
			if len(frames) != tc.frames || (err == nil) != tc.fits {
				t.Errorf("%s in %d chunks: %d frames, %v; want %d, fits %v", name, len(chunks), len(frames), err, tc.frames, tc.fits)
			}
		}
	}
}

func TestDecoderStops(t *testing.T) {
	t.Parallel()
	var d Decoder
	if _, err := d.Write(make([]byte, MaxFrameBytes+1)); !errors.Is(err, errFrameSize) {
		t.Fatalf("error %v, want %v", err, errFrameSize)
	}
	if f, err := d.Write([]byte("data: a\n\n")); f != nil || !errors.Is(err, errFrameSize) {
		t.Errorf("write after it: %v %v", f, err)
	}
	if f, err := d.Close(); f != nil || !errors.Is(err, errFrameSize) {
		t.Errorf("close after it: %v %v", f, err)
	}
	var e Decoder
	if _, err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write([]byte("data: a\n\n")); !errors.Is(err, errClosed) {
		t.Errorf("write after close: %v, want %v", err, errClosed)
	}
}

func TestDecoderKeepsLittle(t *testing.T) {
	t.Parallel()
	var d Decoder
	if _, err := d.Write([]byte("data: " + strings.Repeat("x", 1<<19) + "\n\ndata: y")); err != nil {
		t.Fatal(err)
	}
	frames, err := d.Write([]byte("\n\n"))
	if err != nil || len(frames) != 1 || string(frames[0].Data) != "y" {
		t.Fatalf("frames %v %v, want y", frames, err)
	}
	if cap(d.data) > keepBytes {
		t.Errorf("%d bytes kept, want at most %d", cap(d.data), keepBytes)
	}
}

func TestAppendFrame(t *testing.T) {
	t.Parallel()
	full := event("e", "a\nb\r\nc\rd")
	full.ID, full.HasID, full.Retry = "7", true, "5"
	evil := event("e\ndata: x", "y")
	evil.ID, evil.HasID = "1\r\ndata: z", true
	for _, tc := range []struct {
		frame Frame
		want  string
	}{
		{data("x"), "data: x\n\n"},
		{data(""), "data: \n\n"},
		{full, "event: e\nid: 7\nretry: 5\ndata: a\ndata: b\ndata: c\ndata: d\n\n"},
		{evil, "event: edata: x\nid: 1data: z\ndata: y\n\n"},
		{Frame{Event: "ping"}, ":\n\n"},
	} {
		if got := string(AppendFrame(nil, tc.frame)); got != tc.want {
			t.Errorf("%+v:\n got %q\nwant %q", tc.frame, got, tc.want)
		}
	}
}

// checkFrames is the property of every stream: its frames don't depend on where
// it is cut, and what is written out is read again as the same.
func checkFrames(t *testing.T, text string, cut int) {
	t.Helper()
	want, err := decode(text)
	cut = min(max(cut, 0), len(text))
	got, errCut := decode(text[:cut], text[cut:])
	if d := cmp.Diff(want, got); d != "" || !errors.Is(errCut, err) {
		t.Fatalf("cut at %d: %v and %v (-whole +cut):\n%s", cut, err, errCut, d)
	}
	var out []byte
	for _, f := range want {
		out = AppendFrame(out, f)
	}
	again, err := decode(string(out))
	if err != nil || len(again) != len(want) {
		t.Fatalf("written out: %d frames of %d, %v", len(again), len(want), err)
	}
	for i, f := range want {
		f.Unterminated = false
		if !f.HasData {
			f = Frame{Data: []byte{}}
		}
		if d := cmp.Diff(f, again[i]); d != "" {
			t.Fatalf("frame %d written out (-want +got):\n%s", i, d)
		}
	}
}
