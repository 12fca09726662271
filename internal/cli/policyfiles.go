package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/internal/wholefile"
	"gatehouse/policies"
)

func newPolicyTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test DIR",
		Short: "Check a policy set and run its tests, without an API",
		Long: "test checks the policy set in DIR as check-config does and runs its tests\n" +
			"(*_test.rego). Each fault and each failed test is said with its place.\n" + exitCodes,
		Example: "  gatehouse policy test policies/shipped",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := &checker{ctx: cmd.Context(), dir: args[0]}
			if err := c.run(); err != nil {
				return err
			}
			return line("ok: %d tests passed, %d skipped", c.tests.Passed, c.tests.Skipped)(cmd.OutOrStdout())
		},
	}
}

func newPolicyFmt() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt DIR [--check]",
		Short: "Give the Rego of a policy set its form",
		Long: "fmt rewrites the Rego files in DIR that have not the form that all have, each in\n" +
			"one step, and prints their names. What they mean stays. With --check it changes\n" +
			"nothing, and files that would change are findings.\n" + exitCodes,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().BoolVar(&check, "check", false, "only say what would change")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		changed, err := formatted(args[0])
		if err != nil {
			return err
		}
		names := slices.Sorted(maps.Keys(changed))
		if check && len(names) > 0 {
			return fmt.Errorf("%d files are not formatted:\n%s\nFormat them with: gatehouse policy fmt %s", len(names), strings.Join(names, "\n"), args[0])
		}
		for _, name := range names {
			if err := rewrite(cmd.Context(), name, changed[name]); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), name)
		}
		return nil
	}
	return cmd
}

// formatted are the texts of a folder's Rego that are not as they should be,
// by path. Nothing is returned where a file can't be read.
func formatted(dir string) (map[string][]byte, error) {
	src, err := policies.ReadSource(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	changed, faults := map[string][]byte{}, &checker{dir: dir}
	for name, text := range src {
		if filepath.Ext(name) != ".rego" {
			continue
		}
		switch out, err := policies.Format(name, text); {
		case err != nil:
			faults.regoFaults(err)
		case !bytes.Equal(text, out):
			changed[filepath.Join(dir, name)] = out
		}
	}
	slices.SortFunc(faults.faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return changed, errors.Join(faults.faults...)
}

// rewrite replaces a file, or what a link leads to.
func rewrite(ctx context.Context, path string, text []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return wholefile.Replace(path, text, info.Mode().Perm())
}
