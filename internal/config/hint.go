package config

import (
	"fmt"
	"maps"
	"slices"
)

// maxHint is how many single-character edits still look like a slip.
const maxHint = 2

// hint names the known key nearest to one that is not known, or nothing when
// none is near. Keys of later builds are not offered.
func hint(key string, s schema) string {
	best, distance := "", maxHint+1
	for _, known := range sortedKeys(s) {
		if s[known] == later {
			continue
		}
		// A short key must not turn into any other by editing all of it.
		if d := edits(key, known); d < distance && d < len(known) && d < len(key) {
			best, distance = known, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

func sortedKeys(s schema) []string {
	return slices.Sorted(maps.Keys(s))
}

// edits returns the Levenshtein distance of two keys in bytes.
// INVARIANT: keys are at most maxKey long, so this stays cheap.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
