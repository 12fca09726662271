// Package httpapi is the control service's HTTP API: /api/v1 and what stands
// beside it. It owns what every request goes through (layers.go, admit.go), the
// operations' handlers over interfaces that it declares (ports.go), and the
// server.
//
// It refuses what the OpenAPI document does not describe, whoever the shipped
// policy does not allow, and whatever belongs to another tenant: the last is
// checked here, whatever a store answers. Errors have one form, made in one
// place (respond.go); a cause is logged and never shown.
//
// A handler is safe for concurrent use and starts no goroutine; a Server
// starts one, which Stop ends and awaits. What callers can make it keep is
// bounded: rate limits (internal/ratelimit), failed logins (maxAddresses) and
// open tails (maxTails), which are requests that last.
package httpapi
