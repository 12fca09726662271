package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/demo"
	"gatehouse/internal/demoapp"
	"gatehouse/internal/devstack"
	"gatehouse/internal/fakellm"
	"gatehouse/internal/request"
)

func newDev() *cobra.Command {
	var o devstack.Options
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the whole system on this machine, until Ctrl-C",
		Long: "dev starts Postgres, control, a demo app, a fake provider of language models, the\n" +
			"sidecar and Envoy, prints where they are, and stops them on Ctrl-C. A child that\n" +
			"ends by itself is reported; the others go on. Its users' passwords are known to\n" +
			"all, and its tokens can be minted by whoever reads the data folder: it is for\n" +
			"trying things out. Ports that are taken are replaced by free ones.\n\n" +
			"Models do what their names say (words-20, slow-50-100, sql). The first tenant gets\n" +
			"a budget of a million tokens a day, unless it has one.\n\n" +
			"Envoy is the program that ENVOY names, or the one in .tools/ of this project, or\n" +
			"the one on PATH. Postgres is the one in the folder that POSTGRES_BIN names, or\n" +
			"one of the system's, 14 or newer.\n" + exitCodes,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&o.Data, "data", "", "folder for keys, policies, state and logs (default: a new one, removed at the end)")
	cmd.Flags().StringVar(&o.Policies, "policies", "", "use this policy set, as it is, instead of the one in the data folder")
	cmd.Flags().StringVar(&o.Postgres, "postgres", "", "URL of a database to use and migrate, instead of a Postgres in the data folder;\nnaming the same --data each time keeps the secret that its signing keys are sealed with")
	cmd.Flags().StringVar(&o.Redis, "redis", "", "URL of a Redis to use, instead of one in this process")
	cmd.Flags().StringVar(&o.ReadyFile, "ready-file", "", "write addresses and process ids to this file, as JSON, when all is ready")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Out = cmd.ErrOrStderr()
		s, err := devstack.Start(cmd.Context(), o)
		if err != nil {
			return err
		}
		fmt.Fprint(cmd.OutOrStdout(), s.Summary())
		return errors.Join(s.Wait(cmd.Context()), s.Stop())
	}
	return cmd
}

func newDemo() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo [--exit]",
		Short: "Run the system, send it real traffic and show what it decides",
		Long: "demo starts what `gatehouse dev` starts, sends requests through Envoy, and prints\n" +
			"for each what came back, whether the upstream was reached and why. Every row is\n" +
			"checked. Then it stays up until Ctrl-C, or ends with --exit.\n" + exitCodes,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&o.Exit, "exit", false, "end after the table, with 1 if a row is not as expected")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Out, o.Notes = cmd.OutOrStdout(), cmd.ErrOrStderr()
		o.Color = colored(o.Out)
		return demo.Run(cmd.Context(), o)
	}
	return cmd
}

// colored reports whether a writer is a terminal that may have colors
// (https://no-color.org).
func colored(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func newDemoApp() *cobra.Command {
	return newUpstream("demo-app", "The demo app of dev", demoapp.Serve)
}

func newFakeLLM(w world) *cobra.Command {
	return newUpstream("fake-llm", "The fake provider of language models of dev", func(ctx context.Context, provider, ledger net.Listener) error {
		keys := fakellm.Options{OpenAIKey: w.env(devstack.ProviderOpenAIKey), AnthropicKey: w.env(devstack.ProviderAnthropicKey)}
		return fakellm.Serve(ctx, keys, provider, ledger)
	})
}

// Descriptors that an upstream of dev inherits: where it serves, and where it
// tells what it has counted.
const (
	servingListener  = 3
	countingListener = 4
)

// newUpstream is a command that dev runs, and nobody else.
func newUpstream(name, what string, serve func(ctx context.Context, serving, counting net.Listener) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, Args: usageArgs(cobra.NoArgs),
		Short: what + ", on listeners that it inherits as descriptors 3 and 4",
		RunE: func(cmd *cobra.Command, _ []string) error {
			serving, err := inherited(servingListener)
			if err != nil {
				return err
			}
			counting, err := inherited(countingListener)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), serving, counting)
		},
	}
}

func inherited(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, fmt.Sprintf("descriptor %d", fd))
	defer f.Close() // the listener has a copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("this is started by `gatehouse dev`: %w", err)
	}
	return l, nil
}

func newToken() *cobra.Command {
	var data string
	var c devstack.Claims
	cmd := &cobra.Command{
		Use:   "token --data DIR",
		Short: "Print a token for a running dev",
		Long: "token mints a token with the key of a dev's data folder and prints it, and only\n" +
			"that, so that it fits into a command line.\n" + exitCodes,
		Example: `  curl -H "authorization: Bearer $(gatehouse token --data DIR --role observer)" http://127.0.0.1:8080/tasks`,
		Args:    usageArgs(cobra.NoArgs),
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "data folder of the dev (needed)")
	f.StringVar(&c.Role, "role", string(request.RoleDeveloper), "admin, operator, developer, observer or anonymous")
	f.StringVar(&c.Tenant, "tenant", "org1", "tenant; * is every one, for admins")
	f.StringVar(&c.Project, "project", "proj1", "project")
	f.StringVar(&c.Subject, "subject", "alice", "who calls")
	f.StringVar(&c.Agent, "agent", "", "the agent that calls for the subject")
	f.DurationVar(&c.TTL, "ttl", devstack.DefaultTTL, "lifetime")
	f.BoolVar(&c.Expired, "expired", false, "mint one that is no longer good")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		text, err := mint(data, c)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

func mint(data string, c devstack.Claims) (string, error) {
	if err := required("data", data); err != nil {
		return "", err
	}
	if !slices.Contains(request.Roles(), request.Role(c.Role)) {
		return "", usageError{fmt.Errorf("--role %s: is none of %v", c.Role, request.Roles())}
	}
	if c.TTL < time.Second {
		return "", usageError{fmt.Errorf("--ttl %s: is shorter than a second", c.TTL)}
	}
	key, err := devstack.LoadKey(data)
	if err != nil {
		return "", fmt.Errorf("%w\n--data is the folder that `gatehouse dev` prints as Data; it is gone when dev ends, unless dev was started with --data too", err)
	}
	return key.Mint(time.Now(), c)
}
