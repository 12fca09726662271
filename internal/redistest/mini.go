package redistest

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Miniredis is a server within this process, whose clock stands still until the
// test moves it.
type Miniredis struct {
	*miniredis.Miniredis
	now time.Time
}

// Mini starts one at now; it ends with the test.
func Mini(t testing.TB, now time.Time) *Miniredis {
	t.Helper()
	m := &Miniredis{miniredis.RunT(t), now}
	m.SetTime(now)
	return m
}

// URL leads to it.
func (m *Miniredis) URL() string { return "redis://" + m.Addr() }

// Now is what its clock shows.
func (m *Miniredis) Now() time.Time { return m.now }

// Advance moves its clock on, and lets keys expire.
func (m *Miniredis) Advance(d time.Duration) {
	m.now = m.now.Add(d)
	m.SetTime(m.now)
	m.FastForward(d)
}
