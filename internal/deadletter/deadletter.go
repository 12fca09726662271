// Package deadletter holds the noun of what could not be delivered and is kept
// for somebody to look at, and the form in which its payload rests: sealed, and
// bound to its place. It keeps nothing itself.
//
// It refuses letters that their table has no room for, and to open a payload in
// another place than it was sealed for. All of it is safe for concurrent use.
package deadletter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gatehouse/internal/seal"
)

// purpose is what payloads are sealed for.
const purpose = "dead letter"

// Bounds of a letter, those of dlq_messages; of texts in characters.
const (
	maxSource    = 128
	maxMessageID = 255
	maxKind      = 128
	maxClass     = 128
	maxMessage   = 1000
	// MaxPayload is how many bytes a payload may have.
	MaxPayload = 2097152 - seal.Overhead
)

// ErrInvalid is wrapped by what says that a letter can't be kept.
var ErrInvalid = errors.New("no dead letter can be kept of this")

// Letter is a message that could not be delivered. Source and MessageID are its
// place: a second one of the same place is the same letter.
type Letter struct {
	Tenant    string
	Project   string // "" for none
	Source    string // who tried, such as settlement
	MessageID string
	Kind      string
	Payload   []byte // in clear
	Class     string // of the error
	Message   string // of the error; never holds what the payload does
}

// Check returns ErrInvalid for a letter that its table refuses.
func (l Letter) Check() error {
	for _, f := range []struct {
		name, text string
		least, max int
	}{
		{"tenant", l.Tenant, 1, maxMessageID}, {"project", l.Project, 0, maxMessageID}, {"source", l.Source, 1, maxSource},
		{"message id", l.MessageID, 1, maxMessageID}, {"kind", l.Kind, 0, maxKind}, {"error's class", l.Class, 0, maxClass}, {"error's message", l.Message, 0, maxMessage},
	} {
		if n := utf8.RuneCountInString(f.text); n < f.least || n > f.max || !utf8.ValidString(f.text) || strings.ContainsRune(f.text, 0) {
			return fmt.Errorf("%w: its %s has %d characters, or is no text", ErrInvalid, f.name, n)
		}
	}
	if len(l.Payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes of payload", ErrInvalid, len(l.Payload))
	}
	return nil
}

// Seal returns the payload as it rests.
func (l Letter) Seal(box *seal.Box) []byte {
	return box.Seal(purpose, place(l.Source, l.MessageID), l.Payload)
}

// Open returns the payload of the letter at a place. Errors are those of
// seal.Box.
func Open(box *seal.Box, source, messageID string, sealed []byte) ([]byte, error) {
	return box.Open(purpose, place(source, messageID), sealed)
}

// place is what a payload is bound to. The source's length stands before it, so
// that no two places are the same bytes.
func place(source, messageID string) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(len(source)))
	return append(append(out, source...), messageID...)
}
