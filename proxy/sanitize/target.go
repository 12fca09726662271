package sanitize

// urlState is where in a URL the text stands.
type urlState uint8

const (
	urlNone    urlState = iota
	urlLead             // before it
	urlScheme           // in what may be its scheme
	urlSlashes          // between scheme and host
	urlHost             //
	urlMedia            // in the media type of a data URL
)

// urlUse is what a URL is for.
type urlUse uint8

const (
	urlLink   urlUse = iota // somebody may follow it
	urlSource               // it is fetched as an image
	urlDefine               // it is the target of a reference, which an image may name
)

// target reads a URL where one is expected: as the value of an attribute, or as
// the target of a link, an image or a reference of Markdown. Schemes are read
// as browsers do (URL Standard, 4.4): tabs and line breaks do not count.
type target struct {
	state   urlState
	use     urlUse
	free    bool   // it stands in free text, where blanks end it
	bare    bool   // there is no scheme
	odd     bool   // there are slashes that stand the other way
	slashes uint8  // between scheme and host
	pos     uint8  // characters of what mask compares
	mask    uint64 // schemes, media types or origins that fit so far
	hosts   uint64 // origins of the scheme
	start   int    // first byte of the URL; unset before it, or where it has been sent
	mark    int    // the colon of a data URL
}

func urlSchemes() [6]string {
	return [...]string{"javascript", "vbscript", "livescript", "data", "https", "http"}
}

// Bits of urlSchemes.
const (
	schemeRuns  = 1<<0 | 1<<1 | 1<<2
	schemeData  = 1 << 3
	schemeHTTPS = 1 << 4
	schemeHTTP  = 1 << 5
	allSchemes  = 1<<6 - 1
)

// urlMediaTypes are those whose content runs. The last is an image as well, and
// runs nothing as one.
func urlMediaTypes() [5]string {
	return [...]string{"text/html", "application/xhtml+xml", "text/xml", "application/xml", "image/svg+xml"}
}

// Bits of urlMediaTypes.
const (
	mediaImage = 1 << 4
	allMedia   = 1<<5 - 1
)

// narrow keeps those candidates whose next character is c.
func (t *target) narrow(candidates []string, c byte) {
	for i, s := range candidates {
		if t.mask&(1<<i) != 0 && (int(t.pos) >= len(s) || s[t.pos] != c) {
			t.mask &^= 1 << i
		}
	}
	t.pos = min(t.pos, 254) + 1
}

// whole are the candidates that have been read to their end.
func (t *target) whole(candidates []string) (mask uint64) {
	for i, s := range candidates {
		if t.mask&(1<<i) != 0 && int(t.pos) == len(s) {
			mask |= 1 << i
		}
	}
	return mask
}

// expectURL expects a URL from the next character on.
func (m *machine) expectURL(use urlUse) {
	m.url = target{state: urlLead, use: use, start: unset}
	m.live |= liveURL
}

// expectMedia expects a media type after the colon of a data URL.
func (m *machine) expectMedia(start, colon int, free bool) {
	m.url.state, m.url.start, m.url.mark, m.url.free = urlMedia, start, colon, free
	m.url.mask, m.url.pos = allMedia, 0
	if free {
		m.url.use = urlLink
	}
	m.live |= liveURL
}

// stepURL reads a character of a URL.
func (m *machine) stepURL(x *env, c byte, sym symbol, at int) {
	t := &m.url
	if t.state == urlMedia && at == t.mark {
		return // the colon has been read
	}
	switch t.state {
	case urlLead:
		m.lead(x, c, sym, at)
	case urlScheme:
		m.inScheme(x, c, sym, at)
	case urlSlashes:
		m.slash(x, c, sym, at)
	case urlHost:
		m.host(x, c, sym, at)
	case urlMedia:
		m.media(x, c, sym)
	}
	if t.state == urlNone {
		m.live &^= liveURL
	}
}

