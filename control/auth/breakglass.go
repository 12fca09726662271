package auth

import (
	"context"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"gatehouse/internal/account"
)

// MaxReasonRunes is the length of the longest reason of an Emergency.
const MaxReasonRunes = 1000

// Emergency asks to let somebody in while no administrator can log in.
type Emergency struct {
	User   string // the name of the administrator to let in
	Reason string // 1 to MaxReasonRunes characters that can be seen
	Host   string // where it is asked
	OSUser string // who asks, as that host knows them
}

// Validate says what is wrong with the texts that a person gave.
func (e Emergency) Validate() error {
	var faults []error
	if _, err := account.CanonicalName(e.User); err != nil {
		faults = append(faults, fmt.Errorf("user: %w", err))
	}
	if !tellable(e.Reason) {
		faults = append(faults, fmt.Errorf("reason: must have 1 to %d characters, on one line", MaxReasonRunes))
	}
	return errors.Join(faults...)
}

// tellable reports whether a text says something, and can be stored and shown.
func tellable(reason string) bool {
	n, seen := 0, false
	for _, r := range reason {
		if !unicode.IsGraphic(r) {
			return false
		}
		n, seen = n+1, seen || !unicode.IsSpace(r)
	}
	return seen && n <= MaxReasonRunes && utf8.ValidString(reason)
}

// Rescue is what the store is asked to do for an Emergency.
type Rescue struct {
	Emergency        // with the canonical name
	Account   []byte // which its failed logins are counted by
	Hash      string // that no password fits, for a user to be made
}

// Rescued is what was done for whom.
type Rescued struct {
	User     Subject
	Name     string // canonical
	Made     bool   // the user was not there
	Enabled  bool   // the user was disabled
	Unlocked bool   // failed logins were forgotten
}

// BreakGlass lets an administrator of all tenants in without a password, and
// makes the user usable. It is for whoever holds the database and the secret,
// never for a caller of the API. It makes nobody an administrator who is in the
// database, and makes a new one only where no other can act.
//
// That it was done, or refused, is in the audit log before it returns a token.
// There is no refresh token. Errors are told to the one who asks as they are:
// those of Validate, ErrRefused with a sentence, ErrUnavailable. If the answer
// to the commit was lost, it may have been done, and no token is out.
func (s *Service) BreakGlass(ctx context.Context, e Emergency) (account.Session, Rescued, error) {
	if err := e.Validate(); err != nil {
		return account.Session{}, Rescued{}, err
	}
	r, err := s.signer()
	if err != nil {
		return account.Session{}, Rescued{}, err
	}
	now := s.opts.Now()
	name, id := canonical(e.User)
	e.User = name
	done, err := s.opts.Store.Rescue(ctx, Rescue{Emergency: e, Account: s.opts.Box.MAC(purposeAccount, []byte(id)), Hash: s.opts.Hasher.decoy()}, now)
	if err != nil {
		return account.Session{}, Rescued{}, err
	}
	session, err := s.issue(r, done.User, now)
	return session, done, err
}
