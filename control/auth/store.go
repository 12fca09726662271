package auth

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"gatehouse/internal/request"
)

// Errors of a Store. Any other is a fault of the program or the schema.
var (
	// ErrUnavailable is wrapped by an error that says nothing but that the
	// database can't be asked now.
	ErrUnavailable = errors.New("the database is not available")

	// ErrRefused says that a session can't be opened or continued: it is
	// unknown, over, or its user's right to it has ended.
	ErrRefused = errors.New("refused")

	// ErrReused says that a refresh token came a second time. Its family is
	// revoked then.
	ErrReused = errors.New("refresh token was used before; its family is revoked")
)

// Store is the durable state of logins, shared by all processes. Times are the
// caller's clock. Its methods are safe for concurrent use.
type Store interface {
	Accounts
	Guesses
	Sessions
	Keys
	Emergencies

	// Prune removes what has no effect any more: attempts by the rule, sessions
	// and revocations that are over.
	Prune(ctx context.Context, r Rule, now time.Time) error
}

// Accounts tells of users and clients.
type Accounts interface {
	// User returns the user of a canonical name, the zero value for none.
	User(ctx context.Context, name string, now time.Time) (User, error)

	// Client returns the client of an id, the zero value for none.
	Client(ctx context.Context, id string, now time.Time) (Client, error)

	// Standing returns what may have changed since a token was issued.
	Standing(ctx context.Context, subject, tokenID string, now time.Time) (Standing, error)
}

// Guesses counts attempts to log in, by account; an account is 32 bytes.
type Guesses interface {
	// Reserve opens an attempt if Rule.Admit says so, in one atomic statement.
	// If not, it returns what is known of the account.
	Reserve(ctx context.Context, account []byte, r Rule, now time.Time) (ok bool, a Attempts, err error)

	// GiveBack closes an attempt in which no password was looked at.
	GiveBack(ctx context.Context, account []byte, now time.Time) error

	// Fail closes an attempt as a failure, and locks the account if that was
	// one too many: with an audit row and an event.
	Fail(ctx context.Context, f Failure, r Rule, now time.Time) (locked bool, err error)
}

// Sessions are families of refresh tokens, known by their SHA-256.
type Sessions interface {
	// Open closes an attempt as a success, which forgets the failures, and
	// begins a session. ErrRefused if the user is not as o says any more.
	Open(ctx context.Context, o Opening, now time.Time) error

	// Rotate uses up a refresh token and adds the next one of its family.
	// ErrRefused or ErrReused.
	Rotate(ctx context.Context, used, next []byte, o Origin, now time.Time) (Subject, error)

	// End revokes the family of a refresh token. An unknown one is no error.
	End(ctx context.Context, hash []byte, o Origin, now time.Time) error
}

// Keys are the signing keys of tokens.
type Keys interface {
	// UpdateKeys calls step with all keys that are not retired, while nobody
	// else can change any, stores what it returns, and returns that. step may
	// be called more than once.
	UpdateKeys(ctx context.Context, step func([]SigningKey) ([]SigningKey, error)) ([]SigningKey, error)
}

// Emergencies are what is done when nobody can log in.
type Emergencies interface {
	// Rescue makes the named administrator of all tenants usable: active, and
	// with no failed logins counted. One that is not there is made if no active
	// one is. Any other is ErrRefused, with a sentence. Either outcome is an
	// audit row in the same transaction, and what was done an event too.
	Rescue(ctx context.Context, r Rescue, now time.Time) (Rescued, error)
}

// Subject is whom a token tells of.
type Subject struct {
	ID      string // UUID, the claim sub
	Role    request.Role
	Tenant  string
	Project string
	Agent   string

	// Revoked is the moment up to which, in whole seconds, issued tokens are
	// refused; zero for never.
	Revoked time.Time
}

// User is a person's right to log in.
type User struct {
	Subject
	Hash   string // PHC
	Active bool   // neither disabled nor of a suspended tenant
}

// Client is a program's right to get tokens.
type Client struct {
	Subject
	SecretHash []byte // SHA-256
	Active     bool
}

// Standing is a subject as it is now. The zero value is that of nobody.
type Standing struct {
	Subject
	Active       bool
	TokenRevoked bool // this token, by its id
}

// Failure is a failed attempt to log in.
type Failure struct {
	Account []byte
	User    Subject // zero for a name that doesn't exist
	Origin  Origin
}

// Origin is where a call came from, for the audit log.
type Origin struct {
	Address   netip.Addr // the caller's, as far as it is known
	RequestID string
}

// Opening is a session to begin.
type Opening struct {
	Account []byte
	User    User // as its password was compared with
	Refresh []byte
	Expires time.Time
	NewHash string // replaces User.Hash; "" keeps it
	Origin  Origin
}
