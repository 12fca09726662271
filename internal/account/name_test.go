package account

import (
	"strings"
	"testing"
)

func TestCanonicalName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "ada", "ada"},
		{"upper case", "AdA", "ada"},
		{"space around", " \t\u00a0ada\u2003\n", "ada"},
		{"composed and decomposed are one", "Zoe\u0308", "zo\u00eb"},
		{"sharp s folds", "STRA\u00dfE", "strasse"},
		{"final sigma folds", "\u039f\u03a3", "\u03bf\u03c3"},
		{"Kelvin sign is k", "\u212a", "k"},
		{"dotless i stays apart", "\u0131", "\u0131"},
		{"longest", strings.Repeat("A", MaxNameRunes), strings.Repeat("a", MaxNameRunes)},
		{"punctuation", "a.b-c_d+e@f", "a.b-c_d+e@f"},
	} {
		if got, err := CanonicalName(tt.in); got != tt.want || err != nil {
			t.Errorf("%s: got %q and %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestCanonicalNameRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"empty":           "",
		"only space":      " \t",
		"too long":        strings.Repeat("a", MaxNameRunes+1),
		"far too long":    strings.Repeat("a", 1<<20),
		"grows by fold":   strings.Repeat("\u00df", MaxNameRunes),
		"NUL":             "ad\x00a",
		"line break":      "ad\na",
		"space inside":    "ad a",
		"zero width":      "ad\u200ba",
		"direction":       "\u202eada",
		"no UTF-8":        "ad\xff",
		"lone surrogate":  "\xed\xa0\x80",
		"private use":     "\ue000",
		"unassigned rune": "\U000e0fff",
	} {
		if got, err := CanonicalName(in); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
}

func FuzzCanonicalName(f *testing.F) {
	for _, s := range []string{"ada", "Zoe\u0308", "\u0345\u0313", "\u1e9e", "\u0130", " a "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := CanonicalName(s)
		if err != nil {
			return
		}
		again, err := CanonicalName(name)
		if again != name || err != nil {
			t.Errorf("%q became %q, which becomes %q (%v)", s, name, again, err)
		}
		if upper, err := CanonicalName(strings.ToUpper(name)); err == nil && strings.EqualFold(name, strings.ToUpper(name)) && upper != name {
			t.Errorf("%q in upper case is %q", name, upper)
		}
	})
}
