// Package proxy owns the Exchange: Envoy's ext_proc calls on the routes of
// language models, one stream for one request from its headers to the last byte
// of its answer.
//
// The stream is the exchange. The hold is made in it, before anything goes
// upstream, and settled when it ends, whatever ended it. The provider's
// credential and the mark that the hold guard looks for are in the one reply
// that confirms the hold, so that a stream which goes on without us is stopped,
// and worthless upstream. An answer is read as the provider's format says, its
// texts are judged, and what can't be read is not passed on where texts are.
//
// exchange.go is one exchange from top to bottom: its states and what each
// message of Envoy does. admit.go is the request's half, answer.go the answer's;
// settle.go says what an exchange that ended is charged, as a pure function.
//
// It refuses a stream that Envoy configured another way, messages out of order,
// and a request that Check did not let pass. It never ends a stream cleanly
// before its last reply: Envoy would let the rest pass unseen.
//
// A Server is safe for concurrent use. What it keeps is bounded: bytes of bodies
// that wait for their verdict (maxWaiting), and per exchange what proxy/llm and
// proxy/sanitize name.
package proxy
