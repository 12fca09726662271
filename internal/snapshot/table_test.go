package snapshot

import "testing"

func TestTable(t *testing.T) {
	t.Parallel()
	table := NewTable()
	closed := map[string]int{}
	snap := func(rev string) *Snapshot {
		return &Snapshot{Revision: rev, release: []func(){func() { closed[rev]++ }}}
	}
	if _, ok := table.Lookup("current"); ok {
		t.Error("an empty table has no current revision")
	}
	table.Add(snap("a"))
	table.Add(snap("b"))
	table.Add(snap("b"))
	if closed["b"] != 1 {
		t.Error("a second copy must be given up")
	}
	if s, _ := table.Lookup("current"); s.Revision != "b" || table.Current().Revision != "a" {
		t.Errorf("the newest is %s, in force is %s", s.Revision, table.Current().Revision)
	}
	table.Withdraw("a")
	table.Remove("b")
	if s, _ := table.Lookup("current"); s.Revision != "b" {
		t.Error("the newest was removed, or withdrawn by another's name")
	}
	table.Withdraw("b")
	if s, _ := table.Lookup("current"); s.Revision != "a" {
		t.Error("a refused revision is still the newest")
	}
	table.Add(snap("b"))
	table.SetCurrent("b")
	table.SetCurrent("ghost")
	table.Remove("b")
	table.Remove("ghost")
	if s, ok := table.Lookup("b"); !ok || table.Current() != s {
		t.Error("the current revision was removed")
	}
	table.Remove("a")
	if _, ok := table.Lookup("a"); ok || closed["a"] != 1 || table.Len() != 1 {
		t.Error("a is still there, or was not closed")
	}
}
