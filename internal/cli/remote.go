package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/operator"
)

// What the environment may say to commands that call the API.
const (
	apiVariable      = "GATEHOUSE_API"
	tokenVariable    = "GATEHOUSE_TOKEN"
	caVariable       = "GATEHOUSE_CA"
	passwordVariable = "GATEHOUSE_PASSWORD"
	configVariable   = "GATEHOUSE_CONFIG"
)

const maxCA = 512 << 10 // bytes of a file of certificates

const remoteHelp = `
The API is the one that you are logged in to (gatehouse login), or the one of
GATEHOUSE_API with the access token of GATEHOUSE_TOKEN; --api names it before
either. With -o json the output is the API's own objects.
`

const remoteExitCodes = exitCodesBegin + `; 3 the API can't be reached; 4 not logged in, or not
permitted.`

// world is what commands take from their process.
type world struct {
	env      func(string) string
	stdin    io.Reader
	terminal string // path of the one that a person sits at
	now      func() time.Time
}

// remote is how commands reach the API and how they print what it says.
type remote struct {
	world
	api  string
	form form
}

// command makes cmd one that calls the API: it gets the flags and the help.
func (r *remote) command(cmd *cobra.Command) *cobra.Command {
	cmd.Long += remoteHelp + remoteExitCodes
	r.form = formTable
	cmd.Flags().StringVar(&r.api, "api", "", "URL of the API")
	cmd.Flags().VarP(&r.form, "output", "o", "table or json")
	return cmd
}

// form is how a command prints.
type form string

const (
	formTable form = "table"
	formJSON  form = "json"
)

// Set takes the value of the flag.
func (f *form) Set(text string) error {
	if text != string(formTable) && text != string(formJSON) {
		return errors.New("want table or json")
	}
	*f = form(text)
	return nil
}

// String is the value.
func (f *form) String() string { return string(*f) }

// Type names the values in the help.
func (*form) Type() string { return "form" }

// print writes what the API said: the object itself, or text made of it.
func (r *remote) print(cmd *cobra.Command, object any, text func(io.Writer) error) error {
	if r.form != formJSON {
		return text(cmd.OutOrStdout())
	}
	return printJSON(cmd.OutOrStdout(), object, "  ")
}

func printJSON(out io.Writer, object any, indent string) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(object)
}

// items is a whole list in the form of the API's parts of lists.
type items[T any] struct {
	Items []T `json:"items"`
}

// line prints one line of text.
func line(format string, args ...any) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := fmt.Fprintln(w, plain(fmt.Sprintf(format, args...)))
		return err
	}
}

// keeper keeps the login.
func (w world) keeper() (operator.Keeper, error) {
	if path := w.env(configVariable); path != "" {
		return operator.Keeper{Path: path}, nil
	}
	dir := w.env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // relative ones don't count (XDG base directories, 0.8)
		home := w.env("HOME")
		if home == "" {
			return operator.Keeper{}, fmt.Errorf("no place to keep a login: set %s to a file, or HOME", configVariable)
		}
		dir = filepath.Join(home, ".config")
	}
	return operator.Keeper{Path: filepath.Join(dir, "gatehouse", "login.json")}, nil
}

// connect is a client that may call the API.
func (r *remote) connect(ctx context.Context) (*operator.Client, error) {
	api, err := apiURL(cmp.Or(r.api, r.env(apiVariable)))
	if err != nil {
		return nil, err
	}
	if token := r.env(tokenVariable); token != "" {
		if api == "" {
			return nil, usageError{fmt.Errorf("%s is set, but no API is named: set %s, or give --api", tokenVariable, apiVariable)}
		}
		ca, err := readCA(r.env(caVariable))
		if err != nil {
			return nil, err
		}
		return operator.New(operator.Options{URL: api, CA: ca, Token: token})
	}
	k, err := r.keeper()
	if err != nil {
		return nil, err
	}
	return k.Connect(ctx, api, r.now())
}

// apiURL checks the URL of an API; "" stays so. Passwords and tokens go
// unencrypted to this machine only.
func apiURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", usageError{errors.New("the API's URL must be of the form https://control.example:8000")}
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return "", usageError{fmt.Errorf("%s is another machine: its URL must begin with https://, as the password and tokens would be read on the way", u.Hostname())}
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

// readCA reads a file of certificates; "" is none.
func readCA(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCA+1))
	if err == nil && len(text) > maxCA {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxCA)
	}
	return text, err
}

// advice is what to do about an error of a command, "" for nothing in general.
func advice(err error) string {
	switch e, _ := errors.AsType[*operator.Error](err); {
	case errors.Is(err, operator.ErrNoSession):
		return "run: gatehouse login --api URL"
	case e != nil && e.Code == "auth.invalid_credentials":
		return "check the name and the password, and run gatehouse login again"
	case e != nil && e.Code == "auth.forbidden":
		return "your role may not do this, or not for all tenants; log in as somebody who may: gatehouse login --user NAME"
	case operator.Unauthorized(err):
		return "the token is no good any longer; run: gatehouse login --api URL, or set a new " + tokenVariable
	case operator.Unreachable(err):
		return "the API can't be reached; is the address right, and does curl URL/health answer?"
	}
	return ""
}

// exitCode is the exit code of a command that ended with an error.
func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return ExitUsage
	}
	switch {
	case errors.Is(err, operator.ErrNoSession), operator.Unauthorized(err):
		return ExitDenied
	case operator.Unreachable(err):
		return ExitUnreachable
	}
	return ExitFindings
}

// notFound adds to an answer that there is no such thing where to look.
func notFound(err error, what, command string) error {
	if operator.IsCode(err, "resource.not_found") {
		return fmt.Errorf("there is no %s; see: %s", what, command)
	}
	return err
}
