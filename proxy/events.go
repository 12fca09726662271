package proxy

import (
	"cmp"
	"slices"

	"gatehouse/internal/snapshot"
	"gatehouse/proxy/llm"
	"gatehouse/proxy/sanitize"
)

// eventStream reads an answer of events, judges its texts and writes it anew,
// frame by frame. It belongs to one exchange.
//
// INVARIANT: what was written so far holds no match, wherever the answer was cut
// into chunks: a text's end that may become one is held back until it is decided.
type eventStream struct {
	decoder  llm.Decoder
	stream   *llm.Stream
	rules    *snapshot.Sanitizers // nil: no text is judged
	under    []underway           // texts under way, in the order of their beginning
	over     []llm.Key            // of texts that have ended, at most maxEnded
	findings []sanitize.Finding
	texts    []string // of one frame; reused
	ended    bool     // the upstream ended the stream
	lenient  bool     // what is wrong with it passes: mode observe
	would    *denial  // the first thing that passed for that
}

// maxEnded is how many texts of one stream may have ended.
const maxEnded = 2048

// underway is one text under way.
type underway struct {
	key   llm.Key
	clean *sanitize.Stream
}

func newEventStream(format llm.Format, hideUsage bool, rules *snapshot.Sanitizers, lenient bool) (*eventStream, error) {
	s, err := llm.NewStream(format, llm.StreamOptions{HideUsage: hideUsage, DropLogprobs: rules != nil && !lenient})
	return &eventStream{stream: s, rules: rules, lenient: lenient}, err
}

// write takes a chunk and returns what it comes to. After a denial the stream
// can't go on; what comes with it is clean and may be passed on before.
func (s *eventStream) write(chunk []byte) ([]byte, *denial) {
	frames, err := s.decoder.Write(chunk)
	out, d := s.frames(nil, frames)
	if d == nil && err != nil {
		d = unfit("frame_too_large", "The upstream's stream can't be read.", err)
	}
	return out, d
}

// close ends the stream: the frame that it broke off in, and what was held back.
func (s *eventStream) close(out []byte) ([]byte, *denial) {
	s.ended = true
	frames, err := s.decoder.Close()
	if err != nil {
		return out, unfit("frame_too_large", "The upstream's stream can't be read.", err)
	}
	out, d := s.frames(out, frames)
	if d != nil {
		return out, d
	}
	return s.flush(out, func(llm.Key) bool { return true })
}

func (s *eventStream) frames(out []byte, frames []llm.Frame) ([]byte, *denial) {
	for _, f := range frames {
		var d *denial
		if out, d = s.frame(out, f); d != nil {
			return out, d
		}
	}
	return out, nil
}

// frame takes one frame. Texts that end with it and have no piece in it are
// written before it, since clients stop at the mark of an end.
func (s *eventStream) frame(out []byte, f llm.Frame) ([]byte, *denial) {
	if s.rules != nil && !s.lenient {
		f.ID, f.HasID = "", false // no format needs it, and it could carry any text
	}
	ev := s.stream.Next(f)
	if s.rules == nil {
		return s.pass(out, ev)
	}
	if ev.Kind == llm.EventUnparsed {
		d := s.fault("frame_unreadable", "The upstream's stream holds what can't be read.", ev.Reason)
		if d != nil {
			return out, d
		}
		return s.pass(out, ev)
	}
	texts, d := s.judge(ev)
	if d != nil {
		return out, d
	}
	out, d = s.flush(out, func(k llm.Key) bool { return slices.Contains(ev.Closed, k) })
	if d != nil || ev.Remove {
		return out, d
	}
	return s.append(out, texts)
}

// fault is a denial for what is wrong with the stream; nil where that is only
// noted.
func (s *eventStream) fault(rule, reason string, cause error) *denial {
	d := unfit(rule, reason, cause)
	if !s.lenient {
		return d
	}
	s.would = cmp.Or(s.would, d)
	return nil
}

// pass forwards a frame of which no text is judged.
func (s *eventStream) pass(out []byte, ev llm.Event) ([]byte, *denial) {
	if ev.Remove {
		return out, nil
	}
	return s.append(out, nil)
}

func (s *eventStream) append(out []byte, texts []string) ([]byte, *denial) {
	out, err := s.stream.Append(out, texts)
	if err != nil {
		return out, unfit("answer_unwritable", "The answer was blocked: what was found in it can't be made harmless.", err)
	}
	return out, nil
}

