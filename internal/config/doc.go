// Package config reads the two configuration files of a sidecar:
// gatehouse.yaml of a policy set (ParseSet) and sidecar.yaml of one sidecar
// (ParseSidecar), and checks that the two fit together (CheckPair).
//
// It owns the YAML subset, the key names, the ranges, the defaults and every
// rule that can be judged from the text alone. It refuses what it does not
// know: an unknown key, a key of a later build, a duplicate key, an empty
// value, an anchor, alias, merge key, tag, directive, block text or second
// document. All faults of a file are reported at once, each with its
// position. It never expands a variable, follows an include or opens a file.
//
// All functions are pure and safe for concurrent use; what they return is
// immutable by convention and shared without locks.
package config
