package e2e

import (
	"context"
	"testing"
	"time"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/operator"
)

// gone is how long a provider's call may go on after the client saw its end.
const gone = time.Second

// underWay is a call of a client that is being answered.
type underWay struct {
	what string
	*sent
	end chan error
}

// stream begins to stream with both clients, and returns when something has come.
// What comes later is read as it comes.
func (l *llmMesh) stream(key string) []*underWay {
	l.t.Helper()
	o, a := l.openai("openai", key), l.anthropic("anthropic", key)
	chunks := o.Chat.Completions.NewStreaming(l.t.Context(), chat("slow-1000-20"))
	events := a.Messages.NewStreaming(l.t.Context(), message("slow-1000-20", 400))
	for range 5 {
		if !chunks.Next() || !events.Next() {
			l.t.Fatalf("the streams ended early: %v, %v", chunks.Err(), events.Err())
		}
	}
	both := []*underWay{{"OpenAI", o.sent, make(chan error, 1)}, {"Anthropic", a.sent, make(chan error, 1)}}
	go func() {
		for chunks.Next() {
		}
		both[0].end <- chunks.Err()
	}()
	go func() {
		for events.Next() {
		}
		both[1].end <- events.Err()
	}()
	return both
}

// whole begins to ask for whole answers with both clients, and returns when the
// provider has both questions.
func (l *llmMesh) whole(key string) []*underWay {
	l.t.Helper()
	o, a := l.openai("openai", key), l.anthropic("anthropic", key)
	both := []*underWay{{"OpenAI", o.sent, make(chan error, 1)}, {"Anthropic", a.sent, make(chan error, 1)}}
	open := l.provider.Totals().Open
	go func() {
		_, err := o.whole(l.t.Context(), chat("slow-1000-20"))
		both[0].end <- err
	}()
	go func() {
		_, err := a.whole(l.t.Context(), message("slow-1000-20", 400))
		both[1].end <- err
	}()
	envoytest.Eventually(l.t, "the provider has both questions", func() bool { return l.provider.Totals().Open == open+2 })
	return both
}

// A client whose caller may no more is told so in the middle of an answer, and
// the provider stops.
func TestSDKCut(t *testing.T) {
	l := newSDK(t)
	l.limit(1_000_000)
	agent := l.makeAgent(l.admin, "agent-7")
	claims := l.outside.Claims(time.Now(), "developer", "org1")
	claims["agent_id"], claims["project_id"] = agent, "proj1"
	l.cutBy("the agent is blocked", l.outside.Mint(claims), func() error {
		r, err := l.admin.API().BlockAgentWithResponse(t.Context(), agent, nil, api.AgentBlock{Reason: "the test blocks it"})
		return operator.Done(r, err)
	})
	l.cutBy("the tenant is suspended", l.token, func() error {
		r, err := l.admin.API().SuspendTenantWithResponse(t.Context(), "org1", nil)
		return operator.Done(r, err)
	})
	l.settled()
}

func (l *llmMesh) cutBy(reason, key string, cut func() error) {
	l.t.Helper()
	says := "The request was ended: " + reason + "."
	streams, answers := l.stream(key), l.whole(key)
	begin := time.Now()
	must(l.t, cut())
	for _, u := range streams {
		l.wantCut(u.what+": "+reason, l.ended(u, begin), "auth.forbidden", says)
	}
	for i, u := range answers {
		kind := []string{"permission_denied", "permission_error"}[i]
		got, raw, ok := refusalOf(l.ended(u, begin))
		if want := (refusal{403, kind, "auth.forbidden", says, false}); !ok || got != want || u.count() != 1 || u.header("x-should-retry") != "false" {
			l.t.Errorf("%s: %s: got %s after %d tries, want %+v", u.what, reason, raw, u.count(), want)
		}
	}
}

// ended waits for the end of a call, and demands that it came in time and that
// the provider's ended with it.
func (l *llmMesh) ended(u *underWay, begin time.Time) error {
	l.t.Helper()
	err := <-u.end // at the latest when the model has said all
	if took := time.Since(begin); took > promise {
		l.t.Errorf("%s: ended after %v, want within %v", u.what, took, promise)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), gone)
	defer cancel()
	e, late := l.provider.Ended(ctx, u.id())
	if late != nil || e.Finished != 0 {
		l.t.Errorf("%s: the provider goes on: %+v, %v", u.what, e, late)
	}
	return err
}
