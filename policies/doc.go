// Package policies asks Rego whether a request may pass. It owns the shipped
// policy (shipped/authz.rego), the engine that compiles a policy set's Rego and
// evaluates it, the input and decision documents, and the decision cache. It is
// the only importer of OPA.
//
// The documents are those of opa-envoy-plugin (docs/envoy/primer.md of OPA)
// plus principal, route, listener, permission and upstream_path in the input
// and rule_id, reason and obligations in the decision. The entry point is a
// boolean, or an object or package with the boolean member allowed.
//
// A set may answer a second question, data.gatehouse.llm, in the same form: it is
// asked by [Engine.DecideLLM] about a request to a language model whose body has
// been read. A set without it is not asked.
//
// It refuses, at [Compile]: Rego that is not strict Rego v1, built-ins that
// reach outside the process, an entry point that nothing defines, a second
// question that can't be answered, and a cache_key that does not cover what the
// policy reads. It refuses, at [Engine.Decide] and [Engine.DecideLLM]: whatever is
// not a well-formed decision in time. Undefined, error, time-out, a value of the
// wrong type and a body that can't be read are denials, each with a [Class] of its
// own; nothing here fails open.
//
// Request text is data: queries are prepared at load and nothing of a request
// is ever parsed as Rego.
//
// An [Engine] is immutable after Compile, but for its bounded cache, and safe
// for concurrent use. No call starts a goroutine that outlives it.
package policies
