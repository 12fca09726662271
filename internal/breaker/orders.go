package breaker

import "time"

// Order is what control orders for all breakers of a name. Numbers rise with each
// order for the name; 0 is none. Each is followed once: an opening does not hold
// a breaker open whose own probe has come back since.
type Order struct {
	Name  string
	Reset int64 // the last order to close
	Open  int64 // the order to open, while it is in force
}

// Apply follows orders, which replace those of before. What lies beyond
// MaxBreakers is not followed.
func (s *Set) Apply(orders []Order) {
	now := s.now()
	s.mu.Lock()
	orders = orders[:min(len(orders), MaxBreakers)]
	s.orders = make(map[string]Order, len(orders))
	turned := false
	for _, o := range orders {
		s.orders[o.Name] = o
		if b := s.breakers[o.Name]; b != nil {
			turned = b.turn(now, func() { b.obey(now, o) }) || turned
		}
	}
	s.mu.Unlock()
	if turned {
		s.changed()
	}
}

// obey follows an order that was not followed yet.
func (b *breaker) obey(now time.Time, o Order) {
	if o.Reset > b.order {
		b.machine = b.reset()
	}
	if o.Open > b.order && b.closed() {
		b.machine = b.trip(now, b.config)
		b.ordered = true
	}
	b.order = max(b.order, o.Reset, o.Open)
}
