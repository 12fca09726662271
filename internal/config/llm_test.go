package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// llmRoutes returns a set with an upstream of a format, one without, and the
// given routes, each on a line of its own from line 3 on.
func llmRoutes(routes ...string) string {
	return "upstreams: {ai: {url: https://ai.example, format: openai}, app: {url: http://a.example}}\n" +
		"routes:\n" + "- {" + strings.Join(routes, "}\n- {") + "}\n"
}

// call is a route of kind call with further keys, free one of kind free.
func call(more string) string {
	return "name: r, upstream: ai, permission: task.create, match: {listener: outbound, path: /chat, methods: [POST]}, " + more
}

func free(more string) string {
	return "name: r, upstream: ai, permission: task.view, match: {listener: outbound, path: /list, methods: [GET]}, " + more
}

// callCol is the column of the first further key of call, llmCol that of the
// first key of its llm where that is the first.
var (
	callCol = len("- {"+call("")) + 1
	llmCol  = callCol + len("llm: {")
)

func TestLLMRoutes(t *testing.T) {
	t.Parallel()
	at := func(col int, message string) string { return fmt.Sprintf("f:3:%d: routes[0]%s", col, message) }
	match := func(m, more string) string {
		return llmRoutes("match: {" + m + "}, name: r, upstream: ai, permission: task.create, " + more)
	}
	checkRows(t, []row{
		{"defaults", llmRoutes(call("llm: {}")), nil},
		{"all keys", llmRoutes(call("llm: {kind: call, models: {allow: ['gpt-*', 'ft:gpt:a::b']}, max_output_tokens: 1000000, hold: adaptive, " +
			"unbounded: [urls, files], sanitize: {content: markdown, actions: {control: off}, image_origins: ['https://I.example:8443']}, " +
			"parser: consensus, unary_cap: 16MiB}, budget: none, max_stream: 24h, idle_timeout: 5m, mode: observe")), nil},
		{"inbound", match("listener: inbound, path: /chat, methods: [POST]", "llm: {}"), nil},
		{"free", llmRoutes(free("llm: {kind: free}, budget: none, max_stream: 1s, principal: none")), nil},
		{"no principal without a budget", llmRoutes(call("llm: {}, budget: none, principal: none")), nil},
		{"no format", llmRoutes(strings.Replace(call("llm: {}"), "upstream: ai", "upstream: app", 1)), []string{
			at(callCol+6, ".llm: needs an upstream with a format")}},
		{"no llm", llmRoutes(call("mode: enforce")), []string{
			`f:3:23: routes[0].upstream: "ai" has a format: only LLM routes lead there`}},
		{"no such upstream", llmRoutes(strings.Replace(call("llm: {}"), "upstream: ai", "upstream: an", 1)), []string{
			`f:3:23: routes[0].upstream: there is no upstream "an"`}},
		{"a format that is none", strings.Replace(llmRoutes(call("llm: {}")), "format: openai", "format: gemini", 1), []string{
			`f:1:51: upstreams.ai.format: "gemini" is not one of openai, anthropic`}},
		{"prefix", match("listener: outbound, prefix: /chat, methods: [POST]", "llm: {}"), []string{
			at(11, ".match: an LLM route needs an exact path")}},
		{"all methods", match("listener: outbound, path: /chat", "llm: {}"), []string{
			at(11, ".match: an LLM route needs methods: [POST]")}},
		{"more methods", match("listener: outbound, path: /chat, methods: [POST, GET]", "llm: {}"), []string{
			at(11, ".match: an LLM route needs methods: [POST]")}},
		{"free by POST", match("listener: outbound, path: /chat, methods: [POST]", "llm: {kind: free}"), []string{
			at(11, ".match: an LLM route with kind: free needs methods, of GET and HEAD")}},
		{"free by all methods", match("listener: outbound, path: /chat", "llm: {kind: free}"), []string{
			at(11, ".match: an LLM route with kind: free needs methods, of GET and HEAD")}},
		{"a match with faults", match("listener: outbound, path: chat", "llm: {}"), []string{
			at(38, ".match.path: must begin with / and have at most 1024 bytes")}},
		{"a kind that is none", match("listener: outbound, path: /chat, methods: [GET]", "llm: {kind: paid, hold: full}, budget: required"), []string{
			`f:3:122: routes[0].llm.kind: "paid" is not one of call, free`}},
		{"nobody pays", llmRoutes(call("llm: {}, principal: none")), []string{
			at(callCol+20, ".principal: none has no budget; budget: required needs a principal")}},
		{"no permission", llmRoutes(strings.Replace(call("llm: {}"), "permission: task.create, ", "", 1)), []string{
			at(3, `: "permission" is missing; only exempt routes and principal: none go without`)}},
		{"without effect", llmRoutes(call("llm: {}, body: 1KiB, forward_token: false, timeout: 15s")), []string{
			at(callCol+15, ".body: has no effect on an LLM route"),
			at(callCol+36, ".forward_token: has no effect on an LLM route"),
			at(callCol+52, ".timeout: has no effect on an LLM route, which idle_timeout and max_stream end")}},
		{"exempt", llmRoutes("exempt: true, name: r, upstream: ai, match: {listener: inbound, path: /chat}, llm: {}, budget: none, max_stream: 1m"), []string{
			at(87, ".llm: has no effect on an exempt route"),
			at(99, ".budget: has no effect on an exempt route"),
			at(117, ".max_stream: has no effect on an exempt route")}},
		{"exempt to a format", llmRoutes("exempt: true, name: r, upstream: ai, match: {listener: inbound, path: /chat}"), []string{
			`f:3:37: routes[0].upstream: "ai" has a format: only LLM routes lead there`}},
		{"keys of LLM routes on another", llmRoutes("name: r, upstream: app, permission: task.view, match: {listener: inbound, path: /}, budget: none, max_stream: 1h"), []string{
			at(96, ".budget: is for LLM routes only"), at(114, ".max_stream: is for LLM routes only")}},
		{"free, and more", llmRoutes(free("llm: {kind: free, hold: full, parser: ''}, budget: required")), []string{
			at(132, ".llm.hold: has no effect with kind: free"),
			at(146, ".llm.parser: has no effect with kind: free"),
			at(159, ".budget: there is nothing to pay with kind: free")}},
	})
}

