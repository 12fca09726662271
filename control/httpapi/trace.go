package httpapi

import "strings"

// trace is where a request belongs, as its caller says (W3C Trace Context,
// 3.2). It is only told on, never relied on.
type trace struct {
	id     string // 32 hexadecimal digits
	parent string // 16
}

// readTrace reads a traceparent; one that is not valid is none.
func readTrace(traceparent string) trace {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts) > 4 && parts[0] == "00" || parts[0] == "ff" {
		return trace{}
	}
	for i, n := range [4]int{2, 32, 16, 2} {
		if len(parts[i]) != n || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return trace{}
		}
	}
	if strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
		return trace{}
	}
	return trace{id: parts[1], parent: parts[2]}
}
