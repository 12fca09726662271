package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

const (
	// maxModel is the longest pattern of a model's name in bytes.
	maxModel = 256
	// maxOutputTokens is the largest output limit of a route.
	maxOutputTokens = 1_000_000
	// maxOrigins is how many origins of images one route may list.
	maxOrigins = 64
	// maxUnary is the largest JSON answer that a route may wait for.
	maxUnary = 16 * mib
	// maxMaxStream is the longest that one exchange may take.
	maxMaxStream = 24 * time.Hour
)

// The lists below are the names that the packages of the Exchange know. They
// stand here too, so that configuration is checked without them.

// Formats lists the wire formats of upstreams.
func Formats() []string { return []string{"openai", "anthropic"} }

// Contexts lists the places that a sanitized text can go to.
func Contexts() []string { return []string{"prose", "markdown", "json_field", "tool_call"} }

// Classes lists the kinds of dangerous text.
func Classes() []string {
	return []string{
		"destructive_sql", "executable_html", "control", "unicode_tags", "external_image",
		"sql_breakout", "command_injection", "path_traversal", "ansi_escape", "external_link",
	}
}

// Actions lists what can happen to dangerous text, from mild to strict.
func Actions() []string { return []string{"off", "flag", "defang", "redact", "block"} }

// Parsers lists the structures that an answer can be held against.
func Parsers() []string { return []string{"synthesis", "patterns", "consensus"} }

// UnboundedMembers lists what of a request has a cost that nothing bounds.
func UnboundedMembers() []string {
	return []string{"server_tools", "stored", "files", "urls", "prediction", "audio", "fallbacks", "parts"}
}

// readLLM fills in what only a route to a language model has.
func (r *draft) readLLM() {
	if !r.o.has("llm") {
		for _, key := range []string{"budget", "max_stream"} {
			if r.o.has(key) {
				r.o.fault(key, "is for LLM routes only")
			}
		}
		return
	}
	r.LLM = newLLM(r.o)
	r.Timeout = 0 // an answer takes as long as it takes
	r.MaxStream = r.o.duration("max_stream", 30*time.Minute, time.Second, maxMaxStream)
	r.readBudget()
	if !r.Exempt { // which is fault enough
		r.checkLLM()
	}
}

func newLLM(route object) *LLM {
	o := route.object("llm", schema{
		"kind": optional, "models": optional, "max_output_tokens": optional, "hold": optional,
		"unbounded": optional, "sanitize": optional, "parser": optional, "unary_cap": optional,
	})
	l := &LLM{
		Kind:            readLLMKind(o),
		Models:          readModels(o),
		MaxOutputTokens: int64(o.integer("max_output_tokens", 4096, 1, maxOutputTokens)),
		Hold:            HoldMode(text(o, "hold", string(HoldFull), keep(oneOf(string(HoldFull), string(HoldAdaptive))))),
		Unbounded:       o.texts("unbounded", len(UnboundedMembers()), oneOf(UnboundedMembers()...)),
		Sanitize:        readSanitize(o),
		Parser:          readParser(o),
		UnaryCap:        o.size("unary_cap", 4*mib, kib, maxUnary),
	}
	if l.Kind != LLMFree {
		return l
	}
	for key := range o.fields {
		if key != "kind" {
			o.fault(key, "has no effect with kind: %s", LLMFree)
		}
	}
	return l
}

// readLLMKind returns "" for a kind that is none, so that no further fault is
// found by it.
func readLLMKind(o object) LLMKind {
	if !o.has("kind") {
		return LLMCall
	}
	return LLMKind(text(o, "kind", "", keep(oneOf(string(LLMCall), string(LLMFree)))))
}

func readModels(llm object) []string {
	if !llm.has("models") {
		return nil
	}
	o := llm.object("models", schema{"allow": required})
	o.notEmpty("allow") // would allow all, which is what it looks least like
	return o.texts("allow", maxListed, checkModel)
}

func checkModel(s string) error {
	if len(s) > maxModel || !allIn(s, '!', '~') {
		return fmt.Errorf("must be a model's name in printable ASCII without spaces, at most %d bytes; * stands for any characters", maxModel)
	}
	return nil
}

// readParser takes the empty text for none, as nothing else here does: the
// design writes the key so.
func readParser(o object) string {
	if s, ok := o.fields["parser"].value.ast.(*ast.StringNode); ok && s.Value == "" {
		return ""
	}
	return text(o, "parser", "", keep(oneOf(Parsers()...)))
}

