package snapshot

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/revision"
	"gatehouse/internal/token"
	"gatehouse/policies"
	"gatehouse/proxy/llm"
	"gatehouse/proxy/sanitize"
)

// TestListsAgree holds the names that the configuration accepts against those
// that the packages of the Exchange know: their errors list them.
func TestListsAgree(t *testing.T) {
	t.Parallel()
	_, context := sanitize.ParseContext("?")
	_, class := sanitize.ParseClass("?")
	_, action := sanitize.ParseAction("?")
	_, kind := sanitize.ParseKind("?")
	for name, c := range map[string]struct {
		known error
		list  []string
	}{
		"contexts": {context, config.Contexts()}, "classes": {class, config.Classes()},
		"actions": {action, config.Actions()}, "parsers": {kind, config.Parsers()},
	} {
		if want := " is not one of " + strings.Join(c.list, ", "); !strings.HasSuffix(fmt.Sprint(c.known), want) {
			t.Errorf("%s: the configuration has%s, the package says %v", name, want, c.known)
		}
	}
	want := []string{string(llm.OpenAI), string(llm.Anthropic)}
	if diff := cmp.Diff(want, config.Formats()); diff != "" {
		t.Errorf("formats (-package +configuration):\n%s", diff)
	}
	want = []string{
		llm.UnboundedServerTools, llm.UnboundedStored, llm.UnboundedFiles, llm.UnboundedURLs,
		llm.UnboundedPrediction, llm.UnboundedAudio, llm.UnboundedFallbacks, llm.UnboundedParts,
	}
	if diff := cmp.Diff(want, config.UnboundedMembers()); diff != "" {
		t.Errorf("unbounded members (-package +configuration):\n%s", diff)
	}
}

const llmSet = `
upstreams: {ai: {url: "https://ai.example", format: anthropic}, app: {url: "http://127.0.0.1:9000"}}
routes:
  - {name: plain, match: {listener: inbound, path: /plain}, upstream: app, principal: none}
  - {name: bare, match: {listener: outbound, path: /bare, methods: [POST]}, upstream: ai, permission: task.create, llm: {}}
  - {name: some, match: {listener: outbound, path: /some, methods: [POST]}, upstream: ai, permission: task.create, llm: {models: {allow: ["a*"]}, sanitize: {tool_call: tool_call}}}
  - name: all
    match: {listener: outbound, path: /all, methods: [POST]}
    upstream: ai
    permission: task.create
    llm: {sanitize: {content: markdown, reasoning: prose, tool_call: tool_call, actions: {destructive_sql: redact, unicode_tags: off}, image_origins: ["https://img.example"]}}
  - name: watched
    match: {listener: outbound, path: /watched, methods: [POST]}
    upstream: ai
    permission: task.create
    mode: observe
    llm: {sanitize: {content: markdown, tool_call: tool_call, actions: {unicode_tags: off}}}
`

// buildSet compiles a set with the shipped Rego.
func buildSet(t *testing.T, set string) (*Snapshot, error) {
	t.Helper()
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	if err != nil {
		t.Fatal(err)
	}
	sc, err := config.ParseSidecar("sidecar.yaml", []byte(`
name: test
principal: {subject: s, tenant: t}
socket: /run/gatehouse/gate.sock
state_dir: /var/lib/gatehouse
listeners: {inbound: {address: "127.0.0.1:8080"}, outbound: {address: "127.0.0.1:8081"}}
`))
	if err != nil {
		t.Fatal(err)
	}
	files := revision.Files{revision.ConfigFile: []byte(set), "authz.rego": rego}
	return NewBuilder(sc, token.NewKeys(token.KeysOptions{}), nil).Build(t.Context(), files)
}

func routeOf(t *testing.T, s *Snapshot, name string) *Route {
	t.Helper()
	r := s.routes[name]
	if found, ok := s.Route(name, r.Shape); !ok || found != r {
		t.Fatalf("no route %s", name)
	}
	return r
}

