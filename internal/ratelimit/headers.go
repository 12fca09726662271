package ratelimit

import (
	"strconv"
	"time"
)

// Header is one response header.
type Header struct {
	Name  string // lower case
	Value string
}

// Headers tells a caller about the binding limit:
//
//   - ratelimit-policy and ratelimit (draft-ietf-httpapi-ratelimit-headers-10,
//     structured fields): q and w are the limit's rate, w and t in seconds, t
//     until the whole burst is free; burst is an extension, given where it
//     differs from q;
//   - x-ratelimit-limit, -remaining and -reset, the last in seconds from now;
//   - retry-after (RFC 9110, 10.2.3) on a denial.
//
// Seconds are rounded up, so that whoever waits as told does not come early.
// No limit asked, no headers.
func Headers(r Result) []Header {
	if r.Limit == "" {
		return nil
	}
	name := quote(r.Limit)
	count, remaining := strconv.Itoa(r.Count), strconv.Itoa(r.Remaining)
	reset := seconds(r.Reset)
	policy := name + ";q=" + count + ";w=" + seconds(r.Per)
	if r.Burst != r.Count {
		policy += ";burst=" + strconv.Itoa(r.Burst)
	}
	h := make([]Header, 0, 6)
	h = append(h,
		Header{"ratelimit-policy", policy},
		Header{"ratelimit", name + ";r=" + remaining + ";t=" + reset},
		Header{"x-ratelimit-limit", count},
		Header{"x-ratelimit-remaining", remaining},
		Header{"x-ratelimit-reset", reset},
	)
	if !r.Allowed {
		h = append(h, Header{"retry-after", seconds(max(r.RetryAfter, 1))})
	}
	return h
}

// seconds rounds up to whole seconds.
func seconds(d time.Duration) string {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return strconv.FormatInt(max(s, 0), 10)
}

// quote makes a structured-field string (RFC 9651, 3.3.3); what it can't hold
// becomes an underscore.
func quote(s string) string {
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c > 0x7e:
			b = append(b, '_')
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
