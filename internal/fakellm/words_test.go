package fakellm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// texts are texts with all kinds of space in them.
func texts() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.SampledFrom([]rune("ab \n\t\u00a0\u3000é\u202e")), 0, 40, -1)
}

func TestSplitKeepsTextAndWords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := texts().Draw(t, "text")
		pieces := split(text)
		if joined := strings.Join(pieces, ""); joined != text {
			t.Fatalf("split(%q) = %q: the text changed", text, pieces)
		}
		if n := words(text); n > 0 && n != len(pieces) {
			t.Fatalf("split(%q) = %q: %d pieces, want %d", text, pieces, len(pieces), n)
		}
		if joined := strings.Join(crumble(pieces), ""); joined != text {
			t.Fatalf("crumbs of %q make %q", text, joined)
		}
	})
}

// TestCountIsTheSameForEverySplit counts a text in pieces and in one.
func TestCountIsTheSameForEverySplit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, n := []rune(texts().Draw(t, "text")), 0
		var c counter
		for rest := text; len(rest) > 0; {
			size := rapid.IntRange(1, len(rest)).Draw(t, "size")
			_, more := c.head(string(rest[:size]), len(text))
			n, rest = n+more, rest[size:]
		}
		if want := len(strings.Fields(string(text))); n != want {
			t.Fatalf("%q in pieces has %d words, want %d", string(text), n, want)
		}
	})
}

func TestHeadNeverHasMoreThanAsked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, most := texts().Draw(t, "text"), rapid.IntRange(0, 5).Draw(t, "most")
		var c counter
		head, n := c.head(text, most)
		if !strings.HasPrefix(text, head) || n != words(head) || n > most {
			t.Fatalf("head(%q, %d) = %q with %d words", text, most, head, n)
		}
		if n < most && head != text {
			t.Fatalf("head(%q, %d) = %q: cut too early", text, most, head)
		}
	})
}

func TestHeadGoesOnWithinAWord(t *testing.T) {
	t.Parallel()
	c := counter{within: true}
	if head, n := c.head("ers; and", 0); head != "ers; " || n != 0 {
		t.Errorf("head = %q with %d words, want the rest of the word that was counted", head, n)
	}
}

func TestCrumbs(t *testing.T) {
	t.Parallel()
	want := []string{"DRO", "P", " Ué", "x"}
	if diff := cmp.Diff(want, crumble([]string{"DROP", " Ué", "x"})); diff != "" {
		t.Errorf("crumbs: -want +got\n%s", diff)
	}
}
