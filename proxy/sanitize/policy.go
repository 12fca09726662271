package sanitize

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Context is the kind of place that a text goes to.
type Context uint8

// The contexts.
const (
	Prose     Context = iota // plain text for people
	Markdown                 // text that is rendered; code in fences is only flagged
	JSONField                // a string within a structure that a program reads
	ToolCall                 // the JSON arguments of a call that a program will make
	numContexts
)

// Class is a kind of dangerous text.
type Class uint8

// The classes. The zero Class is none.
const (
	DestructiveSQL   Class = iota + 1 // DROP, TRUNCATE, DELETE FROM, ALTER … DROP
	ExecutableHTML                    // tags and attributes that run code, script URLs
	Control                           // other control characters, bidi overrides, broken UTF-8
	UnicodeTags                       // invisible tag characters (U+E0000 to U+E007F)
	ExternalImage                     // images of an origin that is not listed
	SQLBreakout                       // what ends a quoted value of a statement and goes on as SQL
	CommandInjection                  // what ends an argument of a shell and goes on as a command
	PathTraversal                     // paths that lead out of a folder
	AnsiEscape                        // what a terminal takes for a command (ECMA-48): ESC, CSI, OSC, DCS
	ExternalLink                      // links to an origin that is not listed
	numClasses
)

// Action is what happens to a match.
type Action uint8

// The actions, from mild to strict.
const (
	Off    Action = iota // the class is not looked for
	Flag                 // reported, and sent as it is
	Defang               // made harmless by insertion or escape, and readable still
	Redact               // replaced
	Block                // the text ends before it
	numActions
)

func contextNames() []string { return []string{"prose", "markdown", "json_field", "tool_call"} }

func classNames() []string {
	return []string{
		"", "destructive_sql", "executable_html", "control", "unicode_tags", "external_image",
		"sql_breakout", "command_injection", "path_traversal", "ansi_escape", "external_link",
	}
}

func actionNames() []string { return []string{"off", "flag", "defang", "redact", "block"} }

// String is the name in configuration.
func (c Context) String() string { return contextNames()[c] }

// String is the name in configuration.
func (c Class) String() string { return classNames()[c] }

// String is the name in configuration.
func (a Action) String() string { return actionNames()[a] }

// MarshalText is the name.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText is the name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// ParseContext reads a context's name.
func ParseContext(name string) (Context, error) {
	i, err := parseName("context", name, contextNames())
	return Context(i), err
}

// ParseClass reads a class's name.
func ParseClass(name string) (Class, error) {
	i, err := parseName("class", name, classNames()[1:])
	return Class(i + 1), err
}

// ParseAction reads an action's name.
func ParseAction(name string) (Action, error) {
	i, err := parseName("action", name, actionNames())
	return Action(i), err
}

func parseName(what, name string, names []string) (int, error) {
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("%s %q is not one of %s", what, name, strings.Join(names, ", "))
	}
	return i, nil
}

// MaxOrigins bounds the origins that a Config may list.
const MaxOrigins = 64

// maxOrigin bounds the bytes of one origin: a host name has at most 253.
const maxOrigin = 280

// Config says what a Scanner does.
type Config struct {
	Context Context
	// Actions are those that differ from the context's (DefaultActions).
	Actions map[Class]Action
	// ImageOrigins are the origins (scheme://host[:port], http or https) whose
	// images, and links, are not external. At most MaxOrigins.
	ImageOrigins []string
}

// DefaultActions are the actions of a context.
//
// A program that acts on the text gets nothing that was altered, so that a tool
// call is blocked. People get text that they can read: what only harms in a
// statement, a command or a path of somebody else's making is flagged there, as
// texts about programs are full of it. Links are for the operator to forbid.
func DefaultActions(c Context) map[Class]Action {
	always, injected, image := Defang, Flag, Off // nothing renders the images of plain text
	switch c {
	case Markdown:
		image = Defang
	case JSONField:
		injected = Defang
	case ToolCall:
		always, injected, image = Block, Block, Block
	}
	return map[Class]Action{
		DestructiveSQL: always, ExecutableHTML: always, Control: always, UnicodeTags: always, AnsiEscape: always,
		SQLBreakout: injected, CommandInjection: injected, PathTraversal: injected,
		ExternalImage: image, ExternalLink: Off,
	}
}

// Scanner is a set of rules, ready for use. It may be used concurrently.
type Scanner struct {
	words    *words
	folds    *folds
	names    *names
	bytes    *[256]symbol // classes of bytes; slowByte for those that need a look
	context  Context
	actions  [numClasses]Action
	origins  []string // host[:port], in lower case
	secure   uint64   // bits of those that are https
	insecure uint64   // bits of those that are http
}

// New checks c and makes a Scanner. The error joins all faults.
func New(c Config) (*Scanner, error) {
	if c.Context >= numContexts {
		return nil, fmt.Errorf("context %d is unknown", c.Context)
	}
	s := &Scanner{words: wordTables(), folds: foldTables(), names: nameTree(), context: c.Context}
	if c.Context == ToolCall {
		s.words = callTables()
	}
	s.bytes = byteClasses(c.Context)
	return s, errors.Join(s.setActions(c.Actions), s.setOrigins(c.ImageOrigins))
}

func (s *Scanner) setActions(changes map[Class]Action) error {
	actions := DefaultActions(s.context)
	maps.Copy(actions, changes)
	for class, action := range actions {
		if class == 0 || class >= numClasses || action >= numActions {
			return fmt.Errorf("action %d of class %d is unknown", action, class)
		}
		s.actions[class] = action
	}
	return nil
}

func (s *Scanner) setOrigins(origins []string) error {
	if len(origins) > MaxOrigins {
		return fmt.Errorf("%d origins are more than %d", len(origins), MaxOrigins)
	}
	var faults []error
	for i, text := range origins {
		scheme, host, err := splitOrigin(text)
		faults = append(faults, err)
		s.origins = append(s.origins, host)
		if scheme == "https" {
			s.secure |= 1 << i
		} else {
			s.insecure |= 1 << i
		}
	}
	return errors.Join(faults...)
}

func splitOrigin(text string) (scheme, host string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || len(text) > maxOrigin || u.Scheme != "http" && u.Scheme != "https" || u.Scheme+"://"+u.Host != text {
		return "", "", fmt.Errorf("%q is not an origin like https://images.example", text)
	}
	return u.Scheme, strings.ToLower(u.Host), nil
}

// strict reports whether nobody writes prose there, so that less evidence will do.
func (s *Scanner) strict() bool { return s.context == ToolCall }

// acts reports whether a class is looked for.
func (s *Scanner) acts(c Class) bool { return s.actions[c] != Off }
