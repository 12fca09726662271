package inflight_test

import (
	"strings"
	"testing"

	"gatehouse/internal/inflight"
)

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		"": false, "a": true, strings.Repeat("a", 255): true, strings.Repeat("a", 256): false,
		"a b": false, "a\n": false, "é": false, `"quoted"`: true,
	} {
		if err := inflight.CheckKey(key); (err == nil) != good {
			t.Errorf("%q: %v", key, err)
		}
	}
}
