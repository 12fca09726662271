// Package llm owns the wire formats of calls to language models: OpenAI chat
// completions and Anthropic messages, as JSON and as event streams, in both
// directions.
//
// It reads and rewrites bytes, and says what they mean: what a request may cost
// at most (Parse, Request.Hold), which text of an answer the client will see
// and how much was used (ParseAnswer, Stream), and how a refusal must look so
// that the provider's own client libraries show it (AppendDenial, AppendCut).
// It decides nothing: no budget, no policy, no finding. It knows no transport.
//
// Reading is strict, since another reader with other habits stands behind us:
// duplicate names, names that differ from a known one only in case or
// separators, invalid UTF-8, trailing data and sizes over a named limit are
// refused. Unknown members are kept. Rewriting replaces or inserts single
// values and leaves every other byte as it was.
//
// Functions are pure and safe for concurrent use. A Decoder and a Stream belong
// to one exchange and one goroutine. A Request and an Answer are not changed
// after they were parsed; both refer to the bytes they were parsed from, which
// must not change either.
package llm
