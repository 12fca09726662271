package policies

import (
	"embed"
	"io/fs"
)

//go:embed shipped
var shipped embed.FS

// Shipped returns the shipped policy set: authz.rego, its tests, and
// gatehouse.yaml.
func Shipped() fs.FS {
	set, err := fs.Sub(shipped, "shipped")
	if err != nil {
		panic("policies: the embedded folder is named by a constant that is not a valid path: " + err.Error())
	}
	return set
}
