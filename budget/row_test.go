package budget

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRowsStayInBalance: whatever is done to a row, used + reserved is within the
// ceiling, which never rises but to a raised limit.
func TestRowsStayInBalance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := NewRow(rapid.Int64Range(0, 100).Draw(t, "limit"))
		var told Delta
		tell := func(d Delta) { told = Delta{told.Used + d.Used, told.Reserved + d.Reserved, told.Overrun + d.Overrun} }
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			before := r
			switch rapid.IntRange(0, 2).Draw(t, "change") {
			case 0:
				tell(r.Hold(rapid.Int64Range(0, r.Available()).Draw(t, "hold")))
			case 1:
				e := Effect{Free: rapid.Int64Range(0, r.Reserved).Draw(t, "free"), Refund: rapid.Int64Range(0, r.Used).Draw(t, "refund")}
				e.Charge, e.Excess = rapid.Int64Range(0, e.Free).Draw(t, "charge"), rapid.Int64Range(0, 50).Draw(t, "excess")
				tell(r.Apply(e))
				if r.Ceiling > before.Ceiling {
					t.Fatalf("%+v raised the ceiling: %+v to %+v", e, before, r)
				}
				if r.Overrun > before.Overrun && r.Available() > 0 {
					t.Fatalf("%+v overran while there was room: %+v to %+v", e, before, r)
				}
			case 2:
				r.SetLimit(rapid.Int64Range(0, 100).Draw(t, "new limit"))
			}
			if err := r.Check(); err != nil {
				t.Fatal(err)
			}
			if want := (Delta{r.Used, r.Reserved, r.Overrun}); told != want {
				t.Fatalf("told %+v, want %+v", told, want)
			}
		}
	})
}

func TestAHoldWithoutRoomIsADefect(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	r := NewRow(10)
	r.Hold(11)
}

func TestRowCheckFinds(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Row{
		"over the ceiling": {Limit: 10, Ceiling: 10, Used: 6, Reserved: 5},
		"a loose ceiling":  {Limit: 10, Ceiling: 12, Used: 6, Reserved: 5},
		"below nothing":    {Limit: 10, Ceiling: 10, Reserved: -1},
		"below the limit":  {Limit: 10, Ceiling: 9},
	} {
		if r.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestAvailableAddsUp: used + reserved + available is the limit, where it wasn't
// cut below them.
func TestAvailableAddsUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		r    Row
		want int64
	}{
		{NewRow(0), 0},
		{NewRow(10), 10},
		{Row{Limit: 10, Ceiling: 10, Used: 3, Reserved: 4}, 3},
		{Row{Limit: 5, Ceiling: 7, Used: 3, Reserved: 4}, 0},
	} {
		if got := tt.r.Available(); got != tt.want {
			t.Errorf("%+v: got %d, want %d", tt.r, got, tt.want)
		}
		u := UsageOf(Limit{Tokens: tt.r.Limit}, Period{}, tt.r)
		if u.Available != tt.want || u.Used != tt.r.Used || u.Reserved != tt.r.Reserved || u.Ceiling != tt.r.Ceiling {
			t.Errorf("%+v: got %+v", tt.r, u)
		}
	}
}
