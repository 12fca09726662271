package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gatehouse/internal/devstack"
)

// Options of a demo.
type Options struct {
	Exit  bool      // end after the table
	Out   io.Writer // the table
	Notes io.Writer // what the stack has to say; nil discards
	Color bool      // marks in color
}

// Run shows the demo on a stack of its own. With Exit, its error says how many
// rows were not as expected; without, it leaves the stack up until ctx ends.
func Run(ctx context.Context, o Options) error {
	s, err := devstack.Start(ctx, devstack.Options{Out: o.Notes, Sidecars: 2})
	if err != nil {
		return err
	}
	return errors.Join(show(ctx, o, s), s.Stop())
}

func show(ctx context.Context, o Options, s *devstack.Stack) error {
	fmt.Fprintln(o.Out, s.Summary())
	p, err := newProbe(s)
	if err != nil {
		return err
	}
	bad, err := runRows(ctx, p, rows(o.Exit), table{out: o.Out, color: o.Color})
	if err != nil {
		return err
	}
	if o.Exit {
		return failure(bad)
	}
	if err := failure(bad); err != nil {
		fmt.Fprintln(o.Out, err)
	}
	fmt.Fprintf(o.Out, "\nStill up:\n%s", s.Summary())
	return s.Wait(ctx)
}

func failure(bad int) error {
	if bad == 0 {
		return nil
	}
	return fmt.Errorf("%d rows are not as expected; they are marked above", bad)
}

// runRows runs all rows and returns how many are not as expected. Its error is
// ctx's.
func runRows(ctx context.Context, p *probe, rows []row, t table) (bad int, err error) {
	t.head()
	for i, r := range rows {
		o := r.run(ctx, p)
		if ctx.Err() != nil {
			return bad, ctx.Err()
		}
		t.row(i+1, r, o)
		if o.fault != nil {
			bad++
		}
	}
	t.foot(len(rows), bad)
	return bad, nil
}

// row is one claim: what is tried, and what must come of it.
type row struct {
	what string // what is tried
	want want
	why  string // in plain words

	prepare func(context.Context, *probe) (note string, err error) // nil: nothing
	send    func(context.Context, *probe) (answer, error)
	check   func(answer) error // beyond want; nil: nothing
}

// want is what every row says of its request.
type want struct {
	status  int
	code    string // error_code; "" for an answer of the upstream
	reached int64  // requests that the upstream counted
}

// outcome is what came of a row.
type outcome struct {
	answer  answer
	reached int64
	note    string // of prepare, and of the answer
	fault   error  // nil: as expected
}

// run sends the row's request between two looks at the upstream's counter.
func (r row) run(ctx context.Context, p *probe) (o outcome) {
	if r.prepare != nil {
		if o.note, o.fault = r.prepare(ctx, p); o.fault != nil {
			return o
		}
	}
	before, err := p.total(ctx)
	if err != nil {
		o.fault = err
		return o
	}
	o.answer, o.fault = r.send(ctx, p)
	o.note = together(o.note, o.answer.note)
	if o.fault != nil {
		return o
	}
	after, err := p.total(ctx)
	o.reached = after - before
	o.fault = errors.Join(err, r.want.compare(o))
	if r.check != nil {
		o.fault = errors.Join(o.fault, r.check(o.answer))
	}
	return o
}

// together joins the notes that there are.
func together(notes ...string) string {
	return strings.Join(slices.DeleteFunc(notes, func(n string) bool { return n == "" }), "; ")
}

func (w want) compare(o outcome) error {
	var errs []error
	if o.answer.status != w.status || o.answer.code != w.code {
		errs = append(errs, fmt.Errorf("expected %s", answer{status: w.status, code: w.code}))
	}
	if o.reached != w.reached {
		errs = append(errs, fmt.Errorf("the upstream counted %d requests, expected %d", o.reached, w.reached))
	}
	return errors.Join(errs...)
}
