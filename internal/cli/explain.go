package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
)

func newExplain(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain DECISION",
		Short: "Say everything about one decision, and what to do next",
		Long: "explain shows one decision: what was asked, by whom, which rule decided and why,\n" +
			"at which revision; and what to do to get another answer. The id is in the details\n" +
			"of the denial, and in what gatehouse decisions shows.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		resp, err := c.API().GetDecisionWithResponse(cmd.Context(), args[0])
		d, err := operator.Answer(resp, err, func(r *client.GetDecisionResponse) *client.Decision { return r.JSON200 })
		if err != nil {
			return notFound(err, "decision "+args[0]+" that you may see, or it was dropped when its time was over", "gatehouse decisions")
		}
		return r.print(cmd, d, func(w io.Writer) error { return explain(w, *d) })
	}
	return r.command(cmd)
}

// shown are the members of a record that explain says in its own words, or that
// tell nothing.
func shown() []string {
	return []string{
		"kind", "time", "decision_id", "request_id", "revision", "route", "listener", "method", "path", "principal", "permission",
		"allowed", "would_deny", "mode", "class", "error_code", "rule_id", "reason", "limits", "latency_us",
	}
}

func explain(out io.Writer, d client.Decision) error {
	r := readRecord(d.Record)
	if err := line("%s: %s %s", r.result(), r.text("method"), r.text("path"))(out); err != nil {
		return err
	}
	w := table(out, "")
	for _, f := range [][2]string{
		{"decided at", stamp(d.At)},
		{"who", r.who()},
		{"route", joined(" ", r.text("route"), within("(", r.text("listener"), ")"))},
		{"needs", within("permission ", r.text("permission"), "")},
		{"rule", joined(": ", r.text("rule_id"), r.text("reason"))},
		{"refused by", within("the check of ", r.text("class"), "")},
		{"answered", r.text("error_code")},
		{"mode", r.text("mode")},
		{"limits", r.list("limits")},
		{"revision", r.text("revision")},
		{"took", r.latency()},
		{"sidecar", d.SidecarId},
		{"decision", d.Id},
		{"request", r.text("request_id")},
	} {
		if f[1] != "" {
			row(w, "  "+f[0], f[1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.members)) {
		if !slices.Contains(shown(), name) {
			row(w, "  "+name, r.text(name))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return errors.Join(line("")(out), line("next: %s", r.next())(out))
}

func within(before, text, after string) string {
	if text == "" {
		return ""
	}
	return before + text + after
}

// joined joins the texts that are not empty.
func joined(by string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), by)
}

func (r record) who() string {
	p := r.principal
	return joined(", ", joined(" ", p.text("kind"), p.text("subject")), within("role ", p.text("role"), ""), within("tenant ", p.text("tenant"), ""),
		within("project ", p.text("project"), ""), within("agent ", p.text("agent"), ""), within("issuer ", p.text("issuer"), ""))
}

func (r record) list(name string) string {
	return strings.NewReplacer(`"`, "", "[", "", "]", "", ",", ", ").Replace(r.text(name))
}

func (r record) latency() string {
	us, err := strconv.ParseInt(r.text("latency_us"), 10, 64)
	if err != nil {
		return r.text("latency_us")
	}
	return (time.Duration(us) * time.Microsecond).String()
}

// next is what to do to get another answer.
func (r record) next() string {
	if r.result() == "allowed" {
		return "nothing; the request was allowed"
	}
	role, permission, route := r.principal.text("role"), r.text("permission"), r.text("route")
	switch r.text("class") {
	case "identity":
		return "the caller's token is missing or no good: get a new one, as with POST /api/v1/auth/token, and send it as authorization: Bearer"
	case "method":
		return fmt.Sprintf("route %s does not list %s: list it in gatehouse.yaml, or call another way; then gatehouse policy push", route, r.text("method"))
	case "limit":
		return fmt.Sprintf("wait and try again, or raise the limit (%s) in gatehouse.yaml; then gatehouse policy push", cmp.Or(r.list("limits"), "see gatehouse.yaml"))
	case "hygiene":
		return "no policy lets such a request pass: the caller has to send it in another form"
	case "unavailable":
		return "what the check needs was away; see: gatehouse proxy status"
	case "fault":
		return fmt.Sprintf("the sidecar failed to decide: look for request %s in its log", r.text("request_id"))
	}
	if r.text("rule_id") == "role_lacks_permission" {
		return fmt.Sprintf("role %s lacks the permission %s that route %s needs: call with a role that has it, or change the policy; then gatehouse policy push", role, permission, route)
	}
	return fmt.Sprintf("rule %s of the policy set decided: read it in the Rego, try a change with gatehouse policy test, then gatehouse policy push", orDash(r.text("rule_id")))
}
