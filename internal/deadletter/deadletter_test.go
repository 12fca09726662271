package deadletter

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"gatehouse/internal/seal"
)

func letter() Letter {
	return Letter{Tenant: "org1", Source: "settlement", MessageID: "m1", Kind: "expired", Payload: []byte("secret"), Class: "refused"}
}

func TestPayloadIsBoundToItsPlace(t *testing.T) {
	t.Parallel()
	box, err := seal.New(bytes.Repeat([]byte{'k'}, seal.MinSecretBytes), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := letter()
	sealed := l.Seal(box)
	if bytes.Contains(sealed, l.Payload) {
		t.Error("the payload rests in clear")
	}
	if got, err := Open(box, l.Source, l.MessageID, sealed); err != nil || !bytes.Equal(got, l.Payload) {
		t.Errorf("opened %q, %v", got, err)
	}
	for _, place := range [][2]string{{"settlement", "m2"}, {"settlementm", "1"}, {"", "settlementm1"}} {
		if _, err := Open(box, place[0], place[1], sealed); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opened at %q: %v", place, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := letter().Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Letter){
		"no tenant":       func(l *Letter) { l.Tenant = "" },
		"no source":       func(l *Letter) { l.Source = "" },
		"no message id":   func(l *Letter) { l.MessageID = "" },
		"a long source":   func(l *Letter) { l.Source = strings.Repeat("ü", maxSource+1) },
		"a long id":       func(l *Letter) { l.MessageID = strings.Repeat("x", maxMessageID+1) },
		"a long kind":     func(l *Letter) { l.Kind = strings.Repeat("x", maxKind+1) },
		"a long class":    func(l *Letter) { l.Class = strings.Repeat("x", maxClass+1) },
		"a long message":  func(l *Letter) { l.Message = strings.Repeat("x", maxMessage+1) },
		"a NUL":           func(l *Letter) { l.Project = "a\x00" },
		"no UTF-8":        func(l *Letter) { l.Message = "\xff" },
		"a large payload": func(l *Letter) { l.Payload = make([]byte, MaxPayload+1) },
	} {
		l := letter()
		if change(&l); !errors.Is(l.Check(), ErrInvalid) {
			t.Errorf("%s: taken", name)
		}
	}
	l := letter()
	l.Source, l.Payload = strings.Repeat("ü", maxSource), make([]byte, MaxPayload)
	if err := l.Check(); err != nil {
		t.Errorf("as much as may be: %v", err)
	}
}
