package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/policies"
)

func newCheckConfig() *cobra.Command {
	var sidecar string
	cmd := &cobra.Command{
		Use:   "check-config DIR [--sidecar FILE]",
		Short: "Say everything that is wrong with a policy set",
		Long: "check-config reads the policy set in DIR as the sidecar does: gatehouse.yaml,\n" +
			"the Rego and its tests (*_test.rego), owner and mode of the files. With --sidecar\n" +
			"it also checks that a sidecar.yaml is good and fits, and that Envoy's configuration\n" +
			"can be made of both. All faults are said at once, as FILE:LINE:COLUMN: FAULT.\n" + exitCodes,
		Example: "  gatehouse check-config policies/shipped --sidecar deploy/sidecar.example.yaml",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&sidecar, "sidecar", "", "sidecar.yaml to check the set against")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := &checker{ctx: cmd.Context(), dir: args[0], sidecarFile: sidecar}
		if err := c.run(); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), c.summary())
		return nil
	}
	return cmd
}

// checker looks at one policy set and collects what is wrong with it.
type checker struct {
	ctx         context.Context
	dir         string
	sidecarFile string

	set    *config.PolicySet
	files  revision.Files
	tests  policies.Report
	faults []error
}

func (c *checker) found(err error) {
	if err != nil {
		c.faults = append(c.faults, err)
	}
}

// run makes every check that can be made and returns all findings.
func (c *checker) run() error {
	if info, err := os.Stat(c.dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is no folder; a policy set is one with %s and *.rego", c.dir, revision.ConfigFile)
	}
	c.checkConfig()
	c.checkRego()
	c.checkSidecar()
	var err error
	c.files, err = snapshot.Read(c.dir, os.Geteuid())
	// A missing file has been said already.
	if !errors.Is(err, revision.ErrNoConfig) {
		c.found(err)
	}
	if len(c.faults) > 0 {
		return fmt.Errorf("%s can't be used:\n%w", c.dir, errors.Join(c.faults...))
	}
	return nil
}

func (c *checker) checkConfig() {
	var err error
	c.set, err = readSet(c.dir)
	c.found(err)
}

func readSet(dir string) (*config.PolicySet, error) {
	path := filepath.Join(dir, revision.ConfigFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return config.ParseSet(path, text)
}

func readSidecar(path string) (*config.Sidecar, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return config.ParseSidecar(path, text)
}

// checkRego compiles the Rego, with the entry point that gatehouse.yaml names
// where that could be read, and runs its tests.
func (c *checker) checkRego() {
	src, err := policies.ReadSource(os.DirFS(c.dir))
	if err != nil {
		c.found(err)
		return
	}
	if c.set != nil {
		p := c.set.Policy
		_, err := policies.Compile(c.ctx, src, policies.Options{Entry: p.Entry, Timeout: p.Timeout, ExposeToken: p.ExposeToken})
		if err != nil {
			c.regoFaults(err)
			return // the tests would only repeat it
		}
	}
	if c.tests, err = policies.Test(c.ctx, src); err != nil {
		c.regoFaults(err)
	}
	for _, r := range c.tests.Results {
		if !r.Passed && !r.Skipped {
			c.found(fmt.Errorf("%s:%d: %s: %s", filepath.Join(c.dir, r.File), r.Line, r.Name, r.Message))
		}
	}
}

// regoFaults adds the folder to the faults' file names.
func (c *checker) regoFaults(err error) {
	faults, ok := errors.AsType[policies.Faults](err)
	if !ok {
		c.found(err)
		return
	}
	for _, f := range faults {
		f.File = filepath.Join(c.dir, f.File)
		c.found(f)
	}
}

func (c *checker) checkSidecar() {
	if c.sidecarFile == "" {
		return
	}
	sc, err := readSidecar(c.sidecarFile)
	c.found(err)
	if err != nil || c.set == nil {
		return
	}
	if err := config.CheckPair(c.set, sc); err != nil {
		c.found(err)
		return
	}
	_, err = envoyconf.Translate(sc, c.set, envoyconf.CurrentRevision)
	c.found(err)
}

func (c *checker) summary() string {
	return fmt.Sprintf("ok: %d routes, %d upstreams, %d issuers, %d limits, %d tests passed, revision %s",
		len(c.set.Routes), len(c.set.Upstreams), len(c.set.Issuers), len(c.set.Limits), c.tests.Passed, revision.ID(c.files))
}

func newEnvoyConfig() *cobra.Command {
	var sidecar string
	cmd := &cobra.Command{
		Use:   "envoy-config DIR --sidecar FILE",
		Short: "Print a complete, static configuration for an Envoy of your own",
		Long: "envoy-config renders the policy set in DIR and a sidecar.yaml as one Envoy\n" +
			"configuration that needs no discovery service. Envoy must be started anew with\n" +
			"each change of the routes.\n" + exitCodes,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&sidecar, "sidecar", "", "sidecar.yaml (needed)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := required("sidecar", sidecar); err != nil {
			return err
		}
		text, err := staticConfig(args[0], sidecar)
		if err != nil {
			return fmt.Errorf("%w\nSee all faults with: gatehouse check-config %s --sidecar %s", err, args[0], sidecar)
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	return cmd
}

func staticConfig(dir, sidecarFile string) ([]byte, error) {
	set, err := readSet(dir)
	if err != nil {
		return nil, err
	}
	sc, err := readSidecar(sidecarFile)
	if err != nil {
		return nil, err
	}
	if err := config.CheckPair(set, sc); err != nil {
		return nil, err
	}
	return envoyconf.Static(sc, set)
}
