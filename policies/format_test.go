package policies

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	const want = "package a\n\n# why\nallow if input.x == 1\ndeny contains \"no\" if not allow\n"
	got, err := Format("a.rego", []byte("package a\n# why\nallow   if   input.x==1\ndeny contains \"no\" if not allow"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("formatted (-want +got):\n%s", diff)
	}
	again, err := Format("a.rego", got)
	if err != nil || string(again) != want {
		t.Errorf("formatting again: %v, got %q", err, again)
	}
}

func TestFormatKeepsWhatIsShipped(t *testing.T) {
	t.Parallel()
	src, err := ReadSource(os.DirFS("shipped"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range src {
		if !isRego(name) {
			continue
		}
		got, err := Format(name, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(got)); diff != "" {
			t.Errorf("%s is not formatted (-is +want):\n%s", name, diff)
		}
	}
}

func TestFormatSaysWhereItCantRead(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"syntax", "package a\n\nallow if if\n", "a.rego:3:"},
		{"size", strings.Repeat("#", maxFileBytes+1), "larger than"},
		{"empty", "", "a.rego"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Format("a.rego", []byte(tt.text))
			if _, ok := errors.AsType[Faults](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want Faults that say %q", err, tt.want)
			}
		})
	}
}
