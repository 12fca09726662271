// Package buildinfo says which build a binary is, from what the Go toolchain
// recorded in it. It has no state.
package buildinfo

import (
	"cmp"
	"runtime/debug"
)

// revisionDigits is how much of a commit's id is shown.
const revisionDigits = 12

// Version is the module's version and, where recorded, the commit:
// "v1.2.3", "(devel) 0123456789ab" or "(devel) 0123456789ab-dirty".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return describe(info)
}

func describe(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := cmp.Or(info.Main.Version, "(devel)")
	commit := settings["vcs.revision"]
	if commit == "" {
		return version
	}
	commit = commit[:min(len(commit), revisionDigits)]
	if settings["vcs.modified"] == "true" {
		commit += "-dirty"
	}
	return version + " " + commit
}
