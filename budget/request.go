package budget

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Origin is who asked for a hold. The two never see each other's requests.
type Origin string

// The origins.
const (
	Inline Origin = "inline" // a sidecar, for traffic that passes it
	API    Origin = "api"    // an outside caller
)

// Key names a request within its tenant.
type Key struct {
	Origin  Origin
	ID      string
	Attempt int32 // from 1
}

// Bounds of a hold's texts, in characters, and of its life.
const (
	maxID       = 255
	maxText     = 256 // model, purpose, subject
	maxDecision = 64
	// MaxTTL bounds how long a hold may stay open.
	MaxTTL = 7 * 24 * time.Hour
)

// Hold is a request for tokens.
type Hold struct {
	Key
	Project   string        // "" for none: limits of the tenant alone apply
	Tokens    int64         // 1 to MaxTokens
	Unlimited bool          // recorded and held in no limit
	TTL       time.Duration // after which it is expired; up to MaxTTL
	BodyHash  [32]byte      // SHA-256 of the canonical request: same id, same body, same answer

	Sidecar     string // UUID; of an inline hold, and of no other
	Incarnation int64  // of the sidecar's process

	Model    string
	Task     string // UUID or ""
	Purpose  string
	Subject  string
	Decision string
}

// Check returns ErrInvalid if a hold can't be kept. One that can't must not
// reach a batch: it would fail those of others.
func (h Hold) Check() error {
	switch {
	case h.Key.Check() != nil:
		return h.Key.Check()
	case h.Tokens < 1 || h.Tokens > MaxTokens:
		return fmt.Errorf("%w: tokens must be 1 to %d", ErrInvalid, int64(MaxTokens))
	case h.TTL < time.Millisecond || h.TTL > MaxTTL:
		return fmt.Errorf("%w: the time to live must be up to %s", ErrInvalid, MaxTTL)
	case (h.Origin == Inline) != IsID(h.Sidecar) || (h.Origin == API && h.Sidecar != ""):
		return fmt.Errorf("%w: an inline hold, and no other, is a sidecar's", ErrInvalid)
	case h.Task != "" && !IsID(h.Task):
		return fmt.Errorf("%w: the task is no UUID", ErrInvalid)
	case !storable(h.Project, 63) || !storable(h.Model, maxText) || !storable(h.Purpose, maxText) ||
		!storable(h.Subject, maxText) || !storable(h.Decision, maxDecision):
		return fmt.Errorf("%w: a text is too long or no UTF-8", ErrInvalid)
	}
	return nil
}

// Check returns ErrInvalid if nothing can have the key.
func (k Key) Check() error {
	switch {
	case k.Origin != Inline && k.Origin != API:
		return fmt.Errorf("%w: no such origin", ErrInvalid)
	case k.ID == "" || !storable(k.ID, maxID):
		return fmt.Errorf("%w: the request's id must have 1 to %d characters", ErrInvalid, maxID)
	case k.Attempt < 1:
		return fmt.Errorf("%w: attempts count from 1", ErrInvalid)
	}
	return nil
}

// storable reports whether a text can be kept as it is.
func storable(s string, maxChars int) bool {
	return len(s) <= maxChars*utf8.UTFMax && utf8.ValidString(s) && !strings.ContainsRune(s, 0) && utf8.RuneCountInString(s) <= maxChars
}

// IsID reports whether a text is a UUID in its canonical form.
func IsID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// MaxTenantName bounds the name of a tenant in characters, above what any can have.
const MaxTenantName = 255

// CheckTenant returns ErrInvalid for a text that no tenant's name can hold, so that
// it need not be asked for. "", for none, is no such text.
func CheckTenant(s string) error {
	if !storable(s, MaxTenantName) {
		return fmt.Errorf("%w: no name of a tenant", ErrInvalid)
	}
	return nil
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// tenantName reports whether a text can name a tenant or a project.
func tenantName(s string) bool { return namePattern.MatchString(s) }

// State is where a request stands.
type State string

// The states; see the package comment.
const (
	Reserved       State = "reserved"
	Committed      State = "committed"
	Released       State = "released"
	Expired        State = "expired"
	ExpiredCharged State = "expired_charged"
	Denied         State = "denied"
	Void           State = "void"
)

// Request is a request as the ledger keeps it.
type Request struct {
	Key
	Project  string
	State    State
	Reserved int64 // what it held at most; stays when it is settled
	Actual   int64 // of a committed one
	Overrun  int64 // of the row that it exceeded most
	Late     bool  // settled after it had expired
	Flagged  bool  // reported far below what was visible
	Denial   *Denial
	Created  time.Time
	Expires  time.Time // zero unless it was held
	Settled  time.Time // zero while it is held
}

// Reason says why a hold was denied.
type Reason string

// The reasons.
const (
	ReasonExhausted      Reason = "exhausted"       // a limit has not enough left
	ReasonNoLimit        Reason = "no_limit"        // no limit applies
	ReasonReleased       Reason = "released"        // the id was released before it was seen
	ReasonUnknownProject Reason = "unknown_project" // nothing is kept of these two
	ReasonUnknownSidecar Reason = "unknown_sidecar"
)

// Denial is why a hold was denied. The figures are those of the limit with the
// least left, where one was too small.
type Denial struct {
	Reason    Reason     `json:"reason"`
	LimitID   string     `json:"limit_id,omitempty"`
	Window    Window     `json:"window,omitempty"`
	Limit     int64      `json:"limit"`
	Available int64      `json:"available"`
	Requested int64      `json:"requested"`
	ResetsAt  *time.Time `json:"resets_at,omitempty"` // nil for never
}
