package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/api/v1/client"
	"gatehouse/internal/wholefile"
)

// Bounds of a kept session.
const (
	refreshBefore = time.Minute // an access token with less than this left is changed
	maxSession    = 1 << 20     // bytes of the file
	lockPoll      = 20 * time.Millisecond
	lockWait      = callTimeout + 5*time.Second // whoever holds the lock makes one call at most
)

// ErrNoSession says that nobody is logged in, or no longer.
var ErrNoSession = errors.New("not logged in")

// Session is a login that is kept on this machine.
type Session struct {
	API          string    `json:"api"`
	CA           string    `json:"ca,omitempty"` // PEM; "" is the system's bundle
	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token"`
	Expires      time.Time `json:"expires"` // of the access token
}

// client is a client that calls as the session.
func (s Session) client() (*Client, error) {
	o := Options{URL: s.API, Token: s.AccessToken}
	if s.CA != "" {
		o.CA = []byte(s.CA)
	}
	return New(o)
}

// renewed is the session with new tokens.
func (s Session) renewed(t *client.Token, now time.Time) (Session, error) {
	if t.RefreshToken == nil {
		return s, errors.New("the API gave no refresh token; a session can't be kept")
	}
	s.AccessToken, s.RefreshToken = t.AccessToken, *t.RefreshToken
	s.Expires = now.Add(time.Duration(t.ExpiresIn) * time.Second).UTC().Truncate(time.Second)
	return s, nil
}

// Keeper keeps one session in a file that only its owner may read. Processes
// that share the file take turns: a refresh token is good once, and one that
// comes twice ends the session.
type Keeper struct {
	Path string
}

// Login proves a user and keeps the session, in the place of the one before.
func (k Keeper) Login(ctx context.Context, o Options, user, password string, now time.Time) (*client.Token, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	t, err := c.Login(ctx, user, password)
	if err != nil {
		return nil, err
	}
	s, err := Session{API: o.URL, CA: string(o.CA)}.renewed(t, now)
	if err != nil {
		return nil, err
	}
	return t, k.locked(ctx, func() error { return k.save(s) })
}

// Connect returns a client that calls as the kept session, whose access token
// has a minute left at least. api is the one that is wanted, "" for the
// session's. The error is ErrNoSession where there is none for it, or the
// session has ended.
func (k Keeper) Connect(ctx context.Context, api string, now time.Time) (*Client, error) {
	if _, err := os.Stat(k.Path); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoSession // leaves no folder behind
	}
	var c *Client
	err := k.locked(ctx, func() error {
		s, err := k.load()
		if err != nil {
			return err
		}
		if api != "" && api != s.API {
			return fmt.Errorf("%w at %s", ErrNoSession, api)
		}
		if s.Expires.Sub(now) < refreshBefore {
			if s, err = k.refresh(ctx, s, now); err != nil {
				return err
			}
		}
		c, err = s.client()
		return err
	})
	return c, err
}

// refresh changes the tokens.
// INVARIANT: the lock is held from reading the file to replacing it, so that no
// refresh token is sent twice.
func (k Keeper) refresh(ctx context.Context, s Session, now time.Time) (Session, error) {
	c, err := s.client()
	if err != nil {
		return s, err
	}
	if c, err = c.With(""); err != nil {
		return s, err
	}
	r, err := c.api.RefreshWithResponse(ctx, client.RefreshRequest{RefreshToken: s.RefreshToken})
	t, err := Answer(r, err, func(r *client.RefreshResponse) *client.Token { return r.JSON200 })
	if Unauthorized(err) {
		return s, fmt.Errorf("%w: the session at %s has ended", ErrNoSession, s.API)
	}
	if err != nil {
		return s, fmt.Errorf("refreshing the session: %w", err)
	}
	// If the process dies here the old token is used up and the new one lost:
	// the user logs in again.
	if s, err = s.renewed(t, now); err != nil {
		return s, err
	}
	return s, k.save(s)
}

// Logout ends the session at the API and forgets it. The file is gone also where
// the API could not be told, which the error says. The error is ErrNoSession
// where there is nothing to end.
func (k Keeper) Logout(ctx context.Context) error {
	if _, err := os.Stat(k.Path); errors.Is(err, fs.ErrNotExist) {
		return ErrNoSession
	}
	return k.locked(ctx, func() error {
		s, err := k.load()
		if errors.Is(err, ErrNoSession) {
			return err
		}
		if err != nil { // of no use to anybody
			return errors.Join(err, os.Remove(k.Path))
		}
		return errors.Join(end(ctx, s), os.Remove(k.Path))
	})
}

func end(ctx context.Context, s Session) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	r, err := c.api.LogoutWithResponse(ctx, client.RefreshRequest{RefreshToken: s.RefreshToken})
	if err := Done(r, err); err != nil {
		return fmt.Errorf("the login is forgotten here, but %s may still know it: %w", s.API, err)
	}
	return nil
}

func (k Keeper) load() (Session, error) {
	var s Session
	f, err := os.Open(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, ErrNoSession
	}
	if err != nil {
		return s, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&0o077 != 0 {
		return s, errors.Join(fmt.Errorf("%s can be read by others; whoever did is logged in as you: log out, and in again", k.Path), err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSession))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil || s.API == "" || s.RefreshToken == "" {
		return s, errors.Join(fmt.Errorf("%s holds no login; remove it and log in again", k.Path), err)
	}
	return s, nil
}

func (k Keeper) save(s Session) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := wholefile.Replace(k.Path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keeping the session: %w", err)
	}
	return nil
}

// locked calls f while no other process is in it for the same file. The lock is
// a file beside it, as the file itself is replaced by another.
func (k Keeper) locked(ctx context.Context, f func() error) error {
	if err := os.MkdirAll(filepath.Dir(k.Path), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(k.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // unlocks, as the end of the process does
	if err := flock(ctx, lock); err != nil {
		return fmt.Errorf("%s is in use: %w", k.Path, err)
	}
	return f()
}

func flock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
