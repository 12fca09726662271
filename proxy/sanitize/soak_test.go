package sanitize

import (
	"math/rand/v2"
	"testing"
)

func TestSoak(t *testing.T) {
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(1234+seed, 99))
		all := scanners(t)
		for range 120000 {
			text := nasty(rnd, 1+rnd.IntN(25))
			compare(t, all[rnd.IntN(len(all))], text, cutsOf(rnd, len(text)))
		}
	}
}