// lead skips what may stand before a URL.
func (m *machine) lead(x *env, c byte, sym symbol, at int) {
	switch {
	case blank(sym) || sym == symDQ || sym == symSQ || sym == symLT || sym == symLParen && m.url.use == urlSource:
	case c == 'j' || c == 'v' || c == 'l' || c == 'd' || c == 'h': // the schemes below
		m.url.state, m.url.start = urlScheme, at
		m.url.mask, m.url.pos = allSchemes, 0
		m.inScheme(x, c, sym, at)
	case c == '/' || c == '\\':
		m.url.state, m.url.start = urlSlashes, at
		m.url.hosts, m.url.bare = x.secure|x.insecure, true
		m.slash(x, c, sym, at)
	default:
		m.url.state = urlNone
	}
}

func (m *machine) inScheme(x *env, c byte, sym symbol, at int) {
	t, schemes := &m.url, urlSchemes()
	switch {
	case sym == symColon:
		m.schemeEnds(x, t.whole(schemes[:]), at)
	case blank(sym):
	default:
		t.narrow(schemes[:], c)
		if t.mask == 0 {
			t.state = urlNone
		}
	}
}

func (m *machine) schemeEnds(x *env, scheme uint64, at int) {
	t := &m.url
	switch {
	case scheme&schemeRuns != 0:
		x.hit(ExecutableHTML, ruleScript, min(t.start, at), at)
		t.state = urlNone
	case scheme&schemeData != 0 && x.acts(ExecutableHTML):
		m.expectMedia(t.start, at, false)
	case scheme&(schemeHTTPS|schemeHTTP) != 0 && (t.use != urlLink || x.acts(ExternalLink)):
		t.state, t.hosts = urlSlashes, x.insecure
		if scheme&schemeHTTPS != 0 {
			t.hosts = x.secure
		}
	default:
		t.state = urlNone
	}
}

// slash reads up to the host. Browsers take any number of slashes there, of
// either kind; a listed origin must be written plainly.
func (m *machine) slash(x *env, c byte, sym symbol, at int) {
	t := &m.url
	switch {
	case c == '/' || c == '\\':
		t.slashes = min(t.slashes, 100) + 1
		t.odd = t.odd || c != '/'
	case blank(sym):
	case t.use == urlLink && !x.acts(ExternalLink), t.bare && t.slashes < 2, endsHost(c, sym):
		t.state = urlNone
	default:
		if t.state, t.mask, t.pos = urlHost, t.hosts, 0; t.slashes != 2 || t.odd {
			t.mask = 0
		}
		m.host(x, c, sym, at)
	}
}

// endsHost reports whether a character ends the authority of a URL.
func endsHost(c byte, sym symbol) bool {
	switch c {
	case '/', '\\', '?', '#', '"', '\'', '<', '>', ')', '(', '`', '|':
		return true
	}
	return blank(sym) || sym == symEnd
}

// host compares the authority with the listed origins. As soon as none fits,
// the URL is external.
func (m *machine) host(x *env, c byte, sym symbol, at int) {
	t := &m.url
	if endsHost(c, sym) {
		listed := t.whole(x.origins) != 0
		if t.state = urlNone; listed {
			return
		}
		m.external(x, at)
		return
	}
	t.narrow(x.origins, c)
	if t.mask == 0 {
		t.state = urlNone
		m.external(x, at)
	}
}

// external handles a URL of an origin that is not listed.
func (m *machine) external(x *env, at int) {
	start := min(m.url.start, at)
	switch m.url.use {
	case urlSource:
		x.hit(ExternalImage, ruleSource, start, start)
		return
	case urlDefine:
		m.image.seen |= seenDefinition
		if m.image.seen&seenReference != 0 {
			x.hit(ExternalImage, ruleReference, start, start)
		}
	}
	x.hit(ExternalLink, ruleLink, start, start)
}

// media compares the media type of a data URL.
func (m *machine) media(x *env, c byte, sym symbol) {
	t, types := &m.url, urlMediaTypes()
	if blank(sym) && !t.free {
		return
	}
	t.narrow(types[:], c)
	whole := t.whole(types[:])
	if t.use == urlSource {
		whole &^= mediaImage
	}
	if whole != 0 {
		x.hit(ExecutableHTML, ruleDataURL, min(t.start, t.mark), t.mark)
	}
	if whole != 0 || t.mask == 0 {
		t.state = urlNone
	}
}