func TestLLMKeys(t *testing.T) {
	t.Parallel()
	at := func(col int, message string) string {
		return fmt.Sprintf("f:3:%d: routes[0].llm%s", llmCol+col, message)
	}
	llm := func(l string) string { return llmRoutes(call("llm: {" + l + "}")) }
	list := func(names []string) string { return strings.Join(names, ", ") }
	checkRows(t, []row{
		{"not a map", llmRoutes(call("llm: free")), []string{at(-1, ": must be a map, is text")}},
		{"unknown", llm("modles: 1"), []string{at(0, `: unknown key "modles", did you mean "models"?`)}},
		{"all wrong", llm("hold: half, max_output_tokens: 0, unbounded: [urls, all, urls], parser: xml, unary_cap: 17MiB"), []string{
			at(6, `.hold: "half" is not one of full, adaptive`),
			at(31, ".max_output_tokens: must be from 1 to 1000000"),
			at(52, `.unbounded[1]: "all" is not one of `+list(UnboundedMembers())),
			at(57, `.unbounded[2]: "urls" stands twice`),
			at(72, `.parser: "xml" is not one of synthesis, patterns, consensus`),
			at(88, ".unary_cap: must be from 1KiB to 16MiB")}},
		{"parser of a list", llm("parser: []"), []string{at(8, ".parser: must be text, is a list")}},
		{"no parser", llm("parser: ''"), nil},
		{"models without a list", llm("models: {}"), []string{at(8, `.models: "allow" is missing`)}},
		{"no model", llm("models: {allow: []}"), []string{at(16, ".models.allow: is an empty list")}},
		{"models", llm("models: {allow: ['a b', '', a, a]}"), []string{
			at(17, ".models.allow[0]: must be a model's name in printable ASCII without spaces, at most 256 bytes; * stands for any characters"),
			at(24, ".models.allow[1]: is empty"),
			at(31, `.models.allow[3]: "a" stands twice`)}},
		{"a long model", llm("models: {allow: [" + strings.Repeat("a", maxModel+1) + "]}"), []string{
			at(17, ".models.allow[0]: must be a model's name in printable ASCII without spaces, at most 256 bytes; * stands for any characters")}},
		{"nothing sanitized", llm("sanitize: {}"), []string{at(10, ".sanitize: needs at least one of content, reasoning and tool_call")}},
		{"actions for nothing", llm("sanitize: {actions: {control: off}}"), []string{
			at(10, ".sanitize: needs at least one of content, reasoning and tool_call")}},
		{"contexts", llm("sanitize: {content: sql, reasoning: 1, tool_call: prose}"), []string{
			at(20, `.sanitize.content: "sql" is not one of prose, markdown, json_field, tool_call`),
			at(36, ".sanitize.reasoning: must be text, is a number")}},
		{"actions", llm("sanitize: {content: prose, actions: {controls: off, control: drop, unicode_tags: 1}}"), []string{
			at(37, `.sanitize.actions.controls: "controls" is not one of `+list(Classes())),
			at(61, `.sanitize.actions.control: "drop" is not one of off, flag, defang, redact, block`),
			at(81, ".sanitize.actions.unicode_tags: must be text, is a number")}},
		{"no actions", llm("sanitize: {content: prose, actions: {}, image_origins: []}"), []string{
			at(36, ".sanitize.actions: is an empty map"), at(55, ".sanitize.image_origins: is an empty list")}},
		{"origins", llm("sanitize: {content: prose, image_origins: ['https://a.example/', 'HTTPS://a.example', 'ftp://a', 'https://u:p@a']}"), []string{
			at(43, ".sanitize.image_origins[0]: must be an origin such as https://images.example, without a path"),
			at(65, ".sanitize.image_origins[1]: must be an origin such as https://images.example, without a path"),
			at(86, ".sanitize.image_origins[2]: must begin with http:// or https://"),
			at(97, ".sanitize.image_origins[3]: must not carry user information")}},
		{"many origins", llm("sanitize: {content: prose, image_origins: [" + strings.Repeat("a, ", maxOrigins+1) + "]}"), []string{
			at(42, ".sanitize.image_origins: has more than 64 entries")}},
	})
}

