package sanitize

import "testing"

// TestPlainEscapesAreEscapes holds the quick way to read escapes against the
// careful one.
func TestPlainEscapesAreEscapes(t *testing.T) {
	t.Parallel()
	read := 0
	for _, first := range "%\\&" {
		for b := range byte(0x80) {
			for c := range byte(0x80) {
				s := source{names: nameTree(), text: string([]byte{byte(first), b, c, '4', '1', 'z'})}
				r, next, o := s.plain(0)
				if o != readOK {
					continue
				}
				read++
				if wantR, wantNext, want := s.char(escapeRounds, 0); r != wantR || next != wantNext || want != readOK {
					t.Errorf("%q: read %q and %d bytes, want %q and %d", s.text, r, next, wantR, wantNext)
				}
			}
		}
	}
	if read < 1000 {
		t.Errorf("only %d escapes are plain: the comparison says little", read)
	}
}

// TestWideReadsCharacters holds the quick way to read characters of two bytes
// against the standard library's.
func TestWideReadsCharacters(t *testing.T) {
	t.Parallel()
	f := foldTables()
	for r := rune(0x80); r < 0x800; r++ {
		want := symbolOf[f.fold(r)]
		if class, _ := controlRune(r, 2); class != 0 {
			want = 0
		}
		s, n := f.wide(string(r)+"x", 0)
		if n == 0 {
			s = 0
		}
		if s != want || n != 0 && n != 2 {
			t.Errorf("%U is symbol %d of %d bytes, want %d", r, s, n, want)
		}
	}
	for _, bad := range []string{"\xc1\x80", "\xc3", "\xc3a", "\xe0\x80\x80", "\x80"} {
		if _, n := f.wide(bad, 0); n != 0 {
			t.Errorf("%q is read as %d bytes", bad, n)
		}
	}
}
