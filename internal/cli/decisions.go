package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
)

const (
	defaultDecisions = 20
	maxDecisions     = 10_000
)

func newDecisions(r *remote) *cobra.Command {
	d := decisions{remote: r}
	cmd := r.command(&cobra.Command{
		Use:   "decisions",
		Short: "Show what sidecars decided, or follow it",
		Long: "decisions shows the newest decisions, newest first, one a line: when, its id,\n" +
			"allowed or DENIED (or WOULD DENY, where the policy only observes), rule, subject,\n" +
			"route, method and path. With --follow it shows those from now on as they are\n" +
			"stored, and comes back by itself where the connection breaks; none is missed.\n" +
			"Then -o json is one object a line.\n",
		Example: "  gatehouse decisions --denied --follow\n  gatehouse explain DECISION",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    d.run,
	})
	f := cmd.Flags()
	f.BoolVar(&d.denied, "denied", false, "only what was denied")
	f.StringVar(&d.subject, "subject", "", "only of this subject")
	f.StringVar(&d.route, "route", "", "only of this route")
	f.StringVar(&d.rule, "rule", "", "only by this rule")
	f.StringVar(&d.tenant, "tenant", "", "only of this tenant")
	f.BoolVar(&d.follow, "follow", false, "show those from now on, until Ctrl-C")
	f.IntVar(&d.limit, "limit", defaultDecisions, "how many, at most 10000")
	return cmd
}

type decisions struct {
	*remote
	denied, follow               bool
	subject, route, rule, tenant string
	limit                        int
}

func (d *decisions) allowed() *bool {
	if d.denied {
		return new(false)
	}
	return nil
}

func (d *decisions) run(cmd *cobra.Command, _ []string) error {
	if d.limit < 1 || d.limit > maxDecisions {
		return usageError{fmt.Errorf("--limit must be between 1 and %d", maxDecisions)}
	}
	if d.follow {
		if cmd.Flags().Changed("limit") {
			return usageError{errors.New("--limit and --follow exclude each other")}
		}
		return d.tail(cmd)
	}
	c, err := d.connect(cmd.Context())
	if err != nil {
		return err
	}
	list, err := c.Decisions(cmd.Context(), client.ListDecisionsParams{
		TenantId: optional(d.tenant), Allowed: d.allowed(), Subject: optional(d.subject), Route: optional(d.route), RuleId: optional(d.rule),
	}, d.limit)
	if err != nil {
		return err
	}
	heads := []string{"TIME", "DECISION", "RESULT", "RULE", "SUBJECT", "ROUTE", "REQUEST"}
	return d.print(cmd, items[client.Decision]{list}, rows(list, heads, decisionCells))
}

// tail follows until the user has enough, which is no failure.
func (d *decisions) tail(cmd *cobra.Command) error {
	p := client.TailDecisionsParams{
		TenantId: optional(d.tenant), Allowed: d.allowed(), Subject: optional(d.subject), Route: optional(d.route), RuleId: optional(d.rule),
	}
	told := func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "gatehouse: coming back:", plain(err.Error())) }
	err := operator.Follow(cmd.Context(), d.connect, p, told, func(v client.Decision) error {
		if d.form == formJSON {
			return printJSON(cmd.OutOrStdout(), v, "")
		}
		return tailLine(cmd.OutOrStdout(), decisionCells(v))
	})
	if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
		return nil
	}
	return err
}

// tailLine is a line of a table whose width is not known yet.
func tailLine(w io.Writer, cells []string) error {
	for i := range cells {
		cells[i] = plain(cells[i])
	}
	_, err := fmt.Fprintf(w, "%-20s  %-26s  %-10s  %-22s  %-16s  %-14s  %s\n", cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6])
	return err
}

func decisionCells(d client.Decision) []string {
	r := readRecord(d.Record)
	return []string{
		stamp(d.At), d.Id, r.result(), orDash(r.text("rule_id")), orDash(r.principal.text("subject")),
		orDash(r.text("route")), r.text("method") + " " + r.text("path"),
	}
}

// members are those of a JSON object. They are asked leniently: a sidecar of
// another version may have written them.
type members map[string]json.RawMessage

func readMembers(text json.RawMessage) members {
	m := members{}
	_ = json.Unmarshal(text, &m) // what is no object has no members
	return m
}

// text is a member for people: a text as it is, anything else as JSON.
func (m members) text(name string) string {
	var s string
	if text, ok := m[name]; ok && json.Unmarshal(text, &s) != nil {
		return string(text)
	}
	return s
}

func (m members) yes(name string) bool { return m.text(name) == "true" }

// record is what a sidecar wrote about one decision: the members are those of
// telemetry.Decision.
type record struct {
	members
	principal members
}

func readRecord(text json.RawMessage) record {
	m := readMembers(text)
	return record{m, readMembers(m["principal"])}
}

func (r record) result() string {
	switch {
	case !r.yes("allowed"):
		return "DENIED"
	case r.yes("would_deny"):
		return "WOULD DENY"
	}
	return "allowed"
}
