package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/netip"
	"time"

	"gatehouse/internal/account"
)

// Bounds of a login. It is over long before its reserved attempt lapses.
const (
	loginTimeout  = 15 * time.Second
	settleTimeout = 3 * time.Second // for the outcome, also when the caller has left
)

// Prefixes of opaque secrets, for those who search logs and files for them.
const (
	refreshPrefix = "ghr_"
	secretPrefix  = "ghs_"
)

// purposeAccount is what names are hashed for before they are counted: what is
// typed into the field of a name can be a password.
const purposeAccount = "login account"

// errStale says that this process doesn't know the present keys.
var errStale = errors.New("signing keys are not known, or too old")

// attempt is one login under way.
type attempt struct {
	name    string // canonical; "" for a text that can be no name
	account []byte
	origin  Origin
	ring    *ring
}

// Login proves a user by name and password, and begins a session.
//
// All that it refuses takes the same steps: reserve an attempt, look the name
// up, hash the password once, count the failure. Errors: auth.invalid_credentials;
// rate_limit.exceeded while the account is locked, known or not, with a
// RetryAfter; auth.unavailable.
func (s *Service) Login(ctx context.Context, username, password string, from netip.Addr) (account.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	a, err := s.begin(ctx, username, from)
	if err != nil {
		return account.Session{}, err
	}
	user, v, err := s.evaluate(ctx, a.name, password)
	if err != nil {
		s.giveBack(ctx, a)
		return account.Session{}, failure(err)
	}
	if !v.match || !user.Active {
		return account.Session{}, s.fail(ctx, a, user, "name or password is wrong, or the user may not log in")
	}
	return s.open(ctx, a, user, s.rehash(ctx, password, v))
}

// begin reserves an attempt. From here on the outcome is told to the store.
func (s *Service) begin(ctx context.Context, username string, from netip.Addr) (attempt, error) {
	r, err := s.signer()
	if err != nil {
		return attempt{}, failure(err)
	}
	name, id := canonical(username)
	a := attempt{name: name, account: s.opts.Box.MAC(purposeAccount, []byte(id)), origin: s.origin(ctx, from), ring: r}
	now := s.opts.Now()
	ok, known, err := s.opts.Store.Reserve(ctx, a.account, s.opts.Lockout, now)
	if err != nil {
		return attempt{}, failure(err)
	}
	if !ok {
		wait, _ := s.opts.Lockout.Admit(known, now)
		return attempt{}, locked(max(wait, pendingWait))
	}
	return a, nil
}

// canonical returns the name to look up, and what to count by. A text that can
// be no name is counted by itself: a name never begins with a line break.
func canonical(username string) (name, id string) {
	name, err := account.CanonicalName(username)
	if err != nil {
		sum := sha256.Sum256([]byte(username))
		return "", "\n" + string(sum[:])
	}
	return name, name
}

// evaluate looks the user up and hashes the password once. An error says that
// nothing was hashed.
func (s *Service) evaluate(ctx context.Context, name, password string) (User, verdict, error) {
	user, err := s.opts.Store.User(ctx, name, s.opts.Now())
	if err != nil {
		return User{}, verdict{}, err
	}
	v, err := s.opts.Hasher.compare(ctx, user.Hash, password)
	return user, v, err
}

// settling is the context in which an outcome is told: it must be, also when
// the caller has left.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
}

// giveBack closes an attempt that evaluated nothing. If even that fails, the
// attempt counts until PendingLife is over.
func (s *Service) giveBack(ctx context.Context, a attempt) {
	ctx, cancel := settling(ctx)
	defer cancel()
	if err := s.opts.Store.GiveBack(ctx, a.account, s.opts.Now()); err != nil {
		s.opts.Log.Warn("login attempt not given back", "error", err)
	}
}

// fail counts the failure, and only then says no.
func (s *Service) fail(ctx context.Context, a attempt, user User, cause string) error {
	ctx, cancel := settling(ctx)
	defer cancel()
	f := Failure{Account: a.account, User: user.Subject, Origin: a.origin}
	isLocked, err := s.opts.Store.Fail(ctx, f, s.opts.Lockout, s.opts.Now())
	if err != nil {
		return failure(err)
	}
	if isLocked {
		s.opts.Log.Warn("account locked", "subject", user.ID, "request_id", a.origin.RequestID)
	}
	return refused(cause)
}

// rehash returns a hash of the present cost for a stale one, "" otherwise. If
// no hash can be had now, the next login tries.
func (s *Service) rehash(ctx context.Context, password string, v verdict) string {
	if !v.stale {
		return ""
	}
	hash, err := s.opts.Hasher.Hash(ctx, password)
	if err != nil {
		return ""
	}
	return hash
}

