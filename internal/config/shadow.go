package config

// checkShadows reports every route whose requests all go to an earlier one:
// it would never be reached, and its permission never asked.
//
// The comparison is of pairs, at most maxRoutes squared over two.
func checkShadows(routes []draft) {
	takes := make([][]string, len(routes))
	for i := range routes {
		takes[i] = routes[i].takes()
	}
	for i := range routes {
		for j := range i {
			if shadows(routes, takes, j, i) {
				early := &routes[j]
				routes[i].o.fault("match", "route %q in line %d takes all its requests", early.Name, early.o.at.line)
				break
			}
		}
	}
}

func shadows(routes []draft, takes [][]string, early, late int) bool {
	e, l := &routes[early], &routes[late]
	return e.whole && l.whole && e.Match.takesAll(l.Match, takes[early], takes[late])
}
