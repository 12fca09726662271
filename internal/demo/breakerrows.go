package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"gatehouse/api/v1/client"
	"gatehouse/internal/demoapp"
	"gatehouse/internal/devstack"
	"gatehouse/internal/operator"
)

// What the policy set says of the upstream that fails on demand.
const (
	flakyUpstream = "flaky"
	flakyFailures = 5
)

// lateResults is how many more may fail before the breaker has heard of the fifth:
// a client has its answer before Envoy's access log tells the sidecar.
const lateResults = 3

// breakerPoll is the pace of looks at a breaker.
const breakerPoll = 100 * time.Millisecond

// breakerRows are about an upstream that fails.
func breakerRows() []row {
	return []row{
		{what: "an upstream that failed five times", want: refused(503, "upstream.unavailable"),
			why: "the breaker is open: it is left alone", prepare: failOften, send: flaky(http.StatusOK), check: answers("retry-after")},
		{what: "GET /circuit-breakers/flaky", want: want{status: http.StatusOK},
			why: "one sidecar has it open; the mesh needs two", send: seeBreaker},
		{what: "the same upstream two seconds later", want: allowed(),
			why: "one request tried it, and the breaker closed", prepare: recovered, send: flaky(http.StatusOK)},
	}
}

// flaky asks the upstream for a status.
func flaky(status int) sender {
	return as("developer", try{path: "/flaky", header: map[string]string{demoapp.StatusHeader: fmt.Sprint(status)}})
}

// failOften lets the upstream fail until it is left alone.
func failOften(ctx context.Context, p *probe) (string, error) {
	for failures := range flakyFailures + lateResults {
		a, err := flaky(http.StatusInternalServerError)(ctx, p)
		switch {
		case err != nil:
			return "", err
		case a.status == http.StatusServiceUnavailable && failures >= flakyFailures:
			return fmt.Sprintf("after %d failures", failures), nil
		case a.status != http.StatusInternalServerError:
			return "", fmt.Errorf("request %d was answered %s", failures+1, a)
		}
	}
	return "", errors.New("the breaker does not open")
}

// seeBreaker asks control for the breaker, which the sidecar reports in a moment.
func seeBreaker(ctx context.Context, p *probe) (a answer, err error) {
	c, err := p.admin(ctx)
	if err != nil {
		return answer{}, err
	}
	err = p.untilAt(ctx, breakerPoll, "control does not show the breaker open", func(ctx context.Context) (bool, error) {
		r, err := c.API().GetBreakerWithResponse(ctx, flakyUpstream, &client.GetBreakerParams{PolicySet: new(devstack.PolicySet)})
		if err != nil {
			return false, err
		}
		a = answer{status: r.StatusCode()}
		if r.StatusCode() == http.StatusNotFound {
			return false, nil
		}
		b, err := operator.Answer(r, err, func(r *client.GetBreakerResponse) *client.Breaker { return r.JSON200 })
		if err != nil {
			return false, err
		}
		a.note = fmt.Sprintf("%d of %d sidecars, %d failures in a row", b.Sidecars.Open, b.Sidecars.Called, b.ConsecutiveFailures)
		return b.Sidecars.Open == 1, nil
	})
	return a, err
}

// recovered waits until the breaker is closed: two requests pass, of which the
// first has tried it.
func recovered(ctx context.Context, p *probe) (string, error) {
	begin, passed := time.Now(), 0
	err := p.untilAt(ctx, breakerPoll, "the breaker does not close", func(ctx context.Context) (bool, error) {
		a, err := flaky(http.StatusOK)(ctx, p)
		if a.status == http.StatusOK {
			passed++
		}
		return passed == 2, err
	})
	return fmt.Sprintf("closed after %d ms", time.Since(begin).Milliseconds()), err
}