// open begins the session. A user who was changed since the look-up is refused
// as if the look-up had found it so.
//
// If the answer to the commit is lost, a session may be there that nobody has
// the token of: it expires.
func (s *Service) open(ctx context.Context, a attempt, user User, newHash string) (account.Session, error) {
	now := s.opts.Now()
	refresh := newSecret(refreshPrefix)
	session, err := s.issue(a.ring, user.Subject, now)
	if err != nil {
		s.giveBack(ctx, a)
		return account.Session{}, failure(err)
	}
	err = s.opts.Store.Open(ctx, Opening{
		Account: a.account, User: user, Refresh: digest(refresh), Expires: now.Add(SessionTTL), NewHash: newHash, Origin: a.origin,
	}, now)
	switch {
	case errors.Is(err, ErrRefused):
		return account.Session{}, s.fail(ctx, a, user, "the user was changed meanwhile")
	case err != nil:
		return account.Session{}, failure(err)
	}
	session.RefreshToken = refresh
	return session, nil
}

// Refresh changes a refresh token for the next one and an access token. The old
// one is used up; if it comes again, whoever holds the family loses it. Errors:
// auth.invalid_credentials, auth.unavailable.
func (s *Service) Refresh(ctx context.Context, refreshToken string) (account.Session, error) {
	r, err := s.signer()
	if err != nil {
		return account.Session{}, failure(err)
	}
	now, next := s.opts.Now(), newSecret(refreshPrefix)
	origin := s.origin(ctx, netip.Addr{})
	subject, err := s.opts.Store.Rotate(ctx, digest(refreshToken), digest(next), origin, now)
	switch {
	case errors.Is(err, ErrReused):
		s.opts.Log.Warn("refresh token reused, session revoked", "request_id", origin.RequestID)
		return account.Session{}, refused(err.Error())
	case errors.Is(err, ErrRefused):
		return account.Session{}, refused("refresh token is unknown, over or revoked")
	case err != nil:
		return account.Session{}, failure(err)
	}
	session, err := s.issue(r, subject, now)
	if err != nil {
		return account.Session{}, failure(err)
	}
	session.RefreshToken = next
	return session, nil
}

// Logout ends the session of a refresh token, used up or not. An unknown one is
// no error. Access tokens of the session live on to their end.
func (s *Service) Logout(ctx context.Context, refreshToken string) error {
	err := s.opts.Store.End(ctx, digest(refreshToken), s.origin(ctx, netip.Addr{}), s.opts.Now())
	if err != nil {
		return failure(err)
	}
	return nil
}

// ClientToken proves a client by id and secret. The secret is random, so that a
// SHA-256 of it is enough and guesses need no counting. Errors:
// auth.invalid_credentials, auth.unavailable.
func (s *Service) ClientToken(ctx context.Context, id, secret string, _ netip.Addr) (account.Session, error) {
	r, err := s.signer()
	if err != nil {
		return account.Session{}, failure(err)
	}
	now := s.opts.Now()
	client, err := s.opts.Store.Client(ctx, id, now)
	if err != nil {
		return account.Session{}, failure(err)
	}
	// INVARIANT: nobody's hash is empty, and no digest is.
	match := subtle.ConstantTimeCompare(digest(secret), client.SecretHash) == 1
	if !match || !client.Active {
		return account.Session{}, refused("client id or secret is wrong, or the client is disabled")
	}
	session, err := s.issue(r, client.Subject, now)
	if err != nil {
		return account.Session{}, failure(err)
	}
	return session, nil
}

// signer returns the present keys.
func (s *Service) signer() (*ring, error) {
	r := s.ring.Load()
	if !r.usable(s.opts.Now()) {
		return nil, errStale
	}
	return r, nil
}

// issue signs an access token for a subject.
func (s *Service) issue(r *ring, subject Subject, now time.Time) (account.Session, error) {
	raw, err := r.sign(claimsOf(subject, s.opts.Issuer, s.opts.Audience, rand.Text(), now))
	if err != nil {
		return account.Session{}, err
	}
	return account.Session{AccessToken: raw, ExpiresIn: AccessTTL, Role: subject.Role, Tenant: subject.Tenant}, nil
}

// NewClientSecret makes a client's secret of 256 bits, and what is stored of it.
func NewClientSecret() (secret string, hash []byte) {
	secret = newSecret(secretPrefix)
	return secret, digest(secret)
}

// newSecret makes an opaque secret of 256 bits.
func newSecret(prefix string) string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand ends the process instead
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// digest is what is stored of an opaque secret.
func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
