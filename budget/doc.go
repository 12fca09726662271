// Package budget owns the rules of the token ledger: what a limit is and which
// window counts, when a hold is taken, what each second word about it means, and
// what a settlement does to the rows it was held in.
//
// A hold is a two-phase transfer. It ends once:
//
//	            ┌─ deny ──────► denied
//	reserve ────┤             ┌─ commit ───────────────► committed
//	            └► reserved ──┼─ release ──────────────► released
//	                          ├─ expire, of the API ───► expired ───────── commit ─► committed, late
//	                          └─ expire, inline ───────► expired_charged ┬ commit ─► committed, late
//	                                                                     └ release ► released, late
//	release of an unseen inline id ─► void: a reserve that comes later is denied
//
// A row is one limit in one period. At every instant used + reserved ≤ ceiling
// holds in it; ceiling is the limit, or what was used and reserved already when
// the limit was cut, and falls with every settlement. What is billed beyond a
// limit is overrun, a figure of its own. A settlement is never refused for lack
// of room.
//
// The package keeps nothing and reads no clock: Store is what keeps, and the
// stores below this folder pass one suite, budgettest. It refuses to let a
// request be settled by anybody but whose it is, and to tell that it exists.
//
// Values are plain data. Batcher and every Store are safe for concurrent use.
package budget
