package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/internal/operator"
)

// maxPassword bounds what is read as a password, in bytes; the API takes 128
// characters.
const maxPassword = 1 << 10

func newLogin(w world) *cobra.Command {
	l := loginCommand{world: w}
	cmd := &cobra.Command{
		Use:   "login --api URL [--user NAME] [--password-stdin] [--ca FILE]",
		Short: "Log in to the API, for the commands that follow",
		Long: "login proves a user to the API and keeps the session for the commands that follow,\n" +
			"in login.json of your configuration folder (~/.config/gatehouse), or in the file\n" +
			"that GATEHOUSE_CONFIG names. Only you can read it; it holds no password. The\n" +
			"password is asked for on the terminal, or comes from standard input, or from\n" +
			"GATEHOUSE_PASSWORD.\n" + remoteExitCodes,
		Example: "  gatehouse login --api https://control.example:8000 --user ada",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    l.run,
	}
	f := cmd.Flags()
	f.StringVar(&l.api, "api", "", "URL of the API (default: "+apiVariable+" of the environment)")
	f.StringVar(&l.user, "user", "", "user to log in as (asked for where not given)")
	f.BoolVar(&l.stdin, "password-stdin", false, "read the password from standard input")
	f.StringVar(&l.ca, "ca", "", "PEM file of who may vouch for the API (default: the system's)")
	return cmd
}

type loginCommand struct {
	world
	api, user, ca string
	stdin         bool
}

func (l *loginCommand) run(cmd *cobra.Command, _ []string) error {
	api, err := apiURL(cmp.Or(l.api, l.env(apiVariable)))
	if err == nil && api == "" {
		err = usageError{errors.New("--api is needed")}
	}
	if err != nil {
		return err
	}
	k, err := l.keeper()
	if err != nil {
		return err
	}
	ca, err := readCA(cmp.Or(l.ca, l.env(caVariable)))
	if err != nil {
		return err
	}
	user, password, err := l.credentials(cmd.Context())
	if err != nil {
		return err
	}
	t, err := k.Login(cmd.Context(), operator.Options{URL: api, CA: ca}, user, password, l.now())
	if err != nil {
		return err
	}
	return line("logged in to %s as %s: role %s, tenant %s", api, user, t.Role, t.TenantId)(cmd.OutOrStdout())
}

// insteadOfAsking is what a login takes where there is no terminal.
const insteadOfAsking = "--user, and the password by --password-stdin or " + passwordVariable

func (l *loginCommand) credentials(ctx context.Context) (user, password string, err error) {
	if user = l.user; user == "" {
		if l.stdin || l.env(passwordVariable) != "" {
			return "", "", usageError{errors.New("--user is needed")}
		}
		if user, err = l.ask(ctx, "User: ", true, insteadOfAsking); err != nil {
			return "", "", err
		}
	}
	password, err = l.password(ctx, l.stdin, l.env(passwordVariable), "Password of "+plain(user)+": ", insteadOfAsking)
	return user, password, err
}

// password is the first line of standard input where that is said to have it,
// or given, or what is typed; instead is told where nobody can type.
func (w world) password(ctx context.Context, fromStdin bool, given, prompt, instead string) (string, error) {
	password, err := given, error(nil)
	switch {
	case fromStdin:
		password, err = firstLine(w.stdin)
	case given == "":
		password, err = w.ask(ctx, prompt, false, instead)
	}
	if err == nil && password == "" {
		err = errors.New("the password is empty")
	}
	return password, err
}

func firstLine(r io.Reader) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(r, maxPassword+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	if len(text) > maxPassword {
		return "", fmt.Errorf("the password has more than %d bytes", maxPassword)
	}
	return strings.TrimRight(text, "\r\n"), nil
}

func newLogout(w world) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End the session that login keeps",
		Long: "logout ends the session at the API and removes the file. Where the API can't be\n" +
			"told, the file is removed all the same, and the exit code says that.\n" + remoteExitCodes,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := w.keeper()
			if err != nil {
				return err
			}
			if err := k.Logout(cmd.Context()); err != nil {
				return err
			}
			return line("logged out")(cmd.OutOrStdout())
		},
	}
}
