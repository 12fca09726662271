package sanitize

import "sync"

// references are the names of characters that the machines care for
// (HTML Standard, 13.5).
func references() (named map[string]rune, legacy []string) {
	return map[string]rune{
		"lt": '<', "LT": '<', "gt": '>', "GT": '>', "amp": '&', "AMP": '&', "quot": '"', "QUOT": '"', "nbsp": ' ', "shy": '\u00ad',
		"apos": '\'', "colon": ':', "Tab": '\t', "NewLine": '\n', "lpar": '(', "rpar": ')', "semi": ';', "sol": '/', "bsol": '\\',
		"ast": '*', "midast": '*', "equals": '=', "excl": '!', "num": '#', "lsqb": '[', "lbrack": '[', "rsqb": ']', "rbrack": ']',
		"grave": '`', "DiacriticalGrave": '`', "hyphen": '-', "dash": '-', "period": '.', "comma": ',', "percnt": '%', "plus": '+',
		"lowbar": '_', "UnderBar": '_', "zwj": '\u200d', "zwnj": '\u200c', "ZeroWidthSpace": '\u200b', "emsp": ' ', "ensp": ' ', "thinsp": ' ',
	}, []string{"lt", "LT", "gt", "GT", "amp", "AMP", "quot", "QUOT", "nbsp", "shy"}
}

// names is a tree of the names of references. It is immutable.
type names struct{ nodes []nameNode }

type nameNode struct {
	next   [64]uint16 // by letter, from 'A' on; 0 is none
	char   rune       // 0 where no name ends
	legacy bool       // good without a semicolon
}

var nameTree = sync.OnceValue(func() *names {
	n := &names{nodes: make([]nameNode, 1)}
	named, legacy := references()
	for name, r := range named {
		n.nodes[n.spell(name)].char = r
	}
	for _, name := range legacy {
		n.nodes[n.spell(name)].legacy = true
	}
	return n
})

func (n *names) spell(name string) int {
	at := 0
	for i := range len(name) {
		next := n.follow(at, name[i])
		if next == 0 {
			next = len(n.nodes)
			n.nodes = append(n.nodes, nameNode{})
			n.nodes[at].next[name[i]-'A'] = uint16(next)
		}
		at = next
	}
	return at
}

// follow is the node that an ASCII letter leads to, or 0.
func (n *names) follow(at int, letter byte) int { return int(n.nodes[at].next[letter-'A']) }
