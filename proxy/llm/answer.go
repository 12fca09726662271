package llm

// MaxAnswerBytes is how large a unary answer may be.
const MaxAnswerBytes = 32 << 20

// ProviderError is an error that a provider reports in its own form. The
// message is among the texts, as FieldError.
type ProviderError struct {
	Type string
	Code string
}

// Answer is what a unary answer says. It keeps the body for Append.
type Answer struct {
	Format Format
	Texts  []Text         // in the order of reading, at most MaxTexts
	Finish []string       // reasons, one per finished choice
	Usage  Usage          // Final if the provider reported any
	Counts Counts         // visible bytes
	Hidden Hidden         // HiddenSome if the answer shows that tokens were hidden, else HiddenUnknown
	Err    *ProviderError // not nil: the provider's error document

	doc *document
	c   collector
}

// ParseAnswer reads the body of a unary answer. The error is an *Error, or says
// that the format is unknown; then nothing is known about the text, and the
// body must not reach a client that expects clean text. What is JSON but
// neither an answer nor an error document of the format is refused too.
func ParseAnswer(format Format, body []byte) (*Answer, error) {
	dl, err := format.dialect()
	if err != nil {
		return nil, err
	}
	if len(body) > MaxAnswerBytes {
		return nil, refuse(TooLarge, Fault{Code: "too_large", Message: "The answer is too large."})
	}
	doc, err := newParser().parse(body)
	if err != nil {
		return nil, err
	}
	a := &Answer{Format: format, doc: doc}
	dl.answer(doc.root(), a, &a.c)
	a.c.sweep(doc)
	if a.c.fault != nil {
		return nil, a.c.fault
	}
	a.Texts, a.Counts = a.c.texts, a.c.counts
	a.Hidden = a.c.hidden(a.Usage)
	return a, nil
}

// hidden says what the document itself shows about hidden tokens.
func (c *collector) hidden(u Usage) Hidden {
	if c.redacted || (c.sealed || u.Reasoning > 0) && !c.reasoned {
		return HiddenSome
	}
	return HiddenUnknown
}

// Append appends the body with its texts replaced, one for each of Texts in
// their order, and every other byte as it was. Nil keeps all texts. With
// dropLogprobs, log probabilities become null: they repeat the text.
func (a *Answer) Append(dst []byte, texts []string, dropLogprobs bool) ([]byte, error) {
	return a.c.rewrite(dst, a.doc, texts, dropLogprobs)
}