// A route has a scanner for each field that it names, and each does what the
// route says.
func TestSanitizersAreCompiled(t *testing.T) {
	t.Parallel()
	s, err := buildSet(t, llmSet)
	if err != nil {
		t.Fatal(err)
	}
	for name, format := range map[string]llm.Format{"plain": "", "bare": llm.Anthropic} {
		if r := routeOf(t, s, name); r.Sanitizers != nil || r.Format != format {
			t.Errorf("%s: format %q, sanitizers %v", name, r.Format, r.Sanitizers)
		}
	}
	if some := routeOf(t, s, "some").Sanitizers; some.Content != nil || some.Reasoning != nil || some.ToolCall == nil {
		t.Errorf("some: %+v", some)
	}
	all, watched := routeOf(t, s, "all").Sanitizers, routeOf(t, s, "watched").Sanitizers
	const drop, tags = "DROP TABLE users", "a\U000e0041b"
	for name, c := range map[string]struct {
		scanner *sanitize.Scanner
		text    string
		action  sanitize.Action // of the first finding; Off for none
	}{
		"changed by the route":    {all.Content, drop, sanitize.Redact},
		"changed for all fields":  {all.Reasoning, drop, sanitize.Redact},
		"the context's":           {all.ToolCall, `{"html":"<script>x</script>"}`, sanitize.Block},
		"switched off":            {all.Content, tags, sanitize.Off},
		"an image elsewhere":      {all.Content, "![x](https://evil.example/a.png)", sanitize.Defang},
		"an image of the origin":  {all.Content, "![x](https://img.example/a.png)", sanitize.Off},
		"observed":                {watched.Content, drop, sanitize.Flag},
		"observed, would block":   {watched.ToolCall, drop, sanitize.Flag},
		"observed, though off":    {watched.Content, tags, sanitize.Off},
		"observed, also an image": {watched.Content, "![x](https://evil.example/a.png)", sanitize.Flag},
	} {
		clean, findings, blocked := c.scanner.Text(c.text)
		got := sanitize.Off
		if len(findings) > 0 {
			got = findings[0].Action
		}
		passes := c.action == sanitize.Off || c.action == sanitize.Flag
		if got != c.action || (clean == c.text) != passes || blocked != (c.action == sanitize.Block) {
			t.Errorf("%s: %v, sends %q, blocked %t; want %v", name, got, clean, blocked, c.action)
		}
	}
}

// What the configuration accepts, and a Scanner does not, is a fault of the set.
func TestUnfitSanitizersAreFaults(t *testing.T) {
	t.Parallel()
	sanitized := func(s config.Sanitize) *Route {
		return &Route{Route: config.Route{Name: "r", LLM: &config.LLM{Sanitize: s}}}
	}
	for want, s := range map[string]config.Sanitize{
		`routes[0].llm.sanitize: context "sql"`: {Content: "sql"},
		`class "spam"`:                          {Reasoning: "prose", Actions: map[string]string{"spam": "off"}},
		`action "drop"`:                         {ToolCall: "prose", Actions: map[string]string{"control": "drop"}},
		`"img.example" is not an origin`:        {Content: "markdown", ImageOrigins: []string{"img.example"}},
	} {
		r := sanitized(s)
		err := compileSanitizers(map[string]*Route{"r": r}, []config.Route{r.Route})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMatchesModel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		models, yes, no string
	}{
		{"", "a gpt-4o", ""},
		{"gpt-4o", "gpt-4o", "gpt-4 gpt-4o-mini GPT-4o xgpt-4o"},
		{"gpt-*", "gpt- gpt-4o gpt-*", "gpt agpt-4"},
		{"*", "a", ""},
		{"*-mini", "gpt-4o-mini -mini a-mini-mini", "gpt-4o-mini-2024 mini"},
		{"claude-*-sonnet-*", "claude-3-sonnet-1 claude-sonnet-sonnet-", "claude-sonnet-4 claude-3-sonnet"},
		{"a**b", "ab axb", "a b abc"},
		{"a b*", "a b b2", "a2"},
	} {
		r := &Route{Route: config.Route{LLM: &config.LLM{Models: strings.Fields(c.models)}}}
		for name := range strings.FieldsSeq(c.yes) {
			if !r.MatchesModel(name) {
				t.Errorf("%q does not allow %q", c.models, name)
			}
		}
		for name := range strings.FieldsSeq(c.no) {
			if r.MatchesModel(name) {
				t.Errorf("%q allows %q", c.models, name)
			}
		}
	}
	if (&Route{}).MatchesModel("a") {
		t.Error("a plain route allows a model")
	}
}

// The model is a regular expression.
func FuzzMatches(f *testing.F) {
	for _, seed := range [][2]string{{"a*b", "axxb"}, {"*a*", "bab"}, {"**", ""}, {"a", "A"}, {"*ab*ab", "abab"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")
		re, err := regexp.Compile("^(?s:" + quoted + ")$")
		if err != nil {
			t.Skip("no pattern of the model: not UTF-8")
		}
		if !strings.Contains(pattern+s, "\ufffd") && strings.ToValidUTF8(s, "") == s && matches(pattern, s) != re.MatchString(s) {
			t.Errorf("%q and %q: got %t", pattern, s, matches(pattern, s))
		}
	})
}

// The work is bounded also where every * fails late.
func BenchmarkMatches(b *testing.B) {
	pattern, s := strings.Repeat("*a", 64)+"b", strings.Repeat("a", llm.MaxModelBytes)
	b.ReportAllocs()
	for b.Loop() {
		if matches(pattern, s) {
			b.Fatal("matches")
		}
	}
}
