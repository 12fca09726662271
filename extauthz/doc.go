// Package extauthz answers Envoy's Check calls: who calls, may they, how often.
//
// One request is readable in check.go, step by step. A step either lets the
// request go on or names a Refusal; nothing else ends a check, and what no
// step allowed is refused. In mode observe the refusals of identity, policy
// and limits are recorded and the request goes on without the upstream's
// credential; a malformed request, an unknown route and a body that can't be
// read are refused in every mode.
//
// On a route to a language model a check decides as everywhere, but does not let
// the request go on: the Exchange does, by what the check's metadata says, once
// it holds. Refusals there have the form of the provider.
//
// Protocol: envoy.service.auth.v3.Authorization. Facts about Envoy 1.40 that
// it relies on: header values are sent raw and duplicates kept
// (encode_raw_headers), replies set headers by `value`, removals come after
// additions, and the revision, route and shape of the route that matched stand
// in the context extensions.
package extauthz
