package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"gatehouse/internal/config"
	"gatehouse/internal/revision"
	"gatehouse/policies"
)

// Bounds of the Rego of one set that is compiled here, tests included. They are
// narrower than what may be sent to a sidecar: the compiler can't be stopped,
// and takes far more than linear time.
//
// They bound the damage, they don't promise a time: the slowest set found within
// them took two cores 13 seconds and 150 MiB, and is compiled twice, once to be
// evaluated and once to be tested. The shipped policy takes milliseconds.
const (
	maxRegoBytes = 1 << 20
	maxRules     = 5000
	maxWork      = 10_000_000 // as policies.Size has it: 5000 rules of 44 parts, or one of 3162
)

// Findings are what Check found out about a policy set.
type Findings struct {
	Faults []Fault         // none: the set is good
	Tests  policies.Report // of the set's own tests, as far as they could run
}

// Check looks at a policy set as a sidecar does, runs its tests, and says all
// that is wrong at once. Its error is ctx's.
//
// It runs the set's Rego. Evaluating ends with ctx; compiling does not, and
// takes what the bounds of its Rego let it.
func Check(ctx context.Context, files revision.Files) (Findings, error) {
	f := Findings{Faults: shape(files)}
	if slices.ContainsFunc(f.Faults, func(f Fault) bool { return f.Code == TooLarge }) {
		return f, nil // too much to look at
	}
	set, src := f.config(files), policies.Source(files)
	if tooMuch := tooMuchRego(src); len(tooMuch) > 0 {
		f.add(tooMuch...)
		return f, nil
	}
	err := f.rego(ctx, src, set)
	return f, err
}

func (f *Findings) add(faults ...Fault) { f.Faults = append(f.Faults, faults...) }

// config reads gatehouse.yaml; nil if it can't be read.
func (f *Findings) config(files revision.Files) *config.PolicySet {
	text := files[revision.ConfigFile]
	if text == nil {
		return nil // shape says so
	}
	set, err := config.ParseSet(revision.ConfigFile, text)
	if err == nil {
		return set
	}
	if list, ok := errors.AsType[config.Faults](err); ok {
		f.add(configFaults(list)...)
	} else {
		f.add(Fault{File: revision.ConfigFile, Code: ConfigInvalid, Message: err.Error()})
	}
	return nil
}

// rego compiles the Rego with the set's own options, where they could be read,
// and runs the tests. Rego that does not compile has no tests to run: they
// would say the same again.
func (f *Findings) rego(ctx context.Context, src policies.Source, set *config.PolicySet) error {
	if set != nil {
		p := set.Policy
		if _, err := policies.Compile(ctx, src, policies.Options{Entry: p.Entry, Timeout: p.Timeout, ExposeToken: p.ExposeToken}); err != nil {
			return f.regoError(ctx, err)
		}
	}
	var err error
	if f.Tests, err = policies.Test(ctx, src); err != nil {
		return f.regoError(ctx, err)
	}
	f.add(testFaults(f.Tests)...)
	return nil
}

// regoError adds what err says of the Rego, or returns it if it says nothing.
func (f *Findings) regoError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	list, ok := errors.AsType[policies.Faults](err)
	switch {
	case ok:
		f.add(regoFaults(list)...)
	case errors.Is(err, policies.ErrTestsTimedOut):
		f.add(Fault{Code: TestFailed, Message: err.Error()})
	default:
		f.add(Fault{Code: RegoInvalid, Message: err.Error()})
	}
	return nil
}

// tooMuchRego says whether compiling a set's Rego would take too much. Rego that
// can't be parsed is none of that: it does not get to be compiled.
func tooMuchRego(src policies.Source) []Fault {
	if n := policies.RegoBytes(src); n > maxRegoBytes {
		return []Fault{{Code: TooLarge, Message: fmt.Sprintf("the set has %d bytes of Rego, at most %d are compiled", n, maxRegoBytes)}}
	}
	size, err := policies.Measure(src)
	switch {
	case err != nil:
		return nil
	case size.Rules > maxRules:
		return []Fault{{Code: TooLarge, Message: fmt.Sprintf("the set has %d rules of Rego, at most %d are compiled", size.Rules, maxRules)}}
	case size.Work > maxWork:
		l := size.Largest
		return []Fault{{l.File, l.Line, l.Col, TooLarge, "the rules are too long to be compiled; the longest: " + l.Message}}
	}
	return nil
}

// shape says what is wrong with a set by names and sizes alone.
func shape(files revision.Files) (faults []Fault) {
	if files[revision.ConfigFile] == nil {
		faults = append(faults, Fault{File: revision.ConfigFile, Code: ConfigInvalid, Message: "is missing"})
	}
	if len(files) > revision.MaxFiles {
		return append(faults, Fault{Code: TooLarge, Message: revision.Check(withConfig(files)).Error()})
	}
	good := revision.Files{}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if f, ok := fileFault(p, files[p]); !ok {
			faults = append(faults, f)
		} else {
			good[p] = files[p]
		}
	}
	// INVARIANT: each file for itself may be sent, so that only the size of all
	// is left to be wrong.
	if _, err := revision.Encode(withConfig(good)); err != nil {
		faults = append(faults, Fault{Code: TooLarge, Message: err.Error()})
	}
	return faults
}

// fileFault says what is wrong with one file of a set. A path that is not UTF-8
// would come back from a bundle as another.
func fileFault(p string, text []byte) (Fault, bool) {
	if !utf8.ValidString(p) {
		return Fault{File: p, Code: ConfigInvalid, Message: "the path is not UTF-8"}, false
	}
	err := revision.Check(withConfig(revision.Files{p: text}))
	switch {
	case err == nil:
		return Fault{}, true
	case len(text) > revision.MaxFileBytes:
		return Fault{File: p, Code: TooLarge, Message: err.Error()}, false
	}
	return Fault{File: p, Code: ConfigInvalid, Message: err.Error()}, false
}

// withConfig is files, and an empty configuration where they have none.
func withConfig(files revision.Files) revision.Files {
	all := revision.Files{revision.ConfigFile: {}}
	maps.Copy(all, files)
	if all[revision.ConfigFile] == nil {
		all[revision.ConfigFile] = []byte{}
	}
	return all
}
