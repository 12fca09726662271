package budget_test

import (
	"errors"
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

func TestCheckTenant(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"": true, "org1": true, "é": true, strings.Repeat("t", budget.MaxTenantName): true,
		"a\x00": false, "\xff": false, strings.Repeat("t", budget.MaxTenantName+1): false,
	} {
		if err := budget.CheckTenant(name); (err == nil) != good || err != nil && !errors.Is(err, budget.ErrInvalid) {
			t.Errorf("%.5q: %v", name, err)
		}
	}
}
