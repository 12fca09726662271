package sanitize

// fenceState is where in the lines of Markdown the text stands.
type fenceState uint8

const (
	fenceText   fenceState = iota // in a line that opens and closes nothing
	fenceStart                    // at the start of a line
	fenceMark                     // in the marks that may open or close
	fenceInfo                     // after marks that open, in their line
	fenceClosed                   // after marks that close, in their line
)

const (
	minFence  = 3
	maxIndent = 3
)

// fence follows the fenced code blocks of Markdown (CommonMark, 4.5), in which
// matches are only flagged. It sees raw bytes: no renderer decodes a fence.
//
// What opens one is narrow, as a fence that a renderer does not see is a way
// past the rules: it must stand in the first column, where no list or quotation
// can hold it, and after a line that begins with < none is trusted any more, as
// it may stand within a block of HTML.
type fence struct {
	state    fenceState
	mark     byte  // of the open fence, or 0
	first    byte  // mark that is being counted
	indent   uint8 // spaces before it
	count    int   // marks so far
	length   int   // marks that opened
	distrust bool
	openAt   int // first byte after the line that opened
}

// open reports whether the text from a position on is fenced.
func (f *fence) open(start int) bool { return f.mark != 0 && f.openAt <= start }

// watching reports whether the next byte matters.
func (f *fence) watching() bool { return f.state != fenceText }

// read reads the bytes of a character.
func (f *fence) read(raw string, at int) {
	for k := range len(raw) {
		if b := raw[k]; b == '\n' || b == '\r' || f.watching() {
			f.step(b, at+k)
		}
	}
}

// step reads one byte.
func (f *fence) step(b byte, at int) {
	if b == '\n' || b == '\r' {
		f.line(at)
		return
	}
	switch f.state {
	case fenceStart:
		f.start(b)
	case fenceMark:
		f.marks(b)
	case fenceInfo:
		if b == '`' && f.first == '`' {
			f.state = fenceText // code in a line
		}
	case fenceClosed:
		if b != ' ' && b != '\t' {
			f.state = fenceText
		}
	}
}

// line handles the end of a line.
func (f *fence) line(at int) {
	f.marks('\n')
	switch f.state {
	case fenceInfo:
		f.mark, f.length, f.openAt = f.first, f.count, at+1
	case fenceClosed:
		f.mark = 0
	}
	f.state, f.indent = fenceStart, 0
}

func (f *fence) start(b byte) {
	switch {
	case b == ' ' && f.indent < maxIndent:
		f.indent++
	case b == '`' || b == '~':
		f.state, f.first, f.count = fenceMark, b, 1
	default:
		f.distrust = f.distrust || b == '<' && f.mark == 0
		f.state = fenceText
	}
}

// marks reads what follows a mark.
func (f *fence) marks(b byte) {
	if f.state != fenceMark {
		return
	}
	if b == f.first {
		f.count = min(f.count+1, 1<<30)
		return
	}
	blank := b == ' ' || b == '\t' || b == '\n'
	switch {
	case f.mark != 0 && f.first == f.mark && f.count >= f.length && blank:
		f.state = fenceClosed
	case f.mark == 0 && f.count >= minFence && f.indent == 0 && !f.distrust && !(b == '`' && f.first == '`'):
		f.state = fenceInfo
	default:
		f.state = fenceText
	}
}
