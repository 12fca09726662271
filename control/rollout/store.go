package rollout

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

// Errors of a Store. Any other is a fault of the program or the schema.
var (
	// ErrUnavailable is wrapped by an error that says nothing but that the
	// database can't be asked now.
	ErrUnavailable = errors.New("the database is not available")

	// ErrNotFound says that there is no such policy set or revision.
	ErrNotFound = errors.New("no such policy set or revision")

	// ErrAmbiguous says that several revisions begin with what was asked for.
	ErrAmbiguous = errors.New("several revisions begin like this")

	// ErrPosition says that a list has no such position.
	ErrPosition = errors.New("no position of this list")
)

// Store is what lasts of policy sets, shared by all processes. A change writes
// its audit row in its own transaction. Its methods are safe for concurrent use.
type Store interface {
	Sets
	Revisions
	Keyring
}

// Sets tells which sets there are and what is in force of them.
type Sets interface {
	// PolicySets returns a page of the sets, by name.
	PolicySets(ctx context.Context, after string, limit int) (account.Page[mesh.PolicySet], error)

	// PolicySet returns a set. ErrNotFound.
	PolicySet(ctx context.Context, name string) (mesh.PolicySet, error)

	// Activate calls step with the standing of a set, while nobody else can
	// change what is in force of it, and puts in force what step returns; nil
	// leaves all as it is. target is the id of the revision to look at, "" the
	// one that was in force before the present one. step's error passes as it
	// is, and it may be called more than once. ErrNotFound.
	Activate(ctx context.Context, by request.Principal, set, target string, step func(Standing) (*revision.Signed, error)) (mesh.PolicySet, error)
}

// Revisions keeps what was pushed.
type Revisions interface {
	// Push stores a revision, and its set where that is new. What is there
	// already stays as it is, and is returned with created false.
	Push(ctx context.Context, by request.Principal, p Pushed) (r mesh.Revision, created bool, err error)

	// Revisions returns a page of a set's revisions, newest first. ErrNotFound
	// without the set, ErrPosition.
	Revisions(ctx context.Context, set, after string, limit int) (account.Page[mesh.Revision], error)

	// Revision returns the revision with a whole id. ErrNotFound.
	Revision(ctx context.Context, set, id string) (Stored, error)

	// Resolve returns the id of the only revision that begins with prefix, hex.
	// ErrNotFound, ErrAmbiguous.
	Resolve(ctx context.Context, set, prefix string) (id string, err error)
}

// Keyring keeps the keys of revisions that are not retired.
type Keyring interface {
	// Keys returns them.
	Keys(ctx context.Context) ([]Key, error)

	// UpdateKeys calls step with them, while nobody else can change any, stores
	// what it adds and seals anew, and returns all. step's error passes as it
	// is, and it may be called more than once.
	UpdateKeys(ctx context.Context, step func([]Key) ([]Key, error)) ([]Key, error)
}

// Standing is what the rules of an activation look at.
type Standing struct {
	Version int64                // of the policy set
	Active  *revision.Activation // nil before the first
	Highest int64                // generation that the next one must exceed
	Target  *Stored              // nil if there is no such revision
	Before  bool                 // whether Target was in force at any time
}

// Pushed is a revision to store.
type Pushed struct {
	PolicySet string
	ID        string
	Note      string
	Bundle    []byte
	KeyID     string
	Signature []byte // over set and id, by the key
}

// Stored is a revision as it is stored; nothing of it is proven.
type Stored struct {
	mesh.Revision // without Files
	Bundle        []byte
	KeyID         string
	Signature     []byte
}

// Key is a key of revisions as it is stored. Sealed is the seed of its private
// half.
type Key struct {
	ID      string
	Public  ed25519.PublicKey
	Sealed  []byte
	Active  bool // exactly one signs
	Created time.Time
}
