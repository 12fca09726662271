// Package rates owns the counters that the sidecars of a policy set share. They
// are in Redis, and one script decides a request by all of its limits: it takes
// from every one or from none, by the server's clock, with the answers of
// gatehouse/internal/ratelimit.
//
// It refuses to guess: what can't be asked is ErrUnavailable, and nothing is
// allowed by it. A call ends within callTimeout; at most maxInFlight are under
// way, on at most poolSize connections; none is repeated. After failuresToOpen
// failures in a row calls fail at once, but one a second that finds out whether
// Redis is back.
//
// A counter is gone when its debt is, after ratelimit.MaxMeshSpan at the latest:
// asks beyond that are ErrInvalid, whoever sends them. If Redis loses its data, all counters
// begin anew. A server clock that is set back lengthens debts by as much.
//
// All methods are safe for concurrent use.
package rates
