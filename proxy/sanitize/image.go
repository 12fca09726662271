package sanitize

// imageState is where in an image of Markdown the text stands.
type imageState uint8

const (
	imageNone  imageState = iota
	imageAlt              // in ![…
	imageClose            // after ![…]
)

// What of a reference image has been seen: its use and its target may come in
// either order, any distance apart.
const (
	seenReference  uint8 = 1 << iota // ![…] or ![…][…]
	seenDefinition                   // […]: of an external origin
)

// image reads images of Markdown (CommonMark, 6.4). No more is held for one than
// its ]: it is broken there, or at its URL.
type image struct {
	state   imageState
	seen    uint8
	odd     bool  // the text holds what may hide its end: brackets, escapes, code
	lines   uint8 // line breaks that are not followed by text
	closeAt int   // the ]
}

// bracket handles ![, ]( and ]:.
func (m *machine) bracket(x *env, a act, inImage bool) {
	switch {
	case a == actImage && x.acts(ExternalImage):
		m.image.state, m.image.odd, m.image.lines = imageAlt, false, 0
		m.live |= liveImage
	case a == actLink && inImage:
		m.expectURL(urlSource)
	case a == actLink:
		m.expectURL(urlLink)
	case a == actDefine && (x.acts(ExternalImage) || x.acts(ExternalLink)):
		m.expectURL(urlDefine)
	}
}

// stepImage reads a character after ![.
func (m *machine) stepImage(x *env, c byte, sym symbol, at int) {
	i := &m.image
	switch {
	case i.state == imageClose:
		m.closed(x, sym, at)
	case sym == symRBrack:
		i.state, i.closeAt = imageClose, at
	case sym == symLine:
		if i.lines++; i.lines > 1 {
			m.noImage() // a paragraph ends there
		}
		return
	case sym == symEnd:
		m.noImage()
	case sym == symLBrack, sym == symTick, sym == symLT, c == '\\':
		i.odd = true
	}
	if !blank(sym) {
		i.lines = 0
	}
}

func (m *machine) noImage() {
	m.image.state = imageNone
	m.live &^= liveImage
}

// closed reads what follows a ] in an image.
func (m *machine) closed(x *env, sym symbol, at int) {
	i := &m.image
	switch {
	case sym == symLParen && i.odd:
		x.hit(ExternalImage, ruleImage, i.closeAt, at) // where it goes can't be told
	case sym == symLParen:
	case sym == symRBrack:
		i.closeAt = at
		return
	case i.odd && sym != symLBrack:
		i.state = imageAlt
		return
	default:
		i.seen |= seenReference
		if i.seen&seenDefinition != 0 {
			x.hit(ExternalImage, ruleReference, i.closeAt, at)
		}
	}
	m.noImage()
}
