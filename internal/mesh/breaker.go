package mesh

import (
	"strings"
	"time"
)

// MaxBreakers bounds the breakers of one policy set that are reported, kept and
// ordered.
const MaxBreakers = 512

// BreakerPhase is where a breaker stands: at a sidecar, or in the mesh, where it
// is closed or open.
type BreakerPhase string

// The phases.
const (
	BreakerClosed   BreakerPhase = "closed"
	BreakerOpen     BreakerPhase = "open"
	BreakerHalfOpen BreakerPhase = "half_open"
)

// Valid reports whether p is one of the phases.
func (p BreakerPhase) Valid() bool {
	return p == BreakerClosed || p == BreakerOpen || p == BreakerHalfOpen
}

// maxBreakerName bounds the bytes of a breaker's name.
const maxBreakerName = 63

// BreakerName reports whether text can be the name of a breaker: that of an
// upstream.
func BreakerName(text string) bool {
	return text != "" && len(text) <= maxBreakerName && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == "" &&
		text[0] != '_' && text[0] != '-'
}

// BreakerReport is what a sidecar said last of its breakers.
type BreakerReport struct {
	PolicySet   string
	Incarnation int64
	At          time.Time      // by control's clock, as are all times of its breakers
	Breakers    []BreakerState // at most MaxBreakers, each of another name
}

// BreakerState is one breaker at one sidecar.
type BreakerState struct {
	Name        string
	Phase       BreakerPhase
	Consecutive int64     // failures in a row
	Failures    int64     // of Calls
	Calls       int64     // that ended
	OpenedAt    time.Time // the zero time while closed
	NextProbe   time.Time // the zero time while closed
	CalledAt    time.Time // when a call came last; the zero time for never
	Ordered     bool      // open by an order alone
	Order       int64     // the last that was followed, 0 for none
	Threshold   int       // failures in a row that open it
	Recovery    time.Duration
}

// BreakerOrder is what the mesh orders of one breaker. Numbers rise with each
// order for the name; 0 is none.
type BreakerOrder struct {
	Name  string
	Reset int64 // the last order to close
	Open  int64 // the order to open, while it is in force
}

// Breaker is one breaker of a policy set, as the mesh has it.
type Breaker struct {
	PolicySet   string
	Name        string
	Phase       BreakerPhase
	Consecutive int64         // the most at one sidecar
	Failures    int64         // of Calls, at the sidecars that are connected
	Calls       int64         // that ended there since they began
	OpenedAt    time.Time     // the zero time while closed
	NextProbe   time.Time     // the first of any sidecar; the zero time while closed
	Threshold   int           // as reported last
	Recovery    time.Duration // as reported last
	Called      int           // sidecars that were asked for it in the last minute
	Open        int           // of these: it is open there, by what they saw
	HalfOpen    int           // of these: a probe is under way
	Version     int64
	UpdatedAt   time.Time // by the database
}

// BreakerFilter selects breakers; "" selects all.
type BreakerFilter struct {
	PolicySet string
	Name      string
	Phase     BreakerPhase
}
