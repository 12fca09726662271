// Package migrations owns the schema of the control service's database: the
// numbered SQL files, and the runner that applies them.
//
// A file is applied whole or not at all: its SQL and its row in
// schema_migrations are one transaction. The runner refuses what would let two
// databases with the same versions differ: a file that was changed after it
// was applied, one that comes before one that was applied, a gap in the
// numbers, a version that this build does not know. It never undoes a file;
// each names its rollback in a comment.
//
// Tables stand in the schema public, whatever search_path the role has. All
// functions may be called concurrently, also by several processes on one
// database: one works, the others wait for it.
package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

//go:embed *.sql
var shipped embed.FS

// Limits of a set.
const (
	maxFiles    = 999     // versions have three digits
	maxFileSize = 1 << 20 // bytes
)

// Migration is one file.
type Migration struct {
	Version  string // three digits, "001"
	Name     string // of the file, "001_core_schema.sql"
	SQL      string // with LF as the end of each line
	Checksum string // SHA-256 of SQL in hex
}

// Set is files in order, numbered from 001 without a gap. It is immutable.
type Set []Migration

// Shipped is the set that this build was made with.
func Shipped() (Set, error) { return Load(shipped) }

var (
	fileName = regexp.MustCompile(`^(\d{3})_[a-z0-9_]+\.sql$`)
	// ownTransaction finds what would end the runner's transaction. An END
	// closes blocks of functions too, so that it is found only afterwards.
	ownTransaction = regexp.MustCompile(`(?im)^\s*(COMMIT|ROLLBACK|ABORT|PREPARE\s+TRANSACTION)\b[^;$]*;`)
)

// Load reads the *.sql files at the root of a file system.
func Load(fsys fs.FS) (Set, error) {
	names, err := fs.Glob(fsys, "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%d migrations, more than %d", len(names), maxFiles)
	}
	set := make(Set, 0, len(names))
	for i, name := range names {
		m, err := read(fsys, name)
		if err != nil {
			return nil, err
		}
		if want := fmt.Sprintf("%03d", i+1); m.Version != want {
			return nil, fmt.Errorf("%s: the numbers have a gap or a double here: want %s", name, want)
		}
		set = append(set, m)
	}
	return set, nil
}

func read(fsys fs.FS, name string) (Migration, error) {
	parts := fileName.FindStringSubmatch(path.Base(name))
	if parts == nil {
		return Migration{}, fmt.Errorf("%s: want a name like 001_title.sql", name)
	}
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return Migration{}, err
	}
	if len(text) > maxFileSize {
		return Migration{}, fmt.Errorf("%s: has %d bytes, more than %d", name, len(text), maxFileSize)
	}
	sql := normalize(string(text))
	if at := ownTransaction.FindStringIndex(sql); at != nil {
		return Migration{}, fmt.Errorf("%s:%d: a migration can't end its transaction", name, lineAt(sql, at[1]))
	}
	sum := sha256.Sum256([]byte(sql))
	return Migration{Version: parts[1], Name: name, SQL: sql, Checksum: hex.EncodeToString(sum[:])}, nil
}

// normalize makes a file the same however it was checked out.
func normalize(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

// lineAt is the line of a byte offset, from 1.
func lineAt(text string, offset int) int { return 1 + strings.Count(text[:offset], "\n") }
