package control

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"gatehouse/control/auth"
	authpg "gatehouse/control/auth/postgres"
	"gatehouse/internal/account"
	"gatehouse/internal/postgres"
	"gatehouse/migrations"
)

// ErrUsage is wrapped by what is wrong with a command's arguments or with the
// environment: nothing was tried.
var ErrUsage = errors.New("wrong arguments or environment")

// ExitCode is that of a process which ends with err: 0 without one, 2 for
// ErrUsage, 1 for all others.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrUsage):
		return 2
	}
	return 1
}

const (
	breakGlassSwitch = "GATEHOUSE_BREAK_GLASS"
	breakGlassWithin = 30 * time.Second
)

const breakGlassHelp = `usage: gatehouse-control break-glass --user NAME --reason TEXT

Lets an administrator of all tenants in when none can log in. It needs the
environment of gatehouse-control: DATABASE_URL and JWT_SECRET.

The user is enabled, and its failed logins are forgotten. A name that is not
there is made an administrator only if there is no active one; nobody else
becomes one. An access token, without a refresh token, is printed on stdout, what
was done on stderr. The audit log and the event auth.break_glass tell of it.

GATEHOUSE_BREAK_GLASS=off in the environment disables it.
`

// BreakGlass is the command of that name, for whoever holds the environment of
// the control host. It prints the token alone on stdout, and what was done on
// stderr. ErrUsage says that it was called wrongly.
func BreakGlass(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, breakGlassWithin)
	defer cancel()
	e, err := emergency(args)
	if errors.Is(err, flag.ErrHelp) {
		_, err := io.WriteString(stdout, breakGlassHelp)
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w\n%s", ErrUsage, err, strings.TrimSpace(breakGlassHelp))
	}
	// INVARIANT: a value that is not known disables it.
	if v := env(breakGlassSwitch); v != "" && v != "on" {
		return errors.New("break-glass is disabled here: " + breakGlassSwitch + " is not on")
	}
	c, err := essentials(env)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	session, done, err := letIn(ctx, c, e)
	if err != nil {
		return fmt.Errorf("break-glass: %w", err)
	}
	return show(session, done, stdout, stderr)
}

// essentials reads of the environment what a token takes. What else may be
// wrong with it must not keep anybody out.
func essentials(env func(string) string) (Config, error) {
	c := Config{Database: env("DATABASE_URL"), Issuer: env("GATEHOUSE_ISSUER")}
	var missing error
	if c.Database == "" {
		missing = errors.New("DATABASE_URL is not set")
	}
	var err error
	c.Box, err = box(env("JWT_SECRET"), env("JWT_SECRET_PREVIOUS"))
	return c, errors.Join(missing, err)
}

// emergency reads the arguments, and where the process runs.
func emergency(args []string) (e auth.Emergency, err error) {
	flags := flag.NewFlagSet("break-glass", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&e.User, "user", "", "")
	flags.StringVar(&e.Reason, "reason", "", "")
	if err := flags.Parse(args); err != nil {
		return e, err
	}
	if flags.NArg() > 0 {
		return e, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	e.Host, e.OSUser = whereabouts()
	return e, e.Validate()
}

// whereabouts are the names of the host and of its user. A host that does not
// tell must not keep anybody out.
func whereabouts() (host, name string) {
	host, _ = os.Hostname()
	name = fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = cmp.Or(u.Username, name)
	}
	return cmp.Or(host, "unknown"), name
}

// letIn works without a replica of control: by what all of them share.
func letIn(ctx context.Context, c Config, e auth.Emergency) (account.Session, auth.Rescued, error) {
	if err := migrations.Verify(ctx, c.Database); err != nil {
		return account.Session{}, auth.Rescued{}, fmt.Errorf("%w; if the database answers, run: gatehouse migrate up", err)
	}
	pool, err := postgres.Open(ctx, c.Database)
	if err != nil {
		return account.Session{}, auth.Rescued{}, fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer pool.Close()
	s, err := auth.New(auth.Options{Store: authpg.New(pool), Box: c.Box, Hasher: auth.NewHasher(), Issuer: c.Issuer})
	if err != nil {
		return account.Session{}, auth.Rescued{}, err
	}
	defer s.Stop()
	if err := s.UpdateKeys(ctx); err != nil {
		return account.Session{}, auth.Rescued{}, err
	}
	return s.BreakGlass(ctx, e)
}

func show(session account.Session, done auth.Rescued, stdout, stderr io.Writer) error {
	if _, err := fmt.Fprintln(stdout, session.AccessToken); err != nil {
		return fmt.Errorf("break-glass was done, but the token can't be printed: %w", err)
	}
	_, err := fmt.Fprintf(stderr, "break-glass: %s is let in as an administrator of all tenants (user id %s).\n%s"+
		"The token on stdout is good for %v. The audit log tells of this as auth.break_glass.\n",
		done.Name, done.User.ID, steps(done), session.ExpiresIn)
	return err
}

// steps tells what was changed, a line each.
func steps(done auth.Rescued) string {
	var b strings.Builder
	if done.Made {
		b.WriteString("The user was made, with a password that nobody knows: set one by PATCH /api/v1/users/" + done.User.ID + ".\n")
	}
	if done.Enabled {
		b.WriteString("The user was disabled and is enabled now, with the password that it had.\n")
	}
	if done.Unlocked {
		b.WriteString("Failed logins were forgotten.\n")
	}
	return b.String()
}
