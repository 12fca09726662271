package accesslog

import "gatehouse/internal/rawgrpc"

// responseFlags are the fields that are set of
// envoy.data.accesslog.v3.ResponseFlags, as bits by their numbers.
type responseFlags uint32

// The flags that an outcome depends on, by their numbers.
const (
	noRouteFound = 9
	unauthorized = 13 // the only one that is a message
)

// flagNames are Envoy's short names of the flags, by their numbers
// (configuration/observability/access_log, RESPONSE_FLAGS).
var flagNames = [...]string{
	1: "LH", 2: "UH", 3: "UT", 4: "LR", 5: "UR", 6: "UF", 7: "UC", 8: "UO", noRouteFound: "NR", 10: "DI",
	11: "FI", 12: "RL", unauthorized: "UAEX", 14: "RLSE", 15: "DC", 16: "URX", 17: "SI", 18: "IH", 19: "DPE", 20: "UMSDR",
	21: "RFCF", 22: "NFCF", 23: "DT", 24: "UPE", 25: "NC", 26: "OM", 27: "DF", 28: "DR",
}

// field reads a field of ResponseFlags. Flags without a name are skipped.
func (r *responseFlags) field(f rawgrpc.Field) error {
	switch {
	case f.Number == unauthorized:
		*r |= 1 << unauthorized
	case f.Integer == unauthorized || int(f.Integer) >= len(flagNames):
	case f.Varint != 0:
		*r |= 1 << f.Integer
	default:
		*r &^= 1 << f.Integer
	}
	return nil
}

func (r responseFlags) has(number int) bool { return r>>number&1 != 0 }

// String joins the short names of what is set by commas. None and one, which
// are nearly all, allocate nothing.
func (r responseFlags) String() string {
	if r == 0 {
		return ""
	}
	joined := ""
	for number, name := range flagNames {
		switch {
		case !r.has(number):
		case joined == "":
			joined = name
		default:
			joined += "," + name
		}
	}
	return joined
}
