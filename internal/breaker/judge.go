package breaker

import "strings"

// Verdict is what the end of a call tells of its upstream.
type Verdict int

// The verdicts.
const (
	Nothing Verdict = iota // as where we refused, or the client left
	Success
	Failure
)

// viaUpstream is Envoy's detail for an answer that the upstream gave.
const viaUpstream = "via_upstream"

// Judge reads the end of a call from Envoy's words for it: the upstream's HTTP
// status (0 for none), response flags in short names joined by commas, and the
// constant part of the response code details (configuration/observability/
// access_log, RESPONSE_FLAGS).
//
// A connection that failed, a reset, a time-out and a 5xx of the upstream are
// failures. Any other answer of the upstream is a success, a 4xx too. All else
// tells nothing: refusals of ours and of Envoy, and clients that left.
func Judge(status int, flags, details string) Verdict {
	gone := false
	for flag := range strings.SplitSeq(flags, ",") {
		switch flag {
		case "UF", "UH", "UO", "UC", "UR", "URX", "UPE", "UMSDR", "UT", "SI", "DT", "DF":
			return Failure
		case "DC", "DR":
			gone = true
		}
	}
	switch {
	case gone || details != viaUpstream || status == 0:
		return Nothing
	case status >= 500:
		return Failure
	}
	return Success
}
