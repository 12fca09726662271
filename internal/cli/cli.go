// Package cli is the operator's command, gatehouse: its commands, their flags,
// what they print and their exit codes.
//
// Data goes to stdout, all else to stderr. It decides nothing itself: each
// command calls the package that does, and those that call the API go through
// internal/operator. Run may be called concurrently.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/buildinfo"
)

// Exit codes of every command.
const (
	ExitOK          = 0
	ExitFindings    = 1 // what was checked has faults, or what was run failed
	ExitUsage       = 2 // an unknown command or flag, a missing argument
	ExitUnreachable = 3 // the API did not answer
	ExitDenied      = 4 // not logged in, or not permitted
)

const (
	exitCodesBegin = `
Exit codes: 0 all is well; 1 faults were found, or something failed; 2 the
command was not understood`
	exitCodes = exitCodesBegin + "."
)

// usageError is a command that was not understood.
type usageError struct{ error }

// Run carries out one command and returns its exit code.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return execute(ctx, world{env: os.Getenv, stdin: os.Stdin, terminal: terminal, now: time.Now}, args, stdout, stderr)
}

func execute(ctx context.Context, w world, args []string, stdout, stderr io.Writer) int {
	root := newRoot(w)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	fmt.Fprintln(stderr, "gatehouse:", err)
	code := exitCode(err)
	if code == ExitUsage {
		fmt.Fprintf(stderr, "See: %s --help\n", cmd.CommandPath())
	} else if text := advice(err); text != "" {
		fmt.Fprintln(stderr, text)
	}
	return code
}

func newRoot(w world) *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "Enforcement beside an unmodified Envoy",
		Long: "gatehouse checks policy sets and puts them in force, shows what sidecars decide and\n" +
			"why, manages who may call, renders Envoy's configuration, migrates the control\n" +
			"service's database, and runs the whole system on this machine to try it out.\n" + remoteExitCodes,
		SilenceErrors: true,
		SilenceUsage:  true,
		// Reached only without a command, or with an unknown one.
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return usageError{errors.New("name a command")} },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	r := &remote{world: w}
	root.AddCommand(newLogin(w), newLogout(w), newPolicy(r), newProxy(r), newDecisions(r), newExplain(r))
	root.AddCommand(newUsers(r), newTenants(r), newAgents(r), newSidecars(r), newRevoke(r))
	root.AddCommand(newCheckConfig(), newEnvoyConfig(), newToken(), newMigrate(), newDev(), newDemo(), newDemoApp(), newFakeLLM(w), newVersion())
	root.AddCommand(newSanitize(w), newParse(w))
	return root
}

// newGroup is a command that only has commands below it.
func newGroup(name, what string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: what, Long: what + ".\n" + exitCodes,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return usageError{errors.New("name one of its commands")} },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// usageArgs makes wrong arguments usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// required makes sure that a flag is given.
func required(name, value string) error {
	if value == "" {
		return usageError{fmt.Errorf("--%s is needed", name)}
	}
	return nil
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: usageArgs(cobra.NoArgs),
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), buildinfo.Version()) },
	}
}
