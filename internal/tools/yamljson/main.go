// Command yamljson turns YAML on its standard input into indented JSON on its
// standard output. The members of objects are sorted by name.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

func main() {
	if err := convert(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "yamljson:", err)
		os.Exit(1)
	}
}

func convert(in io.Reader, out io.Writer) error {
	var document map[string]any
	if err := yaml.NewDecoder(in).Decode(&document); err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	return enc.Encode(document)
}
