package policies

import (
	"context"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"gatehouse/internal/request"
)

// The second question of a policy set, about a request to a language model whose
// body has been read. A set need not answer it.
const (
	llmEntry   = "data.gatehouse.llm"
	llmAllowed = llmEntry + ".allowed"
)

// noLLMPolicy is the rule id where a set does not answer the second question.
const noLLMPolicy = "no_llm_policy"

// LLMInput is a request to a language model as a policy sees it. DecideLLM reads
// it and keeps nothing of it. Strings may hold any bytes.
type LLMInput struct {
	Principal       request.Principal
	Route           string
	Listener        string
	Model           string // as the request names it
	Stream          bool   // the answer is to come as events
	MaxOutputTokens int64  // of one choice, as the upstream will be told
	Tools           bool   // the request has tools
	EstimatedTokens int64  // that would be held
}

// AsksLLM reports whether the policy set answers the second question.
func (e *Engine) AsksLLM() bool { return e.llm != nil }

// DecideLLM answers the second question, data.gatehouse.llm, within the engine's
// timeout or ctx's deadline as Decide does. Where the set does not answer it the
// request is allowed: Decide has allowed it before. Nothing is cached. Safe for
// concurrent use.
func (e *Engine) DecideLLM(ctx context.Context, in *LLMInput) Decision {
	if e.llm == nil {
		return Decision{Allowed: true, Class: Decided, RuleID: noLLMPolicy, Reason: "the policy set asks nothing more of this request"}
	}
	return e.llm.decide(ctx, in.document())
}

func (in *LLMInput) document() ast.Value {
	return ast.NewObject(
		member(namePrincipal, principal(&in.Principal)),
		text(nameRoute, in.Route),
		text(nameListener, in.Listener),
		text(nameModel, in.Model),
		member(nameStream, ast.InternedTerm(in.Stream)),
		member(nameMaxOutputTokens, integer(in.MaxOutputTokens)),
		member(nameTools, ast.InternedTerm(in.Tools)),
		member(nameEstimatedTokens, integer(in.EstimatedTokens)),
	)
}

// prepareLLM returns the second question, nil where the set does not answer it.
// A set that begins to and fails is refused: its author believes that requests
// are asked about.
func (p *parsed) prepareLLM(ctx context.Context, caps *ast.Capabilities, c *ast.Compiler, timeout time.Duration) (*question, error) {
	entry := ast.MustParseRef(llmEntry)
	if len(c.GetRules(entry)) == 0 {
		return nil, p.checkNoLLM(entry)
	}
	if faults := checkLLM(c, entry); len(faults) > 0 {
		return nil, faultsOrNil(faults)
	}
	query, err := p.prepare(ctx, caps, c, entry)
	if err != nil {
		return nil, err
	}
	return &question{entry: llmEntry, timeout: timeout, query: query}, nil
}

// checkNoLLM refuses data in the place of the rule: nobody would ask it.
func (p *parsed) checkNoLLM(entry ast.Ref) error {
	if _, err := p.data.Find(entry[1:]); err == nil {
		return Faults{{Message: "data.json holds " + llmEntry + ", which must be a rule: it decides on LLM requests"}}
	}
	return nil
}

// checkLLM says what is wrong with the rules of the second question.
func checkLLM(c *ast.Compiler, entry ast.Ref) (faults []Fault) {
	deciding := append(c.GetRulesExact(entry), c.GetRulesExact(ast.MustParseRef(llmAllowed))...)
	if len(deciding) == 0 {
		first := slices.MinFunc(c.GetRules(entry), func(a, b *ast.Rule) int { return a.Location.Compare(b.Location) })
		faults = append(faults, faultAt(first.Location, "rules stand below %s, but none is %s or %s", llmEntry, llmEntry, llmAllowed))
	}
	for _, r := range deciding {
		if len(r.Head.Args) > 0 || r.Head.RuleKind() == ast.MultiValue {
			faults = append(faults, faultAt(r.Location, "%s decides on LLM requests and can't be a function or a set", r.Ref().GroundPrefix()))
		}
	}
	for _, d := range declarations(c, entry) {
		faults = append(faults, faultAt(d.loc, "decisions of %s are never cached: remove cache_key", llmEntry))
	}
	return faults
}
