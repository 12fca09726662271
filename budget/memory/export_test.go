package memory

import (
	"fmt"

	"gatehouse/budget"
)

// Balance compares each row with the journal and with the open requests.
func (s *Store) Balance() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	told, open := map[string]budget.Delta{}, map[string]int64{}
	for _, l := range s.journal {
		d := told[l.Row]
		told[l.Row] = budget.Delta{Used: d.Used + l.Used, Reserved: d.Reserved + l.Delta.Reserved, Overrun: d.Overrun + l.Overrun}
	}
	for _, e := range s.requests {
		for _, r := range e.rows {
			if e.State == budget.Reserved {
				open[r.id] += e.Reserved
			}
		}
	}
	for _, l := range s.limits {
		for _, r := range l.rows {
			if err := r.Check(); err != nil {
				return err
			}
			if got := (budget.Delta{Used: r.Used, Reserved: r.Reserved, Overrun: r.Overrun}); got != told[r.id] || r.Reserved != open[r.id] {
				return fmt.Errorf("row %s is %+v, the journal says %+v, open requests hold %d", r.id, got, told[r.id], open[r.id])
			}
		}
	}
	return nil
}
