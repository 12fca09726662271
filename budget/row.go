package budget

import "fmt"

// Row is the figures of one limit in one period, in tokens.
//
// INVARIANT: Used + Reserved ≤ Ceiling, Ceiling = max(Limit, Used + Reserved),
// none is negative. Each method keeps it for any argument that is not negative.
type Row struct {
	Limit    int64
	Ceiling  int64
	Used     int64
	Reserved int64
	Overrun  int64
}

// NewRow is a row that nothing was counted in.
func NewRow(limit int64) Row { return Row{Limit: limit, Ceiling: limit} }

// Available is what may still be held.
func (r Row) Available() int64 { return max(0, r.Limit-r.Used-r.Reserved) }

// Hold takes n tokens. The caller asked for Available, of all rows, before.
func (r *Row) Hold(n int64) Delta {
	if n > r.Available() {
		panic(fmt.Sprintf("budget: a hold of %d in a row that has %d: its rows were not asked first", n, r.Available()))
	}
	r.Reserved += n
	return Delta{Reserved: n}
}

// SetLimit changes the limit. A cut below what is used and reserved leaves the
// ceiling there, to fall with the settlements.
func (r *Row) SetLimit(n int64) {
	r.Limit = n
	r.settleCeiling()
}

// Effect is what a settlement does to each row of its request. Free of it was
// reserved, Refund was used.
type Effect struct {
	Free   int64 // back from reserved
	Charge int64 // to used, out of Free: at most as much
	Refund int64 // back from used
	Excess int64 // takes the room that the row has then; the rest is overrun
}

// Delta is a change of a row, as the journal keeps it.
type Delta struct{ Used, Reserved, Overrun int64 }

// Apply makes the effect.
func (r *Row) Apply(e Effect) Delta {
	r.Reserved -= e.Free
	r.Used += e.Charge - e.Refund
	room := min(e.Excess, r.Available())
	r.Used += room
	r.Overrun += e.Excess - room
	r.settleCeiling()
	return Delta{Used: e.Charge - e.Refund + room, Reserved: -e.Free, Overrun: e.Excess - room}
}

// settleCeiling never raises the ceiling but to a raised limit: no effect makes
// used + reserved exceed what it was, nor the limit.
func (r *Row) settleCeiling() { r.Ceiling = max(r.Limit, r.Used+r.Reserved) }

// Check returns an error if the row breaks the invariant.
func (r Row) Check() error {
	if min(r.Limit, r.Used, r.Reserved, r.Overrun) < 0 || r.Ceiling != max(r.Limit, r.Used+r.Reserved) {
		return fmt.Errorf("budget: a row is out of balance: %+v", r)
	}
	return nil
}
