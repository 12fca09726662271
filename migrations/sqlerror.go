package migrations

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// FileError is a file that Postgres refused. Nothing of the file is in force.
type FileError struct {
	Name      string
	Line      int // from 1; 0 where Postgres names no position
	Column    int // from 1, in characters
	Statement int // from 1, of the file
	Err       error
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: statement %d: %v", e.Name, e.Statement, e.Err)
	}
	return fmt.Sprintf("%s:%d:%d: %v", e.Name, e.Line, e.Column, e.Err)
}

func (e *FileError) Unwrap() error { return e.Err }

// fileError says where in a file an error is. done is the number of its
// statements that went well.
func fileError(m Migration, done int, err error) error {
	f := &FileError{Name: m.Name, Statement: done + 1, Err: err}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return f
	}
	if pg.Position > 0 {
		f.Line, f.Column = position(m.SQL, int(pg.Position))
	}
	if pg.Detail != "" {
		f.Err = fmt.Errorf("%w (%s)", err, pg.Detail)
	}
	return f
}

// position turns a character's number, from 1, into line and column.
func position(text string, char int) (line, column int) {
	line, column = 1, 1
	for _, r := range text {
		if char--; char == 0 {
			break
		}
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}
