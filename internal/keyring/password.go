package keyring

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// maxPassword is the longest password in bytes; a longer file is a mistake.
const maxPassword = 4 << 10

// Sources says where a password may come from. The first that is set is used:
// File, then Env, then Prompt.
type Sources struct {
	FS   osfs.FS // for File; nil: the machine's
	File string  // path of a file that holds the password; one line end after it is taken off
	Env  string  // name of an environment variable; passed over where it is not set
	// Prompt asks a person; nil: nobody. See Terminal.
	Prompt func(question string) ([]byte, error)
	// Question is shown by Prompt, and again with "again" where Confirm asks
	// for the password twice.
	Question string
	Confirm  bool
	// LookupEnv is os.LookupEnv where it is nil.
	LookupEnv func(string) (string, bool)
}

// PasswordFrom gets a password. The caller wipes it after use. Errors:
// fsapi.Unauthorized where no source has one, fsapi.Invalid where it is empty
// or over 4 KiB or was not repeated alike, the file's own error where it
// cannot be read.
func PasswordFrom(s Sources) ([]byte, error) {
	switch {
	case s.File != "":
		return s.fromFile()
	case s.Env != "":
		lookup := s.LookupEnv
		if lookup == nil {
			lookup = os.LookupEnv
		}
		if v, ok := lookup(s.Env); ok {
			return checked([]byte(v), "environment variable "+s.Env)
		}
	}
	if s.Prompt == nil {
		return nil, s.none()
	}
	return s.ask()
}

func (s Sources) none() error {
	where := "a password file"
	if s.Env != "" {
		where += " or the environment variable " + s.Env
	}
	return fsapi.Errorf(fsapi.Unauthorized, "no password: give %s, or run on a terminal to be asked", where)
}

func (s Sources) fromFile() ([]byte, error) {
	fsys := s.FS
	if fsys == nil {
		fsys = osfs.OS{}
	}
	b, err := readFile(fsys, s.File, maxPassword+2)
	if err != nil {
		return nil, wrapIO(err, "read password file "+s.File)
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	return checked(b, "password file "+s.File)
}

func (s Sources) ask() ([]byte, error) {
	first, err := s.Prompt(s.Question + ": ")
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Unauthorized, err, "ask for the password")
	}
	if !s.Confirm {
		return checked(first, "password")
	}
	second, err := s.Prompt(s.Question + " again: ")
	if err != nil {
		clear(first)
		return nil, fsapi.Wrap(fsapi.Unauthorized, err, "ask for the password")
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, fsapi.Errorf(fsapi.Invalid, "the two passwords differ: nothing was changed")
	}
	return checked(first, "password")
}

func checked(password []byte, from string) ([]byte, error) {
	switch {
	case len(password) == 0:
		return nil, fsapi.Errorf(fsapi.Invalid, "%s: the password is empty", from)
	case len(password) > maxPassword:
		clear(password)
		return nil, fsapi.Errorf(fsapi.Invalid, "%s: the password is longer than %d bytes", from, maxPassword)
	}
	return password, nil
}

// Terminal asks on a terminal, without echo, as a Sources.Prompt. in and
// out are usually os.Stdin and os.Stderr. It is nil where in is no terminal.
func Terminal(in *os.File, out io.Writer) func(string) ([]byte, error) {
	fd := int(in.Fd())
	if !term.IsTerminal(fd) {
		return nil
	}
	return func(question string) ([]byte, error) {
		if _, err := io.WriteString(out, question); err != nil {
			return nil, err
		}
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(out)
		return b, err
	}
}

// GeneratePassword is a random password of 140 bits that is easy to read and
// type: seven groups of four out of a to z and 2 to 7.
func GeneratePassword() []byte {
	text := strings.ToLower(base32.StdEncoding.EncodeToString(random(20)))[:28] // 5 bits a character
	var b []byte
	for i := 0; i < len(text); i += 4 {
		if i > 0 {
			b = append(b, '-')
		}
		b = append(b, text[i:i+4]...)
	}
	return b
}

// EnsurePasswordFile is the password in a file that is made, mode 0600 and
// durable, with a generated password where it is not there; made says so. It
// comes before Create, so that no keyring exists whose password was lost.
func EnsurePasswordFile(fsys osfs.FS, path string) (password []byte, made bool, err error) {
	password, err = PasswordFrom(Sources{FS: fsys, File: path})
	if !errors.Is(err, fs.ErrNotExist) {
		return password, false, err
	}
	password = GeneratePassword()
	if err := replace(fsys, path, append(bytes.Clone(password), '\n')); err != nil {
		return nil, false, wrapIO(err, "write password file "+path)
	}
	return password, true, nil
}

// nextSuffix is added to the name of a password file while the keyring is
// changed over to the password in it.
const nextSuffix = ".next"

// OpenWithFile is OpenWith a PasswordFile.
func OpenWithFile(fsys osfs.FS, path, file string) (*Keyring, error) {
	return OpenWith(context.Background(), fsys, path, PasswordFile(fsys, file))
}

// ChangePasswordFile is ChangePassword for a keyring whose password lies in a
// file, which gets the new one. A crash at any point leaves a pair that
// OpenWithFile opens: the new password is made durable in a second file before
// the keyring changes over to it, and takes the first one's place after.
func (k *Keyring) ChangePasswordFile(fsys osfs.FS, file string, old, password []byte, p Params) error {
	next := file + nextSuffix
	if err := replace(fsys, next, append(bytes.Clone(password), '\n')); err != nil {
		return wrapIO(err, "write password file "+next)
	}
	if err := k.ChangePassword(old, password, p); err != nil {
		if errors.Is(err, fsapi.Unauthorized) || errors.Is(err, fsapi.Invalid) || errors.Is(err, fsapi.NotExist) {
			return errors.Join(err, fsys.Remove(next)) // refused: nothing was changed
		}
		return err // the keyring's file may hold either: both passwords stay
	}
	if err := rename(fsys, next, file); err != nil {
		return wrapIO(err, "replace password file "+file)
	}
	return nil
}
