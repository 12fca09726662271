package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
)

// tag is the If-Match of a version (RFC 9110, 13.1.1): what was seen is what is
// changed.
func tag(version int64) *string { return new(strconv.Quote(number(version))) }

func newUsers(r *remote) *cobra.Command {
	return newGroup("users", "Manage people who log in by name and password",
		newUsersList(r), newUsersCreate(r), newUsersDelete(r), newUsersSwitch(r, "disable", true), newUsersSwitch(r, "enable", false))
}

func userHeads() []string {
	return []string{"NAME", "ROLE", "TENANT", "PROJECT", "DISABLED", "CREATED AT", "ID"}
}

func userCells(u client.User) []string {
	return []string{u.Username, string(u.Role), u.TenantId, orDash(u.ProjectId), yes(u.Disabled), stamp(u.CreatedAt), u.Id}
}

func newUsersList(r *remote) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "list", Short: "List users", Long: "list shows the users of your tenant, or of --tenant.\n",
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		list, err := c.Users(cmd.Context(), tenant)
		if err != nil {
			return err
		}
		return r.print(cmd, items[client.User]{list}, rows(list, userHeads(), userCells))
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant whose users to list")
	return r.command(cmd)
}

func newUsersCreate(r *remote) *cobra.Command {
	var u client.UserCreate
	var role, project string
	var fromStdin bool
	cmd := &cobra.Command{
		Use: "create NAME --tenant T --role R", Short: "Create a user",
		Long: "create makes a user, whose password is asked for on the terminal, or comes from\n" +
			"standard input.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(required("tenant", u.TenantId), required("role", role)); err != nil {
			return usageError{err}
		}
		ctx := cmd.Context()
		c, err := r.connect(ctx)
		if err != nil {
			return err
		}
		u.Username, u.Role, u.ProjectId = args[0], client.Role(role), optional(project)
		if u.Password, err = r.password(ctx, fromStdin, "", "Password for "+plain(u.Username)+": ", "the password by --password-stdin"); err != nil {
			return err
		}
		resp, err := c.API().CreateUserWithResponse(ctx, u)
		made, err := operator.Answer(resp, err, func(r *client.CreateUserResponse) *client.User { return r.JSON201 })
		if err != nil {
			return err
		}
		return r.print(cmd, made, line("created user %s: role %s, tenant %s", made.Username, made.Role, made.TenantId))
	}
	f := cmd.Flags()
	f.StringVar(&u.TenantId, "tenant", "", "tenant of the user (needed); * is every one, for admins")
	f.StringVar(&role, "role", "", "admin, operator, developer or observer (needed)")
	f.StringVar(&project, "project", "", "project that the user is kept to")
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return r.command(cmd)
}

// theUser finds a user by name or id.
func theUser(ctx context.Context, c *operator.Client, tenant, name string) (client.User, error) {
	list, err := c.Users(ctx, tenant)
	if err != nil {
		return client.User{}, err
	}
	return only(list, "user "+name, "gatehouse users list", func(u client.User) bool { return u.Username == name || u.Id == name })
}

// only is the one item that is meant.
func only[T any](list []T, what, command string, meant func(T) bool) (found T, err error) {
	n := 0
	for _, item := range list {
		if meant(item) {
			found = item
			n++
		}
	}
	switch n {
	case 0:
		return found, fmt.Errorf("there is no %s; see: %s", what, command)
	case 1:
		return found, nil
	}
	return found, usageError{fmt.Errorf("there are %d of the name %s: give --tenant, or the id", n, what)}
}

func newUsersDelete(r *remote) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a user", Long: "delete removes a user, named by name or id.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		c, err := r.connect(ctx)
		if err != nil {
			return err
		}
		u, err := theUser(ctx, c, tenant, args[0])
		if err != nil {
			return err
		}
		resp, err := c.API().DeleteUserWithResponse(ctx, u.Id, &client.DeleteUserParams{IfMatch: tag(u.Version)})
		if err := operator.Done(resp, err); err != nil {
			return err
		}
		return r.print(cmd, u, line("deleted user %s", u.Username))
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant of the user")
	return r.command(cmd)
}

func newUsersSwitch(r *remote, verb string, disabled bool) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: verb + " NAME", Short: map[bool]string{true: "Let a user no longer log in", false: "Let a user log in again"}[disabled],
		Long: verb + " switches a user, named by name or id; a disabled one can't log in.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		c, err := r.connect(ctx)
		if err != nil {
			return err
		}
		u, err := theUser(ctx, c, tenant, args[0])
		if err != nil {
			return err
		}
		resp, err := c.API().UpdateUserWithResponse(ctx, u.Id, &client.UpdateUserParams{IfMatch: tag(u.Version)}, client.UserUpdate{Disabled: &disabled})
		now, err := operator.Answer(resp, err, func(r *client.UpdateUserResponse) *client.User { return r.JSON200 })
		if err != nil {
			return err
		}
		return r.print(cmd, now, line("%sd user %s", verb, now.Username))
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant of the user")
	return r.command(cmd)
}
