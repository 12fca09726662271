package budget_test

import (
	"strings"
	"testing"

	"gatehouse/budget"
)

func TestIsID(t *testing.T) {
	t.Parallel()
	const id = "0198c0de-0000-7000-8000-00000000000a"
	if !budget.IsID(id) {
		t.Errorf("%s is one", id)
	}
	for _, s := range []string{"", id[1:], id + "0", strings.ToUpper(id), strings.ReplaceAll(id, "-", "0"), "-" + id[1:], strings.Replace(id, "0", "g", 1), id[:35] + "\n"} {
		if budget.IsID(s) {
			t.Errorf("%q is none", s)
		}
	}
}
