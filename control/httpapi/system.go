package httpapi

import (
	"context"
	"net/http"
	"strconv"

	apiv1 "gatehouse/api/v1"
)

// GetRoot names the service and where to go on.
func (a *api) GetRoot(context.Context, apiv1.GetRootRequestObject) (apiv1.GetRootResponseObject, error) {
	return apiv1.GetRoot200JSONResponse{
		Name: apiv1.Gatehouse, Version: a.opts.Version,
		Links: apiv1.RootLinks{
			Health: "/health", Ready: "/readyz", Document: "/api/v1/openapi.json",
			KeySet: "/.well-known/jwks.json", Login: "/api/v1/auth/login",
		},
	}, nil
}

// GetHealth says that the process lives. A database that is away is told, but
// is no reason to be restarted.
func (a *api) GetHealth(ctx context.Context, _ apiv1.GetHealthRequestObject) (apiv1.GetHealthResponseObject, error) {
	return apiv1.GetHealth200JSONResponse(a.healthNow(ctx)), nil
}

// GetHealthV1 is GetHealth under the API's prefix.
func (a *api) GetHealthV1(ctx context.Context, _ apiv1.GetHealthV1RequestObject) (apiv1.GetHealthV1ResponseObject, error) {
	return apiv1.GetHealthV1200JSONResponse(a.healthNow(ctx)), nil
}

func (a *api) healthNow(ctx context.Context) apiv1.Health {
	if a.health.check(ctx) != nil {
		return apiv1.Health{Status: apiv1.HealthStatusDegraded, Database: apiv1.HealthDatabaseUnavailable}
	}
	return apiv1.Health{Status: apiv1.HealthStatusOk, Database: apiv1.HealthDatabaseOk}
}

// GetReady says whether requests should be sent here.
func (a *api) GetReady(ctx context.Context, _ apiv1.GetReadyRequestObject) (apiv1.GetReadyResponseObject, error) {
	if err := a.health.check(ctx); err != nil {
		return nil, unavailable(err)
	}
	return apiv1.GetReady200JSONResponse{Status: apiv1.ReadyStatusReady}, nil
}

// GetDocument returns the document that this API is made from.
func (a *api) GetDocument(context.Context, apiv1.GetDocumentRequestObject) (apiv1.GetDocumentResponseObject, error) {
	return ready{a.document}, nil
}

// keysKept is how long a verifier may keep the keys: well below the time for
// which a new one is published before it signs.
const keysKept = "public, max-age=60"

// GetKeySet returns the public keys of the tokens issued here.
func (a *api) GetKeySet(ctx context.Context, _ apiv1.GetKeySetRequestObject) (apiv1.GetKeySetResponseObject, error) {
	keys, err := a.opts.Auth.KeySet(ctx)
	if err != nil {
		return nil, err
	}
	return ready{keys}, nil
}

// ready is an answer that is JSON already.
type ready struct{ body []byte }

func (j ready) write(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(j.body)))
	_, err := w.Write(j.body)
	return err
}

// VisitGetDocumentResponse sends the answer.
func (j ready) VisitGetDocumentResponse(w http.ResponseWriter) error { return j.write(w) }

// VisitGetKeySetResponse sends the answer, which others may keep.
func (j ready) VisitGetKeySetResponse(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", keysKept)
	return j.write(w)
}

// GetStats counts what the caller may see.
func (a *api) GetStats(ctx context.Context, _ apiv1.GetStatsRequestObject) (apiv1.GetStatsResponseObject, error) {
	tenant := callOf(ctx).tenant
	out := apiv1.GetStats200JSONResponse{UptimeSeconds: max(0, int64(a.opts.Now().Sub(a.started).Seconds()))}
	for _, count := range []struct {
		into *int64
		of   func(context.Context, string) (int64, error)
	}{
		{&out.Users, a.opts.Counts.CountUsers}, {&out.Clients, a.opts.Counts.CountClients},
		{&out.Tenants, a.opts.Counts.CountTenants}, {&out.Projects, a.opts.Counts.CountProjects},
	} {
		n, err := count.of(ctx, tenant)
		if err != nil {
			return nil, err
		}
		*count.into = n
	}
	return out, nil
}