func readSanitize(llm object) Sanitize {
	if !llm.has("sanitize") {
		return Sanitize{}
	}
	o := llm.object("sanitize", schema{
		"content": optional, "reasoning": optional, "tool_call": optional, "actions": optional, "image_origins": optional,
	})
	if o.isMap && !o.has("content") && !o.has("reasoning") && !o.has("tool_call") {
		o.report.add(o.at, o.path, "needs at least one of content, reasoning and tool_call")
	}
	context := keep(oneOf(Contexts()...))
	o.notEmpty("image_origins")
	return Sanitize{
		Content:      text(o, "content", "", context),
		Reasoning:    text(o, "reasoning", "", context),
		ToolCall:     text(o, "tool_call", "", context),
		Actions:      readActions(o),
		ImageOrigins: o.texts("image_origins", maxOrigins, checkOrigin),
	}
}

// readActions reads a map of class to action.
func readActions(sanitize object) map[string]string {
	if !sanitize.has("actions") {
		return nil
	}
	actions := map[string]string{}
	for _, e := range sanitize.entries("actions", len(Classes())) {
		if err := oneOf(Classes()...)(e.key); err != nil {
			sanitize.report.add(e.at, e.value.path, "%v", err)
		}
		action, ok := textOf(sanitize.report, e.value)
		if err := oneOf(Actions()...)(action); ok && err != nil {
			sanitize.report.add(e.value.at, e.value.path, "%v", err)
		}
		actions[e.key] = action
	}
	sanitize.notEmpty("actions")
	return actions
}

// checkOrigin checks an origin of images and links (RFC 6454, 6.2).
func checkOrigin(s string) error {
	e, rest, err := parseEndpoint(s)
	if err != nil {
		return err
	}
	if rest != "" || !strings.HasPrefix(s, e.scheme+"://") {
		return errors.New("must be an origin such as https://images.example, without a path")
	}
	return nil
}

// readBudget reads whether calls need a budget. Without a body nothing is paid.
func (r *draft) readBudget() {
	missing := BudgetRequired
	if r.LLM.Kind == LLMFree {
		missing = BudgetNone
	}
	r.Budget = BudgetMode(text(r.o, "budget", string(missing), keep(oneOf(string(BudgetRequired), string(BudgetNone)))))
	if r.LLM.Kind == LLMFree && r.Budget == BudgetRequired {
		r.o.fault("budget", "there is nothing to pay with kind: %s", LLMFree)
	}
}

// checkLLM refuses what an Exchange could not police, and what would have no
// effect there.
func (r *draft) checkLLM() {
	if r.Match.Prefix != "" {
		r.o.fault("match", "an LLM route needs an exact path")
	}
	r.checkLLMMethods()
	if r.Principal == PrincipalNone && r.Budget == BudgetRequired {
		r.o.fault("principal", "%s has no budget; budget: required needs a principal", PrincipalNone)
	}
	for _, key := range []string{"body", "forward_token"} {
		if r.o.has(key) {
			r.o.fault(key, "has no effect on an LLM route")
		}
	}
	if r.o.has("timeout") {
		r.o.fault("timeout", "has no effect on an LLM route, which idle_timeout and max_stream end")
	}
}

// checkLLMMethods demands methods that tell whether there is a body: what has
// none gets no hold.
func (r *draft) checkLLMMethods() {
	if !r.whole {
		return
	}
	methods := r.Match.Methods
	switch r.LLM.Kind {
	case LLMCall:
		if !slices.Equal(methods, []string{"POST"}) {
			r.o.fault("match", "an LLM route needs methods: [POST]")
		}
	case LLMFree:
		if len(methods) == 0 || !containsAll([]string{"GET", "HEAD"}, methods) {
			r.o.fault("match", "an LLM route with kind: %s needs methods, of GET and HEAD", LLMFree)
		}
	}
}

// checkFormat holds a route against what its upstream speaks. All that is no
// LLM route would pass there without an Exchange.
func (r *draft) checkFormat(u Upstream) {
	switch {
	case u.Format == "" && r.o.has("llm"):
		r.o.fault("llm", "needs an upstream with a format")
	case u.Format != "" && !r.o.has("llm"):
		r.o.fault("upstream", "%s has a format: only LLM routes lead there", quote(r.Upstream))
	}
}
