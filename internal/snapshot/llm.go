package snapshot

import (
	"errors"
	"fmt"
	"slices"

	"gatehouse/internal/config"
	"gatehouse/proxy/sanitize"
)

// Sanitizers are what judges the texts of a route's answers. Nil lets a text
// pass as it is.
type Sanitizers struct {
	Content, Reasoning, ToolCall *sanitize.Scanner
}

// MatchesModel reports whether the route allows a model of that name, in the
// very letters. A route that is none of a language model allows none.
func (r *Route) MatchesModel(name string) bool {
	return r.LLM != nil && (len(r.LLM.Models) == 0 || MatchesAny(r.LLM.Models, name))
}

// MatchesAny reports whether any of the patterns, in which * stands for any
// run of bytes, is a model's name.
func MatchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// matches compares with a pattern in which * stands for any run of bytes, also
// for none. It goes back to the last * only, so that the work is bounded by the
// product of the lengths.
func matches(pattern, s string) bool {
	p, star, from := 0, -1, 0
	for i := 0; i < len(s); {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// compileSanitizers makes the scanners of all routes. The error joins the
// faults of all.
func compileSanitizers(routes map[string]*Route, order []config.Route) error {
	var faults []error
	for i := range order {
		r := routes[order[i].Name]
		if r.LLM == nil || !r.LLM.Sanitize.On() {
			continue
		}
		var err error
		if r.Sanitizers, err = newSanitizers(&r.LLM.Sanitize, r.Mode); err != nil {
			faults = append(faults, fmt.Errorf("routes[%d].llm.sanitize: %w", i, err))
		}
	}
	return errors.Join(faults...)
}

func newSanitizers(c *config.Sanitize, mode config.Mode) (*Sanitizers, error) {
	s := &Sanitizers{}
	return s, errors.Join(
		compileScanner(&s.Content, c.Content, c, mode),
		compileScanner(&s.Reasoning, c.Reasoning, c, mode),
		compileScanner(&s.ToolCall, c.ToolCall, c, mode),
	)
}

// compileScanner makes the scanner of one field; a context of "" needs none.
func compileScanner(field **sanitize.Scanner, context string, c *config.Sanitize, mode config.Mode) error {
	if context == "" {
		return nil
	}
	parsed, err := sanitize.ParseContext(context)
	if err != nil {
		return err
	}
	actions, err := actionsOf(parsed, c.Actions)
	if err != nil {
		return err
	}
	if mode == config.Observe {
		observed(actions)
	}
	*field, err = sanitize.New(sanitize.Config{Context: parsed, Actions: actions, ImageOrigins: c.ImageOrigins})
	return err
}

// actionsOf are the actions of a context with a route's changes.
func actionsOf(context sanitize.Context, changes map[string]string) (map[sanitize.Class]sanitize.Action, error) {
	actions := sanitize.DefaultActions(context)
	for name, what := range changes {
		class, err := sanitize.ParseClass(name)
		if err != nil {
			return nil, err
		}
		if actions[class], err = sanitize.ParseAction(what); err != nil {
			return nil, err
		}
	}
	return actions, nil
}

// observed makes every action one that only reports.
func observed(actions map[sanitize.Class]sanitize.Action) {
	for class, action := range actions {
		if action != sanitize.Off {
			actions[class] = sanitize.Flag
		}
	}
}
