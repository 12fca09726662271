package sanitize_test

import (
	"fmt"

	"gatehouse/proxy/sanitize"
)

func ExampleStream() {
	scanner, err := sanitize.New(sanitize.Config{
		Context:      sanitize.Markdown,
		Actions:      map[sanitize.Class]sanitize.Action{sanitize.ExecutableHTML: sanitize.Redact},
		ImageOrigins: []string{"https://images.example"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	stream := scanner.Stream()
	for _, delta := range []string{"First dr", "op tab", "le users; then <scr", "ipt>."} {
		release, findings := stream.Write(delta)
		fmt.Printf("%q %v\n", release, findings)
	}
	rest, _ := stream.Close()
	fmt.Printf("%q\n", rest)
	// Output:
	// "First " []
	// "" []
	// "drop(!) table users; then " [{destructive_sql drop defang 6 16 false}]
	// "(redacted)>." [{executable_html tag redact 29 7 false}]
	// ""
}

func ExampleParse() {
	_, err := sanitize.Parse(sanitize.KindConsensus, `My verdict: {"decision": "yes", "confidence": 2}`, sanitize.Options{})
	fmt.Println(err)
	// Output:
	// not a valid consensus:
	// "/decision": want one of approve, reject, conditional (not_allowed)
	// "/confidence": want 0 to 1 (out_of_range)
	// "/reasoning": the member is missing (required)
}
