package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gatehouse/proxy/sanitize"
)

const maxInput = 16 << 20 // bytes of standard input

func newSanitize(w world) *cobra.Command {
	s := &sanitizer{world: w, form: formTable}
	cmd := &cobra.Command{
		Use:   "sanitize [--context C] [--action CLASS=ACTION]…",
		Short: "Make a text safe, as the sidecar does with answers",
		Long: "sanitize reads a text from standard input and prints it as the sidecar would send it\n" +
			"on. What was found is said on stderr, one a line: offset and length in bytes, class,\n" +
			"rule and what was done. With -o json it prints {text, blocked, findings} instead.\n\n" +
			"Contexts: prose, markdown, json_field, tool_call. Classes: destructive_sql,\n" +
			"sql_breakout, executable_html, command_injection, path_traversal, control,\n" +
			"ansi_escape, unicode_tags, external_image, external_link. Actions: off, flag,\n" +
			"defang, redact, block.\n" + exitCodes,
		Example: "  gatehouse sanitize --context markdown --action external_image=flag < answer.md",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    s.run,
	}
	f := cmd.Flags()
	f.StringVar(&s.context, "context", "prose", "what kind of place the text goes to")
	f.StringArrayVar(&s.actions, "action", nil, "an action other than the context's")
	f.StringArrayVar(&s.origins, "image-origin", nil, "an origin whose images are not external")
	f.VarP(&s.form, "output", "o", "table or json")
	return cmd
}

type sanitizer struct {
	world
	context          string
	actions, origins []string
	form             form
}

// sanitized is what -o json prints.
type sanitized struct {
	Text     string             `json:"text"`
	Blocked  bool               `json:"blocked"`
	Findings []sanitize.Finding `json:"findings"`
}

func (s *sanitizer) run(cmd *cobra.Command, _ []string) error {
	scanner, err := s.scanner()
	if err != nil {
		return usageError{err}
	}
	text, err := s.input()
	if err != nil {
		return err
	}
	r := sanitized{Findings: []sanitize.Finding{}}
	clean, found, blocked := scanner.Text(text)
	r.Text, r.Blocked, r.Findings = clean, blocked, append(r.Findings, found...)
	if err := s.print(cmd, r); err != nil {
		return err
	}
	switch {
	case blocked:
		return errors.New("the text was blocked")
	case len(found) > 0:
		return fmt.Errorf("%d found", len(found))
	}
	return nil
}

func (s *sanitizer) scanner() (*sanitize.Scanner, error) {
	context, err := sanitize.ParseContext(s.context)
	if err != nil {
		return nil, err
	}
	c := sanitize.Config{Context: context, Actions: map[sanitize.Class]sanitize.Action{}, ImageOrigins: s.origins}
	for _, text := range s.actions {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--action %q is not CLASS=ACTION", text)
		}
		class, err := sanitize.ParseClass(name)
		if err != nil {
			return nil, err
		}
		if c.Actions[class], err = sanitize.ParseAction(value); err != nil {
			return nil, err
		}
	}
	return sanitize.New(c)
}

// input is all of standard input.
func (w world) input() (string, error) {
	text, err := io.ReadAll(io.LimitReader(w.stdin, maxInput+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading standard input: %w", err)
	case len(text) > maxInput:
		return "", fmt.Errorf("standard input is over %d MiB", maxInput>>20)
	}
	return string(text), nil
}

func (s *sanitizer) print(cmd *cobra.Command, r sanitized) error {
	if s.form == formJSON {
		return printJSON(cmd.OutOrStdout(), r, "  ")
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), r.Text); err != nil {
		return err
	}
	t := tabwriter.NewWriter(cmd.ErrOrStderr(), 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		where := ""
		if f.Fenced {
			where = "in a fence"
		}
		fmt.Fprintf(t, "%d+%d\t%s\t%s\t%s\t%s\n", f.Offset, f.Length, f.Class, f.Rule, f.Action, where)
	}
	return t.Flush()
}
