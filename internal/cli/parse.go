package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse/proxy/sanitize"
)

func newParse(w world) *cobra.Command {
	p := &parser{world: w, form: formTable}
	cmd := &cobra.Command{
		Use:   "parse KIND [--lenient]",
		Short: "Check an answer against one of the three structures",
		Long: "parse reads an answer from standard input, takes the first complete JSON value in it,\n" +
			"which may stand in a fence or in prose, and prints it if it is a valid KIND: synthesis,\n" +
			"patterns or consensus. All that is wrong is said on stderr, one a line, with a JSON\n" +
			"pointer to where. With -o json it prints {valid, value?, faults} instead.\n" + exitCodes,
		Example: "  gatehouse parse synthesis < answer.txt",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE:    p.run,
	}
	f := cmd.Flags()
	f.BoolVar(&p.lenient, "lenient", false, "drop members that are not known")
	f.VarP(&p.form, "output", "o", "table or json")
	return cmd
}

type parser struct {
	world
	lenient bool
	form    form
}

// parsed is what -o json prints.
type parsed struct {
	Valid  bool             `json:"valid"`
	Value  json.RawMessage  `json:"value,omitempty"`
	Faults []sanitize.Fault `json:"faults"`
}

func (p *parser) run(cmd *cobra.Command, args []string) error {
	kind, err := sanitize.ParseKind(args[0])
	if err != nil {
		return usageError{err}
	}
	text, err := p.input()
	if err != nil {
		return err
	}
	answer, err := sanitize.Parse(kind, text, sanitize.Options{Lenient: p.lenient})
	bad, invalid := errors.AsType[*sanitize.InvalidError](err)
	if err != nil && !invalid {
		return err
	}
	if invalid {
		return p.refuse(cmd, bad)
	}
	if p.form == formJSON {
		return printJSON(cmd.OutOrStdout(), parsed{Valid: true, Value: json.RawMessage(answer.JSON), Faults: []sanitize.Fault{}}, "  ")
	}
	return printJSON(cmd.OutOrStdout(), json.RawMessage(answer.JSON), "  ")
}

// refuse says what is wrong. Names that an answer chose may be anything.
func (p *parser) refuse(cmd *cobra.Command, bad *sanitize.InvalidError) error {
	if p.form == formJSON {
		if err := printJSON(cmd.OutOrStdout(), parsed{Faults: bad.Faults}, "  "); err != nil {
			return err
		}
	} else {
		for _, f := range bad.Faults {
			fmt.Fprintln(cmd.ErrOrStderr(), plain(fmt.Sprintf("%q: %s (%s)", f.Pointer, f.Message, f.Code)))
		}
	}
	return fmt.Errorf("not a valid %s", bad.Kind)
}