func TestLLMIsRead(t *testing.T) {
	t.Parallel()
	set, err := ParseSet("f", []byte(llmRoutes(
		call("llm: {}"),
		"name: s, upstream: ai, permission: task.create, match: {listener: inbound, path: /s, methods: [POST]}, "+
			"llm: {models: {allow: [a, 'b*']}, max_output_tokens: 1, hold: adaptive, unbounded: [parts], parser: patterns, unary_cap: 1024, "+
			"sanitize: {content: prose, reasoning: json_field, tool_call: tool_call, actions: {control: off, unicode_tags: block}, image_origins: ['http://[::1]:8080']}}, "+
			"budget: none, max_stream: 1s",
		strings.Replace(free("llm: {kind: free}"), "name: r", "name: t", 1),
	)))
	if err != nil {
		t.Fatal(err)
	}
	want := []*LLM{
		{Kind: LLMCall, MaxOutputTokens: 4096, Hold: HoldFull, UnaryCap: 4 << 20},
		{Kind: LLMCall, Models: []string{"a", "b*"}, MaxOutputTokens: 1, Hold: HoldAdaptive, Unbounded: []string{"parts"}, Parser: "patterns", UnaryCap: 1024,
			Sanitize: Sanitize{Content: "prose", Reasoning: "json_field", ToolCall: "tool_call",
				Actions: map[string]string{"control": "off", "unicode_tags": "block"}, ImageOrigins: []string{"http://[::1]:8080"}}},
		{Kind: LLMFree, MaxOutputTokens: 4096, Hold: HoldFull, UnaryCap: 4 << 20},
	}
	budgets := []BudgetMode{BudgetRequired, BudgetNone, BudgetNone}
	streams := []time.Duration{30 * time.Minute, time.Second, 30 * time.Minute}
	for i, r := range set.Routes {
		if diff := cmp.Diff(want[i], r.LLM); diff != "" || r.Budget != budgets[i] || r.MaxStream != streams[i] || r.Timeout != 0 {
			t.Errorf("%s: budget %s, max_stream %s, timeout %s, llm: -want +got\n%s", r.Name, r.Budget, r.MaxStream, r.Timeout, diff)
		}
	}
	if s := set.Routes[0].LLM.Sanitize; s.On() || !set.Routes[1].LLM.Sanitize.On() {
		t.Errorf("sanitize is on: %t", s.On())
	}
}

// checkLLMRoute checks what holds for any route of a set without faults.
func checkLLMRoute(t *testing.T, r Route, u Upstream) {
	t.Helper()
	if (u.Format != "") != (r.LLM != nil) {
		t.Errorf("route %+v and an upstream with the format %q", r, u.Format)
	}
	if r.LLM == nil {
		return
	}
	l := r.LLM
	if r.Match.Path == "" || len(r.Match.Methods) == 0 || r.Exempt || r.Body != 0 || r.ForwardToken || r.Timeout != 0 ||
		r.MaxStream < time.Second || r.MaxStream > maxMaxStream || l.MaxOutputTokens < 1 || l.UnaryCap < 1 {
		t.Errorf("LLM route %+v with %+v", r, l)
	}
	if paid := r.Budget == BudgetRequired; paid && (r.Principal == PrincipalNone || l.Kind == LLMFree) {
		t.Errorf("nobody pays for %+v", r)
	}
	for class, action := range l.Sanitize.Actions {
		if !slices.Contains(Classes(), class) || !slices.Contains(Actions(), action) {
			t.Errorf("action %s of class %s", action, class)
		}
	}
}
