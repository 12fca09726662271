// Package auth proves who calls control, and signs the tokens that say so.
//
// People log in by name and password, programs by client id and secret; both
// get an access token (EdDSA, RFC 8037; RFC 9068), people a refresh token
// besides. Sidecars verify access tokens by the key set that JWKS returns; this
// package verifies them for the API by the same gate (internal/token) and by
// what Postgres says of their subject, at most StandingAge old.
//
// What it refuses, it refuses alike: an unknown name, a wrong password and a
// disabled user take the same steps, hash once and get the same answer. Guesses
// are counted in Postgres before a password is looked at (Rule), also for names
// that don't exist. A dependency that is away, or too many hashes at once, is
// auth.unavailable and never a "no".
//
// BreakGlass lets an administrator in when nobody can log in. It is for a command
// on the control host and no part of the API.
//
//	signing keys:   next ──publishLead──► active ──KeyLife──► retiring ──retireAfter──► retired
//	refresh token:  issued ──use──► used (and the next one issued); used again ──► family revoked
//
// A Service is safe for concurrent use. Several of them, in several processes,
// share one database and need nothing else to agree. Between Start and Stop one
// goroutine keeps the keys and clears what has expired.
package auth
