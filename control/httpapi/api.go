package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apiv1 "gatehouse/api/v1"
	"gatehouse/control/httpapi/spec"
	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/ratelimit"
	"gatehouse/policies"
)

// api is the handler's state.
type api struct {
	opts       Options
	started    time.Time
	document   []byte
	operations map[string]*spec.Operation // by the multiplexer's pattern
	mux        *http.ServeMux
	policy     *policies.Engine
	limiter    *ratelimit.Limiter
	failures   *failures
	health     *health
	tails      *tails
}

// New makes the API's handler: it reads the document, compiles the shipped
// policy (no push of a policy set can lock administrators out) and joins the
// layers. Its error joins all that is wrong with the options.
func New(ctx context.Context, o Options) (http.Handler, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	a := &api{
		opts: o, started: o.Now(), document: apiv1.Spec(),
		limiter: ratelimit.New(), failures: newFailures(o.Limits.FailedLogins), health: newHealth(o.Database, o.Now), tails: newTails(o.Metrics),
	}
	var err error
	if a.policy, err = shippedPolicy(ctx); err != nil {
		return nil, fmt.Errorf("httpapi: the shipped policy: %w", err)
	}
	if err := a.mount(); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	return a.wrap(http.HandlerFunc(a.serve)), nil
}

func shippedPolicy(ctx context.Context) (*policies.Engine, error) {
	src, err := policies.ReadSource(policies.Shipped())
	if err != nil {
		return nil, err
	}
	return policies.Compile(ctx, src, policies.Options{Entry: config.ShippedEntry, Timeout: policyTimeout})
}

// policyTimeout bounds one decision of the shipped policy, which takes
// microseconds: only a machine that stands still needs more than the inline
// default, and nobody waits behind this call as they do behind Envoy's.
const policyTimeout = 2 * time.Second

// mount registers the generated routes. What they refuse themselves was let
// pass by inspect, and what fails in a handler is rendered like all else.
func (a *api) mount() error {
	operations, err := spec.Parse(a.document)
	if err != nil {
		return err
	}
	a.operations = make(map[string]*spec.Operation, len(operations))
	for _, op := range operations {
		a.operations[op.Pattern] = &op
	}
	a.mux = http.NewServeMux()
	strict := apiv1.NewStrictHandlerWithOptions(a, nil, apiv1.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: a.unreadable, ResponseErrorHandlerFunc: a.failed,
	})
	apiv1.HandlerWithOptions(strict, apiv1.StdHTTPServerOptions{BaseRouter: a.mux, ErrorHandlerFunc: a.unreadable})
	return nil
}

// unreadable answers what the generated code can't bind.
func (a *api) unreadable(w http.ResponseWriter, r *http.Request, err error) {
	a.fail(w, r, apierr.New(apierr.ValidationMalformed, apierr.Options{Cause: err}))
}

// failed answers a handler's error. One that comes after the answer began is
// a caller that has gone: it is only logged.
func (a *api) failed(w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r.Context())
	if c.out.status != 0 {
		c.err = apierr.From(errors.Join(errors.New("the answer was not sent whole"), err))
		return
	}
	a.fail(w, r, err)
}
