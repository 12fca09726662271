package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/migrations"
)

// databaseVariable is the environment's way to name the database: the command
// line of a process can be read by all users of its machine.
const databaseVariable = "DATABASE_URL"

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the control service's database to this build's schema",
		Long: "migrate applies the migrations that this build was made with, and says where a\n" +
			"database stands. The database is named by DATABASE_URL, or by --database; its\n" +
			"password is never printed. docs/DATABASE.md has the rules.\n" + exitCodes,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return usageError{errors.New("name one of up, status, verify")} },
	}
	var database string
	cmd.PersistentFlags().StringVar(&database, "database", "", "URL of the database (default: "+databaseVariable+" of the environment)")
	cmd.AddCommand(newMigrateUp(&database), newMigrateStatus(&database), newMigrateVerify(&database))
	return cmd
}

// databaseURL is the URL to use, which must be given.
func databaseURL(flag string) (string, error) {
	if url := cmp.Or(flag, os.Getenv(databaseVariable)); url != "" {
		return url, nil
	}
	return "", usageError{errors.New("no database is named: set " + databaseVariable + ", or give --database")}
}

func newMigrateUp(database *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Apply the migrations that the database lacks",
		Long: "up applies what the database lacks, in order, each file whole or not at all, and\n" +
			"prints what it applied. A second one at the same time waits for the first. Where a\n" +
			"file fails, those before it stay applied; repair it and run up again.\n" + exitCodes,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		url, err := databaseURL(*database)
		if err != nil {
			return err
		}
		r, err := migrations.Up(cmd.Context(), url, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		if err != nil {
			return err // what was applied before it stands in the log
		}
		return printSteps(cmd.OutOrStdout(), r)
	}
	return cmd
}

func printSteps(out io.Writer, r migrations.Report) error {
	if len(r.Applied) == 0 {
		_, err := fmt.Fprintf(out, "nothing to do: the database is at version %s\n", r.Version)
		return err
	}
	w := table(out, "VERSION", "FILE", "DURATION")
	for _, s := range r.Applied {
		row(w, s.Version, s.Name, milliseconds(s.Duration))
	}
	return w.Flush()
}

func newMigrateStatus(database *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where each migration stands",
		Long: "status shows all migrations of this build and of the database: applied, pending,\n" +
			"changed after it was applied, out of order, unknown to this build. It changes\n" +
			"nothing, and ends with 0 whatever it shows; verify judges.\n" + exitCodes,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		url, err := databaseURL(*database)
		if err != nil {
			return err
		}
		entries, err := migrations.Status(cmd.Context(), url)
		if err != nil {
			return err
		}
		w := table(cmd.OutOrStdout(), "VERSION", "FILE", "STATE", "APPLIED AT", "DURATION")
		for _, e := range entries {
			at, took := "-", "-"
			if e.AppliedChecksum != "" {
				at, took = e.AppliedAt.UTC().Format(time.RFC3339), milliseconds(e.Duration)
			}
			row(w, e.Version, cmp.Or(e.Name, "-"), string(e.State), at, took)
		}
		return w.Flush()
	}
	return cmd
}

func newMigrateVerify(database *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that the database has exactly this build's schema",
		Long: "verify ends with 0 where every migration of this build is applied as it is, and no\n" +
			"other. It says all that differs, and changes nothing.\n" + exitCodes,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		url, err := databaseURL(*database)
		if err != nil {
			return err
		}
		entries, err := migrations.Status(cmd.Context(), url)
		if err != nil {
			return err
		}
		if err := migrations.Check(entries); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %d migrations applied\n", len(entries))
		return err
	}
	return cmd
}

func milliseconds(d time.Duration) string { return d.Round(time.Millisecond).String() }
