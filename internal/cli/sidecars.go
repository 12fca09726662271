package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
	"gatehouse/internal/wholefile"
)

// toStdout is the --out that prints the credential.
const toStdout = "-"

func newSidecars(r *remote) *cobra.Command {
	return newGroup("sidecars", "Register sidecars, change their credentials, and revoke them",
		newSidecarsRegister(r), newSidecarsRotate(r), newSidecarsRevoke(r))
}

func newSidecarsRegister(r *remote) *cobra.Command {
	var s client.SidecarRegister
	var project, agent, role, out string
	var shared bool
	cmd := &cobra.Command{
		Use:   "register NAME --tenant T --set S --out FILE",
		Short: "Register a sidecar and write its credential file",
		Long: "register makes a registration and writes the sidecar's credential to a file that\n" +
			"only you can read; control shows it this once, and it is printed only with\n" +
			"--out -. The file is what control.credential_file of sidecar.yaml names.\n",
		Example: "  gatehouse sidecars register app-1 --tenant org1 --set main --out app-1.json",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := errors.Join(required("tenant", s.TenantId), required("set", s.PolicySet), required("out", out))
		if err != nil {
			return usageError{err}
		}
		ctx := cmd.Context()
		c, err := r.connect(ctx)
		if err != nil {
			return err
		}
		if agent != "" {
			a, err := theAgent(ctx, c, s.TenantId, agent)
			if err != nil {
				return err
			}
			s.AgentId = &a.Id
		}
		s.Name, s.ProjectId, s.Role, s.Shared = args[0], optional(project), optional(client.Role(role)), optional(shared)
		return r.credential(cmd, out, "registered", func() (*client.SidecarRegistered, error) {
			made, err := c.RegisterNew(ctx, s)
			if operator.IsCode(err, "state.conflict") {
				err = fmt.Errorf("%w\nIf it is registered already, give it a new credential with: gatehouse sidecars rotate %s --tenant %s --out FILE", err, s.Name, s.TenantId)
			}
			return made, err
		})
	}
	f := cmd.Flags()
	f.StringVar(&s.TenantId, "tenant", "", "tenant that it is bound to (needed)")
	f.StringVar(&s.PolicySet, "set", "", "policy set that it follows (needed)")
	f.StringVar(&project, "project", "", "project of its workload")
	f.StringVar(&agent, "agent", "", "agent that its workload is, by name or id")
	f.StringVar(&role, "role", "", "role of its workload (default: what control gives)")
	f.BoolVar(&shared, "shared", false, "it takes tokens of all tenants")
	outFlag(cmd, &out)
	return r.command(cmd)
}

func outFlag(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVar(out, "out", "", "file to write the credential to (needed); - prints it")
}

func newSidecarsRotate(r *remote) *cobra.Command {
	var tenant, out string
	cmd := &cobra.Command{
		Use:   "rotate NAME --tenant T --out FILE",
		Short: "Give a sidecar a new credential",
		Long: "rotate writes a new credential file; the credential before is refused from then\n" +
			"on.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(required("tenant", tenant), required("out", out)); err != nil {
			return usageError{err}
		}
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		return r.credential(cmd, out, "rotated", func() (*client.SidecarRegistered, error) {
			return c.Rotate(cmd.Context(), tenant, args[0])
		})
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant of the sidecar (needed)")
	outFlag(cmd, &out)
	return r.command(cmd)
}

// credential gets a credential and writes it where it is wanted. The place is
// tried before, as a credential is shown once.
func (r *remote) credential(cmd *cobra.Command, out, verb string, get func() (*client.SidecarRegistered, error)) error {
	if out != toStdout {
		if err := tryFolder(out); err != nil {
			return err
		}
	}
	made, err := get()
	if err != nil {
		return err
	}
	if out == toStdout { // and nothing else, so that it can be piped
		return printJSON(cmd.OutOrStdout(), made.Credential, "")
	}
	text, err := json.Marshal(made.Credential)
	if err == nil {
		err = wholefile.Replace(out, append(text, '\n'), 0o600)
	}
	s := made.Sidecar
	if err != nil {
		return fmt.Errorf("the credential of %s is lost: %w\nMake another with: gatehouse sidecars rotate %s --tenant %s --out FILE", s.Name, err, s.Name, s.TenantId)
	}
	return r.print(cmd, s, line("%s %s of tenant %s for policy set %s; its credential is in %s", verb, s.Name, s.TenantId, s.PolicySet, out))
}

// tryFolder finds out whether a file can be made there.
func tryFolder(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("--out %s: %w", path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func newSidecarsRevoke(r *remote) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "revoke NAME --tenant T",
		Short: "Refuse a sidecar from now on",
		Long:  "revoke refuses the sidecar's credential from now on. What it decided stays.\n",
		Args:  usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := required("tenant", tenant); err != nil {
			return err
		}
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		s, err := c.Sidecar(cmd.Context(), tenant, args[0])
		if err != nil {
			return err
		}
		resp, err := c.API().RevokeSidecarWithResponse(cmd.Context(), s.Id, nil)
		if err := operator.Done(resp, err); err != nil {
			return err
		}
		return r.print(cmd, s, line("revoked %s of tenant %s", s.Name, s.TenantId))
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant of the sidecar (needed)")
	return r.command(cmd)
}