// judge judges the texts of a frame. A text that ends in it gives all it has.
func (s *eventStream) judge(ev llm.Event) ([]string, *denial) {
	s.texts = s.texts[:0]
	for _, t := range ev.Texts {
		clean, d := s.piece(t)
		if d != nil {
			return nil, d
		}
		s.texts = append(s.texts, clean)
	}
	for _, k := range ev.Closed {
		last := lastPiece(ev.Texts, k)
		if last < 0 {
			continue
		}
		rest, d := s.end(k)
		if d != nil {
			return nil, d
		}
		s.texts[last] += rest
	}
	return s.texts, nil
}

// lastPiece is the index of a key's last piece in a frame, less than 0 if it has
// none.
func lastPiece(texts []llm.Text, k llm.Key) int {
	for i, t := range slices.Backward(texts) {
		if t.Key == k && !t.Whole {
			return i
		}
	}
	return -1
}

// piece judges one piece of a text.
func (s *eventStream) piece(t llm.Text) (string, *denial) {
	sc := scannerOf(s.rules, t.Key.Field)
	switch {
	case sc == nil:
		return t.Value, nil
	case t.Whole:
		clean, findings, stop := sc.Text(t.Value)
		return clean, s.note(findings, stop)
	}
	text, d := s.text(t.Key, sc)
	if d != nil {
		return "", d
	}
	clean, findings := text.Write(t.Value)
	return clean, s.note(findings, text.Blocked())
}

// text finds a text under way, or begins it. One that goes on after its end would
// be judged in two halves, which clients join. INVARIANT: proxy/llm bounds how many
// are under way (MaxKeys).
func (s *eventStream) text(k llm.Key, sc *sanitize.Scanner) (*sanitize.Stream, *denial) {
	for i := range s.under {
		if s.under[i].key == k {
			return s.under[i].clean, nil
		}
	}
	var d *denial
	switch {
	case slices.Contains(s.over, k):
		d = s.fault("text_after_end", "The upstream's stream goes on with a text that has ended.", nil)
	case len(s.over) >= maxEnded:
		d = s.fault("too_many_texts", "The upstream's stream has too many texts.", nil)
	}
	clean := sc.Stream()
	s.under = append(s.under, underway{k, clean})
	return clean, d
}

// end ends a text and returns what was held back of it.
func (s *eventStream) end(k llm.Key) (string, *denial) {
	i := slices.IndexFunc(s.under, func(t underway) bool { return t.key == k })
	if i < 0 {
		return "", nil
	}
	rest, findings := s.under[i].clean.Close()
	stop := s.under[i].clean.Blocked()
	s.under = slices.Delete(s.under, i, i+1)
	if len(s.over) < maxEnded {
		s.over = append(s.over, k)
	}
	return rest, s.note(findings, stop)
}

// flush ends the texts that match, each with a frame of its own for what was held
// back.
func (s *eventStream) flush(out []byte, match func(llm.Key) bool) ([]byte, *denial) {
	for i := 0; i < len(s.under); {
		k := s.under[i].key
		if !match(k) {
			i++
			continue
		}
		rest, d := s.end(k)
		if d != nil {
			return out, d
		}
		if rest == "" {
			continue
		}
		var err error
		if out, err = s.stream.AppendText(out, k, rest); err != nil {
			return out, unfit("answer_unwritable", "The end of the answer can't be written.", err)
		}
	}
	return out, nil
}

// note keeps findings, and makes one that blocks a denial.
func (s *eventStream) note(fs []sanitize.Finding, stop bool) *denial {
	s.findings = append(s.findings, fs...)
	if !stop {
		return nil
	}
	return blocked(fs)
}

func (s *eventStream) takeFindings() []sanitize.Finding {
	fs := s.findings
	s.findings = nil
	return fs
}

// scannerOf says which rules a text is read by: what a reader sees by those of
// content, whatever else the provider calls it.
func scannerOf(rules *snapshot.Sanitizers, f llm.Field) *sanitize.Scanner {
	switch {
	case rules == nil:
		return nil
	case f == llm.FieldReasoning:
		return rules.Reasoning
	case f == llm.FieldToolInput:
		return rules.ToolCall
	}
	return rules.Content
}
