package pgserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// templateForm is raised with what initialize does.
const templateForm = "1"

// templatePath is where a cache keeps the template of one build of Postgres.
func templatePath(bin, cache string) (string, error) {
	cache, err := filepath.Abs(cache)
	if err != nil {
		return "", err
	}
	program := filepath.Join(bin, "postgres")
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	sum := sha256.Sum256([]byte(templateForm + "\x00" + program + "\x00" + string(out)))
	return filepath.Join(cache, fmt.Sprintf("postgres-%x", sum[:8])), nil
}

// usable says why a template can't be used, or nil. It must be ours alone:
// who can write it could put code into the servers made from it.
func usable(template string) error {
	for _, path := range []string{filepath.Dir(template), template} {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("%s is not a folder that only uid %d can write to; remove it", path, os.Geteuid())
		}
	}
	return nil
}

// saveTemplate copies a cluster to where a template belongs. It appears whole;
// of two at once, one stays.
func saveTemplate(data, template string) error {
	cache := filepath.Dir(template)
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // what is left of it
	if err := copyTree(data, filepath.Join(tmp, "data"), ownUID); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tmp, "data"), template); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// copyTree copies folders and files, for a uid alone.
func copyTree(from, to string, uid int) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			err = os.Mkdir(target, 0o700)
		case d.Type().IsRegular():
			err = copyFile(path, target)
		default:
			err = fmt.Errorf("%s is neither a folder nor a file", path)
		}
		if err == nil && uid != ownUID {
			err = os.Lchown(target, uid, uid)
		}
		return err
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// chownAll gives a tree to a uid.
func chownAll(dir string, uid int) error {
	if uid == ownUID {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
}
